//! Tests of the CPU time and the throttling of cgroups in captures, and of the counters of NUMA nodes: the guest reads the same
//! numbers from its own files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ktstr::prelude::*;

/// A cgroup with a quota and one without, under the kernel's own scheduler, which enforces quotas. Both are frozen half a second
/// before the capture, so that their CPU time does not change between the capture and the readings of the guest.
#[ktstr_test(cores = 2, duration_s = 3, clock = "virtual", post_vm = as_the_guest_reads_them)]
fn a_capture_has_what_cpu_stat_says(ctx: &Ctx) -> Result<AssertResult> {
    let limited = CgroupDef::named("limited")
        .workers(2)
        .cpu_quota(Duration::from_millis(20), Duration::from_millis(100));
    let backdrop = Backdrop::from_cgroups([limited, CgroupDef::named("free").workers(2)]);
    let hold = HoldSpec::Fixed;
    let ms = Duration::from_millis;
    let both = |op: fn(&'static str) -> Op| vec![op("limited"), op("free")];
    let steps = vec![
        Step {
            setup: Vec::new().into(),
            ops: Vec::new(),
            hold: hold(ms(1000)),
        },
        Step {
            setup: Vec::new().into(),
            ops: both(Op::freeze_cgroup),
            hold: hold(ms(500)),
        },
        Step::with_op(Op::capture_snapshot("frozen"), hold(ms(500))),
        Step {
            setup: Vec::new().into(),
            ops: both(Op::unfreeze_cgroup),
            hold: hold(ms(200)),
        },
    ];
    let root = ctx.cgroups.parent_path().to_path_buf();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_while_frozen(&root, &over));
        let result = execute_scenario(ctx, backdrop, steps);
        over.store(true, Relaxed);
        let readings = reader.join().expect("the reader does not panic");
        println!("{}", serde_json::to_string(&readings)?);
        result
    })
}

/// Reads a file in which each line is a name and a number.
fn numbers(path: PathBuf) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    lines.collect()
}

/// Returns what the guest reads 400 ms and 700 ms after the cgroups are frozen, which is before and after the capture at 500 ms.
/// Nothing reads `cpu.stat` before the second reading, so at the capture the kernel has not added up all CPU time of `free`.
fn read_while_frozen(root: &Path, over: &AtomicBool) -> BTreeMap<String, BTreeMap<String, u64>> {
    let tick = Duration::from_millis(10);
    let is_frozen = || numbers(root.join("free/cgroup.events")).get("frozen") == Some(&1);
    let numa = || numbers("/sys/devices/system/node/node0/numastat".into());
    while !over.load(Relaxed) && !is_frozen() {
        std::thread::sleep(tick);
    }
    let mut readings = BTreeMap::new();
    std::thread::sleep(40 * tick);
    readings.insert("numa before".to_owned(), numa());
    std::thread::sleep(30 * tick);
    readings.insert("numa after".to_owned(), numa());
    for name in ["limited", "free", "."] {
        readings.insert(name.to_owned(), numbers(root.join(name).join("cpu.stat")));
    }
    readings
}

fn as_the_guest_reads_them(vm: &VmResult) -> Result<()> {
    let line = vm.output.lines().find(|line| line.starts_with('{'));
    let readings: BTreeMap<String, BTreeMap<String, u64>> =
        serde_json::from_str(line.context("the guest printed its readings")?)?;
    let of = |file: &str, name: &str| {
        let value = readings.get(file).and_then(|file| file.get(name));
        value
            .copied()
            .with_context(|| format!("{file}: {name} in {readings:?}"))
    };
    let captures = vm.captures_series();
    let frozen = captures
        .entries()
        .iter()
        .find(|entry| entry.tag == "frozen");
    let report = &frozen.context("a capture")?.report;
    let unavailable = report.cgroup_cpu.reason();
    ensure!(unavailable.is_none(), "{unavailable:?}");
    let captured = |end: &str| {
        let found = report
            .cgroup_cpu
            .iter()
            .find(|cgroup| cgroup.path.ends_with(end));
        found.with_context(|| format!("no {end} in {:?}", report.cgroup_cpu))
    };
    for name in ["limited", "free"] {
        let cgroup = captured(&format!("/{name}"))?;
        let usage = of(name, "usage_usec")?;
        ensure!(
            cgroup.usage_us == usage,
            "{cgroup:?}, the guest reads {usage}"
        );
        ensure!(usage > 100_000, "{name} ran for only {usage} us");
        let throttling = cgroup.throttled.as_ref().context("the cpu controller")?;
        for (here, there) in [
            (throttling.throttled, "nr_throttled"),
            (throttling.throttled_us, "throttled_usec"),
            (throttling.periods, "nr_periods"),
        ] {
            let there = of(name, there)?;
            ensure!(here == there, "{cgroup:?}, the guest reads {there}");
        }
        let is_limited = name == "limited";
        ensure!((throttling.throttled > 5) == is_limited, "{cgroup:?}");
        ensure!(
            (throttling.throttled_us > 100_000) == is_limited,
            "{cgroup:?}"
        );
    }
    // The CPU time of the parent includes that of both children, and the root cgroup is not listed.
    let all = of("limited", "usage_usec")? + of("free", "usage_usec")?;
    let root = captured("/ktstr")?;
    ensure!(
        root.usage_us >= all && root.usage_us <= of(".", "usage_usec")?,
        "{root:?}, {all}"
    );
    ensure!(!report.cgroup_cpu.iter().any(|cgroup| cgroup.path == "/"));

    let unavailable = report.per_node_numa.reason();
    ensure!(unavailable.is_none(), "{unavailable:?}");
    let [node] = &report.per_node_numa[..] else {
        anyhow::bail!("one node: {:?}", report.per_node_numa);
    };
    for (here, there) in [
        ("numa_hit", "numa_hit"),
        ("numa_miss", "numa_miss"),
        ("numa_local", "local_node"),
        ("numa_other", "other_node"),
        ("numa_interleave_hit", "interleave_hit"),
    ] {
        let here = node
            .counters
            .get(here)
            .with_context(|| format!("{here} in {node:?}"))?;
        let (before, after) = (of("numa before", there)?, of("numa after", there)?);
        ensure!(
            (before..=after).contains(here),
            "{there}: {here}, guest {before} to {after}"
        );
    }
    ensure!(of("numa before", "numa_hit")? > 1000, "{readings:?}");
    Ok(())
}
