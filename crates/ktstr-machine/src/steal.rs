//! The CPU time that a hypervisor below the host takes from the host's CPUs ("steal").
//!
//! If the host is a virtual machine itself, as in most CI services, its CPUs stand still while the hypervisor runs other
//! machines. The host's scheduler counts this time as time for which a vCPU thread ran, so only the host's own counters show it.

/// Returns the steal of each CPU of the host since it booted, in nanoseconds with the resolution of the clock tick. The index
/// is the number of the CPU; an offline CPU has 0. Empty if `/proc/stat` does not show it.
pub fn host_steal() -> Vec<u64> {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = of_cpus(&stat);
    let ns = |ticks: u64| ticks.saturating_mul(1_000_000_000 / per_second);
    ticks.into_iter().map(ns).collect()
}

/// Returns the steal of each CPU in clock ticks.
fn of_cpus(stat: &str) -> Vec<u64> {
    let mut all = Vec::new();
    for (cpu, steal) in stat.lines().filter_map(of_cpu) {
        if all.len() <= cpu {
            all.resize(cpu + 1, 0);
        }
        all[cpu] = steal;
    }
    all
}

/// Returns the number of a CPU and its steal from its line of `/proc/stat`, where the steal is the eighth number after the name
/// (`proc_stat(5)`). `None` for other lines, such as that of all CPUs together.
fn of_cpu(line: &str) -> Option<(usize, u64)> {
    let mut words = line.strip_prefix("cpu")?.split(' ');
    let cpu: u16 = words.next()?.parse().ok()?;
    Some((usize::from(cpu), words.nth(7)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_has_its_own_steal() {
        let stat = "cpu  9 9 9 9 9 9 9 999 9 9\ncpu0 9 8 7 6 5 4 3 20 2 1\ncpu3 9 8 7 6 5 4 3 40 2 1\nintr 5 4\n";
        assert_eq!(of_cpus(stat), [20, 0, 0, 40]);
        assert_eq!(of_cpus("intr 5\ncpu1 7\n"), [0; 0]);
    }
}
