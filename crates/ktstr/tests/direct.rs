//! Cgroups and workers without steps: a test function that makes, moves, stops and judges them itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

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
