//! Decides when a messenger of schbench (see `schbench.rs`) hands out its next request: at once, at a fixed rate, or at a rate
//! that is changed until the CPU utilization of the workers reaches a target.

use ktstr_scenario::workload::SchbenchConfig;

use super::super::ctx::WorkerCtx;
use super::super::sys;
use super::desk;

/// How long the workers are observed between two changes of the rate, in nanoseconds.
const LOOK_NS: u64 = 200_000_000;
/// The initial rate in requests per second, if the parameters give none.
const FIRST_RATE: u64 = 100;
/// The highest rate, in requests per second.
const MAX_RATE: u64 = 10_000_000;

/// The times at which one messenger hands out requests.
pub(super) struct Pace {
    /// Requests per second of all messengers together; 0 for no limit.
    rate: u64,
    messengers: u64,
    /// The monotonic time in nanoseconds of the next request.
    due: u64,
    /// The CPU utilization in percent to which the rate is adapted; 0 for a rate that does not change.
    target: u64,
    /// The last observation of the workers, from which the next change of the rate is computed; `None` before the first one.
    looked: Option<Look>,
}

/// An observation of the workers.
#[derive(Clone, Copy)]
struct Look {
    /// The CPU time of all workers so far, in nanoseconds.
    used_ns: u64,
    /// The monotonic time of the observation, in nanoseconds.
    at_ns: u64,
}

impl Pace {
    /// Creates the pace of a messenger that starts at the monotonic time `now`.
    pub(super) fn of(config: &SchbenchConfig, now: u64) -> Self {
        Self {
            rate: match (config.requests_per_sec, config.auto_rps) {
                (0, 1..) => FIRST_RATE,
                (rate, _) => rate,
            },
            messengers: config.message_threads.max(1) as u64,
            due: now,
            target: config.auto_rps,
            looked: None,
        }
    }

    /// Sleeps until the next request is due. Returns `false` when the worker is told to stop.
    pub(super) fn wait(&mut self, ctx: &mut WorkerCtx<'_>) -> bool {
        let Some(pace) = (1_000_000_000 * self.messengers).checked_div(self.rate) else {
            return true;
        };
        self.due = self.due.saturating_add(pace);
        if self.target > 0 {
            let now = sys::now_ns();
            // An adapted rate does not catch up: requests that are late belong to an earlier rate.
            self.due = self.due.max(now);
            self.look(ctx, now);
        }
        desk::wait_for(ctx, self.due)
    }

    /// Changes the rate if the workers have been observed for long enough.
    fn look(&mut self, ctx: &WorkerCtx<'_>, now: u64) {
        let due = |last: Look| now >= last.at_ns.saturating_add(LOOK_NS);
        if !self.looked.is_none_or(due) {
            return;
        }
        let look = Look {
            used_ns: workers_cpu_ns(ctx, self.messengers),
            at_ns: now,
        };
        if let Some(before) = self.looked.replace(look) {
            let cpus = u64::from(sys::mask_len(&ctx.allowed)).max(1);
            let all = now.saturating_sub(before.at_ns).saturating_mul(cpus).max(1);
            let used = look.used_ns.saturating_sub(before.used_ns);
            let busy = used.saturating_mul(100) / all;
            self.rate = adapted(self.rate, busy, self.target);
        }
    }
}

/// Returns the rate at which the CPUs would be busy for `target` percent of the time, if they are busy for `busy` percent at
/// `rate`. The result is at least half of `rate` and at most twice `rate`, and between 1 and `MAX_RATE` in any case.
fn adapted(rate: u64, busy: u64, target: u64) -> u64 {
    let wanted = rate.saturating_mul(target) / busy.max(1);
    let wanted = wanted.clamp(rate / 2, rate.saturating_mul(2));
    wanted.clamp(1, MAX_RATE)
}

/// Returns the sum of the CPU times that the workers of the group have used so far, in nanoseconds.
fn workers_cpu_ns(ctx: &WorkerCtx<'_>, messengers: u64) -> u64 {
    let first = ctx.base.wrapping_add(messengers as usize);
    let workers = first..ctx.base.wrapping_add(ctx.group);
    workers
        .map(|worker| sys::cpu_ns_of(ctx.tid_of(worker)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_load() {
        assert_eq!(adapted(100, 20, 50), 200, "the rate is at most doubled");
        assert_eq!(adapted(100, 40, 50), 125);
        assert_eq!(adapted(100, 50, 50), 100);
        assert_eq!(adapted(100, 100, 20), 50, "the rate is at most halved");
        assert_eq!(adapted(1, 100, 20), 1);
        assert_eq!(adapted(100, 0, 50), 200);
    }
}
