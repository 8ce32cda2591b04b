//! What is done on the wire: an upgrade, and the first words of a VMess session. All of it by the transport that
//! the client uses.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use rand::RngExt;
use tokio::time::{Instant, timeout, timeout_at};
use wsray_vmess::{ChunkOpener, Direction, Progress, Request, Target, open_response};
use wsray_ws::{ClientOptions, ResponseError, Role, Step, Upgraded};

use super::facts;
use crate::{
    cause::Front,
    outbound::VmessUser,
    stream::SMALL_BYTES,
    transport::{Channel, ConnectError, Connector, HANDSHAKE_TIMEOUT, HandshakeError},
};

/// An upgrade request and what came back.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The length of the request.
    pub(super) sent: usize,
    pub(super) took: Duration,
    /// The answer's bytes as far as they were read.
    pub(super) heard: Vec<u8>,
    pub(super) outcome: Result<Upgraded, NoUpgrade>,
}

impl Exchange {
    /// Who answered, if it says so.
    pub(super) fn front(&self) -> Option<Front> {
        let head = facts::head(&self.heard)?;
        let page = String::from_utf8_lossy(self.heard.get(head.body..).unwrap_or_default());
        Front::of(head.server.as_deref()).or_else(|| Front::of_page(&page))
    }
}

/// Why there is no WebSocket.
#[derive(Debug)]
pub(super) enum NoUpgrade {
    Answer(ResponseError),
    Closed,
    Failed(String),
    TimedOut,
}

/// What came of a VMess opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The server knows the user; whether anything came from the target, an end aside.
    Answered {
        took: Duration,
        data: bool,
    },
    /// Bytes that are no answer.
    Foreign {
        start: Vec<u8>,
    },
    /// The connection ended.
    Closed {
        took: Duration,
        how: String,
    },
    Silence,
    /// The connection could not be made again.
    NoConnection(String),
}

/// How much of a refusal is read, and for how long.
const BODY_BYTES: usize = 2048;
const BODY_WAIT: Duration = Duration::from_millis(300);

/// How long what follows a response's header is waited for.
const DATA_WAIT: Duration = Duration::from_millis(300);

/// Asks for an upgrade with the start of `first` as early data; how many bytes of it went along.
pub(super) async fn upgrade(
    channel: &mut Channel,
    options: &ClientOptions,
    first: &[u8],
    limit: Duration,
) -> (Exchange, usize) {
    let key = rand::rng().random();
    let (request, early) = options.request(key, first);
    let started = Instant::now();
    let mut heard = Vec::new();
    let asked = timeout(limit, ask(channel, &request, key, &mut heard)).await;
    let outcome = asked.unwrap_or(Err(NoUpgrade::TimedOut));
    let took = started.elapsed();
    match &outcome {
        Ok((used, _)) => channel.upgrade(Role::Client, heard[*used..].to_vec(), Vec::new()),
        Err(NoUpgrade::Answer(_)) => read_more(channel, &mut heard).await,
        Err(_) => {}
    }
    (Exchange { sent: request.len(), took, heard, outcome: outcome.map(|(_, upgraded)| upgraded) }, early)
}

async fn ask(
    channel: &mut Channel,
    request: &[u8],
    key: [u8; 16],
    heard: &mut Vec<u8>,
) -> Result<(usize, Upgraded), NoUpgrade> {
    let failed = |error: HandshakeError| match error {
        HandshakeError::Eof => NoUpgrade::Closed,
        error => NoUpgrade::Failed(error.to_string()),
    };
    channel.write_all(request).await.map_err(failed)?;
    loop {
        if channel.read_some(heard).await.map_err(failed)? == 0 {
            return Err(NoUpgrade::Closed);
        }
        match wsray_ws::client::response(heard, key) {
            Ok(Step::NeedMore) => {}
            Ok(Step::Done { used, value }) => return Ok((used, value)),
            Err(error) => return Err(NoUpgrade::Answer(error)),
        }
    }
}

async fn read_more(channel: &mut Channel, heard: &mut Vec<u8>) {
    let start = heard.len();
    let more = async {
        while heard.len() < start + BODY_BYTES && channel.read_some(heard).await.is_ok_and(|read| read > 0) {}
    };
    let _ = timeout(BODY_WAIT, more).await;
}

/// Asks for a page without an upgrade; the answer's bytes.
pub(super) async fn page(connector: &Connector, lead: &[u8], host: &str, limit: Duration) -> Vec<u8> {
    let mut heard = Vec::new();
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let ask = async {
        let mut channel = connect(connector, lead, Instant::now() + limit).await.ok()?;
        channel.write_all(request.as_bytes()).await.ok()?;
        while heard.len() < BODY_BYTES && channel.read_some(&mut heard).await.is_ok_and(|read| read > 0) {
            if heard.windows(4).any(|window| window == b"\r\n\r\n") {
                break;
            }
        }
        Some(())
    };
    let _ = timeout(limit, ask).await;
    heard
}

