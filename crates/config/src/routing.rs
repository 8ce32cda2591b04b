//! Where sessions go: what `routing` says. Lists in files are named only, as reading a file is not done here.

use wsray_route::{
    Balancer, Destination, DomainSource, DomainStrategy, Expression, IpSource, Networks, PortSet, Sense,
};

use crate::Place;

/// Which sessions leave the default outbound.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// When names are looked up for the sake of rules.
    pub domain_strategy: DomainStrategy,
    /// In the order they are tried.
    pub rules: Vec<Rule>,
    /// What a rule may name instead of an outbound. They choose among indices of
    /// [`Config::outbounds`](crate::Config::outbounds).
    pub balancers: Vec<Balancer>,
}

/// Sends the sessions for which all conditions hold to an outbound or a balancer.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where the object stands.
    pub place: Place,
    /// At least one.
    pub conditions: Vec<Condition>,
    /// The index in [`Config::outbounds`](crate::Config::outbounds) or [`Routing::balancers`]; always valid.
    pub to: Destination,
}

/// One condition of a rule: [`wsray_route::Condition`] before the files that it names are read.
#[derive(Clone, Debug)]
pub enum Condition {
    /// The target's name is one of these.
    Domain(Vec<Placed<DomainSource>>),
    /// One of the target's addresses is in one of these.
    Ip(Vec<IpGroup>),
    /// The target's port.
    Port(PortSet),
    /// TCP, UDP, or both.
    Network(Networks),
    /// The client's address is in one of these.
    Source(Vec<IpGroup>),
    /// The client's port.
    SourcePort(PortSet),
    /// The user's email.
    User(Vec<String>),
    /// The inbound's tag.
    Inbound(Vec<String>),
    /// The protocol that was overheard.
    Protocol(Vec<String>),
    /// What an HTTP request says about itself.
    Attributes(Expression),
}

/// Addresses that are listed together.
#[derive(Clone, Debug)]
pub struct IpGroup {
    /// `inverseMatch`: all but these.
    pub sense: Sense,
    /// One or more.
    pub sources: Vec<Placed<IpSource>>,
}

/// A value with the place where it is written, for complaints that come when a file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// Where.
    pub place: Place,
    /// What.
    pub value: T,
}

/// What is done with the name that an application's first words hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sniffing {
    /// `destOverride` has `http`: the name in `Host` takes the target's place.
    pub http: bool,
    /// It has `tls`: the server name does.
    pub tls: bool,
    /// `routeOnly`: neither does, and rules alone use them.
    pub route_only: bool,
    /// `domainsExcluded`: names that count for nothing, as if they had not been heard.
    pub excluded: Vec<Placed<DomainSource>>,
}
