//! How an outbound's server is reached by a browser.

use std::sync::Arc;

use wsray_vmess::Target;
use wsray_ws::{
    ClientOptions,
    client::{BrowserRequest, Scheme},
};

use super::{
    hub::Hub,
    wish::{BrowserError, Wish},
};
use crate::transport::Channel;

/// A server that tabs connect to.
#[derive(Clone, Debug)]
pub struct BrowserDialer {
    hub: Arc<Hub>,
    host: Target,
    /// Scheme, host and port.
    server: Arc<str>,
    options: ClientOptions,
}

impl BrowserDialer {
    /// `host` is what stands in the URL, which a browser looks up, and asks the certificate for.
    pub fn new(hub: Arc<Hub>, scheme: Scheme, host: Target, options: ClientOptions) -> Self {
        let name = match scheme {
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        };
        // Go writes IPv6 addresses in brackets, as URLs need them.
        let server = match (scheme, host.port) {
            (Scheme::Ws, 80) | (Scheme::Wss, 443) => format!("{name}://{}", host.address),
            (_, port) => format!("{name}://{}:{port}", host.address),
        };
        Self { hub, host, server: server.into(), options }
    }

    /// Whether a dial should wait for the first payload.
    pub fn sends_early_data(&self) -> bool {
        self.options.early_data.is_some()
    }

    /// Waits until there is a tab that could dial.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn wait_for_tab(&self) -> Result<(), BrowserError> {
        self.hub.wait_for_tab().await
    }

    /// A connection with the start of `first` as early data; and how many bytes of it went along. The rest has to be
    /// sent.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub async fn dial(&self, first: &[u8]) -> Result<(Channel, usize), BrowserError> {
        let BrowserRequest { target, protocol, carried } = self.options.in_browser(first);
        let wish = Wish {
            server: Arc::clone(&self.server),
            url: format!("{}{target}", self.server),
            protocol,
            early_data: carried > 0,
        };
        Ok((self.hub.dial(&wish).await?, carried))
    }

    /// Refuses a session to this server that may be the browser's own: while a tab connects, and its browser uses us
    /// as its proxy, every dial would lead to another one.
    ///
    /// # Errors
    /// [`BrowserError::Loop`].
    pub fn refuse_loop(&self, target: &Target) -> Result<(), BrowserError> {
        if *target == self.host && self.hub.is_dialling(&self.server) {
            return Err(BrowserError::Loop { server: Arc::clone(&self.server) });
        }
        Ok(())
    }
}
