//! A long way between client and server: every byte takes its time, and so does the handshake of TCP.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// The port of a way to `server` with this time for there and back.
pub fn before(server: u16, round_trip: Duration) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // What the client sends first would have waited for SYN and SYN-ACK.
            let connected = Instant::now() + round_trip;
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { continue };
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            pass(client, server, connected, round_trip / 2);
            pass(server_too, client_too, connected, round_trip / 2);
        }
    });
    port
}

fn pass(mut from: TcpStream, mut to: TcpStream, not_before: Instant, delay: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut block = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut block) {
            let due = Instant::now().max(not_before) + delay;
            if sender.send((due, block[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, block) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&block).is_err() {
                return;
            }
        }
        drop(to.shutdown(Shutdown::Write));
    });
}
