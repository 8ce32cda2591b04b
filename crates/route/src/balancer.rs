//! Balancers: one of several outbounds for each session.
//!
//! Sources: v2fly/v2ray-core `app/router/balancing.go` and `strategy_random.go`; XTLS/Xray-core
//! `app/router/balancing.go` (`RoundRobinStrategy`).

/// How a balancer chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// By chance, which is the default.
    #[default]
    Random,
    /// One after the other: Xray's `roundRobin`.
    InTurn,
}

/// The outbounds that a balancer chooses from, as places in the caller's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    candidates: Box<[usize]>,
    fallback: Option<usize>,
    choice: Choice,
}

impl Balancer {
    /// A balancer among the outbounds whose tags begin with one of the selectors; the tags are those of all outbounds
    /// in order, `None` for one without. The fallback is taken when no candidate is left.
    pub fn new<'t>(
        selectors: &[impl AsRef<str>],
        fallback: Option<usize>,
        tags: impl IntoIterator<Item = Option<&'t str>>,
    ) -> Self {
        let selected = |tag: &str| selectors.iter().any(|selector| tag.starts_with(selector.as_ref()));
        let tags = tags.into_iter().enumerate();
        let candidates = tags.filter(|(_, tag)| tag.is_some_and(selected)).map(|(index, _)| index).collect();
        Self { candidates, fallback, choice: Choice::Random }
    }

    /// The same, choosing in another way.
    #[must_use]
    pub fn with_choice(self, choice: Choice) -> Self {
        Self { choice, ..self }
    }

    /// How it chooses, and so what number [`pick`](Self::pick) wants.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// The outbounds that it chooses from. None: a selector that no tag begins with.
    pub fn candidates(&self) -> &[usize] {
        &self.candidates
    }

    /// One of the healthy candidates: each as likely as the others for a random number, or each in its turn for a
    /// number that counts. The fallback if there is none, and `None` (the default outbound) without one. V2Ray asks for
    /// health with `aliveOnly` only: otherwise every outbound counts as healthy.
    pub fn pick(&self, number: u64, healthy: impl Fn(usize) -> bool) -> Option<usize> {
        let healthy: Vec<usize> = self.candidates.iter().copied().filter(|&index| healthy(index)).collect();
        match (healthy.len(), self.choice) {
            (0, _) => self.fallback,
            // The high half of the product has no bias worth speaking of, as the remainder has.
            (count, Choice::Random) => healthy.get(scaled(number, count)).copied(),
            (_, Choice::InTurn) => healthy.get(remainder(number, healthy.len())).copied(),
        }
    }

    /// The candidate of the least cost (`leastPing`: its delay), the first of equal ones; those without a cost are
    /// out of order. The fallback and `None` as for [`pick`](Self::pick).
    pub fn pick_least<T: Ord>(&self, cost: impl Fn(usize) -> Option<T>) -> Option<usize> {
        let costs = self.candidates.iter().filter_map(|&index| Some((cost(index)?, index)));
        costs.min().map(|(_, index)| index).or(self.fallback)
    }
}

/// A random number as one below `count`.
fn scaled(random: u64, count: usize) -> usize {
    let product = u128::from(random) * u128::try_from(count).unwrap_or_default();
    usize::try_from(product >> 64).unwrap_or_default()
}

fn remainder(number: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    number.checked_rem(count).and_then(|turn| usize::try_from(turn).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(fallback: Option<usize>) -> Balancer {
        let tags = [Some("direct"), Some("proxy-a"), None, Some("proxy-b"), Some("a-proxy")];
        Balancer::new(&["proxy-"], fallback, tags)
    }

    #[test]
    fn candidates_are_those_whose_tags_begin_with_a_selector() {
        assert_eq!(balancer(None).candidates(), [1, 3]);
        let tags = [Some("a"), Some("b"), None];
        assert_eq!(Balancer::new(&["b", ""], None, tags).candidates(), [0, 1]);
        assert!(Balancer::new(&["x"], None, tags).candidates().is_empty());
    }

    #[test]
    fn each_candidate_is_as_likely_as_the_others() {
        let picks: Vec<_> = (0..4).map(|n| balancer(None).pick(n << 62, |_| true)).collect();
        assert_eq!(picks, [Some(1), Some(1), Some(3), Some(3)]);
        assert_eq!(balancer(None).pick(u64::MAX, |_| true), Some(3));
    }

    #[test]
    fn in_turn_each_candidate_follows_the_one_before() {
        let balancer = balancer(Some(0)).with_choice(Choice::InTurn);
        let picks: Vec<_> = (0..5).map(|n| balancer.pick(n, |_| true)).collect();
        assert_eq!(picks, [Some(1), Some(3), Some(1), Some(3), Some(1)]);
        assert_eq!(balancer.pick(7, |_| false), Some(0));
    }

    #[test]
    fn the_fallback_is_for_when_nobody_is_healthy() {
        assert_eq!(balancer(Some(0)).pick(u64::MAX, |index| index == 1), Some(1));
        assert_eq!(balancer(Some(0)).pick(5, |_| false), Some(0));
        assert_eq!(balancer(None).pick(5, |_| false), None);
    }

    #[test]
    fn the_least_cost_wins() {
        assert_eq!(balancer(Some(0)).pick_least(|index| Some(10 - index)), Some(3));
        assert_eq!(balancer(Some(0)).pick_least(|_| Some(7)), Some(1));
        assert_eq!(balancer(Some(0)).pick_least(|index| (index == 3).then_some(9)), Some(3));
        assert_eq!(balancer(Some(0)).pick_least(|_| None::<u8>), Some(0));
    }
}
