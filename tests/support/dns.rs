//! A name server that answers as it is told, over UDP, TCP and HTTPS.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use super::certificate;

/// A (RFC 1035) and AAAA (RFC 3596).
pub const A: u16 = 1;
pub const AAAA: u16 = 28;

/// What is answered to a question.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub addresses: Vec<IpAddr>,
    pub ttl: u32,
    pub code: u8,
    /// Nothing is.
    pub silent: bool,
    /// Over UDP only that it does not fit.
    pub cut_off: bool,
    /// Before it comes one with another id, and one to another question.
    pub forged: Vec<IpAddr>,
}

impl Reply {
    pub fn of(address: &str) -> Self {
        Self { addresses: vec![address.parse().unwrap()], ttl: 60, ..Self::default() }
    }

    pub fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }
}

/// Lives as long as the test process.
#[derive(Debug, Clone)]
pub struct NameServer {
    pub port: u16,
    questions: Arc<Mutex<Vec<(String, u16)>>>,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
}

type Answers = Arc<dyn Fn(&str, u16) -> Reply + Send + Sync>;

impl NameServer {
    /// On 127.0.0.1, UDP and TCP on the same port.
    pub fn start(answers: impl Fn(&str, u16) -> Reply + Send + Sync + 'static) -> Self {
        let (tcp, udp) = (0..50)
            .find_map(|_| {
                let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
                Some((tcp, udp))
            })
            .expect("a port that is free for both");
        let server = Self {
            port: tcp.local_addr().unwrap().port(),
            questions: Arc::default(),
            messages: Arc::default(),
        };
        let answers: Answers = Arc::new(answers);
        let (on_udp, answers_udp) = (server.clone(), Arc::clone(&answers));
        thread::spawn(move || on_udp.serve_udp(&udp, &answers_udp));
        let on_tcp = server.clone();
        thread::spawn(move || on_tcp.serve_tcp(&tcp, &answers));
        server
    }

    /// Over HTTPS with HTTP/2, with the certificate of [`certificate`].
    pub fn start_https(answers: impl Fn(&str, u16) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            questions: Arc::default(),
            messages: Arc::default(),
        };
        let (here, answers): (_, Answers) = (server.clone(), Arc::new(answers));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(here.serve_https(listener, answers));
        });
        server
    }

    /// All questions so far, in order.
    pub fn questions(&self) -> Vec<(String, u16)> {
        self.questions.lock().unwrap().clone()
    }

    /// The same as they came.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.messages.lock().unwrap().clone()
    }

    fn reply(&self, question: &[u8], answers: &Answers) -> Option<(Reply, String, u16)> {
        let (name, kind) = parse(question)?;
        self.questions.lock().unwrap().push((name.clone(), kind));
        self.messages.lock().unwrap().push(question.to_vec());
        Some((answers(&name, kind), name, kind))
    }

    fn serve_udp(&self, socket: &UdpSocket, answers: &Answers) {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let Some((reply, _, kind)) = self.reply(&buffer[..length], answers) else { continue };
            if !reply.forged.is_empty() {
                let forged = Reply { addresses: reply.forged.clone(), ttl: 60, ..Reply::default() };
                let mut wrong_id = message(&buffer[..length], kind, &forged, false);
                wrong_id[0] ^= 0xff;
                drop(socket.send_to(&wrong_id, from));
                let mut wrong_name = message(&buffer[..length], kind, &forged, false);
                wrong_name[13] = if wrong_name[13] == b'z' { b'y' } else { b'z' };
                drop(socket.send_to(&wrong_name, from));
            }
            if !reply.silent {
                drop(socket.send_to(&message(&buffer[..length], kind, &reply, reply.cut_off), from));
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener, answers: &Answers) {
        for mut stream in listener.incoming().flatten() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            if stream.read_exact(&mut question).is_err() {
                continue;
            }
            let Some((reply, _, kind)) = self.reply(&question, answers) else { continue };
            let answer = message(&question, kind, &reply, false);
            let mut framed = u16::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
            framed.extend(answer);
            drop(stream.write_all(&framed));
        }
    }

    async fn serve_https(&self, listener: TcpListener, answers: Answers) {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        let files = certificate::files();
        let chain =
            CertificateDer::pem_file_iter(&files.certificate).unwrap().collect::<Result<_, _>>().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(stream).await else { continue };
            let Ok(mut connection) = h2::server::handshake(tls).await else { continue };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let is_post = request.method() == http::Method::POST && request.uri().path() == "/dns-query";
                let mut body = request.into_body();
                let mut question = Vec::new();
                // The body of so short a question is in one frame, which comes while the connection is polled.
                let read = async {
                    while let Some(Ok(data)) = body.data().await {
                        question.extend_from_slice(&data);
                    }
                };
                tokio::select! { () = read => {}, _ = std::future::poll_fn(|cx| connection.poll_closed(cx)) => break }
                let status = if is_post { 200 } else { 404 };
                let Some((reply, _, kind)) = self.reply(&question, &answers) else { continue };
                let response = http::Response::builder().status(status).body(()).unwrap();
                let Ok(mut sender) = respond.send_response(response, false) else { continue };
                drop(sender.send_data(message(&question, kind, &reply, false).into(), true));
            }
        }
    }
}

/// The first question's name and type.
fn parse(message: &[u8]) -> Option<(String, u16)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = message.get(at..at + 2)?;
    Some((labels.join("."), u16::from_be_bytes([kind[0], kind[1]])))
}

/// RFC 1035 section 4.
fn message(question: &[u8], kind: u16, reply: &Reply, cut_off: bool) -> Vec<u8> {
    let mut end = 12;
    while question[end] != 0 {
        end += usize::from(question[end]) + 1;
    }
    end += 5;
    let mut out = question[..end].to_vec();
    out[2] = 0x81 | if cut_off { 0x02 } else { 0 };
    out[3] = 0x80 | reply.code;
    let fits = |address: &&IpAddr| address.is_ipv4() == (kind == A);
    let addresses: Vec<_> = reply.addresses.iter().filter(fits).filter(|_| !cut_off).collect();
    out[4..12].copy_from_slice(&[0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    for address in addresses {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(reply.ttl.to_be_bytes());
        match address {
            IpAddr::V4(ip) => {
                out.extend([0, 4]);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.extend([0, 16]);
                out.extend(ip.octets());
            }
        }
    }
    out
}
