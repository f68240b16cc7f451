//! Pressure stall information of every cgroup (kernel/sched/psi.c). The numbers are those of the kernel's last update, which it
//! makes every two seconds while tasks are active.

use std::collections::BTreeMap;

use ktstr_snapshot::ReadSection;
use ktstr_snapshot::report::{CgroupPsi, FailureDumpReport, PsiLine, Section};

use crate::capture::Reading;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The number of averages of each state: over 10, 60 and 300 s.
const AVERAGES: u64 = 3;
/// The largest number of states that are read; six or seven have averages, depending on `CONFIG_IRQ_TIME_ACCOUNTING`.
const MAX_STATES: u64 = 16;
/// The fixed-point number that stands for one percent (`FIXED_1`, include/linux/sched/loadavg.h).
const PERCENT: f64 = 2048.0;

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the pressure of each cgroup, the root first, and the reason if some are missing.
    ///
    /// # Errors
    /// If the kernel does not account pressure, or memory cannot be read.
    pub fn cgroup_pressure(&self) -> Result<(Vec<CgroupPsi>, Option<String>), KernelError> {
        let lines = Lines::new(self)?;
        let group = self.member("cgroup", "psi")?.offset();
        let (cgroups, mut trouble) = self.cgroups()?;
        let mut found = Vec::new();
        for cgroup in cgroups {
            let psi = match cgroup.above {
                // The pressure of the whole machine, which is not stored in the root cgroup.
                None => self.symbol("psi_system")?,
                Some(_) => self.read_u64(cgroup.kva.wrapping_add(group))?,
            };
            if let (true, Some(path)) = (psi != 0, cgroup.path) {
                match lines.read(self, psi) {
                    Ok(lines) => found.push(CgroupPsi { path, lines }),
                    Err(error) => {
                        trouble.get_or_insert(error.to_string());
                    }
                }
            }
        }
        Ok((found, trouble))
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<Vec<CgroupPsi>> for Reading<'_, '_, M> {
    fn read_section(&self, _: &FailureDumpReport) -> Section<Vec<CgroupPsi>> {
        self.view.cgroup_pressure().into()
    }
}

/// The layout of a `struct psi_group`, looked up once per capture.
struct Lines {
    /// The names of the states in the order of `enum psi_states`, such as `cpu.some`.
    names: Vec<String>,
    /// The offset of the averages in bytes: for each state, [`AVERAGES`] numbers of 8 bytes.
    average: u64,
    /// The offset of the totals in bytes: for each state, one number of 8 bytes.
    total: u64,
}

impl Lines {
    fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Result<Self, KernelError> {
        let average = view.member("psi_group", "avg")?;
        let total = view.member("psi_group", "total")?;
        let states = (average.size / (8 * AVERAGES)).min(MAX_STATES);
        let names = (0..states).map_while(|state| {
            let name = view
                .btf()
                .enumerator("psi_states", i64::try_from(state).ok()?)?;
            let name = name.strip_prefix("PSI_")?.to_lowercase();
            Some(name.replacen('_', ".", 1))
        });
        Ok(Self {
            names: names.collect(),
            average: average.offset(),
            total: total.offset(),
        })
    }

    fn read<M: GuestMemory + ?Sized>(
        &self,
        view: &KernelView<'_, M>,
        group: u64,
    ) -> Result<BTreeMap<String, PsiLine>, KernelError> {
        let mut lines = BTreeMap::new();
        for (state, name) in (0..).zip(&self.names) {
            let of = |start: u64, step: u64| group.wrapping_add(start + step * state);
            let average = view.read_u64(of(self.average, 8 * AVERAGES))?;
            // The first row of totals belongs to the averages (`PSI_AVGS`); the second, for triggers, is not read.
            let total_ns = view.read_u64(of(self.total, 8))?;
            let line = PsiLine {
                avg10: average as f64 / PERCENT,
                total_us: total_ns / 1000,
            };
            lines.insert(name.clone(), line);
        }
        Ok(lines)
    }
}
