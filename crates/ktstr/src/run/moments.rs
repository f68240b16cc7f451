//! Captures at moments: when sched_ext ends the scheduler or bypasses it, when the guest's kernel panics or the guest hangs,
//! and at times that the user or the repeat of a run requests.
//!
//! Under the virtual clock the plugin holds the guest at the entry of a kernel function, so the capture shows the state
//! before that function changes anything. Under the real clock the host notices the event at its next poll; it does not
//! notice a bypass. No capture at a moment is part of the run's series, under either clock. The series has the periodic
//! captures, and the captures that the test's own code requests.

use std::collections::VecDeque;
use std::time::Duration;

use ktstr_machine::{Halt, Hold, MAX_MOMENTS, Machine, MachineError, MomentPoint, VirtualClock};
use ktstr_snapshot::report::FailureDumpReport;
use ktstr_state::env;

use super::RunError;
use super::captures::{Captures, KernelInfo, LazyKernelInfo};
use super::guest_session::End;
use super::guest_state::GuestState;
use super::machine_kind::MachineKind;
use super::monitor::Monitor;
use super::repro::Observe;
use super::schedule::Recorder;
use crate::moment::{CaptureMoment, MomentCapture};

/// The largest number of points in time that `KTSTR_CAPTURE_AT` may list.
const MOST_ASKED: usize = super::repro::MOST_CAPTURES;
/// The largest number of captures at moments in a run. Each stops the machine, and a test can start any number of schedulers
/// that sched_ext then ends.
const MOST_CAPTURES: usize = 32;
/// The start of the message with which the kernel panics (kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// For each moment, the kernel functions at whose entry the plugin holds the guest, and the `bool` parameter that must be
/// true, if any. The functions for the end of a scheduler differ by version:
///
/// | Kernel | error, watchdog | unregistered |
/// | --- | --- | --- |
/// | 6.12 to 6.15 | `scx_ops_exit_kind` | `scx_ops_disable` |
/// | 6.16, 6.17 | `scx_vexit` | none: only the bypass that follows is captured |
/// | 6.18 | `scx_exit` | none, as in 6.17 |
/// | 6.19, 7.0, 7.2 | `scx_vexit` | `scx_disable` |
/// | 7.1, 7.3 | `scx_vexit` | `scx_claim_exit` |
///
/// If a kernel calls several of these functions for the same event, the first call counts.
const FUNCTIONS: [(CaptureMoment, &[&str], Option<&str>); 3] = [
    (
        CaptureMoment::ScxExit,
        &[
            "scx_exit",
            "scx_vexit",
            "scx_claim_exit",
            "scx_disable",
            "scx_ops_exit_kind",
            "scx_ops_disable",
        ],
        None,
    ),
    (
        CaptureMoment::ScxBypass,
        &["scx_bypass", "scx_ops_bypass"],
        Some("bypass"),
    ),
    // In kernels that have both functions, `panic` calls `vpanic`. The guest is then held at both entries, but only the first
    // one leads to a capture.
    (CaptureMoment::Panic, &["vpanic", "panic"], None),
];

/// Returns whether captures of moments are taken: `KTSTR_MOMENTS=0` turns them off, except for those at requested times.
pub(super) fn are_wanted() -> bool {
    !env::MOMENTS.is_off()
}

/// Returns the points at which the plugin holds the guest in this kernel. The second list has an entry for each moment for
/// which the kernel has no such function: the names of all functions that would serve, separated by commas.
pub(super) fn points(info: &KernelInfo) -> (Vec<MomentPoint>, Vec<String>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (moment, functions, condition) in FUNCTIONS {
        let before = found.len();
        for name in functions {
            let number = condition.map(|parameter| info.btf.parameter(name, parameter));
            if let Some(address) = info.symbols.address(name)
                && number != Some(None)
            {
                found.push(MomentPoint {
                    address,
                    kind: moment as u32,
                    condition: number.flatten(),
                });
            }
        }
        if found.len() == before {
            missing.push(functions.join(", "));
        }
    }
    debug_assert!(found.len() <= MAX_MOMENTS, "the plugin has no room");
    (found, missing)
}

