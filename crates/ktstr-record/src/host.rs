//! Detects the properties of the host that a record contains.

use std::fs;
use std::thread;

use crate::record::HostRecord;

impl HostRecord {
    /// Detects the number of CPUs that this process may use, the size of this machine's memory, and the model of its
    /// processor. A value that cannot be read is 0 or empty, since a record must not be lost because of it.
    #[must_use]
    pub fn detect() -> Self {
        Self {
            cores: thread::available_parallelism()
                .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memory_mib: fs::read_to_string("/proc/meminfo")
                .ok()
                .and_then(|text| memory_mib(&text))
                .unwrap_or(0),
            cpu_model: fs::read_to_string("/proc/cpuinfo")
                .ok()
                .and_then(|text| cpu_model(&text))
                .unwrap_or_default(),
        }
    }
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_s_tables() {
        assert_eq!(
            memory_mib("MemTotal:       24576000 kB\nMemFree: 1 kB\n"),
            Some(24000)
        );
        assert_eq!(memory_mib("MemFree: 1 kB\n"), None);
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\n"),
            Some("Some CPU @ 2.0GHz".to_owned())
        );
        assert_eq!(cpu_model("processor\t: 0\n"), None);
    }

    #[test]
    fn this_machine_has_a_size() {
        let host = HostRecord::detect();
        assert!(host.cores > 0 && host.memory_mib > 0, "{host:?}");
    }
}
