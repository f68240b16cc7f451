//! Tests of runs that fail inside the guest: each ends by itself, reports what happened and whose fault it is, and
//! leaves a record.

use std::time::Duration;

use crate::common::{Case, Ended, scx_ktstr, wedge};
use ktstr::prelude::*;
use ktstr_record::RunVerdict;

const REFUSED: Scheduler = scx_ktstr(&["--fail-verify"]);
const EXITS: Scheduler = Scheduler::named("exits").binary(SchedulerSpec::Path("/bin/false"));
const NO_FOREGROUND: Scheduler =
    Scheduler::named("exits_well").binary(SchedulerSpec::Path("/bin/true"));
const ONE_CPU: Topology = Topology::new(1, 1, 1, 1);
const SECOND: Duration = Duration::from_secs(1);

macro_rules! short_case {
    ($entry:ident = $name:literal, $func:expr $(, $field:ident: $value:expr)*) => {
        case!($entry = $name, $func, topology: ONE_CPU, duration: SECOND,
            watchdog_timeout: SECOND $(, $field: $value)*);
    };
}

fn never_called(_: &Ctx) -> Result<AssertResult> {
    panic!("the test ran, though its scheduler did not attach")
}

fn run(name: &str) -> Ended {
    let ended = Case::new(name).run();
    let record = ended.record.as_ref().expect("every run leaves a record");
    let wanted = if ended.code == Some(1) {
        RunVerdict::Fail
    } else {
        RunVerdict::Inconclusive
    };
    assert_eq!(record.record.verdict, wanted, "{}", ended.text);
    // Notices, such as one about a run that waits for its turn, come before the report.
    let (_, report) = ended.text.split_once("ktstr_test '").expect("a report");
    let screen = report.lines().count();
    assert!(screen <= 30, "{screen} lines:\n{}", ended.text);
    let (_, fault) = ended.text.split_once("\n  fault: ").expect("a fault");
    let fault = fault.lines().next().expect("a line");
    assert!(fault.ends_with(')'), "no evidence: {fault}");
    let reason = record
        .record
        .reason
        .as_deref()
        .expect("a failure has a reason");
    assert!(
        ended.text.contains(reason),
        "{reason:?} is not in {}",
        ended.text
    );
    ended
}

short_case!(REFUSED_ENTRY = "refused", never_called, scheduler: &REFUSED);

#[test]
fn a_scheduler_that_the_verifier_refuses() {
    let ended = run("refused");
    ended.says(
        1,
        &[
            "failed: scheduler `scx-ktstr` did not attach: the verifier rejected its program `",
            "invalid mem access 'scalar' — the scheduler's fault.\n",
            "its last output",
            "fault: the scheduler's",
            "last stage: Attach",
        ],
    );
    // The artefact has the whole log; the screen shows only the end of it.
    let log = ended.artefact("scheduler.log");
    assert!(
        log.contains("BEGIN PROG LOAD LOG") && log.len() > 500,
        "{log}"
    );
}

short_case!(EXITS_ENTRY = "exits", never_called, scheduler: &EXITS);
short_case!(EXITS_WELL_ENTRY = "exits_well", never_called, scheduler: &NO_FOREGROUND);

#[test]
fn a_scheduler_that_exits_at_once() {
    let parts = [
        "did not attach",
        "it exited with code 1 before it attached",
        "the scheduler's",
    ];
    run("exits").says(1, &parts);
    let parts = [
        "exited with code 0 before it attached",
        "must stay in the foreground",
    ];
    run("exits_well").says(1, &parts);
}

fn panics(_: &Ctx) -> Result<AssertResult> {
    println!("printed before the panic");
    let wanted = 3;
    assert_eq!(wanted, 4, "planted");
    Ok(AssertResult::pass())
}
short_case!(PANICS = "panics", panics);

#[test]
fn a_test_function_that_panics() {
    let ended = run("panics");
    ended.says(
        1,
        &[
            "the test function panicked",
            "tests/vm/guest_failures.rs:",
            "planted",
            "left: 3",
            "right: 4",
            "fault: the test's",
            "exit_code=101",
            "printed before the panic",
        ],
    );
}

fn returns_err(_: &Ctx) -> Result<AssertResult> {
    use anyhow::Context;
    std::fs::read("/no/such/file").context("planted")?;
    Ok(AssertResult::pass())
}
short_case!(RETURNS_ERR = "returns_err", returns_err);

#[test]
fn a_test_function_that_returns_an_error() {
    run("returns_err").says(
        1,
        &[
            "the test function returned an error: planted: No such file or directory",
            "fault: the test's",
            "exit_code=1",
        ],
    );
}

fn crashes_the_kernel(_: &Ctx) -> Result<AssertResult> {
    std::fs::write("/proc/sysrq-trigger", "c")?;
    Ok(AssertResult::pass())
}
short_case!(
    CRASHES_THE_KERNEL = "crashes_the_kernel",
    crashes_the_kernel
);

#[test]
fn a_guest_kernel_that_panics() {
    let ended = run("crashes_the_kernel");
    ended.says(
        1,
        &[
            "the guest's kernel panicked: sysrq triggered crash",
            " — the test's fault.\n",
            "fault: the test's (the test process requested the panic; it happened on CPU 0 in the task ",
            ", in sysrq_handle_crash+0x",
            "--- console ---",
        ],
    );
    let console = ended.artefact("console.log");
    assert!(
        console.contains("Call Trace:") && console.contains("sysrq_handle_crash"),
        "{console}"
    );
}

fn hangs(_: &Ctx) -> Result<AssertResult> {
    wedge::loop_with_interrupts_off()?;
    // This sleep makes the only CPU switch tasks, and the BPF program blocks the CPU at that switch.
    std::thread::sleep(Duration::from_secs(600));
    Ok(AssertResult::pass())
}
short_case!(HANGS = "hangs", hangs);

#[test]
fn a_guest_that_hangs_with_interrupts_off() {
    run("hangs").says(
        1,
        &[
            "the test function hung before the scenario began",
            "is on cpu0, which serves no timer interrupt any more — the test's fault.\n",
            "fault: the test's (",
            "the guest sent its last message at ",
            "cpu0 runs ",
            "a test may send nothing for ",
        ],
    );
}

fn eats_memory(_: &Ctx) -> Result<AssertResult> {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&eaten);
    }
}
short_case!(EATS_MEMORY = "eats_memory", eats_memory);

#[test]
fn a_guest_that_runs_out_of_memory() {
    run("eats_memory").says(
        1,
        &[
            "ran out of memory",
            "MiB)",
            "raise `memory_mib`",
            "fault: the test's",
        ],
    );
}

fn kills_itself(_: &Ctx) -> Result<AssertResult> {
    std::process::exit(7)
}
short_case!(KILLS_ITSELF = "kills_itself", kills_itself);

fn powers_off(_: &Ctx) -> Result<AssertResult> {
    std::fs::write("/proc/sysrq-trigger", "o")?;
    std::thread::sleep(Duration::from_secs(600));
    Ok(AssertResult::pass())
}
short_case!(POWERS_OFF = "powers_off", powers_off);

#[test]
fn a_test_process_that_goes_away() {
    let parts = [
        "no test result received from guest",
        "exited with code 7",
        "exit_code=7",
    ];
    run("kills_itself").says(1, &parts);
    run("powers_off").says(
        1,
        &[
            "powered off before the run ended",
            "fault: the test's (the kernel was asked to go down while the test ran",
        ],
    );
}
