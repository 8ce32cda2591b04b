//! From names to addresses.

use std::{io, net::IpAddr};

use tokio::net::lookup_host;

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
    /// When there is none, or nobody who knows.
    pub async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found: Vec<_> = lookup_host((name, 0)).await?.map(|address| address.ip()).collect();
        if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }
}
