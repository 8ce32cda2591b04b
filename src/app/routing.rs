//! From the rules of a configuration to a router: the lists that they name are read from their files.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use wsray_config::{Condition as Written, Diagnostic, IpGroup, Place, Placed, Routing, nearest};
use wsray_route::{
    Condition, DomainCondition, DomainSet, DomainSource, GeoError, IpSet, Router, Rule, Sense, geo,
};

/// Folders that files of lists are looked for in: the first that has a file counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssetFolders(Vec<PathBuf>);

/// Where V2Ray looks after its own folder (v2fly/v2ray-core `common/platform/others.go`).
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/share/v2ray", "/usr/share/v2ray", "/opt/share/v2ray"];

impl AssetFolders {
    /// The folder of `V2RAY_LOCATION_ASSET`, else the program's; and the system's.
    pub fn new(named: Option<&Path>, program: Option<&Path>) -> Self {
        let own = named.or(program).map(Path::to_owned);
        Self(own.into_iter().chain(SYSTEM_FOLDERS.map(PathBuf::from)).collect())
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, String> {
        for folder in &self.0 {
            let path = folder.join(file);
            match fs::read(&path) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
                Ok(bytes) => return Ok(bytes),
            }
        }
        let folders: Vec<_> = self.0.iter().map(|folder| folder.display().to_string()).collect();
        Err(format!("there is no file {file:?} in {}", folders.join(", ")))
    }
}

/// Reads the files that the rules name and compiles all rules.
///
/// # Errors
/// Every list that cannot be had.
pub(super) fn build_router(routing: &Routing, files: &mut Files<'_>) -> Result<Router, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut rules = Vec::new();
    for rule in &routing.rules {
        let mut conditions = Vec::new();
        for written in &rule.conditions {
            match condition(written, &rule.place, files) {
                Ok(condition) => conditions.push(condition),
                Err(diagnostics) => wrong.extend(diagnostics),
            }
        }
        if let Ok(rule) = Rule::new(conditions, rule.to) {
            rules.push(rule);
        }
    }
    if wrong.is_empty() { Ok(Router::new(routing.domain_strategy, rules)) } else { Err(wrong) }
}

fn condition(written: &Written, rule: &Place, files: &mut Files<'_>) -> Result<Condition, Vec<Diagnostic>> {
    Ok(match written {
        Written::Domain(sources) => {
            let conditions = domains(sources, files)?;
            let set = DomainSet::new(&conditions).map_err(|error| {
                vec![Diagnostic::at(rule, error.to_string()).help("divide them among several rules")]
            })?;
            Condition::Domain(Arc::new(set))
        }
        Written::Ip(groups) => Condition::Ip(Arc::new(addresses(groups, files)?)),
        Written::Source(groups) => Condition::Source(Arc::new(addresses(groups, files)?)),
        Written::Port(ports) => Condition::Port(ports.clone()),
        Written::SourcePort(ports) => Condition::SourcePort(ports.clone()),
        Written::Network(networks) => Condition::Network(*networks),
        Written::User(users) => Condition::User(users.clone().into()),
        Written::Inbound(tags) => Condition::Inbound(tags.clone().into()),
        Written::Protocol(names) => Condition::Protocol(names.clone().into()),
        Written::Attributes(expression) => Condition::Attributes(expression.clone()),
    })
}

/// The names of a list that no rule has.
pub(super) fn domain_set(
    sources: &[Placed<DomainSource>],
    files: &mut Files<'_>,
) -> Result<DomainSet, Vec<Diagnostic>> {
    let conditions = domains(sources, files)?;
    DomainSet::new(&conditions).map_err(|error| {
        let place = sources.first().map(|source| &source.place);
        let diagnostic = place.map_or_else(
            || Diagnostic::general(error.to_string()),
            |place| Diagnostic::at(place, error.to_string()),
        );
        vec![diagnostic.help("write fewer of them")]
    })
}

pub(super) fn domains(
    sources: &[Placed<DomainSource>],
    files: &mut Files<'_>,
) -> Result<Vec<DomainCondition>, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    for Placed { place, value } in sources {
        match value {
            DomainSource::Condition(condition) => all.push(condition.clone()),
            DomainSource::List(list) => {
                let attributes: Vec<_> = list.attributes.iter().map(String::as_str).collect();
                let read = |file: &[u8]| geo::site_list(file, &list.code, &attributes);
                match files.list(place, &list.file, &list.code, read) {
                    Ok(conditions) => all.extend(conditions),
                    Err(diagnostic) => wrong.push(diagnostic),
                }
            }
        }
    }
    if wrong.is_empty() { Ok(all) } else { Err(wrong) }
}

pub(super) fn addresses(groups: &[IpGroup], files: &mut Files<'_>) -> Result<IpSet, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut sets = Vec::new();
    for group in groups {
        let mut parts = Vec::new();
        for Placed { place, value } in &group.sources {
            let list =
                |file: &str, code: &str| files.list(place, file, code, |bytes| geo::ip_list(bytes, code));
            match wsray_route::ip_set(std::slice::from_ref(value), list) {
                Ok(set) => parts.push(set),
                Err(diagnostic) => wrong.push(diagnostic),
            }
        }
        let set = IpSet::union(&parts);
        sets.push(if group.sense == Sense::Outside { set.complement() } else { set });
    }
    if wrong.is_empty() { Ok(IpSet::union(&sets)) } else { Err(wrong) }
}

/// The files read so far, whole: they are dropped when the router is built.
pub(super) struct Files<'a> {
    folders: &'a AssetFolders,
    read: HashMap<String, Result<Vec<u8>, String>>,
}

impl<'a> Files<'a> {
    /// None has been read yet.
    pub(super) fn new(folders: &'a AssetFolders) -> Self {
        Self { folders, read: HashMap::new() }
    }

    /// What `read` makes of the file.
    fn list<T>(
        &mut self,
        place: &Place,
        name: &str,
        code: &str,
        read: impl FnOnce(&[u8]) -> Result<T, GeoError>,
    ) -> Result<T, Diagnostic> {
        let file = match self.read.entry(name.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let bytes = self.folders.read(name);
                entry.insert(bytes)
            }
        };
        let bytes = file.as_ref().map_err(|missing| {
            let help = "put the file there, or name its folder in V2RAY_LOCATION_ASSET";
            Diagnostic::at(place, missing).help(help)
        })?;
        read(bytes).map_err(|error| {
            let help = match &error {
                GeoError::NoList { .. } => meant(bytes, code),
                _ => "get the file again".to_owned(),
            };
            Diagnostic::at(place, format!("{name}: {}", whole(&error))).help(help)
        })
    }
}

fn meant(file: &[u8], code: &str) -> String {
    let names = geo::list_names(file).unwrap_or_default();
    match nearest(code, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {:?}?", near.to_ascii_lowercase()),
        None if names.len() <= MAX_NAMES_TOLD => {
            format!("it has: {}", names.join(", ").to_ascii_lowercase())
        }
        None => format!("get a newer file: this one has {} lists", names.len()),
    }
}

/// How many names of lists are told; V2Ray's own files have hundreds.
const MAX_NAMES_TOLD: usize = 20;

/// The error and what is behind it, in one line.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let text =
        causes.fold(error.to_string(), |text, cause| text + ": " + &(cause as &dyn Display).to_string());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
