//! The record: plain data, one JSON object per run. `docs/record.md` describes each field for readers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::moment::CaptureMoment;

/// The version of the record's schema. It is raised when a field changes its meaning or is removed, but not when a field is
/// added.
pub const SCHEMA: u32 = 1;

/// The record's file name inside a run's folder.
pub const RECORD_FILE: &str = "record.json";

/// The largest number of characters that are kept of a reason, and of the evidence for a fault.
const REASON_CAP: usize = 500;

/// The largest number of findings that a record keeps; `result.json` has all of them.
const FINDINGS_CAP: usize = 100;

/// The beginning of the entry of [`RunRecord::omitted`] that says how many findings there were.
pub(crate) const FINDINGS: &str = "findings";

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunVerdict {
    /// The run was complete, and every check held.
    Pass,
    /// A check failed, or a failure was found to be the fault of the scheduler, the test, the user or the guest's kernel.
    Fail,
    /// The run was not completed, or its evidence is not enough, so that nothing is known.
    #[default]
    Inconclusive,
    /// The test does not apply here.
    Skip,
}

impl RunVerdict {
    /// Returns the word that stands for the verdict in the record, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Skip => "skip",
        }
    }
}

/// What executed the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// QEMU's translator, in software.
    Tcg,
    /// The processor, through `/dev/kvm`.
    Kvm,
}

/// What the guest's clocks follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The host's clock, so that timing depends on the host and on its load.
    Real,
    /// The count of executed instructions.
    Virtual,
}

/// What the machine was started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// A kernel image, so the machine went through a whole boot.
    Cold,
    /// A template of a booted machine.
    Booted,
    /// A template in which the scheduler had already taken over the CPUs.
    Attached,
}

/// The scheduler that ran, and where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerRecord {
    /// The name in the declaration of the scheduler.
    pub name: String,
    /// The binary on the host; null for a scheduler of the kernel's own.
    pub path: Option<PathBuf>,
    /// The first line of its answer to `--version`; null if it gave none.
    pub version: Option<String>,
    /// BLAKE3 of the binary's bytes, in hexadecimal.
    pub hash: Option<String>,
    /// How the binary was found: `path`, `env_var`, `auto_built`, `recorded` or `sibling`.
    pub resolve_source: Option<String>,
    /// Its arguments, in their order.
    pub args: Vec<String>,
}

/// The test binary that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramRecord {
    /// Its path on the host.
    pub path: PathBuf,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub hash: String,
    /// The directory in which it ran on the host; empty if that could not be determined.
    pub folder: PathBuf,
}

/// The number and the digest of the context switches of a virtual-clock run. The first of these switches are listed in
/// `switches.bin`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SwitchesRecord {
    /// The number of switches, from the machine's start or fork to its end.
    pub count: u64,
    /// A running digest of the switches in their order, in hexadecimal.
    pub digest: String,
}

/// One finding: why a run failed, was skipped, or was inconclusive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FindingRecord {
    /// `fail`, `inconclusive` or `skip`.
    pub outcome: String,
    /// Name of the check.
    pub check: String,
    /// The kind that tests match on, such as `Stuck`.
    pub kind: String,
    /// One sentence for people.
    pub message: String,
    /// The phase that it is about; null if it is about the whole run.
    pub phase: Option<String>,
    /// The cgroup whose workers it is about; null if it is about no cgroup.
    pub cgroup: Option<String>,
    /// The finding as an object with one field, which is named after the finding's type and holds its numbers and names; null
    /// for free text.
    pub data: serde_json::Value,
}

/// The result of one run of a payload: a program of the host that the test started as load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PayloadRecord {
    /// The name of its declaration.
    pub name: String,
    /// The number of the run among those of the test, from 0.
    pub index: u64,
    /// The cgroup in which it was started; null stands for the harness's own.
    pub cgroup: Option<String>,
    /// How it ended: `exited`, `signaled`, `stopped` (by the test or at the end of its step) or `timed out`.
    pub end: String,
    /// Its exit code; 128 plus the signal number if a signal killed it.
    pub exit_code: i32,
    /// How long it ran, in milliseconds of guest time.
    pub elapsed_ms: f64,
    /// The CPU time of the program and its children, in milliseconds.
    pub cpu_ms: f64,
    /// The metrics that it printed.
    pub metrics: Vec<PayloadMetricRecord>,
}

