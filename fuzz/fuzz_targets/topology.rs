//! Short texts: topologies, lists of CPUs, kernel versions, and the kernel's texts about memory.
#![no_main]

use std::cmp::Ordering;

use ktstr_assert::{parse_numa_maps, parse_vmstat_numa_pages_migrated};
use ktstr_fuzz::bounded;
use ktstr_kernel::version;
use ktstr_scenario::topology::{TestTopology, Topology, cpuset_string, parse_cpulist};
use libfuzzer_sys::fuzz_target;

fn run(text: &str) {
    if let Ok(topology) = text.parse::<Topology>() {
        assert!(topology.validate().is_ok());
        assert_eq!(topology.to_string().parse(), Ok(topology));
        if topology.total_cpus() <= 512 && topology.num_numa_nodes() <= 64 {
            let seen = TestTopology::from_vm_topology(&topology);
            assert_eq!(seen.total_cpus(), topology.total_cpus() as usize);
            let _ = (seen.short_text(), seen.overlapping_cpusets(3, 0.5));
        }
    }
    if let Ok(cpus) = parse_cpulist(text) {
        assert_eq!(parse_cpulist(&cpuset_string(&cpus)), Ok(cpus));
    }
    let (one, other) = text.split_once('\n').unwrap_or((text, ""));
    assert_eq!(version::compare(one, one), Ordering::Equal);
    let order = version::compare(one, other);
    assert_eq!(version::compare(other, one), order.reverse());
    let order = version::by_preference(one, other);
    assert_eq!(version::by_preference(other, one), order.reverse());
    let _ = (
        version::flavour(one),
        version::base(one),
        version::series(one),
    );
    if let Some(wanted) = version::Spec::parse(one) {
        let _ = (wanted.matches(other), wanted.is_newest());
    }
    let _ = (
        parse_numa_maps(text),
        parse_vmstat_numa_pages_migrated(text),
    );
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        bounded(|| run(text));
    }
});
