//! Known failures: they are tolerated until a date, and count again after it.

use anyhow::{Result, bail};
use ktstr::test_support::Topology;
use ktstr_kernel::version::Spec;
use ktstr_record::RunVerdict;

use super::config::{Config, Known};
use super::date::Date;
use super::report::{KnownNote, Report, Row};
use super::walk::Pair;
use crate::cell::axes::{self, OWN};
use crate::cell::own_shape;
use crate::suggest;

/// Checks that an entry names places that can exist. `all` are the names of all scenarios.
///
/// # Errors
///
/// There is no such scenario or shape, or the kernel is not named by its release: no failure would ever match the entry.
pub fn can_match(known: &Known, all: &[String]) -> Result<()> {
    axes::scenarios(std::slice::from_ref(&known.scenario), all)?;
    match known.topology.as_deref() {
        Some(OWN) => bail!(
            "`topology` is the name of a shape, such as 8cpu-2llc-smt: leave it out to match the scenario's own shape and all others"
        ),
        Some(shape) => drop(Topology::from_name(shape)?),
        None => {}
    }
    if let Some(word) = &known.kernel
        && spec(word).is_none()
    {
        bail!(
            "`kernel` is a release or the first numbers of one, such as 7.3, debian:7.3 or debian:7.3+rt, not `{word}`: each run is recorded with the release of its kernel"
        );
    }
    Ok(())
}

/// Parses the kernel of an entry. Returns `None` also for a word that means the newest kernel, because that kernel changes from
/// day to day.
fn spec(word: &str) -> Option<Spec> {
    Spec::parse(word).filter(|spec| !spec.is_newest())
}

/// Moves known failures to their own list. A failure whose entry has expired stays in the list of what is broken, and is marked.
/// Entries whose places were run, and whose failures did not occur, are listed as unseen.
pub fn apply(report: &mut Report, config: &Config, today: Date, pairs: &[Pair]) {
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
        // The failure has occurred for each entry that fits, and not only for the one that was chosen.
        for (known, seen) in config.known.iter().zip(&mut seen) {
            *seen |= is(known, &row);
        }
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
    // If a place was left out, or all of its runs were inconclusive or skipped, it is unknown whether the failure is fixed.
    let ran = |known: &Known| {
        pairs.iter().any(|pair| {
            let place = &pair.place;
            let shape = match &place.topology {
                Some(shape) => Some(shape.clone()),
                None => own_shape(&place.scenario),
            };
            place.scenario == known.scenario
                && matches!(pair.ours.verdict, RunVerdict::Pass | RunVerdict::Fail)
                && is_of_kernel(known, &place.kernel.release)
                && (known.topology.is_none()
                    || shape.is_some_and(|shape| is_of_shape(known, &shape)))
        })
    };
    let unseen = config.known.iter().zip(seen);
    let unseen = unseen.filter(|(known, seen)| !seen && ran(known));
    report.unseen = unseen
        .map(|(known, _)| {
            // A check has no list of all names, since claims bring their own. The names that occurred show a mistyped one.
            let rows = report.broken.iter().chain(&report.known);
            let is_there = |row: &&Row| {
                row.scenario == known.scenario
                    && is_of_kernel(known, &row.kernel)
                    && is_of_shape(known, &row.topology)
            };
            let others = rows.filter(is_there);
            let hint = match &known.check {
                Some(check) => suggest::hint(check, others.map(|row| row.check.as_str())),
                None => String::new(),
            };
            let (line, scenario, reason) = (known.line, &known.scenario, &known.reason);
            match (&known.check, hint.as_str()) {
                (Some(check), hint) if !hint.is_empty() => {
                    format!("line {line}: {scenario} ({reason}): no check `{check}` failed there{hint} If it is fixed, remove the entry")
                }
                _ => format!("line {line}: {scenario} ({reason}) did not occur: if it is fixed, remove the entry"),
            }
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
    let matches = |word: &String| spec(word).is_some_and(|spec| spec.matches(release));
    known.kernel.as_ref().is_none_or(matches)
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
    fn a_mistyped_check_is_recognised() {
        let report = report(mixed(), &known("check = \"starvatoin\"", "2027-01-01"));
        let unseen = "line 1: steady (issue 12): no check `starvatoin` failed there: did you mean `starvation`? If it is fixed, \
                      remove the entry";
        assert_eq!(report.unseen, [unseen]);
    }

    #[test]
    fn every_entry_that_fits_has_occurred() {
        let second =
            "[[known]]\nscenario = \"steady\"\nreason = \"more\"\nexpires = \"2027-01-01\"\n";
        let report = report(mixed(), &known(second, "2027-01-01"));
        assert_eq!(report.known.len(), 1);
        assert!(report.unseen.is_empty(), "{:?}", report.unseen);
    }

    #[test]
    fn an_entry_that_can_never_match_is_an_error() {
        let all = ["steady".to_owned()];
        let error = |more: &str| {
            let config = known(more, "2027-01-01");
            super::can_match(&config.known[0], &all).map_err(|error| error.to_string())
        };
        for good in [
            "",
            "kernel = \"debian:7.3+rt\"",
            "topology = \"8cpu-2llc-smt\"",
        ] {
            assert_eq!(error(good), Ok(()), "{good}");
        }
        for bad in [
            "./linux",
            "newest",
            "debian:",
            "git:https://example.org/linux#v7.0",
        ] {
            let why = error(&format!("kernel = \"{bad}\"")).expect_err(bad);
            assert!(why.starts_with("`kernel` is a release"), "{why}");
            assert!(why.contains(&format!("not `{bad}`")), "{why}");
        }
        let own = error("topology = \"own\"").expect_err("no shape");
        assert!(own.contains("leave it out"), "{own}");
        assert!(error("topology = \"9cpus\"").is_err());
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
            ("kernel = \"debian:7.3\"", true),
            ("kernel = \"7.3+rt\"", false),
            ("kernel = \"7.30\"", false),
            ("kernel = \"7.2\"", false),
            ("topology = \"1n1l2c1t\"", true),
            ("topology = \"4cpu-2llc-nosmt\"", false),
        ] {
            let report = report(mixed(), &known(more, day));
            assert_eq!(report.known.len() == 1, matches, "{more}");
            // An entry that does not match is unseen only if its place was run; other kernels and shapes were not
            // run.
            let looked_for = more.starts_with("check");
            let unseen = !matches && looked_for;
            assert_eq!(report.unseen.len(), usize::from(unseen), "{more}");
        }
    }
}
