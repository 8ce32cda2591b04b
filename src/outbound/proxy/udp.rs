//! Packets through a SOCKS 5 proxy: one association a session (RFC 1928 section 7).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::net::UdpSocket;
use wsray_vmess::{Address, Target};

use super::{ProxyServer, Way};
use crate::{
    outbound::udp::{Received, receive},
    socks,
    stream::{Cut, Layout, MAX_PACKET, PacketSocket, Pool, Read, SMALL_BYTES, lossy},
    transport::{Channel, ConnectError},
};

/// Why packets cannot be sent to where the proxy said.
pub(super) enum RelayError {
    /// Its name has no address, or there is no socket.
    Connect(ConnectError),
    /// What it said is no address that we can use.
    Address(String),
}

/// An association with the proxy.
pub(super) struct Association {
    socket: UdpSocket,
    /// The association lives as long as this connection.
    control: Channel,
    /// What stands in front of each packet that we send.
    header: Vec<u8>,
    pool: Arc<Pool>,
}

impl Association {
    /// Packets to and from `target` by way of `relay`, as the proxy named it on the connection `way`.
    pub(super) async fn new(
        server: &ProxyServer,
        way: Way,
        relay: Target,
        target: &Target,
    ) -> Result<Self, RelayError> {
        let relay = address_of(server, &way, relay).await?;
        let dialer = &server.connector.dialer;
        let socket = dialer.udp(relay).await.map_err(RelayError::Connect)?;
        // From here on the kernel drops what others send.
        socket
            .connect(relay)
            .await
            .map_err(|source| RelayError::Connect(ConnectError::Connect { address: relay, source }))?;
        let mut header = Vec::new();
        socks::write_datagram_header(target, &mut header);
        let pool = Arc::clone(&server.connector.pool);
        Ok(Self { socket, control: way.channel, header, pool })
    }
}

/// Many proxies name 0.0.0.0, which stands for the host that we asked.
async fn address_of(server: &ProxyServer, way: &Way, relay: Target) -> Result<SocketAddr, RelayError> {
    if relay.port == 0 {
        return Err(RelayError::Address("port 0".to_owned()));
    }
    let is_nowhere = matches!(relay.address, Address::Ip(ip) if ip.is_unspecified());
    if !is_nowhere {
        let found = server.connector.dialer.resolve(&relay).await.map_err(RelayError::Connect)?;
        return found.first().copied().ok_or_else(|| RelayError::Address(relay.to_string()));
    }
    let peer: Option<IpAddr> = way.channel.socket().peer().ok().flatten().map(|peer| peer.ip());
    let peer = peer.ok_or_else(|| {
        RelayError::Address(format!("{relay}, and the proxy is reached through another one"))
    })?;
    Ok(SocketAddr::new(peer, relay.port))
}

impl PacketSocket for Association {
    fn poll_receive(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Option<Read>, Cut>> {
        // What the proxy says on the connection means nothing; that it ends means that the association is over.
        while let Poll::Ready(said) = self.control.poll_read(cx, SMALL_BYTES) {
            if !matches!(said, Ok(Some(_))) {
                return Poll::Ready(Ok(Some(Read::End)));
            }
        }
        // A ping may have to be answered.
        let _ = self.control.poll_flush(cx);
        let received = ready!(receive(&self.socket, &self.pool, cx, layout.head, MAX_PACKET))?;
        let Some(Received { mut batch, range, .. }) = received else { return Poll::Ready(Ok(None)) };
        let Ok(datagram) = socks::read_datagram(&batch.bytes()[range.clone()]) else {
            return Poll::Ready(Ok(None));
        };
        let length = datagram.payload.len();
        if length == 0 || length > layout.payload {
            return Poll::Ready(Ok(None));
        }
        batch.push(range.end - length..range.end);
        Poll::Ready(Ok(Some(Read::Data(batch))))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        payload: &[u8],
        _: Option<&Target>,
    ) -> Poll<Result<(), Cut>> {
        lossy(self.socket.poll_send(cx, &[&self.header[..], payload].concat()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.control.queue_goodbye(None);
        self.control.poll_flush(cx).map(drop)
    }
}
