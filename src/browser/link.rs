//! The link with a tab: commands out, reports in, and a ping now and then that only a page that runs can answer.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

use super::{
    hub::{Hub, News, Tab},
    lines::{Command, Flow, LineReader, Report, VERSION},
};
use crate::{observe::Log, stream::SMALL_BYTES, transport::Channel};

/// How often a tab is asked whether it is awake. A message wakes a page in the background, timers of its own would
/// be throttled there.
const PING_PERIOD: Duration = Duration::from_secs(20);

/// How long it may take to answer before new dials go to others.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a page may take to say hello, and a browser to take our commands.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a link ended.
enum Ended {
    /// The tab was closed, reloaded or killed.
    Gone,
    /// The page said what no page of ours says.
    Nonsense,
    /// The page is of another version of the program.
    Stale,
    Crowded,
}

/// Serves a tab until it goes.
pub(super) async fn run(mut channel: Channel, hub: &Arc<Hub>, log: &Log) {
    let why = match serve(&mut channel, hub, log).await {
        Ended::Gone => return,
        Ended::Nonsense => "it said what no page of ours says",
        Ended::Stale => "its page is of another version: reload it",
        Ended::Crowded => "there are too many tabs",
    };
    log.warning(None, "browser", format_args!("a tab is sent away: {why}"));
    channel.queue_goodbye(Some(1000));
    let _ = timeout(PATIENCE, poll_fn(|cx| channel.poll_flush(cx))).await;
}

async fn serve(channel: &mut Channel, hub: &Arc<Hub>, log: &Log) -> Ended {
    let mut lines = LineReader::default();
    let mut reports = loop {
        match timeout(PATIENCE, receive(channel, &mut lines)).await {
            Ok(Ok(reports)) if reports.is_empty() => {}
            Ok(Ok(reports)) => break reports.into_iter(),
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::Gone,
        }
    };
    let Some(Report::Hello { version, browser, flow }) = reports.next() else { return Ended::Nonsense };
    if version != VERSION {
        return Ended::Stale;
    }
    let Some((tab, mut commands)) = hub.join(browser, flow) else { return Ended::Crowded };
    let number = tab.number;
    let limited = if flow == Flow::Credit {
        " (this browser cannot slow a fast server down: a slow application may be cut off)"
    } else {
        ""
    };
    log.info(None, "browser", format_args!("tab {number} is here{limited}"));
    let guard = Leaving { hub, tab: &tab };
    let mut next = Instant::now() + PING_PERIOD;
    let mut asked = false;
    let mut reports: Vec<_> = reports.collect();
    let ended = loop {
        for report in reports.drain(..) {
            asked = false;
            take(hub, &tab, &report);
        }
        tokio::select! {
            received = receive(channel, &mut lines) => match received {
                Ok(received) => reports = received,
                Err(ended) => break ended,
            },
            Some(command) = commands.recv() => {
                if !send(channel, &command).await {
                    break Ended::Gone;
                }
            }
            () = sleep_until(next) => {
                next = Instant::now() + if asked { PING_PERIOD } else { PONG_TIMEOUT };
                if asked {
                    tab.doze();
                } else if !send(channel, &Command::Ping).await {
                    break Ended::Gone;
                }
                asked = !asked;
            }
        }
    };
    drop(guard);
    log.info(None, "browser", format_args!("tab {number} has gone"));
    ended
}

/// The tab leaves, however its link ends.
struct Leaving<'a> {
    hub: &'a Hub,
    tab: &'a Tab,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.hub.leave(self.tab);
    }
}

fn take(hub: &Hub, tab: &Tab, report: &Report) {
    if *report == Report::Freeze {
        tab.doze();
        return;
    }
    hub.woke(tab);
    match *report {
        Report::Started(tunnel) => hub.tell(tunnel, Some(tab), News::Started),
        Report::Dialling(tunnel) => hub.tell(tunnel, Some(tab), News::Dialling),
        Report::Opened(tunnel) => hub.tell(tunnel, Some(tab), News::Opened),
        Report::Failed { tunnel, why } => hub.tell(tunnel, Some(tab), News::Failed(why)),
        Report::Passed { tunnel, bytes } => tab.passed(tunnel, bytes),
        Report::Hello { .. } | Report::Pong | Report::Freeze | Report::Resume => {}
    }
}

async fn receive(channel: &mut Channel, lines: &mut LineReader) -> Result<Vec<Report>, Ended> {
    match poll_fn(|cx| channel.poll_read(cx, SMALL_BYTES)).await {
        Ok(Some(mut incoming)) => {
            lines.read(&incoming.batch.bytes()[incoming.stream]).map_err(|_| Ended::Nonsense)
        }
        Ok(None) | Err(_) => Err(Ended::Gone),
    }
}

async fn send(channel: &mut Channel, command: &Command) -> bool {
    channel.queue(command.to_line().as_bytes()).is_ok()
        && timeout(PATIENCE, poll_fn(|cx| channel.poll_flush(cx))).await.is_ok_and(|flushed| flushed.is_ok())
}
