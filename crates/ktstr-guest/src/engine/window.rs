//! The workload window: guest monotonic time since the start of the scenario, without the pauses
//! for setup and teardown and for a scheduler that attaches again.

use std::sync::Arc;
use std::time::Duration;

use crate::stats::Requests;
use crate::workers::clock::{now_ns, sleep_until};

/// Interval in ns at which a hold checks whether the scheduler still runs.
const POLL_NS: u64 = 100_000_000;

/// Converts to nanoseconds. A duration that does not fit becomes `u64::MAX / 2` ns, which is 292 years.
fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// The workload window of one scenario.
#[derive(Debug)]
pub(super) struct Window {
    began_ns: u64,
    length_ns: u64,
    paused_ns: u64,
    paused_since: Option<u64>,
    /// The requests for the scheduler's statistics, which follow window time.
    stats: Arc<Requests>,
}

/// Absolute times at a fixed interval, in ns of the guest's monotonic clock.
#[derive(Debug)]
pub(super) struct Ticks {
    pub next: u64,
    interval: u64,
}

impl Ticks {
    /// Advances to the next tick, and skips the ticks that were missed.
    pub fn advance(&mut self) {
        let missed = now_ns().saturating_sub(self.next) / self.interval;
        self.next = self
            .next
            .saturating_add(self.interval.saturating_mul(missed + 1));
    }
}

impl Window {
    /// Opens a window of this length that starts now.
    pub fn open(length: Duration) -> Self {
        Self {
            began_ns: now_ns(),
            length_ns: ns(length),
            paused_ns: 0,
            paused_since: None,
            stats: Arc::default(),
        }
    }

    /// From now on, the window notifies `stats` when it is paused or resumed.
    pub fn is_followed_by(&mut self, stats: Arc<Requests>) {
        self.stats = stats;
    }

    /// Pauses window time. Returns `false` if it was already paused.
    pub fn pause(&mut self) -> bool {
        let runs = self.paused_since.is_none();
        self.paused_since.get_or_insert_with(now_ns);
        self.stats.paused(true, self.paused_ns);
        runs
    }

    /// Resumes window time. Returns `false` if it was not paused.
    pub fn resume(&mut self) -> bool {
        match self.paused_since.take() {
            None => false,
            Some(since) => {
                self.paused_ns += now_ns().saturating_sub(since);
                self.stats.paused(false, self.paused_ns);
                true
            }
        }
    }

    /// Returns the total length of the pauses that are over, in ns.
    pub fn paused_ns(&self) -> u64 {
        self.paused_ns
    }

    fn elapsed_ns(&self) -> u64 {
        self.paused_since
            .unwrap_or_else(now_ns)
            .saturating_sub(self.began_ns)
            .saturating_sub(self.paused_ns)
    }

    /// Returns the elapsed window time in ms.
    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed_ns() / 1_000_000
    }

    /// Returns the window time that is left.
    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.length_ns.saturating_sub(self.elapsed_ns()))
    }

    /// Returns the monotonic time in ns at which a hold of length `requested` ends. A hold ends with the window at the
    /// latest.
    pub fn deadline(&self, requested: Duration) -> u64 {
        now_ns().saturating_add(ns(requested.min(self.left())))
    }

    /// Returns ticks at this interval, the first of which is one interval from now.
    pub fn ticks(&self, interval: Duration) -> Ticks {
        let interval = ns(interval).max(1);
        Ticks {
            next: now_ns().saturating_add(interval),
            interval,
        }
    }

    /// Sleeps until `until`, but for at most 100 ms. Returns `true` once `until` has been reached.
    pub fn sleep_slice(&self, until: u64) -> bool {
        sleep_until(until.min(now_ns().saturating_add(POLL_NS)));
        now_ns() >= until
    }
}

