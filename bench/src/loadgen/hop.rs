//! A way between client and server that only passes bytes on: it counts them, and may be long. When a connection ends, all
//! counts so far are printed: one JSON object a line.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{Arguments, endpoint::serve};

const CALL: usize = 256 * 1024;

/// Blocks on their way in one direction, before the sender has to wait.
const BLOCKS: usize = 64;

/// What was passed on, in both directions.
#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
}

pub(crate) fn run(arguments: &Arguments) -> io::Result<String> {
    let listener = TcpListener::bind(arguments.needed::<SocketAddr>("listen")?)?;
    let server: SocketAddr = arguments.needed("to")?;
    let round_trip = Duration::from_millis(arguments.optional("round-trip-ms")?.unwrap_or(0));
    let counts = Arc::<Counts>::default();
    serve(&listener, move |client| pass_both(client, server, round_trip, &counts));
    Ok("{}".to_owned())
}

#[expect(clippy::print_stdout, reason = "one of its answers")]
fn pass_both(
    client: TcpStream,
    server: SocketAddr,
    round_trip: Duration,
    counts: &Arc<Counts>,
) -> io::Result<()> {
    // The client's first bytes would have waited for SYN and SYN-ACK.
    let connected = Instant::now() + round_trip;
    let server = TcpStream::connect(server)?;
    server.set_nodelay(true)?;
    let (from, to, all) = (client.try_clone()?, server.try_clone()?, Arc::clone(counts));
    let up = thread::spawn(move || pass(from, to, connected, round_trip / 2, &all.up));
    pass(server, client, connected, round_trip / 2, &counts.down);
    let _ = up.join();
    println!("{{\"up\":{},\"down\":{}}}", counts.up.load(Relaxed), counts.down.load(Relaxed));
    Ok(())
}

/// Passes one direction on, each block `delay` after it came.
fn pass(mut from: TcpStream, mut to: TcpStream, not_before: Instant, delay: Duration, count: &AtomicU64) {
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(BLOCKS);
    let writing = thread::spawn(move || {
        for (due, block) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&block).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut block = vec![0; CALL];
    while let Ok(length @ 1..) = from.read(&mut block) {
        count.fetch_add(length as u64, Relaxed);
        if sender.send((Instant::now().max(not_before) + delay, block[..length].to_vec())).is_err() {
            break;
        }
    }
    drop(sender);
    let _ = writing.join();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(round_trip: Duration) -> (TcpStream, TcpStream, Arc<Counts>) {
        let (near, far) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let client = TcpStream::connect(near.local_addr().unwrap()).unwrap();
        let (middle, server) = (near.accept().unwrap().0, far.local_addr().unwrap());
        let counts = Arc::<Counts>::default();
        let all = Arc::clone(&counts);
        thread::spawn(move || pass_both(middle, server, round_trip, &all));
        (client, far.accept().unwrap().0, counts)
    }

    #[test]
    fn the_first_answer_takes_two_round_trips_and_the_next_one_takes_one() {
        let round_trip = Duration::from_millis(100);
        let begun = Instant::now();
        let (mut client, mut server, _) = way(round_trip);
        for trips in [2, 3] {
            client.write_all(b"?").unwrap();
            server.read_exact(&mut [0]).unwrap();
            server.write_all(b"!").unwrap();
            client.read_exact(&mut [0]).unwrap();
            assert!(begun.elapsed() >= round_trip * trips, "{:?}", begun.elapsed());
        }
    }

    #[test]
    fn all_bytes_of_each_direction_are_counted() {
        let (mut client, mut server, counts) = way(Duration::ZERO);
        client.write_all(&[1; 300]).unwrap();
        server.write_all(&vec![2; 70_000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).unwrap();
        assert_eq!(got, [1; 300]);
        drop(server);
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(got, vec![2; 70_000]);
        assert_eq!((counts.up.load(Relaxed), counts.down.load(Relaxed)), (300, 70_000));
    }
}
