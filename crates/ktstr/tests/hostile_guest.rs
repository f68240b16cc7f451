//! Tests of a hostile guest: what it sends must affect neither the verdict nor the terminal of the host.

#[macro_use]
mod common;

use common::Case;
use ktstr::prelude::*;
use ktstr_guest::mail::Mapped;
use ktstr_guest::protocol::{Ask, ToHost};
use ktstr_mailbox::{MailboxMemory, Ring, RingCursor, Writer};

const ONE_CPU: Topology = Topology::new(1, 1, 1, 1);

case!(LOSES = "loses", loses, topology: ONE_CPU);
case!(END_OF_TIME = "end_of_time", end_of_time, topology: ONE_CPU);
case!(FORKS = "forks", forks, topology: ONE_CPU);
case!(OVERSIZED = "oversized", oversized, topology: ONE_CPU);

/// Returns the mailbox, and a writer for the ring of the test process. The writer continues after the one message that the
/// process has sent when the test function is called.
fn own_ring() -> Result<(Mapped, Writer)> {
    let region = Mapped::open()?;
    let bytes = region.load(Ring::Test.head_offset())?;
    let writer = Writer::resume(Ring::Test, RingCursor { bytes, sequence: 1 });
    Ok((region, writer))
}

/// A test that passes, but whose result is damaged on its way.
fn loses(_: &Ctx) -> Result<AssertResult> {
    let (region, mut writer) = own_ring()?;
    let at = writer.cursor().bytes + Ring::Test.offset();
    let result = ToHost::TestResult(Box::new(AssertResult::pass()));
    writer.write(&region, &result.encode(), 0)?;
    let mut byte = [0];
    region.read(at + 40, &mut byte)?;
    region.write(at + 40, &[byte[0] ^ 1])?;
    std::process::exit(0)
}

#[test]
fn a_result_with_a_wrong_checksum_is_the_harnesss_fault() {
    let ended = Case::new("loses").env("KTSTR_CLOCK", "virtual").run();
    ended.says(
        2,
        &[
            "messages of the guest were lost: 1 of the test process",
            "fault: the harness's",
        ],
    );
}

/// Sends messages with the largest possible times: one window is resumed at the largest time, another opens and closes there.
fn end_of_time(_: &Ctx) -> Result<AssertResult> {
    let (region, mut writer) = own_ring()?;
    let step = || ToHost::StepStart {
        step_index: u16::MAX,
        elapsed_ms: u64::MAX,
        op_count: u32::MAX,
        op_kinds: u64::MAX,
        cgroup_count: u32::MAX,
        worker_count: u32::MAX,
        total_iterations: u64::MAX,
    };
    let end = || ToHost::ScenarioEnd {
        elapsed_ms: u64::MAX,
        total_iterations: u64::MAX,
    };
    // As many intervals of the monitor (100 ms) as a `u32` can count.
    let far = u64::from(u32::MAX) * 100_000_000;
    for (message, time_ns) in [
        (ToHost::ScenarioStart, 0),
        (step(), far),
        (ToHost::ScenarioPause, 0),
        (ToHost::ScenarioResume, u64::MAX),
        (step(), u64::MAX),
        (end(), 0),
        (ToHost::ScenarioStart, u64::MAX),
        (step(), 0),
        (end(), u64::MAX),
        (ToHost::TestResult(Box::new(AssertResult::pass())), u64::MAX),
    ] {
        writer.write(&region, &message.encode(), time_ns)?;
        ktstr_guest::mail::call_host(ktstr_mailbox::CALL_MESSAGE);
    }
    std::process::exit(0)
}

#[test]
fn messages_stamped_at_the_end_of_time_do_no_harm() {
    for clock in ["virtual", "real"] {
        let ended = Case::new("end_of_time")
            .env("KTSTR_CLOCK", clock)
            .env("KTSTR_ACCEL", "tcg")
            .run();
        ended.says(0, &[]);
        assert!(!ended.text.contains("panicked"), "{}", ended.text);
        assert!(ended.record.is_some(), "{clock}: no record");
    }
}

/// The test fails. A process that it forks reports a pass, and asks the host to write the scheduler's variables.
fn forks(_: &Ctx) -> Result<AssertResult> {
    // SAFETY: the child only calls the link, and ends itself.
    let child = unsafe { libc::fork() };
    if child == 0 {
        ktstr_guest::link::send(&ToHost::TestResult(Box::new(AssertResult::pass())));
        let asked = ktstr_guest::link::ask(&Ask::WriteMaps);
        let refused = asked.is_err_and(|why| why.contains("only the test's own process can"));
        std::process::exit(if refused { 0 } else { 9 });
    }
    let mut status = 0;
    // SAFETY: `status` is a local, and the child is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    Ok(AssertResult::fail_msg(format!(
        "the child's status is {status}"
    )))
}

/// A forked process has no mailbox: if it wrote to the ring, the parent's next message would be lost.
#[test]
fn a_forked_process_neither_reports_nor_asks() {
    let ended = Case::new("forks").run();
    ended.says(1, &["the child's status is 0"]);
    assert!(!ended.text.contains("were lost"), "{}", ended.text);
}

fn oversized(_: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::fail_msg(format!(
        "the beginning {}",
        "y".repeat(1 << 20)
    )))
}

/// Here one text is too large. If a result is too large although its texts are cut, `ToHost::encode` returns an error instead.
#[test]
fn a_result_with_an_oversized_text_is_cut_and_stays_a_result() {
    let ended = Case::new("oversized").run();
    ended.says(1, &["the beginning yyy", " bytes left out ...]"]);
}

/// Control sequences that write to the clipboard, rename the window, clear the screen, and reverse the direction of text.
const ESCAPES: &str = "\x1b]52;c;cm0K\x07 \x1b]0;title\x07 \u{9b}2J \u{202e}txet\r";

const ECHO: Scheduler = Scheduler::named("echo\x1b[2J").binary(SchedulerSpec::Path("/bin/echo"));

case!(SPEAKS = "speaks", speaks, topology: ONE_CPU);
case!(LOGS = "logs", speaks, topology: ONE_CPU, scheduler: &ECHO, extra_sched_args: &[ESCAPES]);

fn speaks(_: &Ctx) -> Result<AssertResult> {
    use std::io::Write;
    println!("stdout {ESCAPES}");
    eprintln!("stderr {ESCAPES}");
    let mut console = std::fs::File::options().write(true).open("/dev/ttyS0")?;
    writeln!(console, "console {ESCAPES}")?;
    let mut result = AssertResult::fail_msg(format!("finding {ESCAPES}"));
    result.note(format!("note {ESCAPES}"));
    Ok(result)
}

#[test]
fn a_terminal_never_gets_what_it_would_obey() {
    for (name, printed) in [
        (
            "speaks",
            &["finding \\u001b]52;c;", "stdout \\u001b]52;c;"][..],
        ),
        ("logs", &["did not attach", "\\u001b]52;c;cm0K\\u0007"][..]),
    ] {
        let ended = Case::new(name).run();
        ended.says(1, printed);
        let obeyed = |c: &char| c.is_control() && !"\n\t".contains(*c) || *c == '\u{202e}';
        let found: Vec<char> = ended.text.chars().filter(obeyed).collect();
        assert!(found.is_empty(), "{name}: {found:?} in\n{}", ended.text);
    }
}
