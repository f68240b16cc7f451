//! Sidecars: files that describe the newest run of a test, in addition to the records of all runs. A repeat (`auto_repro`)
//! does not count as a run here. One file has the result, and after a run that failed or was inconclusive another file has a
//! capture of the guest. The files are named after the test and its variant, so that a script or the next test finds them
//! without a search.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ktstr_assert::monitor::MonitorSummary;
use ktstr_assert::{PayloadMetrics, ScenarioStats, StimulusEvent};
use ktstr_record::brief::counted;
use ktstr_record::settings::Settings;
use ktstr_record::{HostRecord, RunVerdict, runs_root};
use ktstr_snapshot::report::FailureDumpReport;
use ktstr_state::{Folder, Lock, Place, env};
use serde::{Deserialize, Serialize};

use crate::entry::KtstrTestEntry;
use crate::run::{Finished, perf_delta};
use crate::variant;
use crate::vm_result::VmResult;

/// How the name of a result's file ends.
const RESULT: &str = "ktstr.json";

/// The result of the newest run of a test, as its sidecar holds it. A value that the run does not have is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SidecarResult {
    /// The name of the test.
    pub test_name: String,
    /// The number of the test's variant; see [`VmResult::variant_hash`].
    pub variant_hash: u64,
    /// The topology, such as `1n1l2c1t`.
    pub topology: String,
    /// The name of the scheduler; `eevdf` for the kernel's own.
    pub scheduler: String,
    /// How the scheduler's binary was found.
    pub resolve_source: Option<String>,
    /// The name of the test's payload.
    pub payload: Option<String>,
    /// The metrics that the payloads printed, in the order in which the payloads ended.
    pub metrics: Vec<PayloadMetrics>,
    /// Whether the run passed.
    pub passed: bool,
    /// Whether the run was skipped.
    pub skipped: bool,
    /// Whether the run was inconclusive.
    pub inconclusive: bool,
    /// Whether the test demands an error (`expect_err`).
    pub expected_failure: bool,
    /// Why the run did not pass, in one line.
    pub reason: Option<String>,
    /// The statistics of the scenario.
    pub stats: ScenarioStats,
    /// The summary of the monitor's samples.
    pub monitor: Option<MonitorSummary>,
    /// The number of periodic captures that were stored, placeholders included.
    pub periodic_fired: u32,
    /// The number of periodic captures that were asked for.
    pub periodic_target: u32,
    /// The number of the guest's CPUs.
    pub vcpus: Option<u32>,
    /// The number of the host's CPUs that the machine could use.
    pub cpu_budget: Option<u32>,
    /// How many times longer the vCPUs took than on an idle host; `None` if their times were not sampled, as under
    /// the virtual clock.
    pub host_dilation: Option<f64>,
    /// The denominator of rates: always `cpu_sec`.
    pub throughput_denomination: String,
    /// What the scenario did, and when.
    pub stimulus_events: Vec<StimulusEvent>,
    /// The kernel settings that were written before the scheduler started, as `key=value`.
    pub sysctls: Vec<String>,
    /// The kernel arguments that the scheduler and the test declare.
    pub kargs: Vec<String>,
    /// The release of the kernel.
    pub kernel_version: Option<String>,
    /// The clock of the guest, `virtual` or `real`.
    pub clock: Option<String>,
    /// The speed of the virtual clock: millions of guest instructions per virtual second.
    pub mips: Option<u32>,
    /// The settings of the run that change its numbers, such as its memory, its seed and environment variables; `None` in the
    /// sidecar of an older version.
    pub settings: Option<Settings>,
    /// When the run began, in UTC, in the format of RFC 3339.
    pub timestamp: String,
    /// The name of the run, which is also the name of its record's folder.
    pub run_id: String,
    /// The host machine of the run.
    pub host: HostRecord,
    /// Guest time from the end of the scenario to the end of the guest, in milliseconds.
    pub cleanup_duration_ms: Option<f64>,
    /// The values of the metrics that the test's `perf_delta_assertions` name.
    pub perf_delta_assertions: Vec<MeasuredAssertion>,
    /// `ci` where `KTSTR_CI` is set, otherwise `local`.
    pub run_source: String,
}

/// The value of a metric that a test compares between runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MeasuredAssertion {
    /// The name of the metric.
    pub metric: String,
    /// The phase: 0 is before the first step, 1 is the first step; `None` for the whole run.
    pub phase: Option<u16>,
    /// The value; `None` if the run did not measure it.
    pub value: Option<f64>,
}

/// Returns the folder of the sidecars: `KTSTR_SIDECAR_DIR`, otherwise `sidecars` in the runs' root.
pub fn sidecar_dir() -> PathBuf {
    match env::SIDECAR_DIR.get() {
        Some(folder) => std::path::absolute(&folder).unwrap_or(folder),
        None => runs_root().join(ktstr_record::SIDECARS),
    }
}

