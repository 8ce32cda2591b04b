//! From names to addresses.

use std::{io, net::IpAddr};

use tokio::net::lookup_host;
use wsray_config::Families;

/// Where the addresses of names come from.
#[derive(Clone, Debug, Default)]
pub struct Names;

impl Names {
    /// The system's resolver.
    pub fn system() -> Self {
        Self
    }

    /// The addresses of a name, in the resolver's order; at least one.
    ///
    /// # Errors
    /// When there is none of these families, or nobody who knows.
    pub async fn lookup(&self, name: &str, families: Families) -> io::Result<Vec<IpAddr>> {
        Self::ask_system(name, families).await
    }

    /// The same, always by the system's resolver.
    ///
    /// # Errors
    /// As there.
    pub async fn ask_system(name: &str, families: Families) -> io::Result<Vec<IpAddr>> {
        let found = lookup_host((name, 0)).await?.map(|address| address.ip()).collect();
        let wanted = wanted(found, families);
        if wanted.is_empty() { Err(io::Error::new(io::ErrorKind::NotFound, NO_ADDRESS)) } else { Ok(wanted) }
    }
}

const NO_ADDRESS: &str = "the name has no address of the wanted family";

/// Those of `found` that are wanted.
fn wanted(mut found: Vec<IpAddr>, families: Families) -> Vec<IpAddr> {
    let has = |v4: bool| found.iter().any(|ip| ip.is_ipv4() == v4);
    let only = match families {
        Families::Any => None,
        Families::OnlyV4 => Some(true),
        Families::OnlyV6 => Some(false),
        Families::PreferV4 => has(true).then_some(true),
        Families::PreferV6 => has(false).then_some(false),
    };
    if let Some(v4) = only {
        found.retain(|ip| ip.is_ipv4() == v4);
    }
    found
}
