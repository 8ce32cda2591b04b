//! What must hold for any text. Fuzz targets and tests call these.

use wsray_route::{Balancer, Destination};

use crate::{Diagnostic, Options, Source, load};

/// Loading `text` returns, and whatever it says stands inside the text.
///
/// # Panics
/// When a line, a column or a message is none.
pub fn load_returns_and_places_lie_inside(text: &str) {
    load_of_a_file_returns("fuzz.json", text);
}

/// The same for the text of a file, whose name says which format it has.
///
/// # Panics
/// When a line, a column or a message is none.
pub fn load_of_a_file_returns(name: &str, text: &str) {
    let told = match load(&[Source::new(name, text)], &Options::default()) {
        Ok(loaded) => {
            let config = &loaded.config;
            assert!(config.inbounds.is_empty() || !config.outbounds.is_empty(), "inbounds without a way out");
            let (outbounds, routing) = (config.outbounds.len(), &config.routing);
            assert!(
                routing.rules.iter().all(|rule| match rule.to {
                    Destination::Outbound(index) => index < outbounds,
                    Destination::Balancer(index) => index < routing.balancers.len(),
                }),
                "a rule to nowhere"
            );
            let chosen = routing.balancers.iter().flat_map(Balancer::candidates);
            assert!(chosen.into_iter().all(|&index| index < outbounds), "a balancer among nothing");
            assert!(routing.rules.iter().all(|rule| !rule.conditions.is_empty()), "a rule for everything");
            loaded.warnings
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            errors
        }
    };
    for one in told {
        check(text, &one);
    }
}

fn check(text: &str, diagnostic: &Diagnostic) {
    assert!(!diagnostic.message.is_empty(), "a diagnostic says nothing");
    assert!(
        diagnostic.to_string().lines().count() <= 2,
        "a diagnostic has more than two lines: {diagnostic}"
    );
    let Some(place) = &diagnostic.place else { return };
    let line = text.split('\n').nth(place.line.wrapping_sub(1));
    let length = line.map(|line| line.chars().count());
    assert!(
        place.column >= 1 && length.is_some_and(|length| place.column <= length + 1),
        "a place outside the text: {diagnostic}"
    );
}
