//! x
mod attributes;
mod balancer;
mod domain;
mod expression;
pub mod geo;
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
pub use balancer::Balancer;
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
