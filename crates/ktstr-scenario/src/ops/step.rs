//! One step of a scenario.

use std::time::Duration;

use super::cgroup_def::CgroupDef;
use super::op::Op;
use crate::ctx::Ctx;
use crate::payload::Payload;

/// One step: make cgroups and workers, run operations, hold, tear down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Cgroups that live for this step.
    pub setup: Setup,
    /// Run before the setup, in order.
    pub ops: Vec<Op>,
    /// How long the step lasts.
    pub hold: HoldSpec,
}

impl Step {
    /// Operations and no cgroup.
    pub const fn new(ops: Vec<Op>, hold: HoldSpec) -> Self {
        Self {
            setup: Setup::Defs(Vec::new()),
            ops,
            hold,
        }
    }

    /// Nothing but the hold.
    pub const fn hold(hold: HoldSpec) -> Self {
        Self::new(Vec::new(), hold)
    }

    /// A step of one operation and no cgroups of its own.
    pub fn with_op(op: Op, hold: HoldSpec) -> Self {
        Self::new(vec![op], hold)
    }

    /// A step that runs a program of the host beside whatever the backdrop has, in the harness's own cgroup.
    pub fn with_payload(payload: &'static Payload, hold: HoldSpec) -> Self {
        Self::with_op(Op::run_payload(payload, Vec::new()), hold)
    }

    /// Cgroups and no operation.
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

/// How long a step lasts, in guest time. Never longer than what is left of the test's window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HoldSpec {
    /// This fraction of the test's duration.
    Frac(f64),
    /// As long as this, in guest time.
    Fixed(Duration),
    /// To the end of the test, with the operations again at every interval.
    Loop {
        /// Time between two rounds.
        interval: Duration,
    },
}

/// Why a hold cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum HoldError {
    /// A fraction that is none.
    #[error("HoldSpec::frac({0}) must be finite and more than 0")]
    Frac(f64),
    /// A loop without a pause.
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

    /// So long; zero is allowed.
    pub const fn fixed(duration: Duration) -> Self {
        Self::Fixed(duration)
    }

    /// To the end of the test, with the operations again at every `interval`.
    pub const fn loop_at(interval: Duration) -> Self {
        Self::Loop { interval }
    }

    /// Whether the hold can be done.
    ///
    /// # Errors
    /// [`HoldError`] with the value.
    pub fn validate(&self) -> Result<(), HoldError> {
        match *self {
            Self::Frac(f) if !f.is_finite() || f <= 0.0 => Err(HoldError::Frac(f)),
            Self::Loop { interval } if interval.is_zero() => Err(HoldError::Interval),
            _ => Ok(()),
        }
    }

    /// How long the hold is when the test's duration is `duration`; a loop takes all of it.
    /// Saturates; an invalid fraction counts as 0.
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

/// The cgroups of a step: given, or made from the context when the step starts.
// Two functions that the compiler has merged, or one that it has doubled: nothing is decided by that.
#[allow(unpredictable_function_pointer_comparisons)]
#[derive(Clone, Debug, PartialEq)]
pub enum Setup {
    /// The cgroups as they are given here.
    Defs(Vec<CgroupDef>),
    /// What this function returns.
    Factory(fn(&Ctx) -> Vec<CgroupDef>),
}

impl Setup {
    /// Cgroups made when the step starts.
    pub const fn with_factory(factory: fn(&Ctx) -> Vec<CgroupDef>) -> Self {
        Self::Factory(factory)
    }

    /// The cgroups for this context.
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
