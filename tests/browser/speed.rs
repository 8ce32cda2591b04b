//! What a tab costs.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

use crate::{
    forwarding::{Forwarding, WITHOUT_STREAMS},
    support::{
        apps,
        chromium::Chromium,
        config::Link,
        node::{Client, Kind, Server},
        origin::Origin,
    },
};

/// What a tab costs: `cargo test --test browser speed_ -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
#[expect(clippy::print_stdout, reason = "a table to read")]
fn speed_through_a_tab_beside_that_without() {
    const BYTES: u64 = 1 << 30;
    need_chromium!();
    let origin = Origin::start();
    let browser = Chromium::start();
    println!(
        "| way | down MiB/s | up MiB/s | CPU ms a GiB down: wsray, browser | up: wsray, browser | echo p50 µs |"
    );
    for way in ["direct", "tab", "tab without WebSocketStream"] {
        let link = Link::default();
        let server = Server::start(Kind::Wsray, &link);
        let (client, tab) = if way == "direct" {
            (Client::start(Kind::Wsray, &link, server.port), None)
        } else {
            let forwarding = Forwarding::start(&link, server.port);
            let script = if way == "tab" { "" } else { WITHOUT_STREAMS };
            let tab = forwarding.tab_with(&browser, script);
            (forwarding.client, Some(tab))
        };
        let cpu = || {
            let wsray = cpu_ms(client.node.id()) + cpu_ms(server.node.id());
            let processes = browser.processes().into_iter();
            (wsray, processes.map(|(_, process)| cpu_ms(u32::try_from(process).unwrap())).sum::<u64>())
        };
        let measure = |transfer: &dyn Fn(&mut TcpStream)| {
            let mut stream = apps::socks5(client.socks, origin.address.into(), None).unwrap();
            let (before, started) = (cpu(), Instant::now());
            transfer(&mut stream);
            let (took, after) = (started.elapsed(), cpu());
            (1024.0 / took.as_secs_f64(), after.0 - before.0, after.1 - before.1)
        };
        let down = measure(&|stream| {
            stream.write_all(format!("send {BYTES} 1\n").as_bytes()).unwrap();
            std::io::copy(&mut stream.take(BYTES), &mut std::io::sink()).unwrap();
        });
        let up = measure(&|stream| {
            stream.write_all(format!("take {BYTES}\n").as_bytes()).unwrap();
            let block = vec![7; 1 << 20];
            (0..BYTES >> 20).for_each(|_| stream.write_all(&block).unwrap());
            stream.read_exact(&mut [0; 64]).unwrap();
        });
        let echo = median_echo(apps::socks5(client.socks, origin.address.into(), None).unwrap());
        println!(
            "| {way} | {:.0} | {:.0} | {}, {} | {}, {} | {} |",
            down.0, up.0, down.1, down.2, up.1, up.2, echo
        );
        if let Some(tab) = tab {
            tab.close();
        }
    }
}

/// How long an echo of 64 bytes takes, in microseconds.
fn median_echo(mut stream: TcpStream) -> u128 {
    const ECHOES: usize = 2000;
    apps::check_echo(&stream).unwrap();
    let echo = |_| {
        let started = Instant::now();
        stream.write_all(&[1; 64]).unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        started.elapsed().as_micros()
    };
    let mut times: Vec<_> = (0..ECHOES).map(echo).collect();
    times.sort_unstable();
    times[ECHOES / 2]
}

/// The processor time that a process has taken, in milliseconds.
fn cpu_ms(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything; in ticks of 10 ms (proc(5)).
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}
