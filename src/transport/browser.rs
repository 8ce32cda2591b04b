//! A channel whose peer is reached through a browser tab: what the tab tells of its end, and how much it may be sent
//! ahead where it cannot say "wait" itself.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::ChannelEnd;

/// The tab between us and the peer.
pub struct ThroughTab {
    credit: Arc<Credit>,
    ahead: Ahead,
    sent: u64,
    place: Box<dyn TabPlace>,
}

/// A tunnel's place in a tab. When it is dropped, the tab has room for another tunnel.
pub trait TabPlace: Send + Sync {
    /// Asks the tab to tell the tunnel's [`Credit`] when it has passed on so many bytes in all; `false`: it cannot be asked.
    fn ask(&self, bytes: u64) -> bool;
}

/// How far the tab may lag behind what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// The browser itself makes us wait.
    Unlimited,
    /// So many bytes: we have to.
    Bytes(u64),
}

impl Ahead {
    /// What a tab without backpressure of its own may hold of one tunnel, in bytes, beside the batch that crosses this
    /// line: enough for 80 MB/s at the 12 ms that a busy page takes to answer.
    pub const COUNTED: Self = Self::Bytes(1024 * 1024);
}

impl ThroughTab {
    /// Keeps `place` as long as the channel lives.
    pub fn new(credit: Arc<Credit>, ahead: Ahead, place: impl TabPlace + 'static) -> Self {
        Self { credit, ahead, sent: 0, place: Box::new(place) }
    }

    /// All payload has been sent. A browser forgets what its page has not read yet when a close frame comes, so what follows waits
    /// until the page has passed on everything.
    pub(super) fn finish(&mut self) {
        if self.ahead == Ahead::Unlimited && self.place.ask(self.sent) {
            self.ahead = Ahead::Bytes(0);
        }
    }

    /// Payload goes to the tab.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Ready when the tab may be sent more.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.ahead {
            Ahead::Unlimited => Poll::Ready(()),
            Ahead::Bytes(most) => self.credit.poll_room(self.sent, most, cx),
        }
    }
}

impl fmt::Debug for ThroughTab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThroughTab").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// What a tab has passed on of what it was sent, as far as it has said so.
#[derive(Debug, Default)]
pub struct Credit(Mutex<Passed>);

#[derive(Debug, Default)]
struct Passed {
    bytes: u64,
    waiting: Option<Waker>,
}

impl Credit {
    /// The tab has passed on so many bytes more.
    pub fn add(&self, bytes: u64) {
        let mut passed = self.lock();
        passed.bytes = passed.bytes.saturating_add(bytes);
        if let Some(waker) = passed.waiting.take() {
            waker.wake();
        }
    }

    /// The tab will say nothing any more.
    pub fn give_up(&self) {
        self.add(u64::MAX);
    }

    fn poll_room(&self, sent: u64, ahead: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut passed = self.lock();
        if sent.saturating_sub(passed.bytes) <= ahead {
            return Poll::Ready(());
        }
        passed.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page may close a WebSocket with 1000, without a code, or with one from 3000 on (the WHATWG's standard, `close()`).
/// The others are passed on with this added.
const SHIFT: u16 = 3000;

/// What a page says when the connection ended without a close frame: 1006 (RFC 6455 section 7.1.5), shifted.
const SHIFTED_ABNORMAL: u16 = SHIFT + 1006;

/// How the peer ended, if a tab closes its side with `code`.
pub(super) fn end_behind_tab(code: Option<u16>) -> ChannelEnd {
    match code {
        Some(SHIFTED_ABNORMAL) => ChannelEnd::Eof,
        Some(code @ 4001..=4015) => ChannelEnd::Close(Some(code - SHIFT)),
        other => ChannelEnd::Close(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_behind_a_tab_are_those_of_a_direct_connection() {
        assert_eq!(end_behind_tab(None), ChannelEnd::Close(None));
        assert_eq!(end_behind_tab(Some(1000)), ChannelEnd::Close(Some(1000)));
        assert_eq!(end_behind_tab(Some(4001)), ChannelEnd::Close(Some(1001)));
        assert_eq!(end_behind_tab(Some(4006)), ChannelEnd::Eof);
        assert_eq!(end_behind_tab(Some(4011)), ChannelEnd::Close(Some(1011)));
        // The tab itself goes away (RFC 6455 section 7.4.1), or the server has codes of its own.
        assert_eq!(end_behind_tab(Some(1001)), ChannelEnd::Close(Some(1001)));
        assert_eq!(end_behind_tab(Some(4500)), ChannelEnd::Close(Some(4500)));
    }

    #[test]
    fn tab_without_backpressure_is_sent_no_more_than_it_has_passed_on() {
        let credit = Arc::new(Credit::default());
        let mut tab = ThroughTab::new(Arc::clone(&credit), Ahead::COUNTED, Asked::default());
        let mut cx = Context::from_waker(Waker::noop());
        tab.sent(1024 * 1024);
        assert!(tab.poll_room(&mut cx).is_ready());
        tab.sent(1);
        assert!(tab.poll_room(&mut cx).is_pending());
        credit.add(1);
        assert!(tab.poll_room(&mut cx).is_ready());
    }

    /// Keeps what it is asked, if it can be asked.
    #[derive(Clone, Default)]
    struct Asked(Arc<Mutex<Option<u64>>>, bool);

    impl TabPlace for Asked {
        fn ask(&self, bytes: u64) -> bool {
            *self.0.lock().unwrap() = Some(bytes);
            self.1
        }
    }

    #[test]
    fn end_waits_until_the_tab_has_passed_on_everything() {
        let mut cx = Context::from_waker(Waker::noop());
        for (end, is_asked) in
            [(Credit::give_up as fn(&Credit), true), (|credit| credit.add(1), true), (|_| {}, false)]
        {
            let (credit, asked) = (Arc::new(Credit::default()), Asked(Arc::default(), is_asked));
            let mut tab = ThroughTab::new(Arc::clone(&credit), Ahead::Unlimited, asked.clone());
            tab.sent(100_000_000);
            assert!(tab.poll_room(&mut cx).is_ready(), "the browser makes us wait");
            tab.finish();
            assert_eq!(*asked.0.lock().unwrap(), Some(100_000_000));
            credit.add(99_999_999);
            assert_eq!(tab.poll_room(&mut cx).is_pending(), is_asked, "a byte is in the tab");
            end(&credit);
            assert!(tab.poll_room(&mut cx).is_ready());
        }
    }
}
