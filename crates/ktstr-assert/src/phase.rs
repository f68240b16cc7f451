//! The phases of a scenario, and the label with which a thread stamps its records.
//!
//! There are two numberings: `step_index` counts steps from 1, and 0 is the time before the first step, whereas the
//! label `Step[k]` counts from 0. [`Phase`] converts between them.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

/// One phase of a scenario: the baseline or a step.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Phase(u16);

impl Phase {
    /// The time before the first step.
    pub const BASELINE: Phase = Phase(0);

    /// Returns the phase of step `k0`, counted from 0. Saturates at the largest number.
    pub const fn step(k0: u16) -> Phase {
        Phase(k0.saturating_add(1))
    }

    /// Whether this is the baseline, the time before the first step.
    pub const fn is_baseline(self) -> bool {
        self.0 == 0
    }

    /// Returns the step index on the wire: 0 for the baseline, `k0 + 1` for a step.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Returns the label in buckets and records: `BASELINE` or `Step[k0]`.
    pub fn label(self) -> Cow<'static, str> {
        match self.0.checked_sub(1) {
            None => Cow::Borrowed("BASELINE"),
            Some(k0) => Cow::Owned(format!("Step[{k0}]")),
        }
    }
}

impl From<u16> for Phase {
    fn from(step_index: u16) -> Phase {
        Phase(step_index)
    }
}

impl From<Phase> for u16 {
    fn from(phase: Phase) -> u16 {
        phase.0
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.label())
    }
}

thread_local! {
    static LABEL: RefCell<Option<Cow<'static, str>>> = const { RefCell::new(None) };
}

/// A guard that keeps a phase label installed on this thread until it is dropped.
///
/// While the guard exists, every detail, pass and note that this thread records is stamped with the label, unless it
/// has a label already. Guards nest: dropping one restores the previous label.
#[derive(Debug)]
#[must_use = "the label is removed when the guard is dropped"]
pub struct PhaseGuard {
    before: Option<Cow<'static, str>>,
    // The label belongs to one thread, so the guard must not leave that thread.
    _not_send: PhantomData<*const ()>,
}

impl PhaseGuard {
    /// Installs `label` on this thread until the guard is dropped.
    pub fn install(label: impl Into<Cow<'static, str>>) -> PhaseGuard {
        let before = LABEL.with(|l| l.borrow_mut().replace(label.into()));
        PhaseGuard {
            before,
            _not_send: PhantomData,
        }
    }

    /// Installs the label `Step[k0]` of step `k0`, counted from 0.
    pub fn install_step(k0: u16) -> PhaseGuard {
        Self::install(Phase::step(k0).label())
    }

    /// Installs `BASELINE`, the label of the time before the first step.
    pub fn install_baseline() -> PhaseGuard {
        Self::install(Phase::BASELINE.label())
    }
}

impl Drop for PhaseGuard {
    fn drop(&mut self) {
        let before = self.before.take();
        // An error means that the thread is exiting and has destroyed the label, so there is nothing to restore.
        let _ = LABEL.try_with(|l| *l.borrow_mut() = before);
    }
}

/// Returns the label that is installed on this thread; `None` without a guard.
pub fn current_phase_label() -> Option<Cow<'static, str>> {
    LABEL.with(|l| l.borrow().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbering() {
        assert_eq!(Phase::step(0).as_u16(), 1);
        assert_eq!(Phase::default(), Phase::BASELINE);
        assert_eq!(Phase::BASELINE.to_string(), "BASELINE");
        assert_eq!(Phase::step(3).to_string(), "Step[3]");
        assert_eq!(Phase::from(4), Phase::step(3));
        assert_eq!(Phase::step(u16::MAX).as_u16(), u16::MAX);
        assert!(Phase::BASELINE < Phase::step(0));
        assert_eq!(serde_json::to_string(&Phase::step(1)).expect("number"), "2");
    }

    #[test]
    fn guards_nest() {
        assert_eq!(current_phase_label(), None);
        let outer = PhaseGuard::install_baseline();
        {
            let _inner = PhaseGuard::install_step(2);
            assert_eq!(current_phase_label().as_deref(), Some("Step[2]"));
        }
        assert_eq!(current_phase_label().as_deref(), Some("BASELINE"));
        drop(outer);
        assert_eq!(current_phase_label(), None);
    }
}
