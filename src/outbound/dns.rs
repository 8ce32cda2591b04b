//! Answers questions for addresses by what this program knows of names, and passes all others on to a name server.

use std::{
    fmt,
    future::pending,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use wsray_vmess::{Network, Target};

use super::{Connected, Freedom};
use crate::{
    names::{Asked, Names},
    relay::{FirstPayload, IdleTimeouts, relay},
    session::{Origin, Reach, Session},
    stream::{Batch, BoxEndpoint, Cut, Endpoint, Layout, PacketSocket, Packets, Pool, Read},
};

/// A name server for those who ask through us.
#[derive(Debug)]
pub struct DnsOutbound {
    /// Who knows addresses.
    pub names: Arc<Names>,
    /// What it passes on goes this way.
    pub way: Arc<Freedom>,
    /// Who is asked what we do not know, and over what.
    pub server: wsray_config::DnsOutbound,
}

/// Questions of a session that are being answered; further ones wait.
const MOST_ASKED: usize = 16;

/// The longest question.
const MAX_QUESTION: usize = 4096;

/// How long a server has for what is passed on to it (v2fly/v2ray-core `app/dns/nameserver.go`).
const SERVER_TIMEOUT: Duration = Duration::from_secs(4);

impl DnsOutbound {
    /// Somebody who answers the session.
    pub fn connect(&self, session: &Session) -> Connected {
        let endpoint = Box::new(DnsEndpoint {
            names: Arc::clone(&self.names),
            way: Arc::clone(&self.way),
            server: self.server(session),
            framing: session.network,
            origin: session.origin,
            outgoing: None,
            partial: BytesMut::new(),
            asked: JoinSet::new(),
            end: End::NotYet,
        });
        Connected { endpoint, first: FirstPayload::default(), how: None }
    }

    /// The session in which a question is passed on.
    fn server(&self, session: &Session) -> Session {
        let address = self.server.address.as_ref().unwrap_or(&session.target.address).clone();
        let port = self.server.port.map_or(session.target.port, std::num::NonZeroU16::get);
        Session {
            target: Target { address, port },
            network: self.server.network.unwrap_or(session.network),
            reach: Reach::Target,
            ..session.clone()
        }
    }
}

/// The side of a session that answers.
struct DnsEndpoint {
    names: Arc<Names>,
    way: Arc<Freedom>,
    server: Session,
    /// Over TCP each message has its length in front (RFC 1035 section 4.2.2).
    framing: Network,
    origin: Origin,
    outgoing: Option<Batch>,
    /// What came over TCP and is no whole message yet.
    partial: BytesMut,
    /// Answers on their way; `None`: there is none.
    asked: JoinSet<Option<Vec<u8>>>,
    end: End,
}

/// Whether more questions come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// None do, and whoever waits for answers has to hear of it.
    News,
    Known,
}

impl DnsEndpoint {
    /// The next whole question.
    fn question(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        match self.framing {
            Network::Udp => {
                let Some(batch) = &mut self.outgoing else { return Ok(None) };
                let question = batch.pieces().next().map(<[u8]>::to_vec);
                match &question {
                    Some(question) => batch.advance(question.len()),
                    None => self.outgoing = None,
                }
                Ok(question)
            }
            Network::Tcp => {
                for piece in self.outgoing.take().iter().flat_map(Batch::pieces) {
                    self.partial.extend_from_slice(piece);
                }
                let Some(length) = self.partial.first_chunk() else { return Ok(None) };
                let length = usize::from(u16::from_be_bytes(*length));
                if length > MAX_QUESTION {
                    return Err(Cut::Unfinished("a question to the dns outbound is too long"));
                }
                if self.partial.len() < 2 + length {
                    return Ok(None);
                }
                self.partial.advance(2);
                Ok(Some(self.partial.split_to(length).to_vec()))
            }
        }
    }

    fn ask(&mut self, question: Vec<u8>) {
        // What we ask ourselves was routed here: we do not know it.
        let asked = Asked::read(&question).filter(|_| self.origin == Origin::Client);
        let (names, framing) = (Arc::clone(&self.names), self.framing);
        if let Some(asked) = asked {
            self.asked.spawn(async move {
                let found = Box::pin(names.lookup(asked.name(), asked.families())).await;
                asked.answer(&found, framing)
            });
        } else if question.len() <= MAX_QUESTION {
            self.asked.spawn(pass_on(Arc::clone(&self.way), self.server.clone(), question));
        }
    }

