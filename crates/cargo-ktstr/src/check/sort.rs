//! Classifies the findings of `check`: broken, not promised, slower, or inconclusive. Only this module decides that.
//!
//! A scheduler is called broken if three things hold: a run under it failed by its fault; the kernel, the exact schedule or
//! a worker proves the finding; and EEVDF passed with the same seed in the same place, or failed there with weaker evidence
//! only. A missed expectation alone proves nothing, since sound schedulers differ in what they reach.
//!
//! A run has a finding for each check for which these things hold, so that a known failure of one check hides no failure of
//! another. A finding does not count if it may be only a consequence of another finding of the run (`cell/outcome.rs`). For
//! example, the process of a scheduler dies after the kernel has ejected the scheduler, and only the ejection counts. If no
//! finding shows that the scheduler is broken, a run that did not pass gets a single finding, because its other findings would
//! not change the conclusion.

use ktstr_record::RunVerdict;

use super::walk::Pair;
use crate::cell::{Found, METRICS, Outcome, Proof};

/// The class of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The scheduler does not load.
    NotLoaded,
    /// The scheduler is broken.
    Broken,
    /// The failure is not held against the scheduler: EEVDF fails with the same seed, too, or only an expectation was missed, or
    /// the scheduler does not promise what was checked. [`Finding::why`] says which of these applies.
    NotPromised,
    /// The scheduler is slower than EEVDF.
    Slower,
    /// The run was inconclusive about the scheduler.
    NoAnswer,
}

/// A finding of one pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The class of the finding.
    pub class: Class,
    /// Name of the check.
    pub check: String,
    /// The message of the check.
    pub message: String,
    /// Why the finding is in its class.
    pub why: String,
    /// The evidence for the finding.
    pub proof: Proof,
}

impl Finding {
    fn of(class: Class, found: Option<&Found>, why: &str) -> Self {
        let (check, message, proof) = match found {
            Some(found) => (found.check.clone(), found.message.clone(), found.proof),
            None => (
                "no answer".to_owned(),
                "the run left no message".to_owned(),
                Proof::Nothing,
            ),
        };
        Self {
            class,
            check,
            message,
            why: why.to_owned(),
            proof,
        }
    }
}

/// Returns the findings of a pair; none if the scheduler is sound, or if the scenario was skipped.
pub fn judge(pair: &Pair) -> Vec<Finding> {
    let mut findings = verdict(pair);
    for note in &pair.ours.not_promised {
        // A note has the form "not promised (nice values): message".
        let (promise, message) = note.split_once("): ").unwrap_or(("", note));
        let promise = promise.split_once('(').map_or("", |(_, promise)| promise);
        findings.push(Finding {
            class: Class::NotPromised,
            check: promise.to_owned(),
            message: message.to_owned(),
            why: format!("the configuration lists {promise} as not promised"),
            proof: Proof::Schedule,
        });
    }
    findings
}

fn verdict(pair: &Pair) -> Vec<Finding> {
    let Pair { ours, eevdf, .. } = pair;
    let one = |class, found, why: &str| vec![Finding::of(class, found, why)];
    let first = ours.findings.first();
    if ours.never_attached() {
        let why = match ours.verdict {
            RunVerdict::Fail => "the scheduler never took over the CPUs",
            _ => "it is not the scheduler's fault",
        };
        return one(Class::NotLoaded, first, why);
    }
    match ours.verdict {
        RunVerdict::Pass | RunVerdict::Skip => return Vec::new(),
        RunVerdict::Inconclusive => {
            return one(Class::NoAnswer, first, "the run was inconclusive");
        }
        RunVerdict::Fail => {}
    }
    if ours.fault.as_deref() != Some("scheduler") {
        let why = match ours.fault.as_deref() {
            None | Some("undetermined") => "it is undetermined whose fault that is".to_owned(),
            Some(fault) => format!("the fault is with the {fault}, not the scheduler"),
        };
        return one(Class::NoAnswer, first, &why);
    }
    let own: Vec<&Found> = ours.findings.iter().filter(|found| found.counts).collect();
    // The finding with the strongest evidence. If several have it, this is the first, which is the most significant.
    let strongest = own.iter().copied().min_by_key(|found| found.proof);
    let failed = match eevdf.as_ref().map(|eevdf| eevdf.verdict) {
        Some(RunVerdict::Pass) => None,
        Some(RunVerdict::Fail) => eevdf.as_ref(),
        Some(RunVerdict::Inconclusive | RunVerdict::Skip) | None => {
            let why = "EEVDF was inconclusive with the same seed, so the failure is not confirmed";
            return one(Class::NoAnswer, strongest, why);
        }
    };
    // If EEVDF fails with the same seed, by whatever check, then something other than the scheduler disturbs the runs of this
    // scenario on this kernel and shape. EEVDF's failure excuses each finding whose evidence is not stronger than EEVDF's.
    let is_excused = |found: Option<&Found>| {
        failed.is_some_and(|eevdf| {
            let evidence = eevdf.findings.iter().map(|found| found.proof).min();
            evidence <= found.map(|found| found.proof)
        })
    };
    if is_excused(strongest) {
        let why = "EEVDF fails with the same seed, too";
        return one(Class::NotPromised, strongest, why);
    }
    let mut broken: Vec<Finding> = Vec::new();
    for found in own.iter().copied() {
        // The first of several findings of a check stands for all of them.
        let is_new = !broken.iter().any(|known| known.check == found.check);
        if let Some(why) = proved(found.proof).filter(|_| is_new && !is_excused(Some(found))) {
            broken.push(Finding::of(Class::Broken, Some(found), why));
        }
    }
    if !broken.is_empty() {
        return broken;
    }
    if strongest.is_none_or(|found| found.proof == Proof::Nothing) {
        return one(Class::NoAnswer, first, "it is not about scheduling");
    }
    if own.iter().all(|found| found.speed) {
        return one(Class::Slower, strongest, "EEVDF keeps the bound");
    }
    let why = "it is only an expectation, and the exact schedule does not confirm it";
    one(Class::NotPromised, strongest, why)
}

