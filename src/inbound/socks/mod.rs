//! The socks inbound: SOCKS 4, 4a and 5, with CONNECT and UDP ASSOCIATE.

mod udp;

use std::{io, net::IpAddr, sync::Arc};

use tokio::time::timeout;
use wsray_vmess::Network;

use super::{
    Common, Seat, Served,
    accounts::{Accounts, Credentials},
};
use crate::{
    session::{Mapping, Source},
    socks as wire,
    stream::Pool,
    transport::{Plain, Socket},
};
use wire::{AuthOutcome, Command, Greeting, Method, Reply, Request, SocksError};
use wsray_ws::Step;

/// A SOCKS server.
#[derive(Debug)]
pub struct SocksInbound {
    /// What every inbound has.
    pub common: Common,
    /// Who may use it; empty: everybody.
    pub accounts: Accounts,
    /// `UDP ASSOCIATE`; `None`: refused.
    pub udp: Option<SocksUdp>,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
}

/// How UDP is relayed.
#[derive(Clone, Copy, Debug)]
pub struct SocksUdp {
    /// The address that clients are told; `None`: the one that their TCP connection came in on.
    pub reply_address: Option<IpAddr>,
    /// Which source targets see.
    pub mapping: Mapping,
}

/// Why a client was refused; it has been told.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Socks(#[from] SocksError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the client left in the middle of its request")]
    Eof,
    #[error("wrong user or password")]
    Credentials,
    #[error("the client offers no way of authentication that this inbound takes ({0})")]
    Method(&'static str),
    #[error("command BIND is not supported")]
    Bind,
    #[error("UDP ASSOCIATE is switched off (settings.udp)")]
    UdpOff,
}

/// A client that has said what it wants and has not been told yet.
struct Client {
    socket: Socket,
    /// What it sent beyond its request.
    ahead: Vec<u8>,
    user: Option<Arc<str>>,
    version: Version,
    request: Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Four,
    Five,
}

/// The most a client sends before it waits for an answer; more is refused.
const MAX_MESSAGE: usize = 1024;

impl SocksInbound {
    /// Serves one connection to its end.
    pub fn connection(
        &self,
        socket: Socket,
        peer: Source,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send + '_ {
        let greeting = Box::pin(self.greet(socket));
        async move {
            let client = match timeout(self.common.handshake, greeting).await {
                Ok(Ok(client)) => client,
                Ok(Err(Refusal::Eof)) | Err(_) => return,
                Ok(Err(refusal)) => {
                    return self.common.tell_refused("refused SOCKS clients", "socks", peer, &refusal);
                }
            };
            drop(seat);
            match Box::pin(self.serve(client, peer)).await {
                Ok(Some(session)) => session.await,
                Ok(None) => {}
                Err(refusal) => self.common.tell_refused("refused SOCKS clients", "socks", peer, &refusal),
            }
        }
    }

    /// Answers a client; the session that it asked for, if that is a stream.
    async fn serve(&self, client: Client, peer: Source) -> Result<Option<Served<'_>>, Refusal> {
        let Client { mut socket, ahead, user, version, request } = client;
        match request.command {
            Command::Connect => {
                // At once: what the application says first travels with the request for its session.
                match version {
                    Version::Four => socket.write_all(&wire::SOCKS4_GRANTED).await?,
                    Version::Five => socket.write_all(&wire::SOCKS5_CONNECT_ACCEPTED).await?,
                }
                let session = self.common.session(peer, user, Network::Tcp, request.target);
                let inbound = Plain::new(socket, Arc::clone(&self.pool), ahead);
                Ok(Some(Box::pin(self.common.dispatcher.run(session, Box::new(inbound)))))
            }
            Command::UdpAssociate => {
                if let Some(settings) = self.udp {
                    Box::pin(udp::associate(self, settings, socket, user, peer)).await?;
                    return Ok(None);
                }
                socket.write_all(&wire::reply(Reply::CommandNotSupported, None)).await?;
                Err(Refusal::UdpOff)
            }
            Command::Bind => {
                match version {
                    Version::Four => socket.write_all(&wire::SOCKS4_REJECTED).await?,
                    Version::Five => socket.write_all(&wire::reply(Reply::CommandNotSupported, None)).await?,
                }
                Err(Refusal::Bind)
            }
        }
    }

    /// Up to the request.
    async fn greet(&self, mut socket: Socket) -> Result<Client, Refusal> {
        let mut ahead = Vec::new();
        match read(&mut socket, &mut ahead, wire::read_greeting).await? {
            Greeting::Socks4(request) if self.accounts.is_empty() => {
                Ok(Client { socket, ahead, user: None, version: Version::Four, request })
            }
            Greeting::Socks4(_) => {
                socket.write_all(&wire::SOCKS4_REJECTED).await?;
                Err(Refusal::Method("SOCKS 4 has no passwords, and this inbound has accounts"))
            }
            Greeting::Socks5(methods) => {
                let user = self.authenticate(&mut socket, &mut ahead, methods).await?;
                let request = read(&mut socket, &mut ahead, wire::read_request).await?;
                Ok(Client { socket, ahead, user, version: Version::Five, request })
            }
        }
    }

    async fn authenticate(
        &self,
        socket: &mut Socket,
        ahead: &mut Vec<u8>,
        methods: wire::Methods,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let wanted = if self.accounts.is_empty() { Method::NoAuth } else { Method::Password };
        if !methods.offer(wanted) {
            socket.write_all(&wire::method_reply(None)).await?;
            return Err(Refusal::Method(match wanted {
                Method::NoAuth => "none is needed",
                Method::Password => "user and password are needed",
            }));
        }
        socket.write_all(&wire::method_reply(Some(wanted))).await?;
        if wanted == Method::NoAuth {
            return Ok(None);
        }
        let credentials: Credentials = read(socket, ahead, wire::read_auth).await?;
        let Some(name) = self.accounts.find(&credentials) else {
            socket.write_all(&wire::auth_reply(AuthOutcome::Refused)).await?;
            return Err(Refusal::Credentials);
        };
        socket.write_all(&wire::auth_reply(AuthOutcome::Accepted)).await?;
        Ok(Some(name.into()))
    }
}

/// Reads one message; what came behind it stays in `ahead`. A message that cannot be read is answered.
async fn read<T>(
    socket: &mut Socket,
    ahead: &mut Vec<u8>,
    parse: fn(&[u8]) -> Result<Step<T>, SocksError>,
) -> Result<T, Refusal> {
    loop {
        match parse(ahead) {
            Ok(Step::Done { used, value }) => {
                ahead.drain(..used);
                return Ok(value);
            }
            Ok(Step::NeedMore) if ahead.len() > MAX_MESSAGE => return Err(SocksError::TextTooLong.into()),
            Ok(Step::NeedMore) => {}
            Err(error) => {
                if let Some(answer) = error.answer() {
                    socket.write_all(&answer).await?;
                }
                return Err(error.into());
            }
        }
        if socket.read_some(ahead, MAX_MESSAGE).await? == 0 {
            return Err(Refusal::Eof);
        }
    }
}
