//! One question to one server, over UDP, TCP or HTTPS.

use std::{io, net::IpAddr, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixDatagram, lookup_host},
    sync::Mutex,
};
use tokio_rustls::TlsConnector;
use wsray_config::{NameServerAddress, Way};
use wsray_vmess::{Address, Target};

use super::{
    Routes,
    message::{Answer, Question},
};

/// How a server is asked.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) address: NameServerAddress,
    pub(super) tag: Option<Arc<str>>,
    /// What to trust; for HTTPS only.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// The connection that questions over HTTPS share.
    pub(super) https: Mutex<Option<h2::client::SendRequest<bytes::Bytes>>>,
}

/// The largest answer (RFC 1035 section 4.2.2).
const MAX_BYTES: usize = 65_535;

impl Exchange {
    /// Asks; takes as long as the server does.
    pub(super) async fn ask(&self, question: &Question, routes: &dyn Routes) -> io::Result<Answer> {
        match &self.address {
            NameServerAddress::System => Err(io::ErrorKind::Unsupported.into()),
            NameServerAddress::Udp(target) => {
                let answer = self.udp(target, question, routes).await?;
                if answer != Answer::Truncated {
                    return Ok(answer);
                }
                let stream = routes.stream(target, self.tag.as_ref())?;
                tcp(stream, question).await
            }
            NameServerAddress::Tcp(target, way) => match way {
                Way::Routed => tcp(routes.stream(target, self.tag.as_ref())?, question).await,
                Way::Direct => tcp(connect(target).await?, question).await,
            },
            NameServerAddress::Https { target, path, way } => {
                Box::pin(self.https(target, path, *way, question, routes)).await
            }
        }
    }

    async fn udp(&self, target: &Target, question: &Question, routes: &dyn Routes) -> io::Result<Answer> {
        let socket: UnixDatagram = routes.packets(target, self.tag.as_ref())?;
        let id = rand::random();
        socket.send(&bytes(question, id)?).await?;
        let mut answer = vec![0; MAX_BYTES];
        loop {
            let read = socket.recv(&mut answer).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // Anything else is a stray or a forgery.
            if let Some(answer) = question.answer(id, &answer[..read]) {
                return Ok(answer);
            }
        }
    }

    async fn https(
        &self,
        target: &Target,
        path: &str,
        way: Way,
        question: &Question,
        routes: &dyn Routes,
    ) -> io::Result<Answer> {
        let mut shared = self.https.lock().await;
        // A connection that has ended in the meantime is made anew, once.
        if let Some(ready) = shared.take()
            && let Ok(ready) = ready.ready().await
        {
            *shared = Some(ready.clone());
            drop(shared);
            if let Ok(answer) = post(ready, target, path, question).await {
                return Ok(answer);
            }
            shared = self.https.lock().await;
        }
        let fresh = match way {
            Way::Routed => {
                Box::pin(self.handshake(routes.stream(target, self.tag.as_ref())?, target)).await?
            }
            Way::Direct => Box::pin(self.handshake(connect(target).await?, target)).await?,
        };
        *shared = Some(fresh.clone());
        drop(shared);
        post(fresh, target, path, question).await
    }

    async fn handshake<S>(
        &self,
        stream: S,
        target: &Target,
    ) -> io::Result<h2::client::SendRequest<bytes::Bytes>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let config = self.tls.clone().ok_or(io::ErrorKind::Unsupported)?;
        let name = ServerName::try_from(host(target)).map_err(io::Error::other)?;
        let tls = Box::pin(TlsConnector::from(config).connect(name, stream)).await?;
        if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not speak HTTP/2"));
        }
        let (requests, connection) = Box::pin(h2::client::handshake(tls)).await.map_err(io::Error::other)?;
        // It ends with the connection, or when nobody asks any more.
        tokio::spawn(async move { drop(connection.await) });
        Ok(requests)
    }
}

/// RFC 8484.
async fn post(
    requests: h2::client::SendRequest<bytes::Bytes>,
    target: &Target,
    path: &str,
    question: &Question,
) -> io::Result<Answer> {
    const MEDIA_TYPE: &str = "application/dns-message";
    let host = match &target.address {
        Address::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host(target),
    };
    let authority = if target.port == 443 { host } else { format!("{host}:{}", target.port) };
    let body = bytes(question, 0)?;
    let request = http::Request::post(format!("https://{authority}{path}"))
        .header("accept", MEDIA_TYPE)
        .header("content-type", MEDIA_TYPE)
        .header("content-length", body.len())
        .body(())
        .map_err(io::Error::other)?;
    let mut requests = requests.ready().await.map_err(io::Error::other)?;
    let (response, mut sender) = requests.send_request(request, false).map_err(io::Error::other)?;
    sender.send_data(body.into(), true).map_err(io::Error::other)?;
    let response = response.await.map_err(io::Error::other)?;
    if response.status() != http::StatusCode::OK {
        return Err(io::Error::other(format!("the server answered {}", response.status())));
    }
    let mut stream = response.into_body();
    let mut answer = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.map_err(io::Error::other)?;
        let _ = stream.flow_control().release_capacity(data.len());
        answer.extend_from_slice(&data);
        if answer.len() > MAX_BYTES {
            return Err(io::Error::other("the answer is too long"));
        }
    }
    question.answer(0, &answer).ok_or_else(no_answer)
}

/// RFC 7766.
async fn tcp(
    mut stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    question: &Question,
) -> io::Result<Answer> {
    let id = rand::random();
    let message = bytes(question, id)?;
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&message);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    question.answer(id, &answer).ok_or_else(no_answer)
}

fn bytes(question: &Question, id: u16) -> io::Result<Vec<u8>> {
    question.bytes(id).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what came is no answer to the question")
}

fn host(target: &Target) -> String {
    match &target.address {
        Address::Ip(ip) => ip.to_string(),
        Address::Domain(name) => name.as_str().to_owned(),
    }
}

/// Directly; a server's own name is the system's to know.
async fn connect(target: &Target) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((host(target).as_str(), target.port)).await?.collect();
    TcpStream::connect(&*addresses).await
}
