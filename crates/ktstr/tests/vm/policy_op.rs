//! Tests of the operation that sets the policy of running workers, by the policy that the kernel then reports.

use std::sync::Mutex;
use std::time::Duration;

use ktstr::prelude::*;

/// The policy of each task of the cgroup at each reading, as in `/proc/PID/stat` (`proc_pid_stat(5)`, field 41).
static SEEN: Mutex<Vec<Vec<u32>>> = Mutex::new(Vec::new());

fn look(ctx: &Ctx) -> Vec<CgroupDef> {
    let pids = ctx.cgroups.read_procs("a").unwrap_or_default();
    let policy = |pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, which may have spaces, is field 2.
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(38)?.parse().ok()
    };
    let policies = pids.into_iter().filter_map(policy).collect();
    SEEN.lock()
        .expect("no thread panics while it holds the lock")
        .push(policies);
    Vec::new()
}

#[ktstr_test(cores = 2, duration_s = 1)]
fn policies_are_set_from_outside(ctx: &Ctx) -> Result<AssertResult> {
    let policies = [
        SchedPolicy::Idle,
        SchedPolicy::fifo(10),
        SchedPolicy::Batch,
        SchedPolicy::Normal,
        SchedPolicy::Normal,
    ];
    // The setup function of a step is called before its operations, so each reading sees the state after the step before.
    let step = |policy| Step {
        setup: Setup::with_factory(look),
        ops: vec![Op::set_sched_policy("a", policy)],
        hold: HoldSpec::fixed(Duration::from_millis(20)),
    };
    let backdrop = Backdrop::from_cgroups([CgroupDef::named("a").workers(2)]);
    let result = execute_scenario(ctx, backdrop, policies.map(step).into())?;
    let seen = SEEN
        .lock()
        .expect("no thread panics while it holds the lock")
        .clone();
    let mut verdict = Verdict::new();
    // These are SCHED_OTHER, SCHED_IDLE, SCHED_FIFO, SCHED_BATCH and SCHED_OTHER (include/uapi/linux/sched.h).
    let wanted = [0, 5, 1, 3, 0].map(|policy| vec![policy; 2]);
    verdict
        .claim("policies", format!("{seen:?}"))
        .eq(format!("{wanted:?}"));
    verdict.merge(result);
    Ok(verdict.into_result())
}
