//! BPF programs: their names, run-time statistics and maps.

use ktstr_snapshot::ReadSection;
use ktstr_snapshot::report::{FailureDumpReport, ProgRuntimeStats, Section};

use crate::btf::Member;
use crate::capture::Reading;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;

/// The largest number of programs that are listed.
const MAX_PROGS: usize = 512;

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns up to 512 programs in the order of their ids, each with its statistics summed over the CPUs. A program
    /// that cannot be read is left out.
    pub fn prog_runtime_stats(&self) -> Result<Vec<ProgRuntimeStats>, KernelError> {
        let aux = self.member("bpf_prog", "aux")?;
        let stats = self.member("bpf_prog", "stats")?;
        let name = self.member("bpf_prog_aux", "name")?;
        let id = self.member("bpf_prog_aux", "id")?;
        let verified = self.member("bpf_prog_aux", "verified_insns").ok();
        let counters = [
            self.member("bpf_prog_stats", "cnt")?,
            self.member("bpf_prog_stats", "nsecs")?,
            self.member("bpf_prog_stats", "misses")?,
        ];
        let cpus = self.cpu_count()?;
        let read = |prog: u64| -> Result<ProgRuntimeStats, KernelError> {
            let aux = self.read_member(prog, &aux)?;
            let per_cpu = self.read_member(prog, &stats)?;
            let mut sums = [0u64; 3];
            for cpu in 0..cpus {
                let copy = self.per_cpu(per_cpu, cpu)?;
                for (sum, counter) in sums.iter_mut().zip(&counters) {
                    let value = self.read_u64(copy.wrapping_add(counter.offset()))?;
                    *sum = sum.wrapping_add(value);
                }
            }
            let number = |member: &Member| self.read_member(aux, member);
            Ok(ProgRuntimeStats {
                name: self.read_string(aux.wrapping_add(name.offset()), name.size)?,
                id: narrow::count(number(&id)?),
                cnt: sums[0],
                nsecs: sums[1],
                misses: sums[2],
                verified_insns: verified.as_ref().map_or(Ok(0), number)?,
            })
        };
        let progs = self.walk_idr(self.symbol("prog_idr")?, MAX_PROGS)?;
        Ok(progs
            .into_iter()
            .filter_map(|prog| read(prog.pointer).ok())
            .collect())
    }

    /// Returns the addresses of the maps that a program uses (`bpf_prog_aux.used_maps`), at most 64.
    pub(crate) fn prog_used_maps(&self, prog: u64) -> Result<Vec<u64>, KernelError> {
        let aux = self.read_member(prog, &self.member("bpf_prog", "aux")?)?;
        let maps = self.read_member(aux, &self.member("bpf_prog_aux", "used_maps")?)?;
        let count = self.read_member(aux, &self.member("bpf_prog_aux", "used_map_cnt")?)?;
        (0..count.min(64))
            .map(|index| self.read_u64(maps.wrapping_add(8 * index)))
            .collect()
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<Vec<ProgRuntimeStats>> for Reading<'_, '_, M> {
    fn read_section(&self, _: &FailureDumpReport) -> Section<Vec<ProgRuntimeStats>> {
        self.view.prog_runtime_stats().into()
    }
}
