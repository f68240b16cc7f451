//! The frame of a schedule: when each step was held, when a scheduler was unloaded, and when the recording starts and ends.
//! Findings, and commands that show a time, count from [`Timeline::zero_ns`].

use crate::event::{Event, SchedExtState, What};
use crate::{ReadError, Schedule};

/// The time in which a step was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The number of the step; 1 is the first.
    pub number: u16,
    /// When the hold began, in nanoseconds of the kernel's scheduler clock.
    pub from_ns: u64,
    /// When the hold ended, in nanoseconds of the kernel's scheduler clock.
    pub to_ns: u64,
}

/// The frame of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The holds of the steps, in order.
    pub held: Vec<Held>,
    /// The times at which the kernel began to unload a BPF scheduler, in nanoseconds of the kernel's scheduler clock.
    pub unloaded_ns: Vec<u64>,
    /// The time of the earliest and of the latest event of the recording, in nanoseconds of the kernel's scheduler clock; `None`
    /// if it has no events.
    pub ends_ns: Option<(u64, u64)>,
}

impl Timeline {
    /// Reads the frame of a schedule.
    ///
    /// # Errors
    /// If the schedule is damaged.
    pub fn of(schedule: &Schedule<'_>) -> Result<Self, ReadError> {
        let mut timeline = Self::default();
        schedule.for_each(|event| {
            if let Ok(event) = event {
                timeline.take(event);
            }
        })?;
        timeline.end();
        Ok(timeline)
    }

    /// Takes the next event. Call [`Timeline::end`] after the last one.
    pub fn take(&mut self, event: &Event) {
        let now = event.time_ns;
        // Events at the time 0 describe the state before the recording.
        if now > 0 {
            let (from, to) = self.ends_ns.unwrap_or((now, now));
            self.ends_ns = Some((from.min(now), to.max(now)));
        }
        match event.what {
            What::Phase { number } => {
                self.release(now);
                self.held.push(Held {
                    number,
                    from_ns: now,
                    to_ns: u64::MAX,
                });
            }
            What::End {} => self.release(now),
            What::SchedExt {
                state: SchedExtState::Disabling,
            } => self.unloaded_ns.push(now),
            _ => {}
        }
    }

    /// Ends a hold that is still open, at the time of the latest event.
    pub fn end(&mut self) {
        self.release(self.to_ns());
    }

    fn release(&mut self, now: u64) {
        if let Some(held) = self.held.last_mut().filter(|held| held.to_ns == u64::MAX) {
            held.to_ns = now;
        }
    }

    /// Returns the time from which displayed times count, in nanoseconds of the kernel's scheduler clock: the start of the
    /// first hold, as in findings, or the start of the schedule if no step was held.
    pub fn zero_ns(&self) -> u64 {
        let first = self.held.first().map(|held| held.from_ns);
        first.or(self.ends_ns.map(|(from, _)| from)).unwrap_or(0)
    }

    /// Returns the end of the last hold in nanoseconds of the kernel's scheduler clock, or the end of the schedule
    /// if no step was held.
    pub fn steps_end_ns(&self) -> u64 {
        self.held.last().map_or(self.to_ns(), |held| held.to_ns)
    }

    /// Returns the time of the latest event in nanoseconds of the kernel's scheduler clock; 0 without events.
    pub fn to_ns(&self) -> u64 {
        self.ends_ns.map_or(0, |(_, to)| to)
    }
}
