//! Lists the bounds by which a test is judged, for people. A bound of the test has priority over one of its scheduler, which
//! has priority over the defaults of the checks on the exact schedule.

use std::fmt::Write;

use ktstr_assert::Assert;
use serde_json::Value;

use super::verdict::schedule::DEFAULTS;
use crate::entry::KtstrTestEntry;

/// Returns a line for each bound that is set and each check that is on: its key, its value, and who set it.
pub(crate) fn of(entry: &KtstrTestEntry) -> String {
    lines(&[
        ("the test", &entry.assert),
        ("its scheduler", &entry.scheduler.assert),
        ("ktstr, with an exact schedule", &DEFAULTS),
    ])
}

/// Returns the lines for these layers, each with its name. The first layer that sets a key decides its value.
fn lines(layers: &[(&str, &Assert); 3]) -> String {
    let [test, scheduler, defaults] = layers;
    let merged = defaults.1.merge(scheduler.1).merge(test.1);
    let is_set = |value: Option<&Value>| value.is_some_and(|v| !v.is_null() && v != false);
    let fields = |checks: &Assert| serde_json::to_value(checks).unwrap_or_default();
    let of_layers = layers.map(|(name, checks)| (name, fields(checks)));
    let mut text = String::new();
    for (key, value) in fields(&merged).as_object().into_iter().flatten() {
        if !is_set(Some(value)) {
            continue;
        }
        let set_by = of_layers.iter().find(|(_, layer)| is_set(layer.get(key)));
        // Every key that is set in the merged checks is set in a layer.
        let set_by = set_by.map_or("nobody", |(name, _)| name);
        // A bound that is on by default is a `Limit`, which is `{"at": VALUE}` or `"off"` in JSON.
        let value = value.get("at").unwrap_or(value);
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key:30} {value:>12}  {set_by}");
    }
    text
}

#[cfg(test)]
mod tests {
    use ktstr_assert::Limit;

    use super::*;

    #[test]
    fn the_layer_that_decides_is_named() {
        let test = Assert::NO_OVERRIDES
            .max_gap_ms(2000)
            .min_driven_share(Limit::Off);
        let scheduler = Assert::NO_OVERRIDES
            .max_gap_ms(9000)
            .max_owed_ms(Limit::At(80.0))
            .check_not_stuck();
        let text = lines(&[
            ("the test", &test),
            ("its scheduler", &scheduler),
            ("ktstr", &DEFAULTS),
        ]);
        insta::assert_snapshot!(text, @r"
        max_gap_ms                             2000  the test
        max_owed_ms                            80.0  its scheduler
        max_preemption_rate                  3000.0  ktstr
        max_wake_wait_ms                       25.0  ktstr
        max_wasted_share                        0.1  ktstr
        min_driven_share                        off  the test
        min_entitled_share                      0.7  ktstr
        min_task_share                          0.5  ktstr
        not_stuck                              true  its scheduler
        ");
        let entry = KtstrTestEntry::DEFAULT;
        let text = of(&entry);
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(
            text.lines()
                .all(|line| line.ends_with("  ktstr, with an exact schedule"))
        );
    }
}
