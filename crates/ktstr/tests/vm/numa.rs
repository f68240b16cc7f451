//! Where the pages of workers are, on a real machine of two nodes with CPUs and one without: the checks
//! hold where memory is beside the CPUs, and not where the test puts it elsewhere.

use std::time::Duration;

use anyhow::Result;
use ktstr::prelude::*;
use ktstr::run::run;
use ktstr::topology::NumaNode;

/// CPUs 0 and 1 are of node 0.
const NODES: Topology = Topology::with_nodes(
    2,
    1,
    &[
        NumaNode::new(1, 256),
        NumaNode::new(1, 256),
        NumaNode::new(0, 256),
    ],
);

const PLACED: Assert = Assert::NO_OVERRIDES
    .min_page_locality(0.5)
    .max_slow_tier_ratio(0.5)
    .max_cross_node_migration_ratio(0.9);

macro_rules! entries {
    ($($entry:ident = $name:literal, $func:ident, $assert:expr;)*) => { $(
        case!($entry = $name, $func, clock: ClockMode::Virtual, seed: Some(7), topology: NODES,
            duration: Duration::from_secs(1), assert: $assert);
    )* };
}

entries! {
    NEAR = "near", near, PLACED;
    FAR = "far", far, PLACED;
    SLOW = "slow", slow, PLACED;
    UNASKED = "unasked", near, Assert::NO_OVERRIDES;
}

/// Workers on the CPUs of node 0, with their memory on `node`.
fn placed(ctx: &Ctx, node: usize) -> Result<AssertResult> {
    let group = CgroupDef::named("placed")
        .workers(2)
        .cpuset(CpusetSpec::exact([0, 1]))
        .cpuset_mems([node].into());
    execute_defs(ctx, vec![group])
}

fn near(ctx: &Ctx) -> Result<AssertResult> {
    placed(ctx, 0)
}

fn far(ctx: &Ctx) -> Result<AssertResult> {
    placed(ctx, 1)
}

fn slow(ctx: &Ctx) -> Result<AssertResult> {
    placed(ctx, 2)
}

/// The kinds of what failed.
fn failures(entry: &'static KtstrTestEntry) -> Vec<DetailKind> {
    let finished = run(entry);
    assert!(!finished.result.is_inconclusive(), "{}", finished.text);
    let failed = finished.result.failure_details();
    failed.map(|detail| detail.kind).collect()
}

#[test]
fn pages_are_where_they_belong_or_not() {
    assert_eq!(failures(&NEAR), []);
    assert_eq!(failures(&FAR), [DetailKind::PageLocality]);
    assert_eq!(
        failures(&SLOW),
        [DetailKind::PageLocality, DetailKind::SlowTier]
    );
}

/// Looking takes a walk through page tables, so nobody does who was not asked.
#[test]
fn pages_are_only_looked_at_when_asked() {
    let locality = |entry| {
        let finished = run(entry);
        let vm = finished.vm.as_ref().expect("a machine ran");
        vm.phase_cgroup_metric(Phase::step(0), "placed", "page_locality")
    };
    assert!(locality(&NEAR).is_some_and(|share| share > 0.5));
    assert_eq!(locality(&UNASKED), None);
}
