//! V2Ray configuration: text in, a model or errors out. No file is opened and no socket made here.
//!
//! [`load`] turns the texts of a configuration, in V2Ray 4's dialect or in V2Ray 5's own, into a [`Config`] whose
//! types cannot hold nonsense, together with warnings; or it returns every error of the texts, each with its
//! place, what was found and what to write.
//!
//! The way of a text: [`Format`] chooses who makes a tree of it, several trees are merged into one, the dialect is
//! recognised, and that dialect's reader makes the model. Every value of the tree knows its place.

mod advice;
mod diagnostic;
mod dial;
mod dialect;
mod dns;
mod format;
pub mod invariants;
mod keys;
mod keys5;
mod merge;
mod model;
mod nearest;
mod node;
mod object;
mod routing;
mod stream;
mod syntax;
mod tree;
mod v4;
mod v5;

use std::fmt;

pub use advice::SecretFile;
pub use diagnostic::{Diagnostic, Place};
pub use dial::{
    BufferSizes, Dial, DomainStrategy, Families, Family, FastOpen, HappyEyeballs, KeepAlive, Otherwise,
    SocketOptions, Through, Transparent,
};
pub use dns::{
    Cache, Dns, DnsOutbound, Host, HostTarget, NameServer, NameServerAddress, NameServerFallback, Way,
};
pub use format::Format;
pub use model::{
    Account, Blackhole, BrowserService, Config, DokodemoInbound, DoorTarget, FinalAction, FinalRule, Freedom,
    HttpInbound, Inbound, InboundProtocol, Level, Listen, ListenAt, Log, LogTarget, Loopback, MemoryBudget,
    Mux, MuxPackets, Networks, Outbound, OutboundProtocol, PacketEncoding, Padding, Policy, Ports, ProxyKind,
    ProxyOutbound, ProxyServer, Redirect, SocksInbound, SocksUdp, Timeouts, Udp443, UnixAddress,
    VmessInbound, VmessOutUser, VmessOutbound, VmessServer, VmessUser,
};
pub use nearest::nearest;
pub use routing::{Condition, IpGroup, Placed, Routing, Rule, Sniffing};
pub use stream::{
    CertificatePair, ClientStream, ClientTls, ClientWs, Fallback, FallbackSite, ForwardedTrust, Heartbeat,
    NoHost, Pem, PemSource, Preconnect, ProxyProtocol, Resumption, ServerStream, ServerTls, ServerWs,
};

/// A configuration's text, or one of several.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What messages call it, such as `config.json` or `stdin`. Its end may tell the format.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
    /// What it is written in.
    pub format: Format,
}

impl<'a> Source<'a> {
    /// A source whose format its name tells.
    pub fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text, format: Format::Auto }
    }
}

/// What a configuration may ask for beside its text.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The value of a variable of the environment, for ports written `env:NAME`; none by default.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { variable: &|_| None }
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

/// A configuration that loads.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What its writer should know, in the order written.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a configuration. Several sources are merged in order by V2Ray 4's rules: a later one replaces the blocks
/// it has, and a single inbound or outbound joins the list.
///
/// # Errors
/// All that is wrong with it, in the order written; never empty.
pub fn load(sources: &[Source<'_>], options: &Options<'_>) -> Result<Loaded, Vec<Diagnostic>> {
    let reader = node::Reader::new(sources, options.variable);
    let config = document(&reader, sources);
    match (config, reader.finish()) {
        (Ok(config), (errors, warnings)) if errors.is_empty() => Ok(Loaded { config, warnings }),
        (_, (errors, _)) => Err(errors),
    }
}

fn document(reader: &node::Reader<'_>, sources: &[Source<'_>]) -> node::Parsed<Config> {
    let trees: Vec<_> =
        sources.iter().enumerate().map(|(number, source)| format::read(reader, number, source)).collect();
    let trees: Vec<_> = trees.into_iter().collect::<node::Parsed<_>>()?;
    let dialect = dialect::of(reader, sources, &trees)?;
    let names: Vec<_> = sources.iter().map(|source| source.name).collect();
    let [tree] = &trees[..] else {
        if trees.is_empty() {
            let error = Diagnostic::general("expected a configuration, found none");
            return Err(reader.refuse(error.help("name a configuration file")));
        }
        let tree = merge::merge(reader, &names, trees)?;
        return v4::document(&node::Node::root(reader, &tree, dialect));
    };
    let root = node::Node::root(reader, tree, dialect);
    v4::document(&root)
}
