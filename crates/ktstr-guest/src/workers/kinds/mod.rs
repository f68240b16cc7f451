//! The table from work type to the function a worker runs. To add one: write
//! `fn(&mut WorkerCtx)` in a file here (no allocation, no panics, returns when told to stop)
//! and give it a line in [`body`].

mod churn;
mod cpu;
mod crowd;
mod timed;
mod wake;

use std::time::Duration;

use ktstr_scenario::workload::{WakeMechanism, WorkType};

use super::WorkerError;
use super::ctx::WorkerCtx;

/// How the members of a group wake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ring {
    /// They do not.
    None,
    /// By a pipe each.
    Pipe,
    /// By a futex word each.
    Futex,
    /// By words of the whole group.
    Shared,
}

/// What a worker runs.
#[derive(Clone, Copy)]
pub(super) struct Body {
    /// The loop; returns when told to stop.
    pub run: fn(&mut WorkerCtx<'_>),
    /// What the loop is parameterised by; each work type gives its two words a meaning.
    pub knobs: [u64; 2],
    /// Tie among the members of a group.
    pub ring: Ring,
    /// Workers in a group.
    pub group: usize,
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// The work types that have a body, by asking each.
fn built() -> Vec<&'static str> {
    let has_body =
        |name: &&str| WorkType::from_name(name).is_some_and(|work| find(&work).is_some());
    let all = WorkType::ALL_NAMES.iter().copied();
    all.filter(has_body).collect()
}

/// The body of a work type; an error for those that are not built yet.
pub(super) fn body(work: &WorkType) -> Result<Body, WorkerError> {
    find(work).ok_or_else(|| WorkerError::NotAvailable {
        name: work.name(),
        built: built().join(", "),
    })
}

fn find(work: &WorkType) -> Option<Body> {
    let alone = |run: fn(&mut WorkerCtx<'_>), knobs| Body {
        run,
        knobs,
        ring: Ring::None,
        group: 1,
    };
    let ring = |run: fn(&mut WorkerCtx<'_>), knobs, ring, group| Body {
        run,
        knobs,
        ring,
        group,
    };
    Some(match work {
        WorkType::SpinWait => alone(cpu::spin_wait, [0, 0]),
        WorkType::YieldHeavy => alone(cpu::yield_heavy, [0, 0]),
        WorkType::Mixed => alone(cpu::mixed, [0, 0]),
        WorkType::CachePressure { size_kib, stride } => {
            alone(cpu::cache_pressure, [*size_kib as u64, *stride as u64])
        }
        WorkType::CacheYield { size_kib, stride } => {
            alone(cpu::cache_yield, [*size_kib as u64, *stride as u64])
        }
        WorkType::Bursty {
            burst_duration,
            sleep_duration,
        } => alone(timed::bursty, [ns(*burst_duration), ns(*sleep_duration)]),
        WorkType::IdleChurn {
            burst_duration,
            sleep_duration,
            precise_timing,
        } => alone(
            if *precise_timing {
                timed::bursty
            } else {
                timed::idle_churn
            },
            [ns(*burst_duration), ns(*sleep_duration)],
        ),
        WorkType::TimerLatency { interval_us } => {
            alone(timed::timer_latency, [interval_us.saturating_mul(1000), 0])
        }
        WorkType::PipeIo { burst_iters } => {
            ring(wake::ring_units, [*burst_iters, 0], Ring::Pipe, 2)
        }
        WorkType::FutexPingPong { spin_iters } => {
            ring(wake::ring_units, [*spin_iters, 0], Ring::Futex, 2)
        }
        WorkType::WakeChain {
            depth,
            wake,
            work_per_hop,
        } => ring(
            wake::ring_timed,
            [ns(*work_per_hop), 0],
            match wake {
                WakeMechanism::Pipe => Ring::Pipe,
                WakeMechanism::Futex => Ring::Futex,
            },
            *depth,
        ),
        WorkType::FutexFanOut {
            fan_out,
            spin_iters,
        } => ring(
            crowd::fan_out,
            [*spin_iters, 0],
            Ring::Shared,
            fan_out.saturating_add(1),
        ),
        WorkType::ThunderingHerd {
            waiters,
            inter_batch_ms,
        } => ring(
            crowd::herd,
            [inter_batch_ms.saturating_mul(1_000_000), 0],
            Ring::Shared,
            waiters.saturating_add(1),
        ),
        WorkType::MutexContention {
            contenders,
            hold_iters,
            work_iters,
        } => ring(
            crowd::mutex,
            [*hold_iters, *work_iters],
            Ring::Shared,
            *contenders,
        ),
        WorkType::ForkExit => alone(churn::fork_exit, [0, 0]),
        WorkType::NiceSweep => alone(churn::nice_sweep, [0, 0]),
        WorkType::AffinityChurn { spin_iters } => alone(churn::affinity_churn, [*spin_iters, 0]),
        WorkType::PolicyChurn { spin_iters } => alone(churn::policy_churn, [*spin_iters, 0]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_lists_every_work_type_that_has_a_body() {
        let built = built();
        for name in [
            "SpinWait",
            "FutexFanOut",
            "ThunderingHerd",
            "MutexContention",
        ] {
            assert!(built.contains(&name), "{name} is not in {built:?}");
        }
        let missing: Vec<_> = WorkType::ALL_NAMES
            .iter()
            .filter_map(|name| WorkType::from_name(name))
            .filter(|work| !built.contains(&work.name()))
            .collect();
        assert!(
            !missing.is_empty(),
            "nothing is refused any more: drop the error"
        );
        for work in missing {
            let Err(error) = body(&work) else {
                panic!("{} has a body", work.name());
            };
            assert_eq!(
                error.to_string(),
                format!(
                    "work type {} is not available yet: use one of {}",
                    work.name(),
                    built.join(", ")
                )
            );
        }
    }
}
