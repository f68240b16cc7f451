//! The timeline of what the scenario did to the guest. Not for what it measured.

use crate::phase::Phase;
use serde::{Deserialize, Serialize};

/// One event on the scenario's timeline, in guest time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StimulusEvent {
    /// Guest milliseconds since the scenario started, pauses for captures taken out.
    pub elapsed_ms: u64,
    /// The name of the event: `StepStart`, `StepEnd`, `ScenarioEnd` or an operation's own.
    pub label: String,
    /// The kind of operation that was applied, if the event is one.
    pub op_kind: Option<String>,
    /// Free text: what the operation acted on.
    pub detail: Option<String>,
    /// Sum of the iterations of all live workers when the event happened, if it was read.
    pub total_iterations: Option<u64>,
    /// The step it belongs to; 0 is the baseline.
    pub step_index: Option<u16>,
    /// Whether this is the last event of the scenario.
    pub is_terminal: bool,
    /// Whether this ends its step.
    pub is_step_end: bool,
}

/// The label of the event that opens a step.
pub const STEP_START: &str = "StepStart";
/// The label of the event that closes a step.
pub const STEP_END: &str = "StepEnd";

impl StimulusEvent {
    /// A step begins.
    pub fn step_start(phase: Phase, elapsed_ms: u64) -> Self {
        StimulusEvent {
            elapsed_ms,
            label: STEP_START.into(),
            step_index: Some(phase.as_u16()),
            ..Self::default()
        }
    }

    /// A step is over.
    pub fn step_end(phase: Phase, elapsed_ms: u64) -> Self {
        StimulusEvent {
            label: STEP_END.into(),
            is_step_end: true,
            ..Self::step_start(phase, elapsed_ms)
        }
    }

    /// Adds the sum of iterations at this moment.
    pub fn with_total_iterations(mut self, total: u64) -> Self {
        self.total_iterations = Some(total);
        self
    }

    /// Whether this event opens a step, or falls into one that is open: it belongs to a step, and ends neither that nor the
    /// scenario. The first such event of a step opens it, whatever its label.
    pub fn is_step_start(&self) -> bool {
        self.step_index.is_some() && !self.is_step_end && !self.is_terminal
    }
}
