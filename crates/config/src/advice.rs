//! What a configuration that works could do better, and which of its files hold secrets.

mod private;

use std::collections::BTreeSet;

use private::{Reach, serves};

use crate::{
    Config, Diagnostic, Freedom, InboundProtocol, Outbound, OutboundProtocol, Pem, PemSource, Place,
};

/// A file that holds ids, passwords or keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile<'a> {
    /// Its path: a source of the configuration as it was named, or a key as it is written there.
    pub path: &'a str,
    /// Where the first secret stands, or the path of the key.
    pub place: &'a Place,
    /// What it holds.
    pub holds: &'static str,
}

impl Config {
    /// What its writer may want to know beside the warnings: each is a choice that works as it stands.
    ///
    /// A server's users reach whatever the server reaches, as in V2Ray. It makes no difference where the inbound
    /// listens: behind a front end that is 127.0.0.1.
    pub fn advice(&self) -> Vec<Diagnostic> {
        if !self.inbounds.iter().any(serves) {
            return Vec::new();
        }
        let outbounds = self.outbounds.iter().enumerate().filter(|(_, outbound)| is_open(outbound));
        outbounds.filter_map(|(index, outbound)| self.close_private(index, outbound)).collect()
    }

    fn close_private(&self, index: usize, outbound: &Outbound) -> Option<Diagnostic> {
        const RULES: &str = "\"finalRules\": [{ \"action\": \"block\", \"ip\": [\"geoip:private\"] }]";
        let by = match Reach::of(self, index) {
            Reach::Addresses => String::new(),
            Reach::Names(rule) => {
                let line = rule.seen_from(&outbound.place);
                format!(" by names that lead there: they are not looked up for the rule {line}")
            }
            Reach::ChangingNames(rule) => {
                let line = rule.seen_from(&outbound.place);
                format!(
                    " by names whose answers change between the rule {line} and the connection: each looks them up"
                )
            }
            Reach::Nothing => return None,
        };
        let message = format!(
            "users of this server reach its own loopback, its private networks and cloud metadata{by}"
        );
        let help = if self.implicit_freedom {
            format!(
                "to close them, add \"outbounds\": [{{ \"protocol\": \"freedom\", \"settings\": {{ {RULES} }} }}]"
            )
        } else {
            format!("to close them, write {RULES} into its \"settings\"")
        };
        Some(Diagnostic::at(&outbound.place, message).help(help))
    }

    /// The files that hold secrets, each once: those of the configuration, then those of keys.
    pub fn secret_files(&self) -> Vec<SecretFile<'_>> {
        let mut seen = BTreeSet::new();
        let sources = self.secret_places().map(|place| SecretFile {
            path: &place.file,
            place,
            holds: "this configuration with its ids and passwords",
        });
        let keys = self.server_keys().filter_map(|key| match &key.source {
            PemSource::File(path) => Some(SecretFile { path, place: &key.place, holds: "this private key" }),
            PemSource::Inline(_) => None,
        });
        sources.chain(keys).filter(|file| seen.insert(file.path)).collect()
    }

    /// Where ids, passwords and keys stand.
    fn secret_places(&self) -> impl Iterator<Item = &Place> {
        let inbounds = self.inbounds.iter().flat_map(|inbound| -> Vec<&Place> {
            let asks = match &inbound.protocol {
                InboundProtocol::Vmess(vmess) => {
                    return vmess.users.iter().map(|user| &user.place).collect();
                }
                InboundProtocol::Socks(socks) | InboundProtocol::Mixed(socks) => !socks.accounts.is_empty(),
                InboundProtocol::Http(http) => !http.accounts.is_empty(),
                InboundProtocol::Dokodemo(_) => false,
            };
            asks.then_some(&inbound.place).into_iter().collect()
        });
        let outbounds = self.outbounds.iter().flat_map(|outbound| -> Vec<&Place> {
            match &outbound.protocol {
                OutboundProtocol::Vmess(vmess) => {
                    vmess.servers.iter().flat_map(|server| &server.users).map(|user| &user.place).collect()
                }
                OutboundProtocol::Proxy(proxy) => {
                    let known = proxy.servers.iter().filter(|server| !server.accounts.is_empty());
                    known.map(|server| &server.place).collect()
                }
                OutboundProtocol::Freedom(_)
                | OutboundProtocol::Blackhole(_)
                | OutboundProtocol::Loopback(_)
                | OutboundProtocol::Dns(_) => Vec::new(),
            }
        });
        let inline = self.server_keys().filter(|key| matches!(key.source, PemSource::Inline(_)));
        inbounds.chain(outbounds).chain(inline.map(|key| &key.place))
    }

    fn server_keys(&self) -> impl Iterator<Item = &Pem> {
        let tls = self.inbounds.iter().filter_map(|inbound| match &inbound.protocol {
            InboundProtocol::Vmess(vmess) => vmess.stream.tls.as_ref(),
            _ => None,
        });
        tls.flat_map(|tls| &tls.certificates).map(|pair| &pair.key)
    }
}

/// Whether it connects to whatever address its sessions ask for.
fn is_open(outbound: &Outbound) -> bool {
    let OutboundProtocol::Freedom(Freedom { redirect, final_rules, .. }) = &outbound.protocol else {
        return false;
    };
    let fixed = redirect.as_ref().is_some_and(|redirect| redirect.address.is_some());
    final_rules.is_empty() && !fixed && outbound.dial.through.is_none()
}
