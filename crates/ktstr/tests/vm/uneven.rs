//! Tests that machines whose LLCs or nodes differ in size are built as declared: the guest's kernel reports which CPUs share a
//! cache, a core and a node, and a scheduler runs on all CPUs.

use std::time::Duration;

use anyhow::{Result, ensure};
use ktstr::prelude::*;

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

/// One LLC with two cores and one LLC with one core, and two threads per core.
const CORES: Topology = Topology {
    llc_cores: Some(&[2, 1]),
    ..Topology::new(1, 2, 2, 2)
};

/// One node with two LLCs, one node with one LLC, and one node with memory only.
const NODES: Topology = Topology::with_nodes(
    1,
    1,
    &[
        NumaNode::new(2, 256),
        NumaNode::new(1, 256),
        NumaNode::new(0, 256),
    ],
);

/// Reads from sysfs which CPUs share the last-level cache, the core and the node of each CPU.
fn shape() -> Result<Vec<[String; 3]>> {
    let cpus = "/sys/devices/system/cpu";
    let read =
        |file: String| -> Result<String> { Ok(std::fs::read_to_string(file)?.trim().to_owned()) };
    let mut shape = Vec::new();
    while std::path::Path::new(&format!("{cpus}/cpu{}", shape.len())).exists() {
        let cpu = format!("{cpus}/cpu{}", shape.len());
        let node = std::fs::read_dir(&cpu)?.find_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.starts_with("node").then_some(name)
        });
        shape.push([
            read(format!("{cpu}/cache/index3/shared_cpu_list"))?,
            read(format!("{cpu}/topology/thread_siblings_list"))?,
            node.unwrap_or_default(),
        ]);
    }
    ensure!(read(format!("{cpus}/possible"))? == format!("0-{}", shape.len() - 1));
    Ok(shape)
}

/// Checks the shape, and runs two canned scenarios that have more workers than CPUs.
fn runs(ctx: &Ctx, wanted: &[[&str; 3]]) -> Result<AssertResult> {
    let found = shape()?;
    ensure!(found == wanted, "{found:?}");
    ensure!(ctx.topo.total_cpus() == wanted.len());
    let mut result = scenarios::oversubscribed(ctx)?;
    result.merge(scenarios::steady_llc(ctx)?);
    Ok(result)
}

fn cores(ctx: &Ctx) -> Result<AssertResult> {
    let [first, second, third] = ["0-1", "2-3", "4-5"];
    let of = |llc, core| [llc, core, "node0"];
    let wanted = [
        of("0-3", first),
        of("0-3", first),
        of("0-3", second),
        of("0-3", second),
        of("4-5", third),
        of("4-5", third),
    ];
    runs(ctx, &wanted)
}

fn nodes(ctx: &Ctx) -> Result<AssertResult> {
    let wanted = [
        ["0", "0", "node0"],
        ["1", "1", "node0"],
        ["2", "2", "node1"],
    ];
    let memory = std::fs::read_to_string("/sys/devices/system/node/has_memory")?;
    ensure!(memory.trim() == "0-2", "{memory:?}");
    runs(ctx, &wanted)
}

macro_rules! shapes {
    ($($test:ident: $function:ident on $topology:ident as $text:literal;)*) => { $(
        #[test]
        fn $test() {
            case!(EEVDF = concat!("uneven_", stringify!($function)), $function,
                topology: $topology, duration: Duration::from_secs(2));
            case!(SCX = concat!("uneven_scx_", stringify!($function)), $function,
                topology: $topology, duration: Duration::from_secs(2), scheduler: &SCX_KTSTR);
            assert_eq!($topology.to_string(), $text);
            for entry in [&EEVDF, &SCX] {
                let finished = ktstr::run::run(entry);
                assert!(finished.result.is_pass(), "{}", finished.text);
                let monitor = finished.vm.and_then(|vm| vm.monitor).expect("it is on");
                let cpus = $topology.total_cpus() as usize;
                assert!(monitor.samples.iter().all(|sample| sample.cpus.len() == cpus));
            }
        }
    )* };
}

shapes! {
    llcs_have_the_cores_that_are_declared: cores on CORES as "1n2l2+1c2t";
    nodes_have_the_llcs_that_are_declared: nodes on NODES as "3n2+1l1c1t";
}
