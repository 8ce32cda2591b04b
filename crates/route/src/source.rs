//! What a configuration writes where domains and addresses are listed: conditions, and names of lists in files.

use crate::{Cidr, CidrError, DomainCondition, DomainError, IpSet};
use std::str::FromStr;

/// The file that `geoip:` means, in the asset folder (v2fly/v2ray-core `infra/conf/geodata/geodata.go`).
pub const GEOIP_FILE: &str = "geoip.dat";

/// The file that `geosite:` means, likewise.
pub const GEOSITE_FILE: &str = "geosite.dat";

/// The list that needs no file.
const PRIVATE: &str = "private";

/// One text of a list of domains.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DomainSource {
    /// A condition.
    Condition(DomainCondition),
    /// The conditions of a list in a file.
    List(SiteList),
}

/// A list in a file like `geosite.dat`; [`site_list`](crate::geo::site_list) reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SiteList {
    /// The file's name, in the asset folder.
    pub file: String,
    /// The list's name.
    pub code: String,
    /// Conditions count only if they have all of these; none: all count.
    pub attributes: Vec<String>,
}

impl FromStr for DomainSource {
    type Err = SourceError;

    /// `geosite:list`, `geosite:list@attribute`, `ext:file:list`, `ext-domain:file:list`, and all conditions.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let (file, list) = if let Some(list) = text.strip_prefix("geosite:") {
            (GEOSITE_FILE, list)
        } else if let Some(external) = strip_one(text, ["ext:", "ext-domain:"]) {
            file_and_list(text, external)?
        } else {
            return Ok(Self::Condition(text.parse()?));
        };
        let mut parts = list.split('@').map(str::trim);
        let code = parts.next().filter(|code| !code.is_empty()).ok_or_else(|| no_list(text))?;
        let attributes = parts.filter(|attribute| !attribute.is_empty()).map(str::to_owned).collect();
        Ok(Self::List(SiteList { file: file.to_owned(), code: code.to_owned(), attributes }))
    }
}

/// One text of a list of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IpSource {
    /// `!`: the addresses that are not in it.
    pub sense: Sense,
    /// Which addresses.
    pub addresses: Addresses,
}

/// Which side of a boundary counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sense {
    /// What is in it.
    Inside,
    /// All else: `!`.
    Outside,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// The text itself.
    Network(Cidr),
    /// `geoip:private`: [`IpSet::private`].
    Private,
    /// A list in a file like `geoip.dat`; [`ip_list`](crate::geo::ip_list) reads it.
    List {
        /// The file's name, in the asset folder.
        file: String,
        /// The list's name.
        code: String,
    },
}

impl FromStr for IpSource {
    type Err = SourceError;

    /// `10.0.0.0/8`, an address, `geoip:list`, `geoip:!list`, `ext:file:list`, `ext:file:!list`, `ext-ip:...`;
    /// V2Ray has `!` before a list's name only, here it may be before any of them as well.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let (mut sense, bare) = negation(text);
        let addresses = if let Some(list) = bare.strip_prefix("geoip:") {
            let (inner, code) = negation(list);
            sense = sense.with(inner);
            match code {
                "" => return Err(no_list(text)),
                code if code.eq_ignore_ascii_case(PRIVATE) => Addresses::Private,
                code => Addresses::List { file: GEOIP_FILE.to_owned(), code: code.to_owned() },
            }
        } else if let Some(external) = strip_one(bare, ["ext:", "ext-ip:"]) {
            let (file, list) = file_and_list(text, external)?;
            let (inner, code) = negation(list);
            sense = sense.with(inner);
            if code.is_empty() {
                return Err(no_list(text));
            }
            Addresses::List { file: file.to_owned(), code: code.to_owned() }
        } else {
            Addresses::Network(bare.parse()?)
        };
        Ok(Self { sense, addresses })
    }
}

impl Sense {
    /// Both applied.
    fn with(self, other: Self) -> Self {
        if self == other { Self::Inside } else { Self::Outside }
    }
}

/// Why a text is neither: its writer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A prefix and no list behind it.
    #[error("expected the name of a list, found {found:?}")]
    NoList {
        /// As written.
        found: String,
    },
    /// `ext:` is followed by a file's and a list's name.
    #[error("expected \"ext:file:list\", found {found:?}")]
    External {
        /// As written.
        found: String,
    },
    /// Not a domain condition.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// Not a network.
    #[error(transparent)]
    Cidr(#[from] CidrError),
}

/// All conditions that the texts mean; `list` reads those of files.
///
/// # Errors
/// The first of `list`.
pub fn domain_conditions<E>(
    sources: &[DomainSource],
    mut list: impl FnMut(&SiteList) -> Result<Vec<DomainCondition>, E>,
) -> Result<Vec<DomainCondition>, E> {
    let mut conditions = Vec::new();
    for source in sources {
        match source {
            DomainSource::Condition(condition) => conditions.push(condition.clone()),
            DomainSource::List(name) => conditions.extend(list(name)?),
        }
    }
    Ok(conditions)
}

