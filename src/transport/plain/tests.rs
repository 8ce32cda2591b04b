//! A plain endpoint on a real socket.

use std::{future::poll_fn, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

const SLOTS: Layout = Layout { head: 30, payload: 1000, tail: 20 };

async fn plain(ahead: &[u8]) -> (Plain, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let near = Socket::new(listener.accept().await.unwrap().0).unwrap();
    (Plain::new(near, Pool::new(), ahead.to_vec()), far)
}

/// The next batch; `None` at the end. Whatever the layout, head and tail of each piece are free.
async fn read(plain: &mut Plain, layout: Layout) -> Option<Vec<u8>> {
    let plain: &mut dyn Endpoint = plain;
    let read = timeout(Duration::from_secs(10), plain.read(layout)).await.expect("it hangs").unwrap();
    let Read::Data(batch) = read else { return None };
    if layout != Layout::FLAT {
        for (n, range) in batch.ranges().iter().enumerate() {
            let slot = layout.slot(n, batch.capacity()).expect("more ranges than slots");
            assert!(range.start == slot.start && range.end <= slot.end, "{range:?} is not in {slot:?}");
        }
    }
    Some(batch.pieces().collect::<Vec<_>>().concat())
}

async fn send(plain: &mut Plain, bytes: &[u8]) {
    let mut batch = plain.pool.batch(bytes.len());
    batch.bytes()[..bytes.len()].copy_from_slice(bytes);
    batch.push(0..bytes.len());
    plain.send(batch).unwrap();
    flush(plain).await;
}

async fn flush(plain: &mut Plain) {
    let plain: &mut dyn Endpoint = plain;
    plain.flush().await.unwrap();
}

#[tokio::test]
async fn bytes_read_before_the_session_come_first_in_slots() {
    for layout in [Layout::FLAT, SLOTS] {
        let ahead: Vec<u8> = (0..40_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let (mut plain, mut far) = plain(&ahead).await;
        far.write_all(b"behind").await.unwrap();
        let mut got = Vec::new();
        while got.len() < ahead.len() {
            assert!(plain.has_ahead());
            got.extend(read(&mut plain, layout).await.unwrap());
        }
        assert!(got == ahead && !plain.has_ahead());
        assert_eq!(read(&mut plain, layout).await.unwrap(), b"behind");
    }
}

#[tokio::test]
async fn vectored_reads_fill_the_slots_in_order() {
    for layout in [Layout::FLAT, SLOTS, Layout { head: 64, payload: 15_872, tail: 79 }] {
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7).to_le_bytes()[0]).collect();
        let (mut plain, mut far) = plain(b"").await;
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            far.write_all(&sent).await.unwrap();
            far.shutdown().await.unwrap();
            far
        });
        let mut got = Vec::new();
        while let Some(part) = read(&mut plain, layout).await {
            got.extend(part);
        }
        assert!(got == expected, "{layout:?}");
        writing.await.unwrap();
    }
}

#[tokio::test]
async fn finish_sends_what_is_left_then_a_fin_and_leaves_the_way_in_open() {
    let (mut plain, mut far) = plain(b"").await;
    send(&mut plain, b"reply").await;
    plain.finish();
    flush(&mut plain).await;
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"reply");
    far.write_all(b"still here").await.unwrap();
    assert_eq!(read(&mut plain, Layout::FLAT).await.unwrap(), b"still here");
}

#[tokio::test]
async fn dropped_endpoint_is_seen_as_a_reset() {
    for half_closed in [false, true] {
        let (mut plain, mut far) = plain(b"").await;
        if half_closed {
            far.shutdown().await.unwrap();
            assert_eq!(read(&mut plain, Layout::FLAT).await, None);
        }
        plain.abort();
        drop(plain);
        let seen = far.read(&mut [0; 1]).await;
        assert_eq!(seen.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn closed_endpoint_is_seen_as_an_end() {
    let (mut plain, mut far) = plain(b"").await;
    send(&mut plain, b"all").await;
    let close = async move {
        poll_fn(|cx| plain.poll_close(cx)).await;
        drop(plain);
    };
    let peer = async move {
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        got
    };
    assert_eq!(within_10_s(async { tokio::join!(close, peer) }).await.1, b"all");
}

#[tokio::test]
async fn peer_that_still_sends_while_we_close_gets_all_that_was_sent() {
    let (mut plain, mut far) = plain(b"").await;
    send(&mut plain, b"the last words").await;
    far.write_all(&vec![7; 100_000]).await.unwrap();
    let close = async move {
        poll_fn(|cx| plain.poll_close(cx)).await;
        drop(plain);
    };
    let peer = async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        far.write_all(b"more").await.unwrap();
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        got
    };
    assert_eq!(within_10_s(async { tokio::join!(close, peer) }).await.1, b"the last words");
}

async fn within_10_s<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), what).await.expect("it hangs")
}

#[tokio::test]
async fn reset_by_the_peer_is_a_cut() {
    let (mut plain, far) = plain(b"").await;
    Socket::new(far).unwrap().reset_unless_complete();
    let plain: &mut dyn Endpoint = &mut plain;
    let read = timeout(Duration::from_secs(10), plain.read(Layout::FLAT)).await.expect("it hangs");
    assert!(matches!(read, Err(Cut::Io(_))), "{read:?}");
}
