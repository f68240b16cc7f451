//! Protects the harness from the scheduler under test. These threads of the guest run with a real-time policy, which takes
//! precedence over all fair and sched_ext tasks: PID 1; the engine, which executes the steps of a scenario; the readers of the
//! output of payloads; and the thread that asks the scheduler for its statistics. They sleep nearly all the time in a step.
//! What the engine does between steps takes time: the schedule shows it, and the scheduler is not blamed for it. Their child
//! processes and threads start with the normal policy again (`SCHED_RESET_ON_FORK`).

/// The highest priority of a worker. The engine could not stop a worker whose priority is above its own, or the same.
pub const MOST_OF_WORKERS: i32 = 97;
/// The priority of the engine and of its threads.
pub const ENGINE: i32 = 98;
/// The priority of PID 1. It is above that of the engine, so that PID 1 can send its reports even while the engine runs.
pub const PID_1: i32 = 99;

/// A guard that keeps the calling thread at a real-time priority while it lives.
#[derive(Debug)]
pub struct RealTime {
    before: Option<(i32, libc::sched_param)>,
}

impl RealTime {
    /// Gives the calling thread `SCHED_RR` with this priority. If the kernel does not allow that, the thread keeps its policy.
    pub fn raise(priority: i32) -> Self {
        let mut before: libc::sched_param = libc::sched_param { sched_priority: 0 };
        let raised = libc::sched_param {
            sched_priority: priority,
        };
        // SAFETY: both structures live on this stack; 0 is the calling thread.
        let before = unsafe {
            let policy = libc::sched_getscheduler(0);
            if policy < 0 || libc::sched_getparam(0, &mut before) != 0 {
                return Self { before: None };
            }
            let class = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
            (libc::sched_setscheduler(0, class, &raised) == 0).then_some((policy, before))
        };
        Self { before }
    }
}

impl Drop for RealTime {
    fn drop(&mut self) {
        if let Some((policy, param)) = &self.before {
            // SAFETY: the structure lives in this value; 0 is the calling thread.
            unsafe { libc::sched_setscheduler(0, *policy, param) };
        }
    }
}
