//! The dokodemo-door inbound: whatever comes goes to one target, or to where it was going before the firewall sent it
//! here.

mod udp;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use wsray_config::{Networks, Ports};
use wsray_vmess::{Network, Target};

use super::{Common, Seat, Served};
use crate::{
    session::Source,
    stream::Pool,
    transport::{Plain, Socket},
};

pub use udp::{PacketListener, bind_packets};
pub(super) use udp::{be_transparent, serve_packets};

/// A door.
#[derive(Debug)]
pub struct DokodemoInbound {
    /// What every inbound has.
    pub common: Common,
    /// Where what comes goes to.
    pub door: Door,
    /// What it takes.
    pub networks: Networks,
    /// What it listens on, if it does on ports.
    pub ports: Option<Ports>,
    /// `timeout`: overrides the policy's for idle sessions.
    pub idle_timeout: Option<Duration>,
    /// Where buffers come from.
    pub pool: Arc<Pool>,
}

/// Where what comes goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// To this target.
    Fixed(Target),
    /// To where the firewall's `REDIRECT` found it going.
    Redirected {
        /// Where those go that no firewall sent here.
        otherwise: Option<Target>,
    },
    /// To where it was going: the firewall's `TPROXY` leaves that as it was.
    Tproxied {
        /// As there.
        otherwise: Option<Target>,
    },
}

/// Why a connection or packet goes nowhere.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("nobody redirected it here: followRedirect needs a REDIRECT rule of nftables or iptables")]
    NotRedirected,
    #[error("it was going to {0}, which is this inbound itself: it would come back for ever")]
    Ourselves(SocketAddr),
    #[error("more than {} clients and targets send packets at a time", udp::MAX_FLOWS)]
    Crowded,
}

impl DokodemoInbound {
    /// Serves one connection to its end. Nobody has to say who he is.
    pub fn connection(
        &self,
        socket: Socket,
        peer: Source,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send + '_ {
        drop(seat);
        let session = match self.target_of(&socket) {
            Ok(target) => Some(self.session(socket, peer, target)),
            Err(refusal) => {
                self.tell(peer, &refusal);
                None
            }
        };
        async move {
            if let Some(session) = session {
                session.await;
            }
        }
    }

    fn session(&self, socket: Socket, peer: Source, target: Target) -> Served<'_> {
        let mut session = self.common.session(peer, None, Network::Tcp, target);
        session.idle_timeout = self.idle_timeout;
        let inbound = Plain::new(socket, Arc::clone(&self.pool), Vec::new());
        Box::pin(self.common.dispatcher.run(session, Box::new(inbound)))
    }

    fn target_of(&self, socket: &Socket) -> Result<Target, Refusal> {
        match &self.door {
            Door::Fixed(target) => Ok(target.clone()),
            Door::Redirected { otherwise } => {
                self.followed(socket.original_destination()?, otherwise.as_ref())
            }
            Door::Tproxied { otherwise } => self.followed(socket.local()?, otherwise.as_ref()),
        }
    }

    /// Where it was going, unless nobody sent it here.
    fn followed(&self, original: Option<SocketAddr>, otherwise: Option<&Target>) -> Result<Target, Refusal> {
        let followed = original.ok_or(Refusal::NotRedirected).and_then(|original| self.elsewhere(original));
        match (followed, otherwise) {
            (Err(_), Some(otherwise)) => Ok(otherwise.clone()),
            (followed, _) => followed,
        }
    }

    /// The destination as a target, unless it is this inbound.
    fn elsewhere(&self, original: SocketAddr) -> Result<Target, Refusal> {
        let original = SocketAddr::new(original.ip().to_canonical(), original.port());
        let is_our_port =
            self.ports.is_some_and(|ports| (ports.first()..=ports.last()).contains(&original.port()));
        if is_our_port && is_here(original.ip()) {
            return Err(Refusal::Ourselves(original));
        }
        Ok(original.into())
    }

    fn tell(&self, peer: Source, refusal: &Refusal) {
        self.common.tell_refused("refused redirections", "dokodemo", peer, refusal);
    }
}

/// Whether it is an address of this machine: nobody can bind another one.
fn is_here(ip: IpAddr) -> bool {
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}