/// One metric that a payload printed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PayloadMetricRecord {
    /// The name of the metric: for JSON output the path to it with dots, otherwise the name of the pattern.
    pub name: String,
    /// The number as it was printed, in `unit`.
    pub value: f64,
    /// Its unit, as declared; empty for bare numbers.
    pub unit: String,
    /// Which values are better, as declared: `higher`, `lower`, `near` and a number, `informational` or `unknown`.
    pub better: String,
    /// The stream to which the program printed the metric: `stdout` or `stderr`.
    pub stream: String,
}

/// One line of the index of captures; the captures themselves are in `captures.json`, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptureRecord {
    /// The capture's name, unique in the run.
    pub tag: String,
    /// The phase in which the capture was taken: 0 is the baseline before the first step, 1 is the first step.
    pub phase: Option<u16>,
    /// The time since the workload's window opened, in milliseconds of guest time.
    pub elapsed_ms: Option<u64>,
    /// The time of the last event before the capture, in nanoseconds of the kernel's scheduler clock (`rq.clock`), as in
    /// `schedule.bin`. Null in a run without a schedule.
    pub clock_ns: Option<u64>,
    /// The event for which it was taken; null if it was periodic or the test requested it.
    pub moment: Option<CaptureMoment>,
    /// How long the guest was frozen for it, in milliseconds.
    pub freeze_ms: Option<f64>,
    /// Why this is a placeholder without data; null for a real capture.
    pub placeholder: Option<String>,
    /// What the scheduler answered when the guest asked it for its statistics (the crate `scx_stats`) shortly before the
    /// capture; null if the test runs no scheduler binary, and for a capture that has a `moment`.
    pub stats: Option<SchedulerStats>,
}

/// What a scheduler answered when it was asked for its statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerStats {
    /// The statistics, in the form that the scheduler defines.
    Served(serde_json::Value),
    /// It served none, for this reason.
    Missing(String),
}

impl SchedulerStats {
    /// Returns all numbers in the statistics with their dotted paths, in the order of the paths, at most `most`. A Boolean is 0
    /// or 1.
    pub fn numbers(&self, most: usize) -> Vec<(String, f64)> {
        let mut found = Vec::new();
        if let Self::Served(value) = self {
            collect("", value, most, &mut found);
        }
        found
    }
}

/// Adds the numbers in `value`, whose dotted path is `path`. The JSON parser limits the depth of a value, and with it the depth
/// of this recursion.
fn collect(path: &str, value: &serde_json::Value, most: usize, found: &mut Vec<(String, f64)>) {
    use serde_json::Value;
    if found.len() >= most {
        return;
    }
    let below = |key: &dyn std::fmt::Display| match path.is_empty() {
        true => key.to_string(),
        false => format!("{path}.{key}"),
    };
    match value {
        Value::Number(number) => found.extend(number.as_f64().map(|n| (path.to_owned(), n))),
        Value::Bool(set) => found.push((path.to_owned(), f64::from(u8::from(*set)))),
        Value::Object(map) => {
            for (key, value) in map {
                collect(&below(key), value, most, found);
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                collect(&below(&at), value, most, found);
            }
        }
        Value::Null | Value::String(_) => {}
    }
}

/// How the repeat of a failed run compares with that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeated {
    /// The repeat is the same run to the last bit.
    Same,
    /// The repeat diverges from the failed run, although the clock is virtual.
    Different,
    /// It is unknown whether both runs are the same.
    #[default]
    Unknown,
    /// Under the real clock: the check of the recorded run's most significant finding failed again.
    FailedAgain,
    /// Under the real clock: the check of the recorded run's most significant finding did not fail again.
    DidNotFailAgain,
}