/// Returns the folder of the newest run whose record can be read, with its `record.json` and its artefacts; `None` if
/// there is no such run, or if the runs' root cannot be listed.
pub fn newest_run_dir() -> Option<PathBuf> {
    let newest = ktstr_record::list(&runs_root(), Some(1)).ok()?;
    Some(newest.records.first()?.path.parent()?.to_owned())
}

/// Returns the results in `folder`, or in [`sidecar_dir`] for `None`, sorted by the name of the test and then by topology.
///
/// # Errors
/// Returns an error if the folder or a result's file (`*.ktstr.json`) cannot be read, or if such a file is no sidecar of
/// this version. A folder that does not exist gives an empty list.
pub fn read_sidecars(folder: Option<&Path>) -> anyhow::Result<Vec<SidecarResult>> {
    let folder = folder.map_or_else(sidecar_dir, Path::to_path_buf);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", folder.display())),
    };
    let mut all = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && name.ends_with(RESULT) {
            all.push(parse(&path)?);
        }
    }
    all.sort_by(|a, b| (&a.test_name, &a.topology).cmp(&(&b.test_name, &b.topology)));
    Ok(all)
}

/// Reads the result of this test and variant in `folder`.
pub(crate) fn read_one(folder: &Path, entry: &KtstrTestEntry) -> anyhow::Result<SidecarResult> {
    let path = folder.join(file_name(entry.name, variant::hash(entry), RESULT));
    parse(&path)
}

fn parse(path: &Path) -> anyhow::Result<SidecarResult> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let result: Option<SidecarResult> = serde_json::from_slice(&text).ok();
    // All fields have defaults, so any JSON object parses as a sidecar; but only a sidecar names a test.
    let result = result.filter(|result| !result.test_name.is_empty());
    result.with_context(|| format!("{} is no sidecar of this version", path.display()))
}

/// Describes the results in `folder`, or in [`sidecar_dir`] for `None`, for people: how many tests ended in which way, and a line
/// for each that did not pass. If the results cannot be read, the text is the error.
pub fn analyze_sidecars(folder: Option<&Path>) -> String {
    let all = match read_sidecars(folder) {
        Ok(all) => all,
        Err(error) => return format!("{error:#}\n"),
    };
    let ended = |word: &str| all.iter().filter(|one| one.verdict() == word).count();
    let mut text = format!(
        "{}: {} pass, {} fail, {} inconclusive, {} skip\n",
        counted(all.len(), "test"),
        ended("pass"),
        ended("fail"),
        ended("inconclusive"),
        ended("skip")
    );
    for one in all.iter().filter(|one| one.verdict() != "pass") {
        text.push_str(&format!(
            "{:<12}  {} [sched={}] [topo={}]: {}\n",
            one.verdict(),
            one.test_name,
            one.scheduler,
            one.topology,
            one.reason.as_deref().unwrap_or("no reason is recorded"),
        ));
    }
    text
}

impl SidecarResult {
    /// Returns `pass`, `fail`, `inconclusive` or `skip`.
    pub fn verdict(&self) -> &'static str {
        match (self.passed, self.skipped, self.inconclusive) {
            (true, ..) => "pass",
            (_, true, _) => "skip",
            (.., true) => "inconclusive",
            _ => "fail",
        }
    }
}

/// Returns the path of a sidecar of this test and variant, whose name has this ending.
fn path(test: &str, variant: u64, ending: &str) -> PathBuf {
    sidecar_dir().join(file_name(test, variant, ending))
}

fn file_name(test: &str, variant: u64, ending: &str) -> String {
    format!("{test}-{variant:016x}.{ending}")
}

/// Returns the path of the file with the capture that a failed run of this test and variant leaves.
pub(crate) fn dump_path(test: &str, variant: u64) -> PathBuf {
    sidecar_dir().join(ktstr_scenario::failure_dump_name(test, variant))
}

/// Removes the capture that an earlier run of this variant left, so that a capture that is found belongs to the newest run that
/// started a machine.
pub(crate) fn begin(entry: &KtstrTestEntry) {
    // Usually there is no such file. Another error is ignored here: if this run leaves a capture, writing it reports the error.
    let _ = fs::remove_file(dump_path(entry.name, variant::hash(entry)));
}

/// Writes the most informative capture of a run that failed or was inconclusive, or a placeholder if no capture holds data.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub(crate) fn write_dump(entry: &KtstrTestEntry, vm: &VmResult) -> anyhow::Result<()> {
    let path = dump_path(entry.name, variant::hash(entry));
    match captured(vm) {
        Some(report) => put(&path, report),
        None => put(
            &path,
            &FailureDumpReport::placeholder(
                "the run took no capture that holds data: it has no periodic captures, and nothing happened for which one is \
                 taken (the kernel ends or bypasses the scheduler, the guest hangs or panics)",
            ),
        ),
    }
}

