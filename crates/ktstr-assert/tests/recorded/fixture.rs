//! Reads the recorded runs, and formats results.

use std::collections::BTreeSet;
use std::path::Path;

use ktstr_assert::monitor::MonitorReport;
use ktstr_assert::{
    AssertResult, DrainedSnapshotEntry, PhaseBucket, SampleSeries, ScenarioStats, StimulusEvent,
    Verdict, WorkerReport,
};
use ktstr_snapshot::report::FailureDumpReport;
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned>(run: &str, part: &str) -> T {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let path = folder.join(run).join(part).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}

/// The workers of one cgroup, and all CPUs that its cpuset contained at any time.
#[derive(Deserialize)]
pub struct Workers {
    pub cgroup: String,
    pub cpuset: Option<BTreeSet<usize>>,
    pub reports: Vec<WorkerReport>,
}

/// Returns the workers of a cgroup in a run.
pub fn workers(run: &str, cgroup: &str) -> Workers {
    let all: Vec<Workers> = read(run, "workers");
    let mut all = all.into_iter();
    all.find(|w| w.cgroup == cgroup)
        .unwrap_or_else(|| panic!("no cgroup {cgroup} in {run}"))
}

/// Returns the monitor's report of a run.
pub fn monitor(run: &str) -> MonitorReport {
    read(run, "monitor")
}

/// The result of a run and the host's data about its phases.
#[derive(Deserialize)]
pub struct Phases {
    pub stats: ScenarioStats,
    pub buckets: Vec<PhaseBucket>,
    pub stimulus: Vec<StimulusEvent>,
}

/// Returns the phases of a run.
pub fn phases(run: &str) -> Phases {
    read(run, "phases")
}

#[derive(Deserialize)]
struct Capture {
    tag: String,
    elapsed_ms: Option<u64>,
    boundary_offset_ms: Option<u64>,
    step_index: Option<u16>,
    report: FailureDumpReport,
}

/// Returns the captures of a run.
pub fn series(run: &str) -> SampleSeries {
    let captures: Vec<Capture> = read(run, "series");
    let entry = |c: Capture| DrainedSnapshotEntry {
        elapsed_ms: c.elapsed_ms,
        boundary_offset_ms: c.boundary_offset_ms,
        step_index: c.step_index,
        ..DrainedSnapshotEntry::new(c.tag, c.report)
    };
    SampleSeries::from_drained_typed(captures.into_iter().map(entry).collect(), None)
}

/// Formats a result: each failure and each inconclusive outcome on a line.
pub fn shown(result: &AssertResult) -> String {
    let line =
        |word: &str, d: &ktstr_assert::AssertDetail| format!("{word} {}", d.display_with_kind());
    let fails = result.failure_details().map(|d| line("FAIL", d));
    let unsure = result.inconclusive_details().map(|d| line("UNSURE", d));
    fails.chain(unsure).collect::<Vec<_>>().join("\n")
}

/// Returns the result of these claims.
pub fn judged(claims: impl FnOnce(&mut Verdict)) -> AssertResult {
    let mut verdict = Verdict::new();
    claims(&mut verdict);
    verdict.into_result()
}

/// A check, applied to data that meets it and to data that does not.
pub struct Pair {
    pub what: &'static str,
    pub holds: AssertResult,
    pub fails: AssertResult,
    /// The message for the data that does not meet the check.
    pub with: &'static str,
}

/// Asserts for each pair that the result `holds` is a pass, and that the result `fails` has the expected message.
#[track_caller]
pub fn hold_and_fail(pairs: &[Pair]) {
    let mut wrong = String::new();
    for pair in pairs {
        let (good, bad) = (shown(&pair.holds), shown(&pair.fails));
        if !pair.holds.is_pass() || !pair.holds.outcomes.is_empty() {
            wrong += &format!("{} should hold:\n{good}\n", pair.what);
        }
        if !pair.fails.is_fail() || bad != pair.with {
            wrong += &format!("{} should fail otherwise:\n{bad}\n", pair.what);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Asserts that there are pairs for all public functions of the Rust source `source`, except those in `except`, which
/// do not judge anything.
#[track_caller]
pub fn pairs_are_of(source: &str, except: &[&str], pairs: &[Pair]) {
    let public = source.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("pub fn ")?;
        name.split(['(', '<']).next()
    });
    let judging: BTreeSet<&str> = public.filter(|name| !except.contains(name)).collect();
    let paired: BTreeSet<&str> = pairs.iter().map(|p| p.what).collect();
    assert_eq!(paired, judging);
}
