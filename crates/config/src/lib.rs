//! V2Ray configuration: text in, a model or errors out. No file is opened and no socket made here.
//!
//! [`load`] turns the text of a configuration in V2Ray 4's dialect into a [`Config`] whose types cannot hold
//! nonsense, together with warnings; or it returns every error of the text, each with its place, what was
//! found and what to write.

mod diagnostic;
pub mod invariants;
mod keys;
mod model;
mod nearest;
mod node;
mod object;
mod stream;
mod syntax;
mod v4;

pub use diagnostic::{Diagnostic, Place};
pub use model::{
    Account, Blackhole, Config, DomainStrategy, Freedom, HttpInbound, Inbound, InboundProtocol, Level,
    Listen, Log, LogTarget, Outbound, OutboundProtocol, Policy, Ports, Redirect, Rule, SocksInbound,
    SocksUdp, Timeouts, VmessInbound, VmessOutUser, VmessOutbound, VmessServer, VmessUser,
};
pub use stream::{
    CertificatePair, ClientStream, ClientTls, ClientWs, Pem, PemSource, ServerStream, ServerTls, ServerWs,
};

/// A configuration's text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What messages call it, such as `config.json` or `stdin`.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

/// A configuration that loads.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What its writer should know, in the order written.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a configuration. Several sources are not merged yet: more than one is an error.
///
/// # Errors
/// All that is wrong with it, in the order written; never empty.
pub fn load(sources: &[Source<'_>]) -> Result<Loaded, Vec<Diagnostic>> {
    let [source] = sources else {
        let message =
            format!("expected one configuration, found {}: merging is not supported yet", sources.len());
        return Err(vec![Diagnostic::general(message).help("put everything into one file")]);
    };
    let reader = node::Reader::new(source);
    let config = syntax::prepare(&reader).and_then(|prepared| {
        let tree = syntax::parse(&reader, &prepared)?;
        v4::document(&node::Node::root(&reader, &tree))
    });
    match (config, reader.finish()) {
        (Ok(config), (errors, warnings)) if errors.is_empty() => Ok(Loaded { config, warnings }),
        (_, (errors, _)) => Err(errors),
    }
}