/// What [`Moments`] needs in order to take a capture.
pub(super) struct CaptureContext<'a> {
    pub(super) machine: &'a mut Machine,
    pub(super) kernel_info: &'a mut LazyKernelInfo,
    pub(super) captures: &'a mut Captures,
    pub(super) recorder: Option<&'a Recorder>,
    pub(super) guest: &'a GuestState,
    pub(super) now: Duration,
}

/// The moments of a run so far.
#[derive(Debug, Default)]
pub(super) struct Moments {
    /// The requested times under the virtual clock that are still to come, in ascending order, in nanoseconds of the kernel's
    /// scheduler clock, which is the clock of `schedule.bin`.
    asked: VecDeque<u64>,
    /// The requested times under the real clock that are still to come, in ascending order, counted from the start of the window.
    window: VecDeque<Duration>,
    /// Whether the first of `asked` has been passed to the plugin.
    armed: bool,
    /// How many times a scheduler has attached again because sched_ext asked it to.
    restarts: u32,
    /// The moments that have been captured, each with how many times a scheduler had attached until then.
    seen: Vec<(CaptureMoment, u32)>,
    pub(super) taken: Vec<MomentCapture>,
}

impl Moments {
    /// Creates the moments of a run on this kind of machine, with captures at the times in `KTSTR_CAPTURE_AT`, or else at
    /// those of `observe`.
    ///
    /// # Errors
    /// Returns an error if the variable is set under the real clock, or is no list of at most 16 whole numbers.
    pub(super) fn new(machine_kind: MachineKind, observe: &Observe) -> Result<Self, RunError> {
        let Some(text) = env::CAPTURE_AT.get()? else {
            return Ok(Self {
                asked: observe.clock_ns.iter().copied().collect(),
                window: observe.window.iter().copied().collect(),
                ..Self::default()
            });
        };
        if machine_kind.mips().is_none() {
            let why =
                "these times exist only under the virtual clock: set KTSTR_CLOCK=virtual, too";
            return Err(env::CAPTURE_AT.invalid(text, why).into());
        }
        let times: Option<Vec<u64>> = text
            .split(',')
            .map(|time| time.trim().parse().ok())
            .collect();
        let mut times = times
            .filter(|times| times.len() <= MOST_ASKED)
            .ok_or_else(|| env::CAPTURE_AT.unaccepted(text))?;
        times.sort_unstable();
        Ok(Self {
            asked: times.into(),
            ..Self::default()
        })
    }

