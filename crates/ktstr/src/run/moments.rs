//! Captures at the moments that matter: when sched_ext ends the scheduler or bypasses it, the guest's kernel panics or
//! hangs, and at times that the user requested.
//!
//! Under the virtual clock the plugin holds the guest at the entry of a function of the kernel, so the capture shows what the
//! kernel found. Under the real clock the host finds out at its next poll. Neither belongs to the run's series of captures.

use std::collections::VecDeque;
use std::time::Duration;

use ktstr_introspect::report::FailureDumpReport;
use ktstr_machine::{Halt, Hold, MAX_MOMENTS, Machine, MachineError, MomentPoint, VirtualClock};

use super::RunError;
use super::captures::{Captures, KernelInfo, LazyKernelInfo};
use super::engine::Engine;
use super::guest_session::End;
use super::guest_state::GuestState;
use super::repro::Observe;
use super::schedule::Recorder;
use crate::moment::{CaptureMoment, MomentCapture};

/// The variable with the times that are asked for: nanoseconds of the scheduler's clock, separated by commas.
pub(super) const CAPTURE_AT: &str = "KTSTR_CAPTURE_AT";
/// Times that can be asked for.
const MOST_ASKED: usize = super::repro::MOST_CAPTURES;
/// Captures of a run at most: each stops the machine, and a scheduler can be ended as often as it is started.
const MOST_CAPTURES: usize = 32;
/// What the kernel's last message begins with (kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// The functions of the kernel at whose entries a moment is, and the `bool` parameter that must be true.
///
/// | Kernel | error, watchdog | unregistered |
/// | --- | --- | --- |
/// | 6.16, 6.17 | `scx_vexit` | none: the capture is that of the bypass |
/// | 6.18 | `scx_exit` | none, as before |
/// | 6.19, 7.0, 7.2 | `scx_vexit` | `scx_disable` |
/// | 7.1, 7.3 | `scx_vexit` | `scx_claim_exit` |
///
/// Where several are called one after the other the first one counts.
const FUNCTIONS: [(CaptureMoment, &[&str], Option<&str>); 3] = [
    (
        CaptureMoment::ScxExit,
        &["scx_exit", "scx_vexit", "scx_claim_exit", "scx_disable"],
        None,
    ),
    (CaptureMoment::ScxBypass, &["scx_bypass"], Some("bypass")),
    // A panic within a panic calls neither again.
    (CaptureMoment::Panic, &["vpanic", "panic"], None),
];

/// Whether captures of moments are taken: `KTSTR_MOMENTS=0` turns them off.
pub(super) fn are_wanted() -> bool {
    super::environment("KTSTR_MOMENTS").is_none_or(|value| value != "0")
}

/// Where the plugin holds the guest in this kernel, and the functions of which there is none.
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

/// What a look needs to take a capture.
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
    /// Times of the virtual clock that are still to come, in their order.
    asked: VecDeque<u64>,
    /// Times of a window in real time that are still to come, in their order.
    window: VecDeque<Duration>,
    /// Whether the plugin knows of the first of them.
    armed: bool,
    /// What has happened, each with the number of schedulers that had been attached.
    seen: Vec<(CaptureMoment, u32)>,
    pub(super) taken: Vec<MomentCapture>,
}

impl Moments {
    /// For a run on this engine, with captures at the times that the user asks for, or else those of `observe`.
    ///
    /// # Errors
    /// If the user asks for times that cannot be.
    pub(super) fn new(engine: Engine, observe: &Observe) -> Result<Self, RunError> {
        let Some(text) = super::environment(CAPTURE_AT) else {
            return Ok(Self {
                asked: observe.clock_ns.iter().copied().collect(),
                window: observe.window.iter().copied().collect(),
                ..Self::default()
            });
        };
        let wrong = |wanted: &str| RunError::Environment {
            name: CAPTURE_AT,
            value: text.clone(),
            wanted: wanted.to_owned(),
        };
        if engine.mips().is_none() {
            return Err(wrong(
                "only runs under the virtual clock happen twice: set KTSTR_CLOCK=virtual too",
            ));
        }
        let times: Option<Vec<u64>> = text
            .split(',')
            .map(|time| time.trim().parse().ok())
            .collect();
        let mut times = times
            .filter(|times| times.len() <= MOST_ASKED)
            .ok_or_else(|| {
                wrong("expected up to 16 times of the scheduler's clock, in nanoseconds, separated by commas")
            })?;
        times.sort_unstable();
        Ok(Self {
            asked: times.into(),
            ..Self::default()
        })
    }

    /// Takes a capture if the guest is held for a moment that matters; under the real clock, if the scheduler `has_ended` since
    /// the last poll.
    pub(super) fn poll(
        &mut self,
        context: &mut CaptureContext<'_>,
        hold: Option<Hold>,
        has_ended: bool,
    ) -> Result<(), MachineError> {
        let Some(clock) = context.machine.virtual_clock() else {
            if has_ended {
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

    /// Takes a capture of a guest that will not continue, unless it ended on its own.
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

    /// Tells the plugin the next time that is asked for.
    fn arm_clock(&mut self, clock: &VirtualClock) {
        self.armed = true;
        clock.set_clock_due(self.asked.front().copied());
    }

    /// Takes a capture for what happens, the first time for each scheduler that attaches.
    fn happens(
        &mut self,
        moment: CaptureMoment,
        context: &mut CaptureContext<'_>,
    ) -> Result<(), MachineError> {
        let guest = context.guest;
        let matters = match moment {
            // A scheduler that does not attach is reported elsewhere; one that is stopped on purpose has to exit.
            CaptureMoment::ScxExit | CaptureMoment::ScxBypass => {
                guest.attached.is_some() && !guest.stopped_by_test && guest.test_end.is_none()
            }
            CaptureMoment::Hang | CaptureMoment::Panic | CaptureMoment::Asked => true,
        };
        if !matters || !are_wanted() || self.seen.contains(&(moment, guest.attaches)) {
            return Ok(());
        }
        self.seen.push((moment, guest.attaches));
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
            // It is stopped for good, and may have been already: what QEMU answers tells nothing.
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
        // Who asks for a time sees more of the same run.
        if moment != CaptureMoment::Asked && context.machine.virtual_clock().is_some() {
            context.captures.take_in(&capture);
        }
        self.taken.push(capture);
        Ok(())
    }
}

/// Why a report stands for a capture that could not be taken; `None` for a real one.
pub(super) fn placeholder(report: &FailureDumpReport) -> Option<String> {
    report
        .is_placeholder
        .then(|| report.placeholder_reason.clone().unwrap_or_default())
}
