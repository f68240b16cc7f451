//! Scheduling policies of workers (`sched_setattr(2)`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A scheduling policy with fixed parameters, for the two workers of
/// [`WorkType::AsymmetricWaker`](super::WorkType::AsymmetricWaker).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedClass {
    /// `SCHED_OTHER`, the policy of normal tasks.
    Cfs,
    /// `SCHED_BATCH`, the policy of normal tasks that compute and do not interact with users.
    Batch,
    /// `SCHED_IDLE`, the policy with the smallest weight (`WEIGHT_IDLEPRIO` in kernel/sched/sched.h).
    Idle,
    /// `SCHED_FIFO` with a priority of 50.
    Rt,
    /// `SCHED_DEADLINE` with 2 ms of CPU time in every 10 ms.
    Deadline,
    /// `SCHED_EXT`: the task is scheduled by sched_ext even if the scheduler takes only tasks with this policy.
    Ext,
}

/// The scheduling policy of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedPolicy {
    /// `SCHED_OTHER`. A sched_ext scheduler that takes all normal tasks takes these workers, and those under `Batch` and `Idle`.
    #[default]
    Normal,
    /// `SCHED_BATCH`, the policy of normal tasks that compute and do not interact with users.
    Batch,
    /// `SCHED_IDLE`, the policy with the smallest weight (`WEIGHT_IDLEPRIO` in kernel/sched/sched.h).
    Idle,
    /// `SCHED_FIFO` with a priority of 1 to 99. The worker gets at most 97, and a note says so: 98 and 99 belong to the
    /// threads of the harness in the guest, which could not stop the worker otherwise.
    Fifo(u32),
    /// `SCHED_RR` with a priority of 1 to 99, of which the worker gets at most 97, as under `Fifo`.
    RoundRobin(u32),
    /// `SCHED_DEADLINE`, where 0 < runtime <= deadline <= period.
    Deadline {
        /// The CPU time per period.
        runtime: Duration,
        /// The deadline, counted from the start of a period.
        deadline: Duration,
        /// The time after which the budget is renewed.
        period: Duration,
    },
    /// `SCHED_EXT`: the worker is scheduled by sched_ext even if the scheduler takes only tasks with this policy.
    Ext,
}

/// Why a policy cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchedPolicyError {
    /// A real-time priority outside 1..=99.
    #[error("real-time priority {0} is not in 1..=99")]
    Priority(u32),
    /// A budget that violates 0 < runtime <= deadline <= period.
    #[error(
        "SCHED_DEADLINE needs 0 < runtime <= deadline <= period, got {runtime:?}, {deadline:?}, \
         {period:?}"
    )]
    Deadline {
        /// The CPU time per period.
        runtime: Duration,
        /// The deadline, counted from the start of a period.
        deadline: Duration,
        /// The period that was given.
        period: Duration,
    },
}

impl SchedPolicy {
    /// `SCHED_FIFO` with this priority.
    pub const fn fifo(priority: u32) -> Self {
        Self::Fifo(priority)
    }

    /// `SCHED_RR` with this priority.
    pub const fn round_robin(priority: u32) -> Self {
        Self::RoundRobin(priority)
    }

    /// `SCHED_DEADLINE` with these times.
    pub const fn deadline(runtime: Duration, deadline: Duration, period: Duration) -> Self {
        Self::Deadline {
            runtime,
            deadline,
            period,
        }
    }

    /// Checks the ranges of the parameters. The kernel may still refuse the policy, for example a `SCHED_DEADLINE` budget for
    /// which there is not enough bandwidth left.
    ///
    /// # Errors
    /// [`SchedPolicyError`] with the parameters.
    pub fn validate(&self) -> Result<(), SchedPolicyError> {
        match *self {
            Self::Fifo(p) | Self::RoundRobin(p) if !(1..=99).contains(&p) => {
                Err(SchedPolicyError::Priority(p))
            }
            Self::Deadline {
                runtime,
                deadline,
                period,
            } if runtime.is_zero() || runtime > deadline || deadline > period => {
                Err(SchedPolicyError::Deadline {
                    runtime,
                    deadline,
                    period,
                })
            }
            _ => Ok(()),
        }
    }
}

/// How a worker is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloneMode {
    /// As a separate process.
    #[default]
    Fork,
    /// As a thread of a process that all workers share.
    Thread,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert!(SchedPolicy::fifo(99).validate().is_ok());
        assert!(SchedPolicy::fifo(100).validate().is_err());
        assert!(SchedPolicy::round_robin(0).validate().is_err());
        let ms = Duration::from_millis;
        assert!(
            SchedPolicy::deadline(ms(1), ms(2), ms(2))
                .validate()
                .is_ok()
        );
        assert!(
            SchedPolicy::deadline(ms(3), ms(2), ms(4))
                .validate()
                .is_err()
        );
    }
}