/// A hold for part of the window counts as cut if it loses more than this share of its length. The harness itself uses a little
/// window time between two steps, so holds that fill the window exactly lose a little, too.
const LOSES: f64 = 0.25;
/// A hold for the whole window, such as [`HoldSpec::FULL`](ktstr_scenario::ops::HoldSpec::FULL), mostly means the rest of the
/// window. It counts as cut if less than this share of the window is left.
const RESTS: f64 = 0.01;
/// The number of steps that the note about cut steps names.
const NAMED: usize = 3;

/// The steps of a scenario that did not fit into the window.
#[derive(Debug, Default)]
pub(super) struct CutSteps(Vec<(String, Duration, Duration)>);

impl CutSteps {
    /// Adds a step if its hold of length `requested` is cut. `left` is the rest of a window of length `window`.
    pub fn add(&mut self, step: String, requested: Duration, left: Duration, window: Duration) {
        let least = match requested == window {
            true => window.mul_f64(RESTS),
            false => requested.mul_f64(1.0 - LOSES),
        };
        if left < least {
            self.0.push((step, requested, left));
        }
    }

    /// Returns the note about these steps, unless there are none.
    pub fn note(&self, window: Duration) -> Option<String> {
        let ms = |time: &Duration| time.as_millis();
        let named = self.0.iter().take(NAMED);
        let mut named: Vec<String> = named
            .map(|(step, from, to)| format!("{step} from {} ms to {} ms", ms(from), ms(to)))
            .collect();
        let more = self.0.len().saturating_sub(NAMED);
        if more > 0 {
            named.push(format!("and {more} more"));
        }
        (!named.is_empty()).then(|| {
            format!(
                "the steps do not fit into the test's window of {} ms, so these were cut: {}. Set `duration_s` to at least the \
                 sum of all steps, or shorten them",
                ms(&window),
                named.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_do_not_count() {
        let before = now_ns();
        let mut window = Window::open(Duration::from_secs(1));
        assert!(window.pause() && !window.pause());
        let paused = now_ns();
        sleep_until(paused + 30_000_000);
        let resumed = now_ns();
        assert!(window.resume() && !window.resume());
        let elapsed_ms = window.elapsed_ms();
        let without_pause = (paused - before) + (now_ns() - resumed);
        assert!(elapsed_ms * 1_000_000 <= without_pause, "{elapsed_ms}");
    }

    #[test]
    fn a_hold_never_passes_the_window() {
        let window = Window::open(Duration::from_millis(50));
        let before = now_ns();
        let deadline = window.deadline(Duration::MAX);
        // The deadline may be late by the time between the two readings of the clock in the call.
        let call = now_ns() - before;
        assert!(deadline <= before + 50_000_000 + call);
        let soon = window.deadline(Duration::from_millis(5));
        assert!(soon <= now_ns() + 5_000_000);
        while !window.sleep_slice(soon) {}
        assert!(now_ns() >= soon);
    }

    #[test]
    fn steps_that_lose_much_of_their_hold_are_named() {
        let ms = Duration::from_millis;
        let window = ms(1000);
        let mut cut = CutSteps::default();
        for (requested, left) in [(1000, 1000), (1000, 200), (500, 495), (0, 0)] {
            cut.add("step 1".to_owned(), ms(requested), ms(left), window);
        }
        assert_eq!(cut.note(window), None);
        for (at, (requested, left)) in [(800, 198), (1000, 2), (2000, 0), (1, 0)]
            .into_iter()
            .enumerate()
        {
            cut.add(format!("step {}", at + 2), ms(requested), ms(left), window);
        }
        let note = cut.note(window).unwrap_or_default();
        let named = "step 2 from 800 ms to 198 ms, step 3 from 1000 ms to 2 ms, step 4 from 2000 ms to 0 ms, and 1 more.";
        assert!(note.contains(named), "{note}");
    }

    #[test]
    fn missed_ticks_are_passed_over() {
        let window = Window::open(Duration::from_secs(1));
        let mut ticks = window.ticks(Duration::from_millis(2));
        sleep_until(now_ns() + 9_000_000);
        let before = now_ns();
        ticks.advance();
        assert!(ticks.next > before && ticks.next <= now_ns() + 2_000_000);
    }
}
