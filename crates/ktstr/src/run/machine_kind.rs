//! The kind of a run's machine: its accelerator and its clock.

use std::ops::RangeInclusive;

use ktstr_machine::{Accelerator, ClockMode};
use ktstr_scenario::scheduler::Speed;
use ktstr_state::env;

use super::plan::Plan;
use super::{RunError, accelerator};
use crate::entry;

/// The accelerator and the clock of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MachineKind {
    pub(super) accelerator: Accelerator,
    pub(super) clock: ClockMode,
    /// Under the virtual clock one thread executes the CPUs in turn. This is the longest turn of a CPU, in microseconds of
    /// guest time; 0 means QEMU's default.
    pub(super) turn_us: u32,
}

impl MachineKind {
    /// Chooses the kind of machine for `plan`: the declared clock, unless `KTSTR_CLOCK` overrides it. If neither decides,
    /// the machine has the real clock under KVM and the virtual clock under TCG; see [`accelerator::choose`].
    pub(super) fn choose(plan: &Plan) -> Result<Self, RunError> {
        let named = env::CLOCK.get_as(|word| match word {
            "auto" => Some(entry::ClockMode::Auto),
            "real" => Some(entry::ClockMode::Real),
            "virtual" => Some(entry::ClockMode::Virtual),
            _ => None,
        })?;
        let wanted = named.unwrap_or(plan.entry.clock);
        // An invalid value is an error even if this machine has no use for the variable.
        accelerator::named()?;
        speed_named()?;
        if wanted == entry::ClockMode::Virtual {
            return Self::counting(plan);
        }
        match (accelerator::choose(plan)?, wanted) {
            (Accelerator::Tcg, entry::ClockMode::Auto) => Self::counting(plan),
            (accelerator, _) => Ok(Self {
                accelerator,
                clock: ClockMode::Real,
                turn_us: 0,
            }),
        }
    }

    fn counting(plan: &Plan) -> Result<Self, RunError> {
        Ok(Self {
            accelerator: Accelerator::Tcg,
            clock: ClockMode::Virtual {
                shift: shift(plan)?,
            },
            turn_us: turn(plan.job.seed, plan.shape.cpus())?,
        })
    }

    /// Returns the number of instructions of the longest turn; 0 means QEMU's default, or the real clock.
    pub(super) fn turn(&self) -> u32 {
        // Millions of instructions per second equal instructions per microsecond.
        self.turn_us * self.mips().unwrap_or(0)
    }

    /// Returns how many million instructions make up a second of the virtual clock; `None` under the real clock.
    pub(super) fn mips(&self) -> Option<u32> {
        match self.clock {
            ClockMode::Real => None,
            ClockMode::Virtual { shift } => Some(1000 >> shift),
        }
    }

    /// Returns whether several host threads of QEMU translate and execute the guest's code in parallel.
    pub(super) fn parallel_tcg(&self) -> bool {
        self.accelerator == Accelerator::Tcg && self.clock == ClockMode::Real
    }

    /// Returns `real` or `virtual`.
    pub(super) fn clock_name(&self) -> &'static str {
        match self.clock {
            ClockMode::Real => "real",
            ClockMode::Virtual { .. } => "virtual",
        }
    }
}

/// Returns the speed that `KTSTR_VIRTUAL_MIPS` names; `None` if it is not set.
fn speed_named() -> Result<Option<Speed>, RunError> {
    Ok(env::VIRTUAL_MIPS.get_as(|mips| match mips {
        "1000" => Some(Speed::Mips1000),
        "500" => Some(Speed::Mips500),
        "250" => Some(Speed::Mips250),
        "125" => Some(Speed::Mips125),
        _ => None,
    })?)
}

/// Returns the shift of the virtual clock: an instruction takes `1 << shift` nanoseconds. All CPUs share the instructions of
/// a virtual second. A machine with more CPUs gets more instructions in a virtual second, so that each CPU has enough: 250
/// million up to 4 CPUs, 500 million up to 8, then 1000 million. More instructions cost more wall time: with 500 million
/// instead of 250 million on up to 4 CPUs, a busy second took twice the wall time. A scheduler that misses its own deadlines
/// at this speed declares a higher one (`Scheduler::speed`).
fn shift(plan: &Plan) -> Result<u8, RunError> {
    let declared = speed_named()?.or(plan.entry.scheduler.speed);
    let wanted = declared.unwrap_or(match plan.shape.cpus() {
        0..=4 => Speed::Mips250,
        5..=8 => Speed::Mips500,
        _ => Speed::Mips1000,
    });
    Ok(wanted.shift())
}

/// The range from which the seed draws the longest turn of a CPU, in microseconds, unless the user sets the turn. It is for
/// machines of up to 8 CPUs. At this length, if at most half of the CPUs are busy, a wakeup on a spare CPU takes effect
/// within 150 us of guest time in 99 of 100 cases, and a busy second costs as much wall time as with QEMU's own turns.
const USUAL_TURNS_US: RangeInclusive<u32> = 30..=70;
/// The shortest turn that is drawn or can be set, apart from 0, which means QEMU's default. It is long compared with the
/// cost of changing to the next CPU.
const SHORTEST_TURN_US: u32 = 10;

/// Returns the longest turn of a run with this seed on `cpus` CPUs, in microseconds of guest time: the value of
/// `KTSTR_TURN_US`, or else one that the seed draws. Each CPU waits for the turns of all other busy CPUs, so drawn turns are
/// shorter on machines with more than 8 CPUs.
fn turn(seed: u64, cpus: u32) -> Result<u32, RunError> {
    Ok(env::TURN_US.get()?.unwrap_or_else(|| {
        let drawn = blake3::hash(&seed.to_le_bytes()).as_bytes()[0];
        let (first, last) = USUAL_TURNS_US.into_inner();
        let drawn = first + u32::from(drawn) % (last - first + 1);
        (drawn * 8 / cpus.max(8)).max(SHORTEST_TURN_US)
    }))
}
