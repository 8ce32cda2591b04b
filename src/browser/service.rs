//! The HTTP server that browsers talk to: the page, the links, the tunnels.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use wsray_ws::{HeadLimits, Path, Request, Role, ServerOptions, Step};

use super::{
    gate::{self, Refused, Token, Wanted},
    hub::{Hub, News},
    link, page,
};
use crate::{
    observe::{Level, Log},
    stream::Pool,
    transport::{Channel, HandshakeError, Socket},
};

/// Serves the page and what it opens.
pub struct Service {
    hub: Arc<Hub>,
    token: Token,
    pool: Arc<Pool>,
    log: Log,
    /// Connections whose request has not been read yet.
    strangers: Arc<Semaphore>,
}

/// Connections whose request has not been read yet; more are closed at once. A browser opens up to 255 to one host.
const MOST_STRANGERS: usize = 512;

/// How long a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the answer to a request may take to leave.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait when the process has no file descriptor left for a connection.
const PAUSE: Duration = Duration::from_millis(50);

impl Service {
    /// With a token of its own.
    pub fn new(hub: Arc<Hub>, pool: Arc<Pool>, log: Log) -> Arc<Self> {
        let token = Token::new(rand::random());
        Arc::new(Self { hub, token, pool, log, strangers: Arc::new(Semaphore::new(MOST_STRANGERS)) })
    }

    /// The tabs.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Where a person opens the page.
    pub fn address(&self) -> &str {
        self.hub.address()
    }

    /// Serves until dropped; its connections end with it.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((tcp, _)) => {
                        let service = Arc::clone(&self);
                        connections.spawn(async move { service.connection(tcp).await });
                    }
                    Err(error) => {
                        self.log.limited(
                            Level::Error,
                            "failed accepts",
                            None,
                            "browser",
                            format_args!("cannot accept: {error}"),
                        );
                        sleep(PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => drop(ended),
            }
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream) {
        let Ok(permit) = Arc::clone(&self.strangers).try_acquire_owned() else { return };
        let local = tcp.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |local| local.ip());
        let Ok(socket) = Socket::new(tcp) else { return };
        let mut channel = Channel::new(socket, Arc::clone(&self.pool));
        let answered = timeout(HEAD_TIMEOUT, self.answer(&mut channel, local.to_canonical())).await;
        drop(permit);
        match answered {
            Ok(Ok(Some(Wanted::Link))) => link::run(channel, &self.hub, &self.log).await,
            Ok(Ok(Some(Wanted::Tunnel(tunnel)))) => {
                self.hub.tell(tunnel, None, News::Arrived(Box::new(channel)));
            }
            Ok(Ok(_)) => {
                channel.queue_goodbye(None);
                let gone = std::future::poll_fn(|cx| {
                    let _ = channel.poll_flush(cx);
                    channel.poll_drain(cx)
                });
                let _ = timeout(ANSWER_TIMEOUT, gone).await;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }

    /// Reads a request and answers it; what the connection is from here on, if anything.
    async fn answer(&self, channel: &mut Channel, local: IpAddr) -> Result<Option<Wanted>, HandshakeError> {
        let mut head = Vec::new();
        let request = loop {
            if channel.read_some(&mut head).await? == 0 {
                return Ok(None);
            }
            match wsray_ws::server::request(&head, HeadLimits::default()) {
                Ok(Step::NeedMore) => {}
                Ok(Step::Done { used, value }) => {
                    head.drain(..used);
                    break value;
                }
                Err(error) => {
                    channel.write_all(&error.response()).await?;
                    return Ok(None);
                }
            }
        };
        let wanted = match gate::admit(&request, local, &self.token) {
            Ok(Wanted::Tunnel(tunnel)) if !self.hub.expects(tunnel) => Err(Refused::Path),
            wanted => wanted,
        };
        match wanted {
            Ok(Wanted::Page) => {
                channel.write_all(&page::page(self.token.as_str(), rand::random())).await?;
                Ok(None)
            }
            Ok(wanted) => Ok(upgrade(channel, &request, head).await?.then_some(wanted)),
            Err(refused) => {
                self.tell(&refused);
                channel.write_all(&page::refusal(&refused)).await?;
                Ok(None)
            }
        }
    }

    /// Somebody should know of a page that tries to get in; not of a tab that lags behind.
    fn tell(&self, refused: &Refused) {
        let level = match refused {
            Refused::Host { .. } | Refused::Origin { .. } => Level::Warning,
            Refused::Token | Refused::Path | Refused::Method => Level::Debug,
        };
        self.log.limited(level, "refused requests", None, "browser", format_args!("refused: {refused}"));
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("hub", &self.hub).finish_non_exhaustive()
    }
}

/// Whether frames are spoken from here on.
async fn upgrade(channel: &mut Channel, request: &Request, ahead: Vec<u8>) -> Result<bool, HandshakeError> {
    let path = Path::new(&String::from_utf8_lossy(&request.path())).unwrap_or_default();
    let options = ServerOptions { path, early_data: None };
    match options.accept(request, &httpdate::fmt_http_date(SystemTime::now())) {
        Ok(accepted) => {
            channel.write_all(&accepted.response).await?;
            channel.upgrade(Role::Server, ahead, Vec::new());
            Ok(true)
        }
        Err(refusal) => {
            channel.write_all(&refusal.response).await?;
            Ok(false)
        }
    }
}
