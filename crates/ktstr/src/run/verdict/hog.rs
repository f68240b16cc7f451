//! Finds the hogs of a test: its real-time workers that took most of the time of their CPUs, which a scheduler of a lower class
//! cannot give to other tasks. The guest names them in measurements, for each step or for the backdrop. A hog of one step
//! explains nothing in another.

use std::collections::BTreeMap;

use ktstr_assert::{AssertDetail, NoteValue, Phase};
use ktstr_guest::engine::{HOG_KEY, hog_key};

type Measurements = BTreeMap<String, NoteValue>;

/// Returns the text about real-time workers that ran at the time of the finding; `None` if there were none. A finding
/// that belongs to no step may be about any time. The label `BASELINE` counts as no step, because findings about the backdrop at
/// the end of the run have it, too.
pub(super) fn at(measurements: &Measurements, detail: &AssertDetail) -> Option<String> {
    let label = detail.phase.as_deref();
    match label.filter(|label| **label != *Phase::BASELINE.label()) {
        None => any(measurements),
        Some(step) => [HOG_KEY.to_owned(), hog_key(step)]
            .iter()
            .find_map(|key| text(measurements.get(key)?)),
    }
}

/// Returns the text about real-time workers that ran at some time of the test; `None` if there were none.
pub(super) fn any(measurements: &Measurements) -> Option<String> {
    let mut named = (measurements.iter()).filter(|(key, _)| key.starts_with(HOG_KEY));
    named.find_map(|(_, value)| text(value))
}

/// Returns the text about real-time workers if such workers ran at the time of each of the findings.
pub(super) fn at_all<'a>(
    measurements: &Measurements,
    details: impl IntoIterator<Item = &'a AssertDetail>,
) -> Option<String> {
    let details = details.into_iter();
    let hogs: Option<Vec<String>> = details.map(|detail| at(measurements, detail)).collect();
    hogs?.into_iter().next()
}

fn text(value: &NoteValue) -> Option<String> {
    match value {
        NoteValue::Text(hog) => Some(hog.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ktstr_assert::DetailKind;

    use super::*;

    #[test]
    fn a_hog_explains_only_what_happened_in_its_step() {
        let late = |phase: Option<&'static str>| {
            let mut detail = AssertDetail::new(DetailKind::Stuck, "late");
            detail.phase = phase.map(Into::into);
            detail
        };
        let hogs: Measurements = [(hog_key("Step[0]"), "of a step".into())].into();
        let found = |hogs: &Measurements, phase| at(hogs, &late(phase)).is_some();
        assert!(found(&hogs, Some("Step[0]")) && !found(&hogs, Some("Step[2]")));
        assert!(found(&hogs, None) && found(&hogs, Some("BASELINE")));
        let both = [late(Some("Step[0]")), late(Some("Step[2]"))];
        assert_eq!(at_all(&hogs, &both), None);
        assert_eq!(at_all(&hogs, &both[..1]).as_deref(), Some("of a step"));
        // Hogs of the backdrop run in each step.
        let hogs: Measurements = [(HOG_KEY.to_owned(), "of the backdrop".into())].into();
        assert!(found(&hogs, Some("Step[0]")) && found(&hogs, None));
        assert_eq!(any(&Measurements::new()), None);
    }
}
