//! The weights of tasks, in the scale of EEVDF. In sched_ext (`p->scx.weight`) nice 0 is 100, and the ratios are the same
//! up to rounding.

use super::super::state::Task;

/// The policy of background tasks, `SCHED_IDLE` (include/uapi/linux/sched.h).
const SCHED_IDLE: u8 = 5;
/// The weight of a task with that policy (`WEIGHT_IDLEPRIO`, kernel/sched/sched.h).
const WEIGHT_IDLE: f64 = 3.0;
/// The weight of nice 0 (`NICE_0_LOAD`, without the 10 bits that 64-bit kernels add for resolution).
const WEIGHT_NICE_0: f64 = 1024.0;

/// Returns the weight of a nice value. One step changes the weight by the factor 1.25, which the kernel's table
/// `sched_prio_to_weight` (kernel/sched/core.c) rounds to integers.
pub(super) fn of_nice(nice: i8) -> f64 {
    WEIGHT_NICE_0 * 1.25f64.powi(-i32::from(nice.clamp(-20, 19)))
}

/// Returns the weight of `task`.
pub(super) fn of_task(task: &Task) -> f64 {
    match task.policy {
        SCHED_IDLE => WEIGHT_IDLE,
        _ => of_nice(task.nice),
    }
}