/// The failed run that another run repeats, and the result of comparing the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepeatRecord {
    /// The name of the run that is repeated.
    pub run: String,
    /// The result of the comparison.
    pub outcome: Repeated,
    /// The outcome as a text for people: where the two runs diverge, or how the repeat ended.
    pub text: String,
}

/// The host machine of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostRecord {
    /// The number of CPUs that this process could use.
    pub cores: u32,
    /// Memory of the machine, in MiB.
    pub memory_mib: u64,
    /// The processor's model name.
    pub cpu_model: String,
}

/// Everything that is recorded about a run, as one JSON object.
///
/// A field whose value is unknown for this run is null or empty. Times are seconds unless the name says otherwise.
/// [`crate::RunDir::commit`] fills `schema`, `run_id`, `timestamp`, `ktstr`, `artefacts` and `omitted`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// The value of [`SCHEMA`] in the version of ktstr that wrote the record.
    pub schema: u32,
    /// The run's name, which is also the name of its folder: start time, test, process.
    pub run_id: String,
    /// When the run began, in UTC, in the format of RFC 3339.
    pub timestamp: String,
    /// The version of ktstr that wrote the record.
    pub ktstr: String,
    /// The name of the test that ran.
    pub test: String,
    /// The name under which nextest ran it, if that is the name of a variant: `gauntlet/TEST/PRESET`, or a name with a kernel;
    /// null otherwise.
    pub variant: Option<String>,
    /// Whether the run passed, failed, was skipped or is inconclusive.
    pub verdict: RunVerdict,
    /// The reason for the verdict, in one line; null for a pass.
    pub reason: Option<String>,
    /// Who is at fault: `scheduler`, `test`, `user`, `kernel`, `harness`, `host`, or `undetermined` if the evidence does
    /// not show it; null for a pass or a skip.
    pub fault: Option<String>,
    /// The evidence for `fault`, in one line.
    pub evidence: Option<String>,
    /// The findings, the most significant first; at most 100. `result.json` has all of them.
    pub findings: Vec<FindingRecord>,
    /// The last events of the task that the first finding is about, or of the scheduler, as lines; empty for a run that did not
    /// fail, and under the real clock.
    pub trail: Vec<String>,
    /// How this run compares with the failed run that it repeats; null if it repeats none.
    pub repeats: Option<RepeatRecord>,
    /// The kernel's release, as `uname -r` prints it; null if none was resolved.
    pub kernel: Option<String>,
    /// The kernel's id in the cache.
    pub kernel_id: Option<String>,
    /// A hash of the bootable image, in hexadecimal.
    pub kernel_hash: Option<String>,
    /// What executed the guest's instructions; null if no machine was started.
    pub accelerator: Option<Accelerator>,
    /// What the guest's clocks followed.
    pub clock: Option<Clock>,
    /// The seed of the run.
    pub seed: Option<u64>,
    /// Millions of instructions in a second of the virtual clock; null under the real one.
    pub mips: Option<u32>,
    /// BLAKE3 over the memory that the guest changed in a virtual-clock run, and over its console; null under the real clock,
    /// and for a run that the guest did not complete.
    pub digest: Option<String>,
    /// The context switches of a virtual-clock run; null under the real clock, and if some of them may have been missed.
    pub switches: Option<SwitchesRecord>,
    /// BLAKE3 over the captures of a virtual-clock run, without the times that were taken from the host's clock; null under the
    /// real clock.
    pub captures_digest: Option<String>,
    /// The command that runs the test again with the same seed; null if no machine was started, or if an error of the host
    /// ended the run.
    pub again: Option<String>,
    /// The test binary.
    pub program: Option<ProgramRecord>,
    /// BLAKE3 of each further file of the host that was copied into the guest for the test or its scheduler, by path.
    pub inputs: BTreeMap<String, String>,
    /// BLAKE3 of the binary of each staged scheduler, by its path on the host.
    pub staged: BTreeMap<String, String>,
    /// The variables that were set and can change what the guest does.
    pub environment: BTreeMap<String, String>,
    /// The key of the template, a hash of everything that it was made from; null for a cold boot, and under the real clock.
    pub template: Option<String>,
    /// The declared shape, such as `1n1l2c1t`: NUMA nodes, LLCs in total, cores per LLC, threads per core.
    pub topology: Option<String>,
    /// How many virtual CPUs the machine had.
    pub vcpus: Option<u32>,
    /// Guest memory, in MiB.
    pub memory_mib: Option<u32>,
    /// The scheduler under test; null if the kernel's default scheduler ran.
    pub scheduler: Option<SchedulerRecord>,
    /// Kernel settings that were written before the scheduler started, by their dotted keys.
    pub sysctls: BTreeMap<String, String>,
    /// Arguments of the guest kernel that scheduler and test declare.
    pub kargs: Vec<String>,
    /// The length of the workload's window, in guest time.
    pub window_s: Option<f64>,
    /// The host time from the start of the run to its end.
    pub wall_s: f64,
    /// The host time from the machine's start to the start of the test function, or to QEMU's exit if the function was not
    /// called. It includes the creation of the template, if this run created one.
    pub boot_s: Option<f64>,
    /// The parts of the wall time: resolve, initramfs, slot (the wait until the host has room), boot, window, captures and
    /// teardown. Restore is a part of boot, and monitor is mostly a part of window. Digest is a part of teardown for the memory,
    /// and of the stage in which a capture is taken for that capture. Attach is guest time, not wall time: it lasts from the
    /// scheduler's start to its attach, even if both happened in the template.
    pub timings: BTreeMap<String, f64>,
    /// The time from the end of the scenario until the guest ended on its own, in milliseconds of guest time; null if it did not
    /// end on its own.
    pub cleanup_duration_ms: Option<f64>,
    /// What the machine was started from.
    pub start: Option<Start>,
    /// The version of the QEMU that was chosen, such as `10.0.2`; null if the run ended before that.
    pub qemu: Option<String>,
    /// The number of periodic captures that were requested.
    pub periodic_target: u32,
    /// The number of periodic captures that were stored, placeholders included.
    pub periodic_fired: u32,
    /// The number of periodic captures with data.
    pub periodic_real: u32,
    /// How long each capture froze the guest, in milliseconds, in order. A capture that did not freeze the guest has no entry.
    pub freeze_ms: Vec<f64>,
    /// The scenario's statistics on which the verdict is based; null if there were none.
    pub stats: serde_json::Value,
    /// The name of the test's `payload`; null without one.
    pub payload: Option<String>,
    /// The results of the test's payloads, in the order in which they ended; at most 64.
    pub payloads: Vec<PayloadRecord>,
    /// The index of captures.
    pub captures: Vec<CaptureRecord>,
    /// The names of the files in the folder of the record.
    pub artefacts: Vec<String>,
    /// Artefacts that were cut or left out, and why.
    pub omitted: Vec<String>,
    /// The host machine that it ran on.
    pub host: HostRecord,
}

