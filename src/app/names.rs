//! From the `dns` block to who knows the addresses of names.

use wsray_config::{ClientTls, Diagnostic, Dns, NameServerAddress, Placed};
use wsray_route::{DomainCondition, DomainSet, DomainSource};

use super::routing::{Files, addresses, domains};
use crate::{
    names::{Names, NamesSettings},
    transport::client_config,
};

/// Reads the lists that the block names.
///
/// # Errors
/// Every list that cannot be had.
pub(super) fn build_names(dns: Option<&Dns>, files: &mut Files<'_>) -> Result<Names, Vec<Diagnostic>> {
    let Some(dns) = dns else { return Ok(Names::system()) };
    let hosts = dns.hosts.iter().map(|host| std::slice::from_ref(&host.names));
    let host_names = labelled(dns, hosts, files);
    let domains = labelled(dns, dns.servers.iter().map(|server| &*server.domains), files);
    let expected: Vec<_> = dns
        .servers
        .iter()
        .map(|server| {
            let some = !server.expected.is_empty();
            some.then(|| addresses(&server.expected, files)).transpose()
        })
        .collect();
    let tls = dns.servers.iter().find(|server| matches!(server.address, NameServerAddress::Https { .. }));
    let tls = tls.map(|server| client_config(&https(server))).transpose().map_err(|wrong| vec![wrong]);
    let expected: Vec<_> = expected.into_iter().collect::<Result<_, _>>()?;
    Ok(Names::new(NamesSettings { dns, host_names: host_names?, domains: domains?, expected, tls: tls? }))
}

/// What HTTPS to a name server needs: HTTP/2, and an authority that the system trusts.
fn https(server: &wsray_config::NameServer) -> ClientTls {
    ClientTls {
        place: server.place.clone(),
        server_name: None,
        alpn: vec!["h2".to_owned()],
        allow_insecure: false,
        disable_system_root: false,
        extra_roots: Vec::new(),
        pinned_chain_sha256: Vec::new(),
        pinned_sha256: Vec::new(),
        verified_names: Vec::new(),
        resumption: wsray_config::Resumption::On,
    }
}

/// One set for all lists, labelled with their numbers.
fn labelled<'a>(
    dns: &Dns,
    lists: impl Iterator<Item = &'a [Placed<DomainSource>]>,
    files: &mut Files<'_>,
) -> Result<DomainSet, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut all: Vec<(DomainCondition, u32)> = Vec::new();
    for (label, list) in (0..).zip(lists) {
        match domains(list, files) {
            Ok(conditions) => all.extend(conditions.into_iter().map(|condition| (condition, label))),
            Err(refused) => wrong.extend(refused),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let labelled = all.iter().map(|(condition, label)| (*label, condition));
    DomainSet::labelled(labelled).map_err(|error| vec![Diagnostic::at(&dns.place, error.to_string())])
}
