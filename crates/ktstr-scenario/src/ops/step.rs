//! One step of a scenario: its operations, its cgroups, and its hold.

use std::time::Duration;

use super::cgroup_def::CgroupDef;
use super::op::Op;
use crate::ctx::Ctx;
use crate::payload::Payload;

/// One step. It runs its operations, sets up its cgroups with their workers, and lets the workers run for the time of its hold.
/// Then it removes what it has created.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// The cgroups that exist during this step.
    pub setup: Setup,
    /// The operations, which run in order before the setup, and again at each interval if the hold loops.
    pub ops: Vec<Op>,
    /// How long the step lasts.
    pub hold: HoldSpec,
}

impl Step {
    /// A step with operations and without cgroups.
    pub const fn new(ops: Vec<Op>, hold: HoldSpec) -> Self {
        Self {
            setup: Setup::Defs(Vec::new()),
            ops,
            hold,
        }
    }

    /// A step that only holds.
    pub const fn hold(hold: HoldSpec) -> Self {
        Self::new(Vec::new(), hold)
    }

    /// A step with one operation and without cgroups.
    pub fn with_op(op: Op, hold: HoldSpec) -> Self {
        Self::new(vec![op], hold)
    }

    /// A step that runs a program of the host in the harness's own cgroup.
    pub fn with_payload(payload: &'static Payload, hold: HoldSpec) -> Self {
        Self::with_op(Op::run_payload(payload, Vec::new()), hold)
    }

    /// A step with cgroups and without operations.
    pub const fn with_defs(defs: Vec<CgroupDef>, hold: HoldSpec) -> Self {
        Self {
            setup: Setup::Defs(defs),
            ops: Vec::new(),
            hold,
        }
    }

    /// The same step with these operations.
    pub fn set_ops(mut self, ops: Vec<Op>) -> Self {
        self.ops = ops;
        self
    }

    /// The same step with this hold.
    pub fn set_hold(mut self, hold: HoldSpec) -> Self {
        self.hold = hold;
        self
    }
}

/// How long a step lasts, in guest time. It never lasts longer than the rest of the test's window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HoldSpec {
    /// This fraction of the test's duration.
    Frac(f64),
    /// This duration, in guest time.
    Fixed(Duration),
    /// Until the end of the test's window. The operations run once before the set-up, and again at every interval.
    Loop {
        /// The time from the start of one repetition to the start of the next, more than 0.
        interval: Duration,
    },
}

/// Why a hold is invalid.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum HoldError {
    /// A fraction that is not a positive finite number.
    #[error("HoldSpec::frac({0}) must be finite and more than 0")]
    Frac(f64),
    /// A loop with an interval of 0.
    #[error("HoldSpec::loop_at: the interval must be more than 0")]
    Interval,
}

impl HoldSpec {
    /// The whole duration of the test.
    pub const FULL: Self = Self::Frac(1.0);

    /// This fraction of the test's duration.
    pub const fn frac(fraction: f64) -> Self {
        Self::Frac(fraction)
    }

    /// A fixed duration; zero is allowed.
    pub const fn fixed(duration: Duration) -> Self {
        Self::Fixed(duration)
    }

    /// Until the end of the test's window. The operations run once before the set-up, and again at every `interval`.
    pub const fn loop_at(interval: Duration) -> Self {
        Self::Loop { interval }
    }

    /// Checks that the fraction or the interval is more than 0.
    ///
    /// # Errors
    /// [`HoldError`] if it is not, or if the fraction is not finite.
    pub fn validate(&self) -> Result<(), HoldError> {
        match *self {
            Self::Frac(f) if !f.is_finite() || f <= 0.0 => Err(HoldError::Frac(f)),
            Self::Loop { interval } if interval.is_zero() => Err(HoldError::Interval),
            _ => Ok(()),
        }
    }

    /// Returns the length of the hold in a test of this duration; a loop takes all of it. The result saturates, and an invalid
    /// fraction counts as 0.
    pub fn requested(&self, duration: Duration) -> Duration {
        match *self {
            Self::Fixed(d) => d,
            Self::Loop { .. } => duration,
            Self::Frac(f) => {
                let seconds = duration.as_secs_f64() * f;
                if seconds > 0.0 {
                    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
                } else {
                    Duration::ZERO
                }
            }
        }
    }
}

impl Default for HoldSpec {
    fn default() -> Self {
        Self::FULL
    }
}

/// The cgroups of a step: a list, or a function that returns the list when the step starts.
// The compiler may merge two functions or duplicate one, so a comparison of function pointers is unreliable. No decision depends
// on it.
#[allow(unpredictable_function_pointer_comparisons)]
#[derive(Clone, Debug, PartialEq)]
pub enum Setup {
    /// These cgroups, regardless of the context.
    Defs(Vec<CgroupDef>),
    /// The cgroups that this function returns.
    Factory(fn(&Ctx) -> Vec<CgroupDef>),
}

impl Setup {
    /// The cgroups that this function returns when the step starts.
    pub const fn with_factory(factory: fn(&Ctx) -> Vec<CgroupDef>) -> Self {
        Self::Factory(factory)
    }

    /// Returns the cgroups for this context.
    pub fn defs(&self, ctx: &Ctx) -> Vec<CgroupDef> {
        match self {
            Self::Defs(defs) => defs.clone(),
            Self::Factory(factory) => factory(ctx),
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::Defs(Vec::new())
    }
}

impl From<Vec<CgroupDef>> for Setup {
    fn from(defs: Vec<CgroupDef>) -> Self {
        Self::Defs(defs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds() {
        let ten = Duration::from_secs(10);
        assert_eq!(HoldSpec::frac(0.5).requested(ten), Duration::from_secs(5));
        assert_eq!(HoldSpec::frac(1e300).requested(ten), Duration::MAX);
        assert_eq!(HoldSpec::frac(f64::NAN).requested(ten), Duration::ZERO);
        assert_eq!(HoldSpec::fixed(Duration::ZERO).validate(), Ok(()));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(HoldSpec::frac(bad).validate().is_err(), "{bad}");
        }
        assert!(HoldSpec::loop_at(Duration::ZERO).validate().is_err());
    }

    #[test]
    fn a_literal_as_tests_write_it() {
        let step = Step {
            setup: vec![CgroupDef::named("a").workers(2)].into(),
            ops: vec![],
            hold: HoldSpec::frac(0.5),
        };
        assert!(matches!(step.setup, Setup::Defs(defs) if defs.len() == 1));
        assert_eq!(Step::default().hold, HoldSpec::FULL);
    }
}