/// Returns what proves a finding with this evidence; `None` if nothing does.
fn proved(proof: Proof) -> Option<&'static str> {
    match proof {
        Proof::Kernel => Some("the kernel reported it"),
        Proof::Schedule => Some("the exact schedule is the evidence"),
        Proof::Worker => Some("a worker observed it"),
        Proof::Expected | Proof::Nothing => None,
    }
}

/// Returns a finding about one metric: among the metrics that are worse than EEVDF's in every pair of this place, the one
/// that is worse by the largest factor. `None` if there is no such metric.
pub fn slower(pairs: &[&Pair]) -> Option<Finding> {
    let mut worst: Option<(f64, Finding)> = None;
    for metric in METRICS {
        let value = |outcome: &Outcome| outcome.metrics.get(metric.name).copied();
        let both = |pair: &&Pair| Some((value(&pair.ours)?, value(pair.eevdf.as_ref()?)?));
        let values: Option<Vec<(f64, f64)>> = pairs.iter().map(both).collect();
        let Some(values) = values.filter(|values| !values.is_empty()) else {
            continue;
        };
        if !values
            .iter()
            .all(|(ours, eevdf)| metric.slower(*ours, *eevdf))
        {
            continue;
        }
        let count = values.len() as f64;
        let (ours, eevdf) = values.iter().fold((0.0, 0.0), |sum, value| {
            (sum.0 + value.0 / count, sum.1 + value.1 / count)
        });
        let factor = (ours.max(eevdf)) / ours.min(eevdf).max(f64::MIN_POSITIVE);
        let unit = match metric.unit {
            "" => String::new(),
            unit => format!(" {unit}"),
        };
        let finding = Finding {
            class: Class::Slower,
            check: metric.name.to_owned(),
            message: format!("{}{unit}, EEVDF {}{unit}", short(ours), short(eevdf)),
            why: "it is worse with every seed that was run".to_owned(),
            proof: Proof::Expected,
        };
        if worst.as_ref().is_none_or(|(known, _)| *known < factor) {
            worst = Some((factor, finding));
        }
    }
    worst.map(|(_, finding)| finding)
}