/// A connection with `lead` in front of everything, TLS included.
pub(super) async fn connect(
    connector: &Connector,
    lead: &[u8],
    deadline: Instant,
) -> Result<Channel, ConnectError> {
    if lead.is_empty() {
        return connector.open(deadline).await;
    }
    let late = |_| ConnectError::Timeout { stage: "connecting", limit: HANDSHAKE_TIMEOUT };
    let socket = timeout_at(deadline, connector.dialer.tcp(&connector.server)).await.map_err(late)??;
    let mut channel = Channel::new(socket, connector.pool.clone());
    channel.write_all(lead).await.map_err(ConnectError::Io)?;
    connector.secure(&mut channel, deadline).await?;
    Ok(channel)
}

/// What a session begins with.
#[derive(Clone, Debug)]
pub(super) struct Words {
    pub(super) target: Target,
    pub(super) payload: Vec<u8>,
    pub(super) unix_seconds: u64,
}

/// Whether the opening goes along with the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Early {
    Yes,
    No,
}

/// A session on a connection of its own.
pub(super) async fn session(
    connector: &Connector,
    lead: &[u8],
    user: &VmessUser,
    words: &Words,
    early: Early,
    limit: Duration,
) -> (Option<Exchange>, Heard) {
    let mut exchange = None;
    let connecting = Instant::now() + HANDSHAKE_TIMEOUT;
    let talk = async {
        let (opening, request) = user
            .opening(words.target.clone(), &words.payload, words.unix_seconds)
            .map_err(|error| error.to_string())?;
        let mut channel = connect(connector, lead, connecting).await.map_err(|error| error.to_string())?;
        let mut carried = 0;
        if let Some(options) = &connector.ws {
            let first = if early == Early::Yes { &opening[..] } else { &[] };
            let left = connecting.saturating_duration_since(Instant::now());
            let (asked, went) = upgrade(&mut channel, options, first, left).await;
            let refused = asked.outcome.is_err();
            exchange = Some(asked);
            carried = went;
            if refused {
                return Err("the upgrade was refused".to_owned());
            }
        }
        channel.queue(&opening[carried..]).map_err(|error| error.to_string())?;
        Ok(listen(&mut channel, &request, Instant::now() + limit).await)
    };
    let heard = talk.await.unwrap_or_else(Heard::NoConnection);
    (exchange, heard)
}

/// Waits for the answer to an opening.
async fn listen(channel: &mut Channel, request: &Request, deadline: Instant) -> Heard {
    let started = Instant::now();
    let mut heard = Vec::new();
    loop {
        let Ok(more) = timeout_at(deadline, read(channel, &mut heard)).await else { return Heard::Silence };
        let took = started.elapsed();
        match open_response(&heard, &request.secrets) {
            Ok(wsray_vmess::Step::Done { used, .. }) => {
                let data = timeout(DATA_WAIT, has_data(channel, request, &mut heard, used)).await;
                return Heard::Answered { took, data: data.unwrap_or(false) };
            }
            Err(_) => return Heard::Foreign { start: heard },
            Ok(wsray_vmess::Step::NeedMore) => {}
        }
        if let Err(how) = more {
            return if heard.is_empty() {
                Heard::Closed { took, how }
            } else {
                Heard::Foreign { start: heard }
            };
        }
    }
}

/// Whether a chunk with something in it comes before the end; `used` is where the response's header ends.
async fn has_data(channel: &mut Channel, request: &Request, heard: &mut Vec<u8>, used: usize) -> bool {
    let Ok(mut opener) = ChunkOpener::new(request, Direction::Response) else { return false };
    let (mut used, mut payloads) = (used, Vec::new());
    loop {
        let opened = opener.open(heard, used, &mut payloads);
        if !payloads.is_empty() {
            return true;
        }
        used = opened.used;
        if !matches!(opened.outcome, Progress::NeedMore { .. }) || read(channel, heard).await.is_err() {
            return false;
        }
    }
}

/// Sends what is queued, and appends what comes; an error says how the connection ended.
pub(super) async fn read(channel: &mut Channel, heard: &mut Vec<u8>) -> Result<(), String> {
    let read = poll_fn(|cx| {
        let flushed = channel.poll_flush(cx);
        match channel.poll_read(cx, SMALL_BYTES) {
            Poll::Pending => match flushed {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            },
            ready @ Poll::Ready(_) => ready,
        }
    });
    match read.await {
        Ok(Some(mut incoming)) => {
            heard.extend_from_slice(&incoming.batch.bytes()[incoming.stream]);
            Ok(())
        }
        Ok(None) => Err(format!("{:?}", channel.end())),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs all of them at once.
pub(super) async fn all<T>(futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Some(future), None)).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (future, value) in &mut running {
            if let Some(poll) = future.as_mut().map(|future| future.as_mut().poll(cx)) {
                match poll {
                    Poll::Ready(ready) => {
                        *value = Some(ready);
                        *future = None;
                    }
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, value)| value).collect()
}

/// Runs all of them at once until one has a result.
pub(super) async fn first<T>(futures: Vec<Pin<Box<dyn Future<Output = Option<T>> + '_>>>) -> Option<T> {
    let mut running = futures;
    poll_fn(|cx| {
        let mut found = None;
        running.retain_mut(|future| match (&found, future.as_mut().poll(cx)) {
            (None, Poll::Ready(ready)) => {
                found = ready;
                false
            }
            (_, poll) => poll.is_pending(),
        });
        if found.is_some() || running.is_empty() { Poll::Ready(found.take()) } else { Poll::Pending }
    })
    .await
}
