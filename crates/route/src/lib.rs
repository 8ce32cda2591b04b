//! Where a session goes, pure: V2Ray's routing rules, geo files and sniffing. No socket, clock, randomness or file.
//!
//! From a configuration to an answer:
//!
//! 1. Texts are parsed: [`DomainSource`], [`IpSource`], [`PortSet`], [`Expression`].
//! 2. Lists that they name are read from the bytes of `geosite.dat` and `geoip.dat` ([`geo`]), and all is compiled
//!    ([`domain_conditions`], [`DomainSet`], [`ip_set`], [`IpSet`]).
//! 3. [`Rule`]s of [`Condition`]s make a [`Router`].
//! 4. [`sniff`](sniff()) says what a session's first bytes are, [`Router::route`] where it goes by its [`Facts`];
//!    [`Balancer`] chooses among several outbounds.
//!
//! [`DomainSet::labels`] also answers which DNS server a name belongs to.

mod attributes;
mod balancer;
mod domain;
mod expression;
pub mod geo;
pub mod invariants;
mod ip;
mod names;
mod pattern;
mod ports;
mod protobuf;
mod punycode;
mod rules;
pub mod sniff;
mod source;

pub use attributes::Attributes;
pub use balancer::{Balancer, Choice};
pub use domain::{DomainCondition, DomainError, DomainKind, DomainSet};
pub use expression::{Expression, ExpressionError};
pub use geo::GeoError;
pub use ip::{Cidr, CidrError, IpSet};
pub use ports::{Network, Networks, PortError, PortSet};
pub use rules::{Condition, Decision, Destination, DomainStrategy, Facts, NoCondition, Router, Rule};
pub use sniff::{MAX_SNIFF_BYTES, Rest, Sniffed, sniff};
pub use source::{
    Addresses, DomainSource, GEOIP_FILE, GEOSITE_FILE, IpSource, Sense, SiteList, SourceError,
    domain_conditions, ip_set,
};
