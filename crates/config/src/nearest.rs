//! The known name that a misspelt one was meant to be.

/// The candidate nearest to `name`, letter case aside, if it is near enough to be meant: at most one typing
/// error in three letters, where two letters swapped are one error.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    let letters: Vec<char> = name.to_lowercase().chars().collect();
    let allowed = (letters.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            (distance(&letters, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate)
        })
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// No name of ours is longer, so nothing longer was meant to be one.
const LONGEST_NAME: usize = 64;

/// Edit distance with swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let changed = last[j] + usize::from(from != to);
            let mut best = changed.min(last[j + 1] + 1).min(row[j] + 1);
            let swapped = i > 0 && j > 0 && a[i - 1] == *to && *from == b[j - 1];
            if swapped {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_a_slip_and_letter_case_are_recognised() {
        let known = ["path", "headers", "maxEarlyData", "tls", "ws"];
        assert_eq!(nearest("paht", known), Some("path"));
        assert_eq!(nearest("MAXEARLYDATE", known), Some("maxEarlyData"));
        assert_eq!(nearest("tsl", known), Some("tls"));
        assert_eq!(nearest("wss", known), Some("ws"));
    }

    #[test]
    fn a_foreign_word_is_near_nothing() {
        assert_eq!(nearest("balancer", ["path", "tls", "ws"]), None);
        assert_eq!(nearest("", ["a", "tls"]), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), ["tls"]), None);
    }
}
