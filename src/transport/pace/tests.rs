//! The pace on real sockets. That a rest ends in time is the kernel's promise; what begins and ends rests is tested.

use std::{future::poll_fn, io::IoSliceMut, net::Ipv4Addr};

use nix::{
    getsockopt_impl, libc,
    sys::socket::{GetSockOpt as _, sockopt::GetUsize},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

#[derive(Clone, Copy)]
struct LowWater;
getsockopt_impl!(LowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, usize, GetUsize);

/// The far end, the near one, and a second handle of the near one to ask it things.
async fn sockets() -> (TcpStream, Socket, std::net::TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (far, near) = tokio::join!(connecting, listener.accept());
    let near = near.unwrap().0.into_std().unwrap();
    let asked = near.try_clone().unwrap();
    far.as_ref().unwrap().set_nodelay(true).unwrap();
    (far.unwrap(), Socket::new(TcpStream::from_std(near).unwrap()).unwrap(), asked)
}

const FRAME: usize = 2 * 1024;

/// One small read more, and rests begin.
const ENOUGH: usize = NOTICED as usize + TIMED as usize;

fn small_reads(pace: &mut Pace, socket: &Socket, reads: usize) {
    for _ in 0..reads {
        pace.read(FRAME, socket);
    }
}

fn rests(pace: &Pace) -> bool {
    matches!(pace, Pace::Rests(_))
}

#[tokio::test(start_paused = true)]
async fn rests_begin_after_a_dozen_small_reads_in_a_row() {
    let (_far, socket, asked) = sockets().await;
    let mut pace = Pace::new();
    small_reads(&mut pace, &socket, ENOUGH);
    assert!(!rests(&pace));
    small_reads(&mut pace, &socket, 1);
    assert!(rests(&pace));
    assert_eq!(LowWater.get(&asked).unwrap(), GATHERED);
}

#[tokio::test(start_paused = true)]
async fn slow_tiny_and_answered_streams_are_always_read_at_once() {
    let (_far, socket, asked) = sockets().await;
    let mut pace = Pace::new();
    for _ in 0..10 * ENOUGH {
        tokio::time::advance(REST / 3).await;
        pace.read(FRAME, &socket);
        assert!(!rests(&pace), "a stream with three frames in {REST:?}");
    }
    let mut pace = Pace::new();
    for _ in 0..10 * ENOUGH {
        pace.read(LEAST_BULK - 1, &socket);
        assert!(!rests(&pace), "a stream of keystrokes");
    }
    let mut pace = Pace::new();
    for _ in 0..10 {
        small_reads(&mut pace, &socket, ENOUGH);
        pace.at_once(&socket);
        assert!(!rests(&pace), "a stream with answers");
    }
    assert_eq!(LowWater.get(&asked).unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_rests() {
    let (_far, socket, asked) = sockets().await;
    let mut pace = Pace::new();
    small_reads(&mut pace, &socket, ENOUGH + 1);
    pace.at_once(&socket);
    assert!(!rests(&pace));
    assert_eq!(LowWater.get(&asked).unwrap(), 1);
}

#[tokio::test]
async fn what_comes_after_a_rest_in_vain_is_read_at_once() {
    let (mut far, socket, asked) = sockets().await;
    let mut pace = Pace::new();
    small_reads(&mut pace, &socket, ENOUGH + 1);
    assert!(rests(&pace));
    assert_eq!(poll_fn(|cx| pace.poll_due(cx, &socket)).await.unwrap(), Due::Rested);
    pace.read(0, &socket);
    assert_eq!(LowWater.get(&asked).unwrap(), 1);
    far.write_all(&[7]).await.unwrap();
    let due = timeout(Duration::from_secs(10), poll_fn(|cx| pace.poll_due(cx, &socket))).await;
    assert_eq!(due.expect("one byte is not read").unwrap(), Due::Readable);
    pace.read(1, &socket);
    assert!(!rests(&pace), "a stream that is no bulk any more");
}

#[tokio::test]
async fn bulk_goes_on_to_rest_after_a_pause_and_not_after_four() {
    let (_far, socket, asked) = sockets().await;
    let mut pace = Pace::new();
    small_reads(&mut pace, &socket, ENOUGH + 1);
    for brought in [0, FRAME - 1, FRAME - 1].into_iter().take(usize::from(IN_VAIN) - 1) {
        pace.read(brought, &socket);
        assert_eq!(LowWater.get(&asked).unwrap(), 1);
        pace.read(FRAME, &socket);
        assert_eq!(LowWater.get(&asked).unwrap(), GATHERED);
    }
    pace.read(FRAME - 1, &socket);
    assert!(!rests(&pace));
    assert_eq!(LowWater.get(&asked).unwrap(), 1);
}

#[tokio::test]
async fn rests_lose_nothing_and_bring_more_at_a_time() {
    const FRAMES: usize = 2_000;
    let (mut far, socket, _) = sockets().await;
    let writing = tokio::spawn(async move {
        for n in 0..FRAMES {
            far.write_all(&[u8::try_from(n % 251).unwrap(); FRAME]).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let (mut pace, mut all, mut rested) = (Pace::new(), Vec::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let due = timeout(Duration::from_secs(10), poll_fn(|cx| pace.poll_due(cx, &socket))).await;
        let slots = &mut [IoSliceMut::new(&mut buffer)];
        let read = match due.expect("it hangs").unwrap() {
            Due::Readable => socket.try_read(slots),
            Due::Rested => socket.read_now(slots),
        };
        match read {
            Ok(0) => break,
            Ok(read) => {
                all.extend_from_slice(&buffer[..read]);
                pace.read(read, &socket);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => pace.read(0, &socket),
            Err(error) => panic!("{error}"),
        }
        rested += usize::from(rests(&pace));
    }
    writing.await.unwrap();
    assert!(
        all.chunks(FRAME)
            .enumerate()
            .all(|(n, frame)| frame.iter().all(|&byte| usize::from(byte) == n % 251))
    );
    assert_eq!(all.len(), FRAMES * FRAME);
    assert!(rested > 0, "it never rested");
}

#[tokio::test(start_paused = true)]
async fn sockets_that_cannot_gather_never_rest() {
    let (socket, _other) = Socket::pair().unwrap();
    let mut pace = Pace::new();
    for _ in 0..10 * ENOUGH {
        pace.read(FRAME, &socket);
        assert!(!rests(&pace));
    }
}
