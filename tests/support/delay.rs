//! A long way between client and server: every byte takes its time, and so does the handshake of TCP.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// What the clients of a way have sent, a list for each connection.
pub type Sent = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// The port of a way to `server` with this time for there and back.
pub fn before(server: u16, round_trip: Duration) -> u16 {
    recording(server, round_trip).0
}

/// The same, with a record of what is sent to the server.
pub fn recording(server: u16, round_trip: Duration) -> (u16, Sent) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Sent::default();
    let record = Arc::clone(&sent);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // What the client sends first would have waited for SYN and SYN-ACK.
            let connected = Instant::now() + round_trip;
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { continue };
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let bytes = Arc::default();
            record.lock().unwrap().push(Arc::clone(&bytes));
            pass(client, server, connected, round_trip / 2, Some(bytes));
            pass(server_too, client_too, connected, round_trip / 2, None);
        }
    });
    (port, sent)
}

fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    not_before: Instant,
    delay: Duration,
    record: Option<Arc<Mutex<Vec<u8>>>>,
) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut block = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut block) {
            if let Some(record) = &record {
                record.lock().unwrap().extend(&block[..length]);
            }
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

/// A way whose server can be exchanged.
pub struct Switch {
    pub port: u16,
    server: Arc<AtomicU16>,
}

impl Switch {
    pub fn switch(&self, server: u16) {
        self.server.store(server, Ordering::SeqCst);
    }
}

/// A way to `server`, for now.
pub fn switching(server: u16) -> Switch {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Arc::new(AtomicU16::new(server));
    let current = Arc::clone(&server);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, current.load(Ordering::SeqCst))) else {
                continue;
            };
            let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            pass(client, server, Instant::now(), Duration::ZERO, None);
            pass(server_too, client_too, Instant::now(), Duration::ZERO, None);
        }
    });
    Switch { port, server }
}
