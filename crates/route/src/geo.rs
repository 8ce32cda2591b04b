//! `geoip.dat` and `geosite.dat`: lists of networks and of domain conditions under a name.
//!
//! The files are protocol buffers (v2fly/v2ray-core `app/router/routercommon/common.proto`). Only the list asked for
//! is decoded, the others are stepped over by their length, so that of nine megabytes a few hundred bytes are read
//! besides it. Nothing refers to the file afterwards.

use crate::{
    Cidr, DomainCondition, DomainError, DomainKind, IpSet,
    protobuf::{Damaged, Message, Value},
};
use std::net::IpAddr;

/// The networks of a list in `geoip.dat`; the case of the name does not matter.
///
/// # Errors
/// See [`GeoError`].
pub fn ip_list(file: &[u8], code: &str) -> Result<IpSet, GeoError> {
    let mut networks = Vec::new();
    let mut inverse = false;
    let mut fields = find(file, code)?;
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (geo_ip::CIDR, Value::Message(cidr)) => networks.push(network(cidr)?),
            (geo_ip::INVERSE_MATCH, Value::Number(value)) => inverse = value != 0,
            _ => {}
        }
    }
    let set = IpSet::new(networks);
    Ok(if inverse { set.complement() } else { set })
}

/// The conditions of a list in `geosite.dat` that have all these attributes; the case of names does not matter.
///
/// # Errors
/// See [`GeoError`]. No condition with the attributes is none: the answer is empty.
pub fn site_list(file: &[u8], code: &str, attributes: &[&str]) -> Result<Vec<DomainCondition>, GeoError> {
    let mut conditions = Vec::new();
    let mut fields = find(file, code)?;
    while let Some((number, value)) = fields.next()? {
        if let (geo_site::DOMAIN, Value::Message(domain)) = (number, value) {
            conditions.extend(condition(domain, attributes, code)?);
        }
    }
    Ok(conditions)
}

/// The names of all lists of a file of either kind, as written, in its order.
///
/// # Errors
/// [`GeoError::Damaged`].
pub fn list_names(file: &[u8]) -> Result<Vec<String>, GeoError> {
    let mut names = Vec::new();
    let mut entries = Message::new(file);
    while let Some((number, value)) = entries.next()? {
        if let (list::ENTRY, Value::Message(entry)) = (number, value) {
            names.push(String::from_utf8_lossy(name(entry)?).into_owned());
        }
    }
    Ok(names)
}

/// Why a list cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeoError {
    /// The file is something else, or was not loaded whole.
    #[error("not a file of geo lists, or cut short or damaged: byte {at}")]
    Damaged {
        /// Where reading stopped, in bytes from the file's beginning.
        at: usize,
    },
    /// The file has no list of this name: a misspelt name, an old file, or one of the other kind.
    #[error("there is no list {code:?} in it")]
    NoList {
        /// As asked for.
        code: String,
    },
    /// A condition of the list cannot be used.
    #[error("its list {code:?} has a condition that cannot be used")]
    Domain {
        /// As asked for.
        code: String,
        /// What is wrong with the condition.
        source: DomainError,
    },
}

impl From<Damaged> for GeoError {
    fn from(Damaged { at }: Damaged) -> Self {
        Self::Damaged { at }
    }
}

// Field numbers, from v2fly/v2ray-core `app/router/routercommon/common.proto`.
mod list {
    /// `GeoIPList` and `GeoSiteList`.
    pub(super) const ENTRY: u32 = 1;
    /// `GeoIP` and `GeoSite`: `country_code`.
    pub(super) const NAME: u32 = 1;
}
mod geo_ip {
    pub(super) const CIDR: u32 = 2;
    pub(super) const INVERSE_MATCH: u32 = 3;
}
mod cidr {
    pub(super) const IP: u32 = 1;
    pub(super) const PREFIX: u32 = 2;
}
mod geo_site {
    pub(super) const DOMAIN: u32 = 2;
}
mod domain {
    pub(super) const TYPE: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const ATTRIBUTE: u32 = 3;
}
mod attribute {
    pub(super) const KEY: u32 = 1;
}

/// The first list of this name, as V2Ray takes it.
fn find<'a>(file: &'a [u8], code: &str) -> Result<Message<'a>, GeoError> {
    let mut entries = Message::new(file);
    while let Some((number, value)) = entries.next()? {
        if let (list::ENTRY, Value::Message(entry)) = (number, value)
            && name(entry)?.eq_ignore_ascii_case(code.as_bytes())
        {
            return Ok(entry);
        }
    }
    Err(GeoError::NoList { code: code.to_owned() })
}

/// The name of a list, which writers put first.
fn name(mut entry: Message<'_>) -> Result<&[u8], GeoError> {
    while let Some((number, value)) = entry.next()? {
        if let (list::NAME, Value::Message(name)) = (number, value) {
            return Ok(name.bytes());
        }
    }
    Ok(&[])
}

fn network(mut message: Message<'_>) -> Result<Cidr, GeoError> {
    let damaged = GeoError::Damaged { at: message.at() };
    let (mut address, mut prefix) = (None, 0);
    while let Some((number, value)) = message.next()? {
        match (number, value) {
            (cidr::IP, Value::Message(ip)) => address = ip_address(ip.bytes()),
            (cidr::PREFIX, Value::Number(bits)) => prefix = bits,
            _ => {}
        }
    }
    let Some(address) = address else { return Err(damaged) };
    let bits = u8::try_from(prefix).ok().and_then(|prefix| Cidr::new(address, prefix).ok());
    bits.ok_or(damaged)
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The condition, if it has all the attributes.
fn condition(
    mut message: Message<'_>,
    wanted: &[&str],
    code: &str,
) -> Result<Option<DomainCondition>, GeoError> {
    let damaged = GeoError::Damaged { at: message.at() };
    let (mut kind, mut value, mut missing) = (0, Message::new(&[]), wanted.to_vec());
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (domain::TYPE, Value::Number(number)) => kind = number,
            (domain::VALUE, Value::Message(text)) => value = text,
            (domain::ATTRIBUTE, Value::Message(attribute)) if !missing.is_empty() => {
                let key = attribute_key(attribute)?;
                missing.retain(|wanted| !wanted.as_bytes().eq_ignore_ascii_case(key));
            }
            _ => {}
        }
    }
    if !missing.is_empty() {
        return Ok(None);
    }
    // `Domain.Type`.
    let kind = match kind {
        0 => DomainKind::Substring,
        1 => DomainKind::Regexp,
        2 => DomainKind::Domain,
        3 => DomainKind::Full,
        _ => return Err(damaged),
    };
    let Ok(text) = str::from_utf8(value.bytes()) else { return Err(damaged) };
    match DomainCondition::new(kind, text) {
        Ok(condition) => Ok(Some(condition)),
        Err(source) => Err(GeoError::Domain { code: code.to_owned(), source }),
    }
}

fn attribute_key(mut attribute: Message<'_>) -> Result<&[u8], GeoError> {
    let mut key: &[u8] = &[];
    while let Some((number, value)) = attribute.next()? {
        if let (attribute::KEY, Value::Message(text)) = (number, value) {
            key = text.bytes();
        }
    }
    Ok(key)
}