    fn batch(&self, answer: &[u8], layout: Layout) -> Option<Batch> {
        match self.framing {
            Network::Udp => self.way.pool.packet(layout, answer, None),
            Network::Tcp => {
                let framed = framed(answer, Network::Tcp)?;
                let mut batch = self.way.pool.batch(framed.len());
                batch.bytes()[..framed.len()].copy_from_slice(&framed);
                batch.push(0..framed.len());
                Some(batch.laid_out(layout))
            }
        }
    }
}

impl Endpoint for DnsEndpoint {
    fn layout(&self) -> Layout {
        Layout::FLAT
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, layout: Layout) -> Poll<Result<Read, Cut>> {
        loop {
            let answer = match self.asked.poll_join_next(cx) {
                Poll::Ready(Some(answer)) => answer.ok().flatten(),
                Poll::Ready(None) if self.end != End::NotYet => return Poll::Ready(Ok(Read::End)),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            };
            // A question may wait for the room.
            cx.waker().wake_by_ref();
            if let Some(batch) = answer.and_then(|answer| self.batch(&answer, layout)) {
                return Poll::Ready(Ok(Read::Data(batch)));
            }
        }
    }

    fn send(&mut self, batch: Batch) -> Result<(), Cut> {
        self.outgoing = Some(batch);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if self.end == End::News {
            self.end = End::Known;
            cx.waker().wake_by_ref();
        }
        while self.asked.len() < MOST_ASKED {
            let Some(question) = self.question()? else { return Poll::Ready(Ok(())) };
            self.ask(question);
            // So that the answer is waited for.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn finish(&mut self) {
        self.end = End::News;
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn abort(&mut self) {}
}

impl fmt::Debug for DnsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsEndpoint").field("server", &self.server.target).finish_non_exhaustive()
    }
}

/// The server's answer, if it gives one.
async fn pass_on(way: Arc<Freedom>, server: Session, question: Vec<u8>) -> Option<Vec<u8>> {
    let timeouts = IdleTimeouts { both: SERVER_TIMEOUT, uplink_only: None, downlink_only: None };
    let (sender, answer) = oneshot::channel();
    let asker = Asker {
        id: question.first_chunk().copied()?,
        question: Some(framed(&question, server.network)?),
        framing: server.network,
        heard: BytesMut::new(),
        answer: Some(sender),
        pool: Arc::clone(&way.pool),
    };
    let asking = async {
        let mut asker: BoxEndpoint = Box::new(Packets::new(asker));
        let connected = Box::pin(way.connect(&server, &mut *asker)).await.ok()?;
        relay(asker, connected.endpoint, connected.first, timeouts).await;
        // It is over without an answer.
        pending::<Option<Vec<u8>>>().await
    };
    let answered = async {
        tokio::select! {
            answer = answer => answer.ok(),
            none = asking => none,
        }
    };
    timeout(SERVER_TIMEOUT, answered).await.ok().flatten()
}

/// A message as it goes over a network; `None`: it is too long.
fn framed(message: &[u8], network: Network) -> Option<Vec<u8>> {
    match network {
        Network::Udp => Some(message.to_vec()),
        Network::Tcp => {
            let length = u16::try_from(message.len()).ok()?;
            Some([&length.to_be_bytes(), message].concat())
        }
    }
}

/// Asks one question, and hears one answer.
struct Asker {
    id: [u8; 2],
    question: Option<Vec<u8>>,
    framing: Network,
    heard: BytesMut,
    answer: Option<oneshot::Sender<Vec<u8>>>,
    pool: Arc<Pool>,
}

impl Asker {
    fn heard(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        match self.framing {
            Network::Udp => Some(payload.to_vec()).filter(|answer| answer.starts_with(&self.id)),
            Network::Tcp => {
                self.heard.extend_from_slice(payload);
                let length = usize::from(u16::from_be_bytes(*self.heard.first_chunk()?));
                self.heard.get(2..2 + length).map(<[u8]>::to_vec)
            }
        }
    }
}

impl PacketSocket for Asker {
    fn poll_receive(&mut self, _: &mut Context<'_>, layout: Layout) -> Poll<Result<Option<Read>, Cut>> {
        // Afterwards there is nothing to say, until the answer or the time ends this.
        let Some(question) = self.question.take() else { return Poll::Pending };
        Poll::Ready(Ok(self.pool.packet(layout, &question, None).map(Read::Data)))
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        payload: &[u8],
        _: Option<&Target>,
    ) -> Poll<Result<(), Cut>> {
        if let Some(answer) = self.heard(payload)
            && let Some(waiting) = self.answer.take()
        {
            let _ = waiting.send(answer);
        }
        Poll::Ready(Ok(()))
    }
}
