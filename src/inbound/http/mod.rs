//! The http inbound: CONNECT tunnels, and plain requests, one a connection.

mod one_request;
pub mod wire;

use std::{io, sync::Arc, time::Duration};

use tokio::time::timeout;
use wsray_route::{Rest, Sniffed, sniff};
use wsray_vmess::{Network, Target};
use wsray_ws::Step;

use self::{
    one_request::OneRequest,
    wire::{HeadReader, HttpError, Kind, Request, Status},
};
use super::{Common, Seat, Served, accounts::Accounts};
use crate::{
    session::Source,
    stream::{BoxEndpoint, Pool},
    transport::{Plain, Socket},
};

/// An HTTP proxy.
#[derive(Debug)]
pub struct HttpInbound {
    /// What every inbound has.
    pub common: Common,
    /// Who may use it; empty: everybody.
    pub accounts: Accounts,
    /// `timeout`: overrides the policy's for idle sessions.
    pub idle_timeout: Option<Duration>,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
}

/// Why a client was refused; it has been told.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the client left in the middle of its request")]
    Eof,
    #[error("{}", if *.given { "wrong user or password" } else { "no user and password were given" })]
    Credentials { given: bool },
}

/// What a client asked for.
struct Opened {
    inbound: BoxEndpoint,
    user: Option<Arc<str>>,
    target: Target,
    /// What a plain request says, for rules on its attributes.
    said: Option<Box<Sniffed>>,
}

/// How much of a request is read at once.
const READ: usize = 8 * 1024;

impl HttpInbound {
    /// Serves one connection to its end.
    pub fn connection(
        &self,
        socket: Socket,
        peer: Source,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send + '_ {
        let opening = Box::pin(self.open(socket));
        async move {
            let session = match timeout(self.common.handshake, opening).await {
                Ok(Ok(opened)) => self.session(opened, peer),
                Ok(Err(Refusal::Eof)) | Err(_) => return,
                Ok(Err(refusal)) => {
                    return self.common.tell_refused("refused HTTP clients", "http", peer, &refusal);
                }
            };
            drop(seat);
            session.await;
        }
    }

    fn session(&self, opened: Opened, peer: Source) -> Served<'_> {
        let mut session = self.common.session(peer, opened.user, Network::Tcp, opened.target);
        session.idle_timeout = self.idle_timeout;
        session.said = opened.said;
        Box::pin(self.common.dispatcher.run(session, opened.inbound))
    }

    async fn open(&self, mut socket: Socket) -> Result<Opened, Refusal> {
        let mut ahead = Vec::new();
        let request = match self.read(&mut socket, &mut ahead).await {
            Err(Refusal::Http(error)) => {
                socket.write_all(&wire::answer(error.status(), &error.to_string())).await?;
                return Err(error.into());
            }
            read => read?,
        };
        let Ok(user) = self.authenticate(&request) else {
            let given = request.credentials.is_some();
            let answer = wire::answer(Status::ProxyAuthenticationRequired, "user and password are needed");
            socket.write_all(&answer).await?;
            return Err(Refusal::Credentials { given });
        };
        let pool = Arc::clone(&self.pool);
        let (inbound, said): (BoxEndpoint, _) = match request.kind {
            Kind::Connect => {
                socket.write_all(wire::CONNECTION_ESTABLISHED).await?;
                (Box::new(Plain::new(socket, pool, ahead)), None)
            }
            Kind::Forward { head, body } => {
                let said = Box::new(sniff(&head, Rest::Over));
                (Box::new(OneRequest::new(socket, pool, head, body, &ahead)), Some(said))
            }
        };
        Ok(Opened { inbound, user, target: request.target, said })
    }

    async fn read(&self, socket: &mut Socket, ahead: &mut Vec<u8>) -> Result<Request, Refusal> {
        let mut reader = HeadReader::new();
        loop {
            if socket.read_some(ahead, READ).await? == 0 {
                return Err(Refusal::Eof);
            }
            if let Step::Done { used, value } = reader.read(ahead)? {
                ahead.drain(..used);
                return Ok(value);
            }
        }
    }

    fn authenticate(&self, request: &Request) -> Result<Option<Arc<str>>, ()> {
        if self.accounts.is_empty() {
            return Ok(None);
        }
        let credentials = request.credentials.as_ref().ok_or(())?;
        self.accounts.find(credentials).map(|name| Some(name.into())).ok_or(())
    }
}
