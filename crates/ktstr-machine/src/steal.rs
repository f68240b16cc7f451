//! The CPU time that a hypervisor below the host takes from the host's CPUs ("steal").
//!
//! If the host is a virtual machine itself, as in most CI services, its CPUs stand still while the hypervisor runs other
//! machines. The host's scheduler counts this time as time for which a vCPU thread ran, so only the host's own counters show it.

/// Adds up the steal between the calls of [`poll`](Self::poll).
#[derive(Debug, Default)]
pub struct Steal {
    /// The counters of the host's CPUs at the last call, in clock ticks.
    last: Vec<u64>,
    ticks: u64,
}

impl Steal {
    /// Returns the steal since the first call, in nanoseconds with the resolution of the clock tick. Between two calls the CPU
    /// that lost most counts, because any vCPU may have been on it. `None` if `/proc/stat` does not show it.
    pub fn poll(&mut self) -> Option<u64> {
        self.take(&std::fs::read_to_string("/proc/stat").ok()?)?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(self.ticks.saturating_mul(1_000_000_000 / per_second))
    }

    fn take(&mut self, stat: &str) -> Option<()> {
        let now: Vec<u64> = stat.lines().filter_map(of_cpu).collect();
        if now.is_empty() {
            return None;
        }
        // If a CPU went offline or online, the counters cannot be matched.
        if now.len() == self.last.len() {
            let both = self.last.iter().zip(&now);
            let most = both.map(|(last, now)| now.saturating_sub(*last)).max();
            self.ticks = self.ticks.saturating_add(most.unwrap_or(0));
        }
        self.last = now;
        Some(())
    }
}

/// Returns the steal of a CPU from its line of `/proc/stat`, where it is the eighth number after the name (`proc_stat(5)`).
fn of_cpu(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("cpu")?;
    // The line of all CPUs together has no number after `cpu`.
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    rest.split_whitespace().nth(8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(steal: &[u64]) -> String {
        let cpus = steal.iter().enumerate();
        let lines = cpus.map(|(cpu, steal)| format!("cpu{cpu} 9 8 7 6 5 4 3 {steal} 2 1\n"));
        format!(
            "cpu  1 1 1 1 1 1 1 999 1 1\n{}intr 5 4\n",
            lines.collect::<String>()
        )
    }

    #[test]
    fn the_cpu_that_lost_most_counts_between_two_readings() {
        let mut steal = Steal::default();
        for (counters, sum) in [
            (&[100, 200][..], 0),
            (&[130, 210], 30),
            (&[131, 250], 70),
            (&[131], 70),
            (&[140], 79),
        ] {
            assert_eq!(steal.take(&stat(counters)), Some(()));
            assert_eq!(steal.ticks, sum, "{counters:?}");
        }
        assert_eq!(steal.take("intr 5\n"), None);
    }

    #[test]
    fn this_host_shows_its_steal() {
        let mut steal = Steal::default();
        assert_eq!(steal.poll(), Some(0));
        assert!(steal.poll().is_some());
    }
}
