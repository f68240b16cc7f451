//! Tests of the repeat of a failed run: which runs are repeated, what the repeat shows, and that it changes no verdict.

use std::path::PathBuf;
use std::time::Duration;

use crate::common::{Case, records, scx_ktstr};
use ktstr::prelude::*;
use ktstr::snapshot::FailureDumpReport;
use ktstr::test_support::ClockMode;
use ktstr_record::{Listed, Repeated, RunVerdict};

const SOUND: Scheduler = scx_ktstr(&[]);
const STALLS: Scheduler = scx_ktstr(&["--stall-after", "1"]);
const CRASHES: Scheduler = scx_ktstr(&["--crash-after", "1"]);
const STARVES: Scheduler = scx_ktstr(&["--starve-cgroup"]);

macro_rules! repeated {
    ($($entry:ident = $name:literal, $sched:ident, $clock:ident $(, $field:ident: $value:expr)*;)*) => { $(
        case!($entry = $name, spinners, clock: ClockMode::$clock, topology: Topology::new(1, 1, 2, 1),
            duration: Duration::from_secs(3), scheduler: &$sched, watchdog_timeout: Duration::from_secs(2)
            $(, $field: $value)*);
    )* };
}

repeated! {
    STALLED = "repro_stall", STALLS, Virtual;
    CRASHED = "repro_crash", CRASHES, Virtual;
    STARVED = "repro_starve", STARVES, Virtual;
    PASSED = "repro_pass", SOUND, Virtual;
    UNWANTED = "repro_unwanted", STALLS, Virtual, auto_repro: false;
    EXPECTED = "repro_expected", STALLS, Virtual, expect_err: true;
    WITHOUT_QEMU = "repro_without_qemu", STALLS, Virtual, post_vm_unconditional: Some(removes_qemu);
}

/// Makes the scheduler end with an error. A busy host does not excuse this failure under the real clock, as it excuses a stall.
/// The host writes the value when the scenario starts, however long the guest needs until then.
const CRASH: BpfMapWrite = BpfMapWrite::new(".bss", "crash", 1);

case!(REAL = "repro_real", spinners, clock: ClockMode::Real, topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(30), scheduler: &SOUND, watchdog_timeout: Duration::from_secs(20),
    bpf_map_write: &[&CRASH]);

fn spinners(ctx: &Ctx) -> Result<AssertResult> {
    let cgroup = |name| CgroupDef::named(name).workers(3).comm("spinner");
    execute_defs(ctx, vec![cgroup("left"), cgroup("right")])
}

/// Removes the QEMU of this process after the run, so that no other machine can start.
fn removes_qemu(_: &VmResult) -> Result<()> {
    let link = std::env::var_os("KTSTR_QEMU").expect("the test sets it");
    Ok(std::fs::remove_file(link)?)
}

/// The results of a process that ran a test, with all of its records, the oldest first.
struct Done {
    code: Option<i32>,
    text: String,
    records: Vec<Listed>,
    _folder: tempfile::TempDir,
}

/// Runs the test as users do: with repeats, unless `environment` says otherwise.
fn done(name: &str, environment: &[(&str, &str)]) -> Done {
    let mut case = Case::new(name);
    case.command
        .env_remove("KTSTR_AUTO_REPRO")
        .envs(environment.iter().copied());
    let output = case.command.output().expect("the test binary starts");
    let mut records = records(&case.folder.path().join("runs"));
    records.sort_by(|a, b| a.record.run_id.cmp(&b.record.run_id));
    Done {
        code: output.status.code(),
        text: String::from_utf8_lossy(&output.stderr).into_owned(),
        records,
        _folder: case.folder,
    }
}

impl Done {
    #[track_caller]
    fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.text.contains(part), "no {part:?} in:\n{}", self.text);
        }
    }

    /// Asserts the outcome in the record of the repeat.
    #[track_caller]
    fn is(&self, outcome: Repeated) {
        let [_, again] = self.two();
        let repeats = again.record.repeats.as_ref().expect("it is a repeat");
        assert_eq!(repeats.outcome, outcome, "{repeats:?}\n{}", self.text);
    }

    /// Returns the first run and its one repeat.
    #[track_caller]
    fn two(&self) -> [&Listed; 2] {
        let [first, again] = &self.records[..] else {
            panic!("{} records:\n{}", self.records.len(), self.text);
        };
        assert_eq!(first.record.repeats, None);
        let repeats = again.record.repeats.as_ref().expect("it is a repeat");
        assert_eq!(repeats.run, first.record.run_id);
        [first, again]
    }
}

/// Returns the captures of a run that were taken at the times of findings.
fn asked(run: &Listed) -> Vec<FailureDumpReport> {
    let text = std::fs::read_to_string(run.path.with_file_name("captures.json"));
    let all: Vec<(String, FailureDumpReport)> =
        serde_json::from_str(&text.expect("captures")).expect("captures are JSON");
    all.into_iter()
        .filter(|(tag, _)| tag.starts_with("chosen_time"))
        .map(|(_, report)| report)
        .collect()
}

