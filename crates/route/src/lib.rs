//! x
mod domain;
mod ip;
mod names;
mod pattern;
mod punycode;
pub use domain::{DomainCondition, DomainError, DomainKind, DomainSet};
pub use ip::{Cidr, CidrError, IpSet};
