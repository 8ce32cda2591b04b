//! Sessions on connections that were made before (`preconnect`), which may have died since.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use tokio::time::{Instant, timeout_at};
use wsray_vmess::{ChunkSealer, Direction, Request};

use super::{Said, VmessServer, VmessUser, crypto, first_layout};
use crate::outbound::By;
use crate::{
    outbound::{Connected, How, OutboundError, first_payload},
    relay::FirstPayload,
    stream::{Cut, Endpoint, Layout, Read},
    transport::Channel,
    vmess::{VmessStream, unix_seconds},
};

impl VmessServer {
    /// A stream for `request` on a connection that was made before. Until the server answers, what the application
    /// says is kept: `None` when the connection turns out to be dead, and all of it can be said again on a new one.
    pub(super) async fn carry_on(
        &self,
        mut channel: Channel,
        request: &Request,
        user: &VmessUser,
        inbound: &mut dyn Endpoint,
        first: &mut Option<Said>,
    ) -> Result<Option<Connected>, OutboundError> {
        let mut sealer = ChunkSealer::new(request, Direction::Request).map_err(crypto)?;
        let layout = first_layout(&sealer);
        if first.is_none() {
            let read = first_payload(inbound, layout).await.map_err(OutboundError::Inbound)?;
            *first = Some(Said::new(read, &request.command));
        }
        let said = first.get_or_insert(Said::NOTHING);
        let how =
            How { by: By::Wsray(channel.tls_version()), ws: channel.is_ws(), early_data: 0, ready: true };
        let mut opening = user.open(request, unix_seconds()).map_err(crypto)?;
        said.seal_onto(&mut sealer, &mut opening)?;
        channel.queue(&opening).map_err(OutboundError::Inbound)?;
        let deadline = Instant::now() + ANSWER_WAIT;
        while !said.ended && said.len() < MOST_SAID_AGAIN {
            let more = match timeout_at(deadline, hear(&mut channel, inbound, layout)).await {
                Ok(Heard::Gone) => return Ok(None),
                Ok(Heard::Answer) | Err(_) => break,
                Ok(Heard::More(read)) => {
                    Said::new(Some(read.map_err(OutboundError::Inbound)?), &request.command)
                }
            };
            let mut chunks = Vec::new();
            more.seal_onto(&mut sealer, &mut chunks)?;
            channel.queue(&chunks).map_err(OutboundError::Inbound)?;
            said.pieces.extend(more.pieces);
            said.ended = more.ended;
        }
        let stream = VmessStream::client(channel, request, sealer, user.end_mark, Arc::clone(&self.habits))
            .map_err(crypto)?;
        let first = FirstPayload { bytes: said.len() as u64, ended: said.ended };
        Ok(Some(Connected { endpoint: Box::new(stream), first, how: Some(how) }))
    }
}

/// What comes first on a connection that was made before.
enum Heard {
    /// The server has answered.
    Answer,
    /// The connection is dead.
    Gone,
    /// The application says more, or has nothing more to say.
    More(Result<Read, Cut>),
}

async fn hear(channel: &mut Channel, inbound: &mut dyn Endpoint, layout: Layout) -> Heard {
    poll_fn(|cx| {
        if let Poll::Ready(Err(_)) = channel.poll_flush(cx) {
            return Poll::Ready(Heard::Gone);
        }
        if let Poll::Ready(answered) = channel.poll_answer(cx) {
            return Poll::Ready(if answered { Heard::Answer } else { Heard::Gone });
        }
        inbound.poll_read(cx, layout).map(Heard::More)
    })
    .await
}

/// A server that takes longer for its answer was reached, in all likelihood; the session's own timeouts see to it.
const ANSWER_WAIT: Duration = Duration::from_secs(8);

/// So many bytes are kept to be said again on another connection; who says more is not waited for.
const MOST_SAID_AGAIN: usize = 64 * 1024;