/// The addresses that one text or more means, which is V2Ray's reading of several with `!` as well; `list` reads those
/// of files, by file and name.
///
/// # Errors
/// The first of `list`.
pub fn ip_set<E>(
    sources: &[IpSource],
    mut list: impl FnMut(&str, &str) -> Result<IpSet, E>,
) -> Result<IpSet, E> {
    let mut sets = vec![IpSet::new(sources.iter().filter_map(IpSource::plain_network))];
    for source in sources.iter().filter(|source| source.plain_network().is_none()) {
        let set = match &source.addresses {
            Addresses::Network(network) => IpSet::new([*network]),
            Addresses::Private => IpSet::private(),
            Addresses::List { file, code } => list(file, code)?,
        };
        sets.push(if source.sense == Sense::Outside { set.complement() } else { set });
    }
    Ok(IpSet::union(&sets))
}

impl IpSource {
    fn plain_network(&self) -> Option<Cidr> {
        match self {
            Self { sense: Sense::Inside, addresses: Addresses::Network(network) } => Some(*network),
            _ => None,
        }
    }
}

fn negation(text: &str) -> (Sense, &str) {
    text.strip_prefix('!').map_or((Sense::Inside, text), |rest| (Sense::Outside, rest))
}

fn strip_one<'t>(text: &'t str, prefixes: [&str; 2]) -> Option<&'t str> {
    prefixes.into_iter().find_map(|prefix| text.strip_prefix(prefix))
}

fn file_and_list<'t>(text: &str, external: &'t str) -> Result<(&'t str, &'t str), SourceError> {
    let parts = external.split_once(':').filter(|(file, list)| !file.is_empty() && !list.contains(':'));
    parts.ok_or_else(|| SourceError::External { found: text.to_owned() })
}

fn no_list(text: &str) -> SourceError {
    SourceError::NoList { found: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_domains_are_conditions_or_lists() {
        let list = |file: &str, code: &str, attributes: &[&str]| {
            DomainSource::List(SiteList {
                file: file.into(),
                code: code.into(),
                attributes: attributes.iter().map(|&text| text.into()).collect(),
            })
        };
        for (text, expected) in [
            ("geosite:cn", list("geosite.dat", "cn", &[])),
            ("geosite:google@ads", list("geosite.dat", "google", &["ads"])),
            ("geosite:google@ads@cn", list("geosite.dat", "google", &["ads", "cn"])),
            ("geosite:category-ads-all", list("geosite.dat", "category-ads-all", &[])),
            ("ext:h2y.dat:ad", list("h2y.dat", "ad", &[])),
            ("ext-domain:h2y.dat:ad@x", list("h2y.dat", "ad", &["x"])),
            ("domain:a.com", DomainSource::Condition("domain:a.com".parse().unwrap())),
            ("a.com", DomainSource::Condition("keyword:a.com".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["geosite:", "geosite:@ads", "ext:", "ext:a", "ext::a", "ext:a:b:c", "domain:", ""] {
            assert!(text.parse::<DomainSource>().is_err(), "{text}");
        }
    }

    #[test]
    fn texts_of_addresses_are_networks_or_lists() {
        let list = |file: &str, code: &str| Addresses::List { file: file.into(), code: code.into() };
        for (text, sense, addresses) in [
            ("geoip:cn", Sense::Inside, list("geoip.dat", "cn")),
            ("geoip:!cn", Sense::Outside, list("geoip.dat", "cn")),
            ("!geoip:!cn", Sense::Inside, list("geoip.dat", "cn")),
            ("geoip:private", Sense::Inside, Addresses::Private),
            ("geoip:!Private", Sense::Outside, Addresses::Private),
            ("ext:x.dat:test", Sense::Inside, list("x.dat", "test")),
            ("ext:x.dat:!test", Sense::Outside, list("x.dat", "test")),
            ("ext-ip:x.dat:private", Sense::Inside, list("x.dat", "private")),
            ("10.0.0.0/8", Sense::Inside, Addresses::Network("10.0.0.0/8".parse().unwrap())),
            ("!::1", Sense::Outside, Addresses::Network("::1/128".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(IpSource { sense, addresses }), "{text}");
        }
        for text in ["geoip:", "geoip:!", "ext:a", "ext:a:!", "a.com", "!"] {
            assert!(text.parse::<IpSource>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_of_all_texts_count() {
        let sources: Vec<IpSource> =
            ["10.0.0.0/8", "geoip:!x", "geoip:private"].iter().map(|text| text.parse().unwrap()).collect();
        let list = |file: &str, code: &str| {
            assert_eq!((file, code), ("geoip.dat", "x"));
            Ok::<_, ()>(IpSet::new(["0.0.0.0/1".parse().unwrap(), "::/0".parse().unwrap()]))
        };
        let set = ip_set(&sources, list).unwrap();
        for (address, expected) in [
            ("10.1.1.1", true),
            ("128.0.0.0", true),
            ("127.0.0.1", true),
            ("11.0.0.0", false),
            ("2001:db8::1", false),
            ("fc00::1", true),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), expected, "{address}");
        }
    }
}