    /// Under the virtual clock, takes a capture if the plugin holds the guest because a moment or a requested time has come.
    /// Under the real clock, takes one if the scheduler `has_ended`, and at the requested times of the window.
    pub(super) fn poll(
        &mut self,
        context: &mut CaptureContext<'_>,
        hold: Option<Hold>,
        monitor: &Monitor,
    ) -> Result<(), MachineError> {
        self.restarts = monitor.restarts();
        let Some(clock) = context.machine.virtual_clock() else {
            if monitor.has_ended() {
                self.happens(CaptureMoment::ScxExit, context)?;
            }
            let elapsed = context.guest.window.elapsed(context.now);
            return match (elapsed, self.window.front()) {
                (Some(elapsed), Some(at)) if elapsed >= *at => {
                    self.window.pop_front();
                    self.take(CaptureMoment::Asked, context)
                }
                _ => Ok(()),
            };
        };
        match hold {
            Some(Hold::Moment(kind, _)) => {
                let mut all = FUNCTIONS.iter().map(|(moment, ..)| *moment);
                let moment = all.find(|moment| *moment as u32 == kind);
                moment.map_or(Ok(()), |moment| self.happens(moment, context))
            }
            Some(Hold::Clock(_)) => {
                self.asked.pop_front();
                self.arm_clock(clock);
                self.take(CaptureMoment::Asked, context)
            }
            _ if !self.armed => {
                self.arm_clock(clock);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes a capture of a guest that the host gave up on, or whose kernel panicked, unless the panic has a capture
    /// already. The guest will not continue.
    pub(super) fn end(
        &mut self,
        context: &mut CaptureContext<'_>,
        end: &End,
    ) -> Result<(), MachineError> {
        let moment = match end {
            End::TimedOut(..) => CaptureMoment::Hang,
            End::Halted(Halt::Reset) if context.machine.console().contains(PANIC) => {
                CaptureMoment::Panic
            }
            End::Completed | End::Halted(_) | End::Garbled(_) | End::Lost(_) => return Ok(()),
        };
        self.happens(moment, context)
    }

    /// Tells the plugin the next requested time, or that there is none.
    fn arm_clock(&mut self, clock: &VirtualClock) {
        self.armed = true;
        clock.set_clock_due(self.asked.front().copied());
    }

    /// Takes a capture of a moment, at most one of its kind for each scheduler that attaches. The end or the bypass of a
    /// scheduler counts only while the scheduler is attached and the test runs.
    fn happens(
        &mut self,
        moment: CaptureMoment,
        context: &mut CaptureContext<'_>,
    ) -> Result<(), MachineError> {
        let guest = context.guest;
        let matters = match moment {
            // The exit of a scheduler that did not attach is reported elsewhere. The exit of a scheduler that the test or PID 1
            // stops on purpose is no failure.
            CaptureMoment::ScxExit | CaptureMoment::ScxBypass => {
                guest.attached.is_some() && !guest.stopped_by_test && guest.test_end.is_none()
            }
            CaptureMoment::Hang | CaptureMoment::Panic | CaptureMoment::Asked => true,
        };
        let attaches = guest.attaches.saturating_add(self.restarts);
        if !matters || !are_wanted() || self.seen.contains(&(moment, attaches)) {
            return Ok(());
        }
        self.seen.push((moment, attaches));
        self.take(moment, context)
    }

    fn take(
        &mut self,
        moment: CaptureMoment,
        context: &mut CaptureContext<'_>,
    ) -> Result<(), MachineError> {
        if self.taken.len() >= MOST_CAPTURES {
            return Ok(());
        }
        let goes_on = match moment {
            CaptureMoment::Hang | CaptureMoment::Panic => false,
            CaptureMoment::ScxExit | CaptureMoment::ScxBypass | CaptureMoment::Asked => true,
        };
        if !goes_on && context.machine.virtual_clock().is_none() {
            // The guest is stopped for good. An error only means that it has stopped already, or that QEMU is gone.
            let _ = context.machine.stop();
        }
        let (report, freeze) =
            context
                .captures
                .freeze(context.machine, context.kernel_info, goes_on)?;
        let elapsed = context.guest.window.counted(context.now);
        let before = self.taken.iter().filter(|taken| taken.moment == moment);
        let capture = MomentCapture {
            moment,
            tag: match before.count() {
                0 => moment.tag().to_owned(),
                before => format!("{}_{}", moment.tag(), before + 1),
            },
            elapsed_ms: elapsed.map(|elapsed| elapsed.as_millis() as u64),
            clock_ns: context.recorder.map(Recorder::last_ns),
            step_index: context.guest.step_index,
            freeze: freeze.unwrap_or_default(),
            report,
        };
        // Captures at chosen times are left out of the digest. A repeat may have such captures where the first run had none, and
        // must still have the same digest as the first run.
        if moment != CaptureMoment::Asked && context.machine.virtual_clock().is_some() {
            context.captures.take_in(&capture);
        }
        self.taken.push(capture);
        Ok(())
    }
}

/// Returns the reason why a capture could not be taken, if this report is the placeholder for it; `None` for a real capture.
pub(super) fn placeholder(report: &FailureDumpReport) -> Option<String> {
    report
        .is_placeholder
        .then(|| report.placeholder_reason.clone().unwrap_or_default())
}