impl RunRecord {
    /// Creates a record of `test` in which everything else is unknown. The verdict is inconclusive until it is set.
    #[must_use]
    pub fn new(test: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            test: test.into(),
            host: HostRecord::detect(),
            ..Self::default()
        }
    }

    /// Normalizes the record, so that it reads back as it was written: the reason and the evidence become one line each, at most
    /// [`FINDINGS_CAP`] findings are kept, and numbers that JSON cannot represent are removed (`wall_s` becomes 0).
    pub(crate) fn normalise(&mut self) {
        self.reason = self.reason.as_deref().and_then(one_line);
        self.evidence = self.evidence.as_deref().and_then(one_line);
        if self.findings.len() > FINDINGS_CAP {
            self.omitted.push(format!(
                "{FINDINGS}: the first {FINDINGS_CAP} of {}; result.json has all of them",
                self.findings.len()
            ));
            self.findings.truncate(FINDINGS_CAP);
        }
        self.wall_s = if self.wall_s.is_finite() {
            self.wall_s
        } else {
            0.0
        };
        self.window_s = self.window_s.filter(|seconds| seconds.is_finite());
        self.boot_s = self.boot_s.filter(|seconds| seconds.is_finite());
        self.timings.retain(|_, seconds| seconds.is_finite());
        self.freeze_ms
            .retain(|milliseconds| milliseconds.is_finite());
        for capture in &mut self.captures {
            capture.freeze_ms = capture
                .freeze_ms
                .filter(|milliseconds| milliseconds.is_finite());
        }
    }
}