/// Returns the capture that shows most about a failure: the first capture with data that was taken at a moment; if there is none,
/// the last other capture with data; `None` if no capture has data.
fn captured(vm: &VmResult) -> Option<&FailureDumpReport> {
    let moments = vm.moment_captures().iter().map(|capture| &capture.report);
    let series = vm.captures_series().entries().iter().rev();
    let series = series.map(|entry| &entry.report);
    moments.chain(series).find(|report| !report.is_placeholder)
}

/// Writes the result of a run whose record is at `record`.
///
/// # Errors
/// Returns an error if the record cannot be read, or if the file cannot be written.
pub(crate) fn write(finished: &Finished, record: &Path) -> anyhow::Result<()> {
    let entry = finished.entry;
    let record = ktstr_record::read(record)?;
    let vm = finished.vm.as_ref();
    let mut stats = finished.result.stats.clone();
    let metrics = std::mem::take(&mut stats.payloads);
    let sysctls = record.sysctls.iter();
    let result = SidecarResult {
        test_name: record.test,
        variant_hash: variant::hash(entry),
        topology: entry.topology.to_string(),
        scheduler: entry.scheduler.name.to_owned(),
        resolve_source: record.scheduler.and_then(|s| s.resolve_source),
        payload: record.payload,
        metrics,
        passed: finished.verdict == RunVerdict::Pass,
        skipped: finished.verdict == RunVerdict::Skip,
        inconclusive: finished.verdict == RunVerdict::Inconclusive,
        expected_failure: entry.expect_err,
        reason: record.reason,
        stats,
        monitor: vm.and_then(|vm| Some(vm.monitor.as_ref()?.summary.clone())),
        periodic_fired: record.periodic_fired,
        periodic_target: record.periodic_target,
        vcpus: record.vcpus,
        cpu_budget: vm.map(|vm| vm.cpu_budget),
        host_dilation: vm.and_then(|vm| Some(vm.host_vcpu_schedstat?.dilation())),
        throughput_denomination: "cpu_sec".to_owned(),
        stimulus_events: vm.map(VmResult::stimulus_timeline).unwrap_or_default(),
        sysctls: sysctls
            .map(|(key, value)| format!("{key}={value}"))
            .collect(),
        kargs: record.kargs,
        kernel_version: record.kernel,
        clock: vm.map(|vm| vm.clock.to_owned()),
        mips: record.mips,
        settings: vm.map(|vm| vm.settings.clone()),
        timestamp: record.timestamp,
        run_id: record.run_id,
        host: record.host,
        cleanup_duration_ms: record.cleanup_duration_ms,
        perf_delta_assertions: vm
            .map(|vm| perf_delta::measured(entry, vm))
            .unwrap_or_default(),
        run_source: match env::CI.is_on() {
            true => "ci".to_owned(),
            false => "local".to_owned(),
        },
    };
    put(&path(entry.name, result.variant_hash, RESULT), &result)
}

/// Writes a file as a whole or not at all.
fn put(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let folder = Folder::owned(&sidecar_dir(), Place::RUNS)?;
    let json = serde_json::to_vec(value)?;
    // The lock lets one process at a time write `.new`, so a `.new` that a killed process left can be overwritten.
    let _gate = Lock::of_folder(&folder, "another run that writes its sidecar")?;
    let aside = folder.path().join(".new");
    let written = fs::write(&aside, json).and_then(|()| fs::rename(&aside, path));
    written.with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_and_tests_that_did_not_pass_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, result: SidecarResult| {
            let path = folder.path().join(format!("{name}-0.{RESULT}"));
            fs::write(path, serde_json::to_vec(&result).expect("JSON")).expect("a file");
        };
        let one = |test_name: &str| SidecarResult {
            test_name: test_name.to_owned(),
            topology: "1n1l2c1t".to_owned(),
            scheduler: "mine".to_owned(),
            ..SidecarResult::default()
        };
        put(
            "a",
            SidecarResult {
                passed: true,
                ..one("a")
            },
        );
        put(
            "b",
            SidecarResult {
                reason: Some("it was stuck".to_owned()),
                ..one("b")
            },
        );
        put(
            "c",
            SidecarResult {
                skipped: true,
                ..one("c")
            },
        );
        fs::write(folder.path().join("b-0.failure-dump.json"), "{}").expect("a file");
        assert_eq!(
            analyze_sidecars(Some(folder.path())),
            "3 tests: 1 pass, 1 fail, 0 inconclusive, 1 skip\n\
             fail          b [sched=mine] [topo=1n1l2c1t]: it was stuck\n\
             skip          c [sched=mine] [topo=1n1l2c1t]: no reason is recorded\n"
        );
        let nowhere = folder.path().join("nowhere");
        assert!(analyze_sidecars(Some(&nowhere)).starts_with("0 tests"));
        fs::write(folder.path().join(format!("d-0.{RESULT}")), "[]").expect("a file");
        let text = analyze_sidecars(Some(folder.path()));
        assert!(text.contains("d-0.ktstr.json is no sidecar"), "{text}");
    }
}
