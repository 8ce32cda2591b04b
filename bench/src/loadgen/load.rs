//! What is done to a proxy.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{Arguments, pattern, wrong};

/// What tunnels echo.
const MESSAGE: usize = 64;

/// So many failures end a run that cannot work.
const MOST_FAILURES: usize = 50;

fn echo(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let mut answer = vec![0; message.len()];
    stream.write_all(message)?;
    stream.read_exact(&mut answer)?;
    if answer == message { Ok(()) } else { Err(io::Error::other("the echo differs")) }
}

/// Joins threads; a thread that panicked is an error.
fn join<T>(worker: thread::JoinHandle<io::Result<T>>) -> io::Result<T> {
    worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}

/// Streams of a known length, all at once, each checked.
pub(crate) fn bulk(arguments: &Arguments) -> io::Result<String> {
    let route = arguments.route()?;
    let (streams, bytes): (usize, usize) = (arguments.needed("streams")?, arguments.needed("bytes")?);
    let kind = match arguments.needed::<String>("direction")?.as_str() {
        "down" => b'D',
        "up" => b'U',
        other => return Err(wrong(&format!("--direction: {other} is neither down nor up"))),
    };
    let open = Arc::new(Barrier::new(streams + 1));
    let worker = |number: usize| {
        let open = Arc::clone(&open);
        thread::spawn(move || {
            let stream = route.open();
            open.wait();
            transfer(stream?, kind, bytes, number * 7_919)
        })
    };
    let workers: Vec<_> = (0..streams).map(worker).collect();
    open.wait();
    let started = Instant::now();
    workers.into_iter().try_for_each(join)?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!("{{\"bytes\":{},\"seconds\":{seconds:.4}}}", streams * bytes))
}

fn transfer(mut stream: TcpStream, kind: u8, bytes: usize, offset: usize) -> io::Result<()> {
    let mut request = vec![kind];
    request.extend((bytes as u64).to_le_bytes());
    request.extend((offset as u64).to_le_bytes());
    stream.write_all(&request)?;
    let right = if kind == b'D' {
        let right = pattern::receive(&mut stream, offset, bytes)?;
        // Nothing may follow; a proxy that keeps the connection a while is let off.
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        right && !matches!(stream.read(&mut [0]), Ok(1))
    } else {
        pattern::send(&mut stream, offset, bytes)?;
        let mut verdict = [0];
        stream.read_exact(&mut verdict)?;
        verdict == *b"1"
    };
    if right { Ok(()) } else { Err(io::Error::other("the content differs")) }
}

/// Tunnels one after the other in each worker: open, 64 bytes there and back, close.
pub(crate) fn tunnels(arguments: &Arguments) -> io::Result<String> {
    let route = arguments.route()?;
    let (workers, seconds): (usize, f64) = (arguments.needed("workers")?, arguments.needed("seconds")?);
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let most = arguments.optional("most")?.unwrap_or(usize::MAX);
    let pause = arguments.optional("pause-ms")?.map(Duration::from_millis);
    let begun = Arc::new(AtomicUsize::new(0));
    let worker = |number: usize| {
        let all = Arc::clone(&begun);
        thread::spawn(move || {
            let (message, mut taken, mut failed) = (pattern::at(number * 104_729, MESSAGE), Vec::new(), 0);
            while Instant::now() < end && failed < MOST_FAILURES && all.fetch_add(1, Relaxed) < most {
                let begun = Instant::now();
                match route.open().and_then(|mut stream| echo(&mut stream, message)) {
                    Ok(()) => taken.push(begun.elapsed()),
                    Err(_) => failed += 1,
                }
                pause.into_iter().for_each(thread::sleep);
            }
            Ok((taken, failed))
        })
    };
    let workers: Vec<_> = (0..workers).map(worker).collect();
    let (mut taken, mut failed) = (Vec::new(), 0);
    for worker in workers {
        let (more, fails) = join(worker)?;
        taken.extend(more);
        failed += fails;
    }
    Ok(format!(
        "{{\"done\":{},\"failed\":{failed},\"seconds\":{:.4},{}}}",
        taken.len(),
        started.elapsed().as_secs_f64(),
        percentiles(&mut taken)
    ))
}

/// One tunnel, one message there and back at a time.
pub(crate) fn ping(arguments: &Arguments) -> io::Result<String> {
    let mut stream = arguments.route()?.open()?;
    let (rounds, size): (usize, usize) = (arguments.needed("rounds")?, arguments.needed("size")?);
    let message = pattern::at(0, size);
    for _ in 0..rounds.min(100) {
        echo(&mut stream, message)?;
    }
    let mut taken = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begun = Instant::now();
        echo(&mut stream, message)?;
        taken.push(begun.elapsed());
    }
    Ok(format!("{{\"done\":{},\"warm\":{},{}}}", taken.len(), rounds.min(100), percentiles(&mut taken)))
}

/// Opens tunnels, says so, holds them until standard input ends, and tries each again.
pub(crate) fn idle(arguments: &Arguments) -> io::Result<String> {
    let route = arguments.route()?;
    let count: usize = arguments.needed("tunnels")?;
    let message = pattern::at(0, MESSAGE);
    let (mut open, mut failed) = (Vec::with_capacity(count), 0);
    while open.len() + failed < count && failed < MOST_FAILURES {
        match route.open().and_then(|mut stream| echo(&mut stream, message).map(|()| stream)) {
            Ok(stream) => open.push(stream),
            Err(_) => failed += 1,
        }
    }
    writeln!(io::stdout(), "{{\"open\":{},\"failed\":{failed}}}", open.len())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let alive = open.iter_mut().filter_map(|stream| echo(stream, message).ok()).count();
    Ok(format!("{{\"alive\":{alive}}}"))
}

fn percentiles(taken: &mut [Duration]) -> String {
    taken.sort_unstable();
    let at = |permille: usize| {
        let index = (taken.len() * permille / 1000).min(taken.len().saturating_sub(1));
        taken.get(index).map_or(0.0, |taken| taken.as_secs_f64() * 1e6)
    };
    format!("\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1}", at(500), at(990), at(999))
}
