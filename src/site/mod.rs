//! What answers those who want no tunnel (`fallback`): a folder of files, or a web server on this machine, so that
//! whoever tries the port finds an ordinary web site.
//!
//! A connection may turn out to be a tunnel's later: front ends and CDNs keep connections open and send requests of
//! different visitors on them. So every request on it is looked at, and one for a tunnel gets its tunnel.

mod folder;
mod page;
mod proxied;
mod range;
mod requests;

use std::{io, path::Path, time::Duration};

use tokio::{sync::Semaphore, time::timeout};
use wsray_vmess::Target;

use crate::transport::{AcceptError, Accepted, Acceptor, Channel, HandshakeError, Visitor};
use folder::Folder;

/// A web site for those who want no tunnel.
#[derive(Debug)]
pub struct Site {
    kind: Kind,
    seats: Semaphore,
}

#[derive(Debug)]
enum Kind {
    Folder(Folder),
    Server(Place),
}

/// Where a web server listens.
#[derive(Clone, Debug)]
enum Place {
    Tcp(Target),
    Unix(String),
}

/// How a visit ended.
pub enum Visit {
    /// The visitor has left, or was shown the door.
    Over,
    /// Its next request was for a tunnel.
    Tunnel(Box<Accepted>),
}

/// Why a visit ended before its time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VisitError {
    /// As many visitors as there may be are here already; answered 503.
    #[error("the fallback has {} visitors already, which is the most", MOST_VISITORS)]
    Crowded,
    /// The web server cannot be reached; answered 502.
    #[error("the fallback {place} cannot be reached: {source}: is that web server running?")]
    Unreachable {
        /// Where it should listen.
        place: String,
        /// Why not.
        source: io::Error,
    },
    /// The visitor's connection failed.
    #[error("{0}")]
    Connection(#[from] HandshakeError),
    /// A tunnel could not be made of it.
    #[error("{0}")]
    Tunnel(#[from] AcceptError),
    /// A connection stood still, or took too long.
    #[error("{what} took too long")]
    Slow {
        /// What was waited for.
        what: &'static str,
    },
}

/// The most visitors of one inbound at a time. A page needs a connection or a few, and tunnels do not count.
pub const MOST_VISITORS: usize = 512;

/// How long one connection of visitors may last.
const LONGEST_VISIT: Duration = Duration::from_hours(1);

/// How long a request head may take from its first byte on, as in a handshake.
const HEAD_LIMIT: Duration = Duration::from_secs(8);

/// How long a connection waits for the next request, as nginx's `keepalive_timeout`
/// (nginx `src/http/ngx_http_core_module.c`).
const NEXT_REQUEST: Duration = Duration::from_secs(75);

/// How long a visitor who is told to go may take until we close.
const LINGER: Duration = Duration::from_secs(2);

impl Site {
    /// The files of a folder.
    ///
    /// # Errors
    /// When it is none, or cannot be read.
    pub fn folder(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Kind::Folder(Folder::open(path)?)))
    }

    /// The web server at this address.
    pub fn server(target: Target) -> Self {
        Self::new(Kind::Server(Place::Tcp(target)))
    }

    /// The web server on this unix socket.
    pub fn unix(path: String) -> Self {
        Self::new(Kind::Server(Place::Unix(path)))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, seats: Semaphore::new(MOST_VISITORS) }
    }

    /// Answers a visitor until it leaves, or turns out to want a tunnel.
    ///
    /// # Errors
    /// [`VisitError`]; the connection can be dropped.
    pub async fn visit(&self, acceptor: &Acceptor, visitor: Visitor) -> Result<Visit, VisitError> {
        let Ok(_seat) = self.seats.try_acquire() else {
            refuse(visitor.channel, "503 Service Unavailable").await?;
            return Err(VisitError::Crowded);
        };
        let visit = async {
            match &self.kind {
                Kind::Folder(folder) => folder.visit(acceptor, visitor).await,
                Kind::Server(place) => proxied::visit(place, acceptor, visitor).await,
            }
        };
        let late = |_| VisitError::Slow { what: "the visit" };
        timeout(LONGEST_VISIT, visit).await.map_err(late)?
    }
}

/// Answers with an error and closes.
async fn refuse(mut channel: Channel, status: &str) -> Result<(), HandshakeError> {
    channel.write_all(&page::error(status, page::Connection::Closes, page::Body::Sent)).await?;
    goodbye(channel).await;
    Ok(())
}

/// Says goodbye and waits a little for the other side to close: bytes that nobody reads would make the kernel reset
/// the connection and with it what the visitor has not read yet.
async fn goodbye(mut channel: Channel) {
    channel.queue_goodbye(None);
    let closed = async {
        let _ = std::future::poll_fn(|cx| channel.poll_flush(cx)).await;
        std::future::poll_fn(|cx| channel.poll_drain(cx)).await;
    };
    let _ = timeout(LINGER, closed).await;
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(target) => target.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}
