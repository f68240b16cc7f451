//! Known failures: they are tolerated until a date, and count again after it.

use ktstr::test_support::Topology;

use super::config::{Config, Known};
use super::date::Date;
use super::report::{KnownNote, Report, Row};
use crate::cell::axes::OWN;
use crate::cell::own_shape;

/// Moves known failures to their own list. A failure whose entry has expired stays in the list of what is broken, and is marked.
/// Entries whose places were run, and whose failures did not occur, are listed as unseen.
pub fn apply(report: &mut Report, config: &Config, today: Date) {
    let mut seen = vec![false; config.known.len()];
    let mut broken = Vec::new();
    for mut row in std::mem::take(&mut report.broken) {
        // If several entries match, an entry that has not expired is preferred.
        let fits = |known: &&Known| is(known, &row);
        let place = |of: &dyn Fn(&&Known) -> bool| config.known.iter().position(|known| of(&known));
        let entry = place(&|known| fits(known) && today <= known.expires).or_else(|| place(&fits));
        let Some(at) = entry else {
            broken.push(row);
            continue;
        };
        seen[at] = true;
        let known = &config.known[at];
        let expired = today > known.expires;
        row.known = Some(KnownNote {
            reason: known.reason.clone(),
            expires: known.expires.to_string(),
            expired,
        });
        match expired {
            true => broken.push(row),
            false => report.known.push(row),
        }
    }
    report.broken = broken;
    let ran = |known: &Known| {
        let kernels = &report.kernels;
        let asked = &report.topologies;
        report.scenarios.contains(&known.scenario)
            && kernels.iter().any(|release| is_of_kernel(known, release))
            && asked.iter().any(|shape| {
                let own = || own_shape(&known.scenario).is_some_and(|own| is_of_shape(known, &own));
                is_of_shape(known, shape) || (shape == OWN && own())
            })
    };
    let unseen = config.known.iter().zip(seen);
    let unseen = unseen.filter(|(known, seen)| !seen && ran(known));
    report.unseen = unseen
        .map(|(known, _)| {
            format!(
                "line {}: {} ({}) did not occur: if it is fixed, remove the entry",
                known.line, known.scenario, known.reason
            )
        })
        .collect();
}

fn is(known: &Known, row: &Row) -> bool {
    known.scenario == row.scenario
        && known.check.as_ref().is_none_or(|check| *check == row.check)
        && is_of_kernel(known, &row.kernel)
        && is_of_shape(known, &row.topology)
}

fn is_of_kernel(known: &Known, release: &str) -> bool {
    known.kernel.as_ref().is_none_or(|word| {
        let word = word.strip_prefix("debian:").unwrap_or(word);
        let rest = release.strip_prefix(word);
        // `7.3` stands for 7.3.4, and not for 7.30.
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn is_of_shape(known: &Known, shape: &str) -> bool {
    known.topology.as_ref().is_none_or(|word| {
        let named = Topology::from_name(word).map(|named| named.to_string());
        named.is_ok_and(|named| named == shape)
    })
}

#[cfg(test)]
mod tests {
    use super::super::config::parse;
    use super::super::report::tests::{mixed, report};

    fn known(more: &str, expires: &str) -> super::Config {
        let text = format!(
            "[[known]]\nscenario = \"steady\"\nreason = \"issue 12\"\nexpires = \"{expires}\"\n{more}"
        );
        parse(&text).expect("a configuration")
    }

    #[test]
    fn a_known_failure_does_not_count_until_its_day_is_over() {
        // Today is 2026-11-27 in these reports.
        for day in ["2026-11-27", "2027-01-01"] {
            let report = report(mixed(), &known("", day));
            assert_eq!((report.broken.len(), report.known.len()), (0, 1));
            assert_eq!(report.exit, 0);
        }
        let expired = report(mixed(), &known("", "2026-11-26"));
        assert_eq!((expired.broken.len(), expired.known.len()), (1, 0));
        assert!(expired.broken[0].known.as_ref().is_some_and(|k| k.expired));
        assert_eq!(expired.exit, 1);
    }

    #[test]
    fn an_entry_matches_only_what_it_names() {
        let day = "2027-01-01";
        for (more, matches) in [
            ("check = \"starvation\"", true),
            ("check = \"spread\"", false),
            ("kernel = \"7.3\"", true),
            ("kernel = \"7.3.4\"", true),
            ("kernel = \"7\"", true),
            ("kernel = \"7.30\"", false),
            ("kernel = \"7.2\"", false),
            ("topology = \"1n1l2c1t\"", true),
            ("topology = \"4cpu-2llc-nosmt\"", false),
        ] {
            let report = report(mixed(), &known(more, day));
            assert_eq!(report.known.len() == 1, matches, "{more}");
            // An entry that does not match is unseen only if its place was run: the other kernels and shapes were not.
            let looked_for = more.starts_with("check");
            let unseen = !matches && looked_for;
            assert_eq!(report.unseen.len(), usize::from(unseen), "{more}");
        }
    }
}
