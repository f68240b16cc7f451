//! The scenario of `verifier`, which has no workload: the scheduler takes over, and the host takes one capture.

use std::time::Duration;

use ktstr::prelude::*;

use crate::cell::SCX_KTSTR;

fn canned_load_only(ctx: &Ctx) -> Result<AssertResult> {
    let look = Op::capture_snapshot("loaded");
    execute_steps(
        ctx,
        vec![Step::with_op(
            look,
            HoldSpec::fixed(Duration::from_millis(20)),
        )],
    )
}

/// The scheduler declared here is a placeholder; the run replaces it.
#[ktstr_test_entry]
static ENTRY: KtstrTestEntry = KtstrTestEntry {
    name: "canned-load_only",
    func: canned_load_only,
    scheduler: &SCX_KTSTR,
    topology: Topology::new(1, 1, 2, 1),
    duration: Duration::from_secs(1),
    ..KtstrTestEntry::DEFAULT
};
