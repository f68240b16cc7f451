//! Compares the settings of two runs, or of two series of runs, by name. Runs with different settings are different
//! experiments: a difference between their numbers does not show which scheduler is better.

use std::collections::BTreeMap;

/// The values of a run's settings by name, as text for people. A setting without an entry was not set in the run.
pub type Settings = BTreeMap<String, String>;

/// Describes how the settings of `a` and `b` differ, with `names` for the two: `KTSTR_TURN_US was 50 in A, and not set in B`.
/// `None` if they are the same.
#[must_use]
pub fn difference(names: [&str; 2], a: &Settings, b: &Settings) -> Option<String> {
    let [of_a, of_b] = names;
    let shown = |value: Option<&String>| value.map_or("not set", String::as_str).to_owned();
    let mut all: Vec<&String> = a.keys().chain(b.keys()).collect();
    all.sort_unstable();
    all.dedup();
    let lines: Vec<String> = all
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| {
            let (a, b) = (shown(a.get(name)), shown(b.get(name)));
            format!("{name} was {a} in {of_a}, and {b} in {of_b}")
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_differs_is_named_with_both_values() {
        let of = |settings: &[(&str, &str)]| -> Settings {
            let settings = settings.iter();
            settings
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let a = of(&[("memory", "512 MiB"), ("same", "1"), ("turn", "50")]);
        let b = of(&[("memory", "1024 MiB"), ("same", "1")]);
        let text = difference(["A", "B"], &a, &b);
        assert_eq!(
            text.as_deref(),
            Some("memory was 512 MiB in A, and 1024 MiB in B; turn was 50 in A, and not set in B")
        );
        assert_eq!(difference(["A", "B"], &a, &a), None);
    }
}
