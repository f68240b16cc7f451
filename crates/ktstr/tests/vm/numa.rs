//! Tests of the checks on where workers' pages are, in a machine with two NUMA nodes that have CPUs and one that has none. The
//! checks pass if the pages are on the workers' own node, and fail if the test places the pages on another node.

use std::time::Duration;

use anyhow::Result;
use ktstr::prelude::*;
use ktstr::run::run;

/// A cache in front of the memory of the node without CPUs.
const CACHE: MemSideCache = MemSideCache::new(
    1 << 20,
    CacheAssociativity::Direct,
    CacheWritePolicy::WriteBack,
    64,
);

/// Two CPUs each on nodes 0 and 1; CPUs 0 and 1 belong to node 0. The HMAT describes nodes 0 and 2.
const NODES: Topology = Topology::with_nodes(
    2,
    1,
    &[
        NumaNode::with_hmat(1, 256, 80, 20_000),
        NumaNode::new(1, 256),
        NumaNode::with_hmat(0, 256, 250, 5_000).cache(CACHE),
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
    OWN = "own", own, PLACED.min_page_locality(0.9);
    UNASKED = "unasked", near, Assert::NO_OVERRIDES;
    LASTING = "lasting", lasting, PLACED;
}

/// Workers on the CPUs of node 0, with their memory on `node`.
fn group(node: usize) -> CgroupDef {
    CgroupDef::named("placed")
        .workers(2)
        .cpuset(CpusetSpec::exact([0, 1]))
        .cpuset_mems([node].into())
}

fn placed(ctx: &Ctx, node: usize) -> Result<AssertResult> {
    execute_defs(ctx, vec![group(node)])
}

/// Workers on the CPUs of node 1, with memory from any node. The process from which they are forked has its memory on the
/// other nodes.
fn own(ctx: &Ctx) -> Result<AssertResult> {
    let cgroup = CgroupDef::named("placed").workers(2);
    execute_defs(ctx, vec![cgroup.cpuset(CpusetSpec::exact([2, 3]))])
}

/// Workers that outlive the only step.
fn lasting(ctx: &Ctx) -> Result<AssertResult> {
    let backdrop = Backdrop::new().push_cgroup(group(0));
    execute_scenario(ctx, backdrop, vec![Step::hold(HoldSpec::FULL)])
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

/// Returns the kinds of the failures, which are the test's fault.
fn failures(entry: &'static KtstrTestEntry) -> Vec<DetailKind> {
    let finished = run(entry);
    assert!(!finished.result.is_inconclusive(), "{}", finished.text);
    if finished.result.is_fail() {
        let text = &finished.text;
        assert!(
            text.contains("cpuset.mems places the memory of cgroup placed on nodes"),
            "{text}"
        );
    }
    let failed = finished.result.failure_details();
    failed.map(|detail| detail.kind).collect()
}

#[test]
fn pages_are_where_they_belong_or_not() {
    assert_eq!(failures(&NEAR), []);
    assert_eq!(failures(&OWN), []);
    assert_eq!(failures(&FAR), [DetailKind::PageLocality]);
    assert_eq!(
        failures(&SLOW),
        [DetailKind::PageLocality, DetailKind::SlowTier]
    );
}

/// Counting pages takes a walk through page tables, so it is only done on request.
#[test]
fn pages_are_only_looked_at_when_asked() {
    let locality = |entry| {
        let finished = run(entry);
        let vm = finished.vm.as_ref().expect("a machine ran");
        let share = vm.phase_cgroup_metric(Phase::step(0), "placed", "page_locality");
        assert_eq!(
            vm.run_metric("worst_page_locality"),
            share,
            "the run has one cgroup"
        );
        share
    };
    assert!(locality(&NEAR).is_some_and(|share| share > 0.5));
    assert!(locality(&LASTING).is_some_and(|share| share > 0.5));
    assert_eq!(locality(&UNASKED), None);
}

case!(SHOWN = "shown", shown, clock: ClockMode::Virtual, topology: NODES, duration: Duration::from_millis(100));

/// Checks that the guest's kernel reports the latency and the bandwidth that the test declares for the memory of each node, as
/// seen from the nearest CPUs (`access0`).
fn shown(_: &Ctx) -> Result<AssertResult> {
    let mut verdict = Verdict::new();
    for (path, declared) in [
        ("node0/access0/initiators/read_latency", "80"),
        ("node0/access0/initiators/read_bandwidth", "20000"),
        ("node2/access0/initiators/read_latency", "250"),
        ("node2/access0/initiators/read_bandwidth", "5000"),
        ("node2/memory_side_cache/index1/size", "1048576"),
        ("node2/memory_side_cache/index1/indexing", "0"),
        ("node2/memory_side_cache/index1/write_policy", "0"),
        ("node2/memory_side_cache/index1/line_size", "64"),
    ] {
        let read = std::fs::read_to_string(format!("/sys/devices/system/node/{path}"));
        let read = read.map_or_else(|error| error.to_string(), |text| text.trim().to_owned());
        verdict.claim(path, read).eq(declared.to_owned());
    }
    Ok(verdict.into_result())
}

#[test]
fn the_guest_sees_the_declared_latency_and_bandwidth_of_memory() {
    let finished = run(&SHOWN);
    assert!(finished.result.is_pass(), "{}", finished.text);
}
