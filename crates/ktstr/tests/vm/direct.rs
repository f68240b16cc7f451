//! Tests without steps, whose functions create, move, stop and check cgroups and workers themselves; and tests of the topology of
//! the machine, which may differ from the declared one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::Case;
use ktstr::prelude::*;
use ktstr::scenario::{dfl_wl, setup_cgroups};

fn folder(ctx: &Ctx, name: &str) -> PathBuf {
    ctx.cgroups.parent_path().join(name)
}

/// Two cgroups of two spinning workers each, on two CPUs.
#[ktstr_test(cores = 2, duration_s = 1)]
fn cgroups_made_by_hand_hold_their_workers_and_go_with_their_group(
    ctx: &Ctx,
) -> Result<AssertResult> {
    let two = CtxBuilder::workers_per_cgroup(Ctx::builder(ctx.cgroups, ctx.topo), 2).build();
    let nameless = two
        .failure_dump_path()
        .expect_err("a context without a test must have no such file");
    assert!(nameless.to_string().contains("names no test"), "{nameless}");
    let (handles, group) = setup_cgroups(&two, 2, &dfl_wl(&two))?;
    assert_eq!(group.names(), ["cg_0", "cg_1"]);
    for (name, handle) in group.names().iter().zip(&handles) {
        let mut inside = ctx.cgroups.read_procs(name)?;
        let mut workers = handle.worker_pids();
        inside.sort_unstable();
        workers.sort_unstable();
        assert_eq!(workers.len(), 2);
        assert_eq!(inside, workers, "the tasks of {name}");
    }
    std::thread::sleep(Duration::from_millis(500));
    let mut result = collect_all(handles, &Assert::NO_OVERRIDES.check_not_stuck());
    assert_eq!(result.stats.total_workers, 4);
    assert_eq!(result.stats.cgroups.len(), 2);
    drop(group);
    for name in ["cg_0", "cg_1"] {
        assert!(!folder(ctx, name).exists(), "{name} outlived its group");
    }

    let mut group = CgroupGroup::new(ctx.cgroups);
    let first = [ctx.topo.all_cpus()[0]].into();
    group.add_cgroup("pinned", &first)?;
    for name in ["bursty", "writes", "mixed", "yields"] {
        group.add_cgroup_no_cpuset(name)?;
    }
    let names: Vec<&str> = group.names().iter().map(String::as_str).collect();
    let handles = spawn_diverse(ctx, &names)?;
    let effective = Path::new("cpuset.cpus.effective");
    let cpus = std::fs::read_to_string(folder(ctx, "pinned").join(effective))?;
    assert_eq!(
        cpus.trim(),
        first.first().map_or(String::new(), usize::to_string)
    );
    std::thread::sleep(Duration::from_millis(300));
    let diverse = collect_all(handles, &Assert::NO_OVERRIDES);
    let workers: Vec<usize> = diverse
        .stats
        .cgroups
        .iter()
        .map(|c| c.num_workers)
        .collect();
    assert_eq!(workers, [1, 1, 2, 1, 1]);
    assert!(
        diverse.stats.cgroups.iter().all(|c| c.total_iterations > 0),
        "{:?}",
        diverse.stats.cgroups
    );
    result.merge(diverse);
    Ok(result)
}

/// Reports the shape of its machine in a failure.
fn tell_shape(ctx: &Ctx) -> Result<AssertResult> {
    let (cpus, llcs) = (ctx.topo.total_cpus(), ctx.topo.num_llcs());
    Ok(AssertResult::fail_msg(format!(
        "saw {cpus} CPUs in {llcs} LLCs"
    )))
}

case!(SHAPE = "shape", tell_shape, duration: Duration::from_secs(1));
case!(
    TWO_LLCS = "two_llcs", tell_shape,
    topology: Topology::new(1, 2, 1, 1),
    constraints: TopologyConstraints::DEFAULT.with_min_llcs(2),
    duration: Duration::from_secs(1),
);

#[test]
fn the_environment_gives_another_shape_where_the_test_admits_it() {
    let ended = Case::new("shape")
        .env("KTSTR_TOPOLOGY", "4cpu-2llc-nosmt")
        .run();
    ended.says(1, &["saw 4 CPUs in 2 LLCs", "[topo=1n2l2c1t]"]);
    let record = ended.record.expect("the run left a record");
    assert_eq!(record.record.topology.as_deref(), Some("1n2l2c1t"));
    assert_eq!(
        record
            .record
            .environment
            .get("KTSTR_TOPOLOGY")
            .map(String::as_str),
        Some("4cpu-2llc-nosmt"),
        "a replay needs the variable"
    );
    let skipped = Case::new("two_llcs")
        .env("KTSTR_TOPOLOGY", "1n1l4c1t")
        .run();
    skipped.says(0, &["ktstr: SKIP:", "min_llcs = 2, and the topology has 1"]);
}
