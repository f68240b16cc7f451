//! The timeline of a scenario: what the scenario did to the guest, and when. Measurements are not part of it.

use crate::phase::Phase;
use serde::{Deserialize, Serialize};

/// One event on the scenario's timeline, in guest time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StimulusEvent {
    /// Guest milliseconds since the scenario started. The time of setup, of teardown and of waits for a scheduler that attaches
    /// again does not count, and captures take no guest time.
    pub elapsed_ms: u64,
    /// The name of the event: `StepStart`, `StepEnd` or `ScenarioEnd`.
    pub label: String,
    /// The kinds of the operations with which a step starts, as a hexadecimal bit mask (`0x…`): each kind sets the bit
    /// at its `Op::wire_index`. `None` for a step without operations, and for events that do not start a step.
    pub op_kind: Option<String>,
    /// The numbers of operations, cgroups and workers at the start of a step, as free text; `None` for other events.
    pub detail: Option<String>,
    /// The sum of the iterations of all workers up to the event, those that have ended included; `None` if it was not read.
    pub total_iterations: Option<u64>,
    /// The step to which the event belongs; 0 is the baseline. `None` for the end of the scenario.
    pub step_index: Option<u16>,
    /// Whether this is the last event of the scenario.
    pub is_terminal: bool,
    /// Whether this event ends its step.
    pub is_step_end: bool,
}

/// The label of the event that starts a step.
pub const STEP_START: &str = "StepStart";
/// The label of the event that ends a step.
pub const STEP_END: &str = "StepEnd";

impl StimulusEvent {
    /// Creates the event that starts a step.
    pub fn step_start(phase: Phase, elapsed_ms: u64) -> Self {
        StimulusEvent {
            elapsed_ms,
            label: STEP_START.into(),
            step_index: Some(phase.as_u16()),
            ..Self::default()
        }
    }

    /// Creates the event that ends a step.
    pub fn step_end(phase: Phase, elapsed_ms: u64) -> Self {
        StimulusEvent {
            label: STEP_END.into(),
            is_step_end: true,
            ..Self::step_start(phase, elapsed_ms)
        }
    }

    /// Adds the sum of iterations at the time of the event.
    pub fn with_total_iterations(mut self, total: u64) -> Self {
        self.total_iterations = Some(total);
        self
    }

    /// Whether this event can start a step: it belongs to one, and ends neither the step nor the scenario. The first
    /// such event of a step starts it.
    pub fn is_step_start(&self) -> bool {
        self.step_index.is_some() && !self.is_step_end && !self.is_terminal
    }
}