/// Formats a number with about three significant digits, and no fraction from 100 on.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{failed, pair, passed};
    use super::*;

    fn class(ours: Outcome, eevdf: Outcome) -> Option<Class> {
        let found = judge(&pair("steady", 1, ours, eevdf));
        assert!(found.len() < 2, "{found:?}");
        found.first().map(|finding| finding.class)
    }

    fn unanswered() -> Outcome {
        Outcome::without_answer("the disk is full".to_owned())
    }

    #[test]
    fn a_proved_finding_that_eevdf_does_not_have_is_broken() {
        for proof in [Proof::Kernel, Proof::Schedule, Proof::Worker] {
            let ours = failed("starvation", proof);
            assert_eq!(class(ours.clone(), passed()), Some(Class::Broken));
            assert_eq!(
                class(ours.clone(), failed("starvation", proof)),
                Some(Class::NotPromised)
            );
            assert_eq!(class(ours, unanswered()), Some(Class::NoAnswer));
        }
        assert_eq!(class(passed(), passed()), None);
    }

    #[test]
    fn a_failure_of_eevdf_excuses_no_finding_with_stronger_evidence() {
        let ejected = failed("ejected", Proof::Kernel);
        let missed = failed("spread", Proof::Expected);
        assert_eq!(class(ejected, missed.clone()), Some(Class::Broken));
        assert_eq!(class(missed.clone(), missed), Some(Class::NotPromised));
    }

    /// Returns the outcome of a run that failed with these findings.
    fn failed_with(findings: &[(&str, Proof)]) -> Outcome {
        let mut outcome = failed("", Proof::Nothing);
        let found = findings.iter();
        outcome.findings = found
            .flat_map(|(check, proof)| failed(check, *proof).findings)
            .collect();
        outcome
    }

    /// Returns the class and the check of each finding.
    fn checks(ours: Outcome, eevdf: Outcome) -> Vec<(Class, String)> {
        let found = judge(&pair("steady", 1, ours, eevdf)).into_iter();
        found
            .map(|finding| (finding.class, finding.check))
            .collect()
    }

    #[test]
    fn each_proved_check_of_a_run_is_a_finding() {
        let ours = failed_with(&[
            ("spread", Proof::Expected),
            ("starvation", Proof::Schedule),
            ("starvation", Proof::Schedule),
            ("isolation", Proof::Worker),
        ]);
        let broken = |check: &str| (Class::Broken, check.to_owned());
        assert_eq!(
            checks(ours.clone(), passed()),
            [broken("starvation"), broken("isolation")]
        );
        // A failure of EEVDF excuses the findings whose evidence is not stronger.
        let worker = failed("no progress", Proof::Worker);
        assert_eq!(checks(ours.clone(), worker), [broken("starvation")]);
        let schedule = failed("late wake-ups", Proof::Schedule);
        assert_eq!(
            checks(ours.clone(), schedule),
            [(Class::NotPromised, "starvation".to_owned())]
        );
        let mut followed = ours;
        followed.findings[3].counts = false;
        assert_eq!(checks(followed, passed()), [broken("starvation")]);
    }

    #[test]
    fn the_scheduler_is_never_blamed_for_others() {
        assert_eq!(class(unanswered(), passed()), Some(Class::NoAnswer));
        for fault in ["test", "harness", "host", "kernel", "user", "undetermined"] {
            let mut ours = failed("starvation", Proof::Kernel);
            ours.fault = Some(fault.to_owned());
            assert_eq!(class(ours, passed()), Some(Class::NoAnswer), "{fault}");
        }
        assert_eq!(
            class(failed("set-up", Proof::Nothing), passed()),
            Some(Class::NoAnswer)
        );
    }

    #[test]
    fn an_expectation_alone_breaks_nothing() {
        let mut ours = failed("p99 wake latency, µs", Proof::Expected);
        assert_eq!(class(ours.clone(), passed()), Some(Class::NotPromised));
        ours.findings[0].speed = true;
        assert_eq!(class(ours.clone(), passed()), Some(Class::Slower));
        // A finding of the exact schedule counts, even if it is not the first one.
        ours.findings
            .extend(failed("entitlement", Proof::Schedule).findings);
        let found = judge(&pair("steady", 1, ours, passed()));
        assert_eq!(found[0].class, Class::Broken);
        assert_eq!(found[0].check, "entitlement");
    }

    #[test]
    fn a_finding_that_breaks_no_promise_is_listed() {
        let mut ours = passed();
        ours.not_promised = vec!["not promised (nice values): a got 1 ms".to_owned()];
        let found = judge(&pair("steady", 1, ours, passed()));
        assert_eq!(found[0].class, Class::NotPromised);
        assert_eq!(found[0].check, "nice values");
        assert_eq!(found[0].message, "a got 1 ms");
    }

    #[test]
    fn a_scheduler_that_never_attached_is_not_compared_with_eevdf() {
        let mut ours = failed("scheduler not attached", Proof::Kernel);
        assert_eq!(class(ours.clone(), passed()), Some(Class::NotLoaded));
        ours.verdict = RunVerdict::Inconclusive;
        let found = judge(&pair("steady", 1, ours, passed()));
        assert_eq!(found[0].class, Class::NotLoaded);
        assert!(found[0].why.contains("not the scheduler's fault"));
    }

    #[test]
    fn slower_is_slower_with_every_seed() {
        let measured = |p99: f64, p50: f64| {
            let mut outcome = passed();
            let values = [("wake_p99", p99), ("wake_p50", p50)];
            outcome.metrics = values.map(|(name, v)| (name.to_owned(), v)).into();
            outcome
        };
        let eevdf = measured(1_000.0, 100.0);
        let slow = |p99, p50| pair("steady", 1, measured(p99, p50), eevdf.clone());
        let (a, b) = (slow(9_000.0, 4_000.0), slow(11_000.0, 100.0));
        let found = slower(&[&a, &b]).expect("slower");
        assert_eq!(found.check, "wake_p99");
        assert_eq!(found.message, "10000 µs, EEVDF 1000 µs");
        assert_eq!(slower(&[&a]).expect("slower").check, "wake_p50");
        assert_eq!(slower(&[&a, &slow(1_000.0, 100.0)]), None);
        assert_eq!(slower(&[&a, &pair("s", 2, passed(), passed())]), None);
    }
}