/// Returns the first line that is not blank, cut at [`REASON_CAP`], with spaces for control characters; `None` if all
/// lines are blank.
fn one_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let visible = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    Some(if line.chars().count() > REASON_CAP {
        visible.take(REASON_CAP).chain(['…']).collect()
    } else {
        visible.collect()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(
            one_line("\n  gap of 3 s\nmore"),
            Some("gap of 3 s".to_owned())
        );
        assert_eq!(one_line(" \n"), None);
        assert_eq!(one_line("\u{1b}[31mred").unwrap(), " [31mred");
        assert_eq!(
            one_line(&"x".repeat(2000)).unwrap().chars().count(),
            REASON_CAP + 1
        );
    }

    #[test]
    fn what_json_cannot_say_is_left_out() {
        let mut record = RunRecord {
            wall_s: f64::NAN,
            window_s: Some(f64::INFINITY),
            timings: [("boot".to_owned(), f64::NAN), ("window".to_owned(), 1.0)].into(),
            freeze_ms: vec![1.0, f64::NAN],
            ..RunRecord::new("t")
        };
        record.normalise();
        let back: RunRecord =
            serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(back, record);
        assert_eq!(
            (
                back.wall_s,
                back.window_s,
                back.freeze_ms.len(),
                back.timings.len()
            ),
            (0.0, None, 1, 1)
        );
    }

    #[test]
    fn the_form_of_a_record_changes_only_on_purpose() {
        let record = RunRecord {
            host: HostRecord::default(),
            ..RunRecord::new("demo")
        };
        let json = serde_json::to_string(&record).unwrap();
        insta::assert_snapshot!(json, @r#"{"schema":1,"run_id":"","timestamp":"","ktstr":"","test":"demo","variant":null,"verdict":"inconclusive","reason":null,"fault":null,"evidence":null,"findings":[],"trail":[],"repeats":null,"kernel":null,"kernel_id":null,"kernel_hash":null,"accelerator":null,"clock":null,"seed":null,"mips":null,"digest":null,"switches":null,"captures_digest":null,"again":null,"program":null,"inputs":{},"staged":{},"environment":{},"template":null,"topology":null,"vcpus":null,"memory_mib":null,"scheduler":null,"sysctls":{},"kargs":[],"window_s":null,"wall_s":0.0,"boot_s":null,"timings":{},"cleanup_duration_ms":null,"start":null,"qemu":null,"periodic_target":0,"periodic_fired":0,"periodic_real":0,"freeze_ms":[],"stats":null,"payload":null,"payloads":[],"captures":[],"artefacts":[],"omitted":[],"host":{"cores":0,"memory_mib":0,"cpu_model":""}}"#);
    }

    #[test]
    fn fields_of_a_later_writer_are_ignored_and_missing_ones_are_empty() {
        let record: RunRecord =
            serde_json::from_str(r#"{"schema":1,"test":"a","verdict":"pass","new":[1]}"#).unwrap();
        assert_eq!(
            (record.test.as_str(), record.verdict, record.kernel),
            ("a", RunVerdict::Pass, None)
        );
    }

    #[test]
    fn every_field_is_on_the_page() {
        let page = include_str!("../../../docs/record.md");
        let value = serde_json::to_value(RunRecord::default()).unwrap();
        for field in value.as_object().unwrap().keys() {
            assert!(
                page.contains(&format!("| `{field}` |")),
                "docs/record.md does not describe `{field}`"
            );
        }
    }
}
