//! Requests of the test process to the host. The test process waits for each answer, which the host writes into the mailbox
//! ([`Layout::ANSWER`]). Under the virtual clock the guest is held meanwhile.

use std::time::Duration;

use ktstr_assert::series::PERIODIC_TAG_PREFIX;
use ktstr_guest::protocol::{ANSWER_AT, ANSWER_LENGTH_AT, Answer, Ask, MAX_ANSWER, MAX_TAG};
use ktstr_machine::{Machine, MachineError, MailboxRam};
use ktstr_mailbox::{Layout, MailboxMemory};
use ktstr_scenario::scheduler::BpfMapWrite;

use super::captures::{self, Captures, LazyKernelInfo};
use super::guest_state::GuestState;
use super::kernel_memory;
use super::watched::Watches;
use crate::moment::CaptureMoment;
use crate::snapshot_bridge::CgroupProcsSnapshot;

/// The largest number of captures that a test may request. Each capture stops the machine, and a test that requests more
/// than this has a bug.
const MOST_CAPTURES: u32 = 1024;

/// Carries out and answers all pending requests at `now`. A request that cannot be carried out is answered with the reason;
/// only a failure of the host is an error.
pub(super) fn answer(
    machine: &mut Machine,
    kernel_info: &mut LazyKernelInfo,
    captures: &mut Captures,
    watches: &mut Watches,
    guest: &mut GuestState,
    writes: &[&BpfMapWrite],
    now: Duration,
) -> Result<(), MachineError> {
    while let Some((number, ask)) = guest.asks.pop_front() {
        let answer = carry_out(
            machine,
            kernel_info,
            captures,
            watches,
            guest,
            writes,
            now,
            ask,
        )?;
        reply(machine, number, &answer)?;
    }
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "the requests together need all of them"
)]
fn carry_out(
    machine: &mut Machine,
    kernel_info: &mut LazyKernelInfo,
    captures: &mut Captures,
    watches: &mut Watches,
    guest: &GuestState,
    writes: &[&BpfMapWrite],
    now: Duration,
    ask: Ask,
) -> Result<Answer, MachineError> {
    match ask {
        Ask::Capture { tag, step_index } => {
            if let Err(why) = check(&tag) {
                return Ok(Err(why));
            }
            if captures.on_demand >= MOST_CAPTURES {
                return Ok(Err(format!(
                    "the test has asked for {MOST_CAPTURES} captures already, which is the limit"
                )));
            }
            if captures.bridge.is_full() && !captures.bridge.has(&tag) {
                return Ok(Err(format!(
                    "there are {} captures already, and one more would drop the oldest: take fewer, or reuse the tag of one \
                     that exists",
                    captures.bridge.len()
                )));
            }
            let elapsed = guest.window.counted(now);
            captures.on_demand += 1;
            captures.take_tagged(machine, kernel_info, tag, elapsed, step_index)
        }
        Ask::Watch { symbol } => {
            let info = kernel_info.get();
            Ok(watches.arm(machine, info, captures, symbol))
        }
        Ask::WriteKernel { writes, cold } => {
            kernel_memory::write(machine, kernel_info.get(), &writes, cold)
        }
        Ask::ReadKernel {
            tag,
            target,
            width,
            cold,
        } => {
            if let Err(why) = check(&tag) {
                return Ok(Err(why));
            }
            let read = kernel_memory::read(machine, kernel_info.get(), &target, width, cold)?;
            Ok(read.map(|value| captures.bridge.record_kernel_op(tag, value)))
        }
        Ask::WriteMaps => {
            let written = kernel_info.get().map_err(str::to_owned).and_then(|info| {
                writes
                    .iter()
                    .try_for_each(|write| captures::write_variable(machine.ram(), info, write))
            });
            captures.map_writes = Some(written.is_ok());
            Ok(written)
        }
        Ask::CgroupProcs { tag, cgroup, pids } => {
            let kept = check(&tag).map(|()| {
                captures
                    .bridge
                    .record_cgroup_procs(CgroupProcsSnapshot { tag, cgroup, pids });
            });
            Ok(kept)
        }
    }
}

/// Checks a tag that the test chose, and returns what is wrong with it. The guest has checked it already, but the host must not
/// trust the guest.
fn check(tag: &str) -> Result<(), String> {
    if !(1..=MAX_TAG).contains(&tag.len()) {
        let length = tag.len();
        return Err(format!(
            "the tag has {length} bytes: give it 1 to {MAX_TAG}"
        ));
    }
    if tag.starts_with(PERIODIC_TAG_PREFIX) {
        return Err(format!(
            "the tag {tag:?} begins with {PERIODIC_TAG_PREFIX:?}, which is reserved for the periodic captures: use another one"
        ));
    }
    let is_moments = |moment: &&CaptureMoment| {
        let rest = tag.strip_prefix(moment.tag());
        rest.is_some_and(|rest| {
            rest.bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_digit())
        })
    };
    if let Some(moment) = CaptureMoment::ALL.iter().find(is_moments) {
        return Err(format!(
            "the tag {tag:?} is reserved for the captures that are taken when {}: use another one",
            moment.description()
        ));
    }
    Ok(())
}

fn reply(machine: &Machine, number: u64, answer: &Answer) -> Result<(), MachineError> {
    let mut answer = answer.clone();
    if let Err(why) = &mut answer {
        // JSON needs up to six bytes for one byte of text (`\u0001`), so an eighth of the limit always fits.
        why.truncate(why.floor_char_boundary(MAX_ANSWER / 8));
    }
    let bytes = serde_json::to_vec(&answer).unwrap_or_default();
    let region = MailboxRam(machine.ram());
    region.write(Layout::ANSWER + ANSWER_AT, &bytes)?;
    region.store(Layout::ANSWER + ANSWER_LENGTH_AT, bytes.len() as u64)?;
    // The number is stored last, because the guest polls it.
    region.store(Layout::ANSWER, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_periodic_captures_are_reserved() {
        assert!(check("before").is_ok());
        assert!(check(&"x".repeat(MAX_TAG)).is_ok());
        assert!(check("hang_before").is_ok());
        for bad in [
            "",
            "periodic_000",
            "hang",
            "scx_exit_2",
            &"x".repeat(MAX_TAG + 1),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
