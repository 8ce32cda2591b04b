//! What a tab is asked to connect to, and why none did.

use std::sync::Arc;

use super::{
    hub::{DIAL_TIMEOUT, MOST_TUNNELS, TURN_TIMEOUT},
    lines::Failure,
};

/// What to connect to.
#[derive(Clone)]
pub(super) struct Wish {
    /// Scheme, host and port.
    pub(super) server: Arc<str>,
    /// The whole URL: a secret.
    pub(super) url: String,
    pub(super) protocol: Option<String>,
    /// The URL or the protocol holds early data, which no server takes twice.
    pub(super) early_data: bool,
}

impl Wish {
    pub(super) fn late(&self, dialling: bool) -> BrowserError {
        let server = Arc::clone(&self.server);
        if dialling { BrowserError::Timeout { server } } else { BrowserError::Busy { server } }
    }

    pub(super) fn failed(&self, why: Failure) -> BrowserError {
        let web = self.server.replacen("ws", "http", 1);
        let why = match why {
            Failure::Refused if self.protocol.is_some() => {
                "it answers there, but not with a WebSocket that a browser takes: check path and Host, and whether the \
                 server sends Sec-WebSocket-Protocol back, without which browsers refuse early data in it (V2Ray 4 and \
                 sing-box do not; remove \"earlyDataHeaderName\" on both ends, and it goes into the path)"
                    .to_owned()
            }
            Failure::Refused => {
                "it answers there, but not with a WebSocket: check path and Host on both ends".to_owned()
            }
            Failure::Unreachable => format!(
                "it is not reachable from there, or its certificate is not valid for that name (a browser does not \
                 tell its pages which): open {web}/ in that browser to see"
            ),
            Failure::Unknown => format!(
                "its certificate may not be valid for that name, or the server refuses (a browser does not tell its \
                 pages): open {web}/ in that browser to see"
            ),
            Failure::Forbidden | Failure::Full => "the browser does not allow it, as with ports that browsers block".to_owned(),
        };
        BrowserError::Failed { server: Arc::clone(&self.server), why }
    }
}

/// Why no tab made a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrowserError {
    /// Nobody has the page open.
    #[error("no browser tab is here to make connections: open {address} in a browser and keep that tab open")]
    NoTab {
        /// The page.
        address: String,
    },
    /// The browser has frozen the tab, or is too busy.
    #[error("the browser tab does not answer: bring it to the front, or open {address} again")]
    Asleep {
        /// The page.
        address: String,
    },
    /// The browser's limit on `WebSocket`s.
    #[error(
        "the browser has no room for more than {MOST_TUNNELS} tunnels: switch \"mux\" on, or open {address} in another \
         browser as well"
    )]
    Full {
        /// The page.
        address: String,
    },
    /// The server, as a browser sees it.
    #[error("the browser did not connect to {server}: {why}")]
    Failed {
        /// The server.
        server: Arc<str>,
        /// What is known.
        why: String,
    },
    /// The server, or the way there.
    #[error("the browser did not connect to {server} within {} s", DIAL_TIMEOUT.as_secs())]
    Timeout {
        /// The server.
        server: Arc<str>,
    },
    /// Others were before it.
    #[error(
        "the browser has so many connections to {server} to make that this one was not begun within {} s (a browser \
         makes them one after the other): switch \"mux\" on",
        TURN_TIMEOUT.as_secs()
    )]
    Busy {
        /// The server.
        server: Arc<str>,
    },
    /// In the middle.
    #[error("the browser tab was closed or reloaded meanwhile")]
    TabGone,
    /// The browser's own connection came back here.
    #[error(
        "the browser sends its connection to {server} to this program: in the browser's or the system's proxy \
         settings exclude that host, or add a rule here that sends it to a freedom outbound"
    )]
    Loop {
        /// The server.
        server: Arc<str>,
    },
}