#[test]
fn a_stall_is_repeated_and_the_captures_show_the_task_in_its_queue() {
    let done = done("repro_stall", &[]);
    assert_eq!(done.code, Some(1), "{}", done.text);
    let [first, again] = done.two();
    let (one, other) = (&first.record, &again.record);
    done.is(Repeated::Same);
    assert_eq!(one.digest, other.digest);
    assert_eq!(
        (one.verdict, other.verdict),
        (RunVerdict::Fail, RunVerdict::Fail)
    );
    let digest = one.digest.as_ref().expect("a digest");
    done.says(&[
        "--- trail ---",
        "then no event of the task for ",
        "--- auto-repro ---",
        &format!("the repeat is identical to the first run, digest {digest:.16}…"),
        " by the BPF scheduler, slice ",
    ]);
    // The screen shows the trail of the record, which ends with the queue in which the task was left.
    let trail = one.trail.join("\n");
    done.says(&[&trail]);
    assert!(trail.contains("inserted into DSQ "), "{trail}");
    // The captures of the repeat show the task in that queue.
    let shown: Vec<&str> = done
        .text
        .lines()
        .filter(|line| line.starts_with("capture chosen_time"))
        .collect();
    assert!(!shown.is_empty(), "{}", done.text);
    for line in &shown {
        assert!(line.contains("] was in DSQ "), "{line}");
    }
    let captures = asked(again);
    assert!(captures.len() >= shown.len());
    assert!(asked_of_first(first).is_empty());
}

/// Returns the tags of the first run's captures at the times of findings; there must be none.
fn asked_of_first(first: &Listed) -> Vec<&str> {
    let captures = first.record.captures.iter();
    captures
        .map(|capture| capture.tag.as_str())
        .filter(|tag| tag.starts_with("chosen_time"))
        .collect()
}

#[test]
fn a_starved_cgroup_is_captured_while_it_waits() {
    let done = done("repro_starve", &[]);
    assert_eq!(done.code, Some(1), "{}", done.text);
    let [_, again] = done.two();
    done.is(Repeated::Same);
    done.says(&[
        "--- auto-repro ---",
        "the repeat is identical to the first run",
        "spinner[",
    ]);
    assert!(!asked(again).is_empty());
}

#[test]
fn a_crash_has_the_trail_of_the_scheduler() {
    let done = done("repro_crash", &[]);
    assert_eq!(done.code, Some(1), "{}", done.text);
    let [first, _] = done.two();
    done.is(Repeated::Same);
    done.says(&[
        "events of the BPF scheduler up to ",
        "the repeat is identical to the first run",
    ]);
    assert!(first.record.trail.len() > 3, "{:?}", first.record.trail);
}

#[test]
fn only_a_failure_is_repeated_and_only_if_that_is_wanted() {
    for (name, environment, code) in [
        ("repro_pass", &[][..], 0),
        ("repro_unwanted", &[], 1),
        ("repro_expected", &[], 0),
        ("repro_stall", &[("KTSTR_AUTO_REPRO", "0")], 1),
        ("repro_stall", &[("KTSTR_CAPTURE_AT", "2000000000")], 1),
    ] {
        let done = done(name, environment);
        assert_eq!(done.code, Some(code), "{}", done.text);
        assert_eq!(done.records.len(), 1, "{name}: {}", done.text);
        assert!(!done.text.contains("auto-repro"), "{}", done.text);
    }
    let bad = done("repro_stall", &[("KTSTR_AUTO_REPRO", "yes")]);
    assert_eq!(bad.code, Some(1), "{}", bad.text);
    bad.says(&["KTSTR_AUTO_REPRO=yes: expected 0"]);
}

#[test]
fn a_run_in_real_time_is_repeated_until_it_fails_again() {
    let done = done(
        "repro_real",
        &[("KTSTR_AUTO_REPRO", "2"), ("KTSTR_ACCEL", "tcg")],
    );
    assert_eq!(done.code, Some(1), "{}", done.text);
    let [first, _] = done.two();
    assert_eq!(first.record.digest, None);
    done.is(Repeated::FailedAgain);
    done.says(&[
        "--- auto-repro ---\nthe failure came back in repeat 1 of 2 at most",
        "no digest",
        "\nrepeat 1: fail: ",
    ]);
}

#[test]
fn a_repeat_that_cannot_run_leaves_the_verdict_as_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let link = folder.path().join("qemu-system-x86_64");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("qemu-system-x86_64"))
        .find(|file| file.is_file());
    let qemu: PathBuf = found.expect("QEMU is installed");
    std::os::unix::fs::symlink(qemu, &link).expect("a writable folder");
    let link = link.to_str().expect("UTF-8");
    let done = done("repro_without_qemu", &[("KTSTR_QEMU", link)]);
    assert_eq!(done.code, Some(1), "{}", done.text);
    let [first, again] = done.two();
    assert_eq!(first.record.verdict, RunVerdict::Fail);
    assert_eq!(first.record.fault.as_deref(), Some("scheduler"));
    assert_eq!(again.record.fault.as_deref(), Some("user"));
    done.says(&[
        "failed: the kernel ejected",
        "the scheduler's fault",
        "the repeat could not be run, which says nothing about the failure: ",
    ]);
}
