//! A middle box between client and server: it records, rewrites the head of a request, and cuts.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// How the middle box ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Fin,
    Reset,
}

/// Turns the head of a message into what is passed on.
pub type ChangeHead = fn(String) -> String;

/// What a middle box does to the bytes that pass.
#[derive(Clone, Copy)]
pub struct Changes {
    /// Applied to the head of every request.
    pub request: ChangeHead,
    /// Applied to the head of every answer.
    pub answer: ChangeHead,
    /// Flips a bit of this byte of what the server sends behind its head.
    pub damage: Option<usize>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { request: |head| head, answer: |head| head, damage: None }
    }
}

/// Passes everything on and keeps what went through, a pair of streams a connection.
#[derive(Debug, Clone)]
pub struct Tap {
    pub port: u16,
    connections: Arc<Mutex<Vec<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    to_server: Arc<Mutex<Vec<u8>>>,
    to_client: Arc<Mutex<Vec<u8>>>,
    client: TcpStream,
    server: TcpStream,
}

impl Tap {
    pub fn before(server: u16) -> Self {
        Self::changing(server, Changes::default())
    }

    pub fn changing(server: u16, changes: Changes) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, server))) else {
                    continue;
                };
                let connection = Connection {
                    to_server: Arc::default(),
                    to_client: Arc::default(),
                    client: client.try_clone().unwrap(),
                    server: server.try_clone().unwrap(),
                };
                let copies = (Arc::clone(&connection.to_server), Arc::clone(&connection.to_client));
                list.lock().unwrap().push(connection);
                let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass_behind_head(client, server, changes.request, None, &copies.0));
                thread::spawn(move || {
                    pass_behind_head(server_too, client_too, changes.answer, changes.damage, &copies.1);
                });
            }
        });
        Self { port, connections }
    }

    /// How many connections came in.
    pub fn count(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// What the client of connection `index` sent so far.
    pub fn to_server(&self, index: usize) -> Vec<u8> {
        self.connections.lock().unwrap()[index].to_server.lock().unwrap().clone()
    }

    /// The head of the request of connection `index`, waiting for it.
    pub fn request_head(&self, index: usize) -> String {
        super::eventually(|| {
            let connections = self.connections.lock().unwrap();
            let bytes = connections.get(index)?.to_server.lock().unwrap().clone();
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
            Some(String::from_utf8_lossy(&bytes[..end + 4]).into_owned())
        })
        .expect("a request within the time")
    }

    /// What the server of connection `index` answered so far.
    pub fn to_client(&self, index: usize) -> Vec<u8> {
        self.connections.lock().unwrap()[index].to_client.lock().unwrap().clone()
    }

    /// Ends every connection, both ways.
    pub fn cut_all(&self, cut: Cut) {
        for connection in self.connections.lock().unwrap().iter() {
            for stream in [&connection.client, &connection.server] {
                if cut == Cut::Reset {
                    drop(socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)));
                }
                drop(stream.shutdown(Shutdown::Both));
            }
        }
    }
}

fn pass_behind_head(
    mut from: TcpStream,
    mut to: TcpStream,
    change: ChangeHead,
    mut damage: Option<usize>,
    copy: &Mutex<Vec<u8>>,
) {
    let mut block = change(super::apps::read_head(&mut from).unwrap_or_default()).into_bytes();
    while !block.is_empty() {
        copy.lock().unwrap().extend(&block);
        if to.write_all(&block).is_err() {
            break;
        }
        block.resize(64 * 1024, 0);
        let length = from.read(&mut block).unwrap_or(0);
        block.truncate(length);
        if let Some(left) = &mut damage {
            if *left < length {
                block[*left] ^= 1;
                damage = None;
            } else {
                *left -= length;
            }
        }
    }
    drop(to.shutdown(Shutdown::Write));
}
