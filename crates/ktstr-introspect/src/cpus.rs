//! Per-CPU state: runqueues (`kernel/sched/sched.h`) and time accounting (`include/linux/kernel_stat.h`).

use ktstr_snapshot::ReadSection;
use ktstr_snapshot::report::{CpuStat, FailureDumpReport, PerCpuTimeStats, RqScxState, Section};

use crate::capture::Reading;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the runqueue of every CPU. The sched_ext parts are 0 on a kernel without sched_ext.
    ///
    /// # Errors
    /// If a runqueue cannot be read. If only the task that a CPU runs cannot be read, its pid and name are `None`.
    pub fn runqueues(&self) -> Result<Vec<RqScxState>, KernelError> {
        let base = self.symbol("runqueues")?;
        let member = |path| self.member("rq", path);
        let (running, clock) = (member("nr_running")?, member("clock")?);
        let scx_running = member("scx.nr_running").ok();
        let local_depth = member("scx.local_dsq.nr").ok();
        let scx_flags = member("scx.flags").ok();
        let switches = member("nr_switches").ok();
        // Without proxy execution, `curr` and `donor` are members of an anonymous union. The look-up finds `curr` there too.
        let curr = member("curr").ok();
        let pid = self.member("task_struct", "pid")?;
        let comm = self.member("task_struct", "comm")?;
        let mut states = Vec::new();
        for cpu in 0..self.cpu_count()? {
            let rq = self.per_cpu(base, cpu)?;
            let optional = |member: &Option<crate::btf::Member>| match member {
                Some(member) => self.read_member(rq, member).map(Some),
                None => Ok(None),
            };
            let task = optional(&curr)?.filter(|task| *task != 0);
            let curr_pid = task.and_then(|task| self.read_member(task, &pid).ok());
            let curr_comm = task.and_then(|task| {
                self.read_string(task.wrapping_add(comm.offset()), comm.size)
                    .ok()
            });
            states.push(RqScxState {
                cpu,
                nr_running: narrow::count(self.read_member(rq, &running)?),
                scx_nr_running: narrow::count(optional(&scx_running)?.unwrap_or(0)),
                local_dsq_depth: narrow::count(optional(&local_depth)?.unwrap_or(0)),
                rq_clock: self.read_member(rq, &clock)?,
                scx_flags: narrow::low_half(optional(&scx_flags)?.unwrap_or(0)),
                curr_pid: curr_pid.map(narrow::int),
                curr_comm,
                nr_switches: optional(&switches)?,
            });
        }
        Ok(states)
    }

    /// Returns the CPU time and the interrupt counts of every CPU (`kernel_cpustat`, `kstat`).
    pub fn per_cpu_time(&self) -> Result<Vec<PerCpuTimeStats>, KernelError> {
        let (times, counts) = (self.symbol("kernel_cpustat")?, self.symbol("kstat")?);
        let cpustat = self.member("kernel_cpustat", "cpustat")?;
        let irqs_sum = self.member("kernel_stat", "irqs_sum")?;
        let softirqs = self.member("kernel_stat", "softirqs")?;
        let mut stats = Vec::new();
        for cpu in 0..self.cpu_count()? {
            let time = self.per_cpu(times, cpu)?.wrapping_add(cpustat.offset());
            let count = self.per_cpu(counts, cpu)?;
            // The times are an array of `u64` in the order of `enum cpu_usage_stat`.
            let slot = |index: u64| self.read_u64(time.wrapping_add(8 * index));
            let cpustat = CpuStat {
                user_ns: slot(0)?,
                nice_ns: slot(1)?,
                system_ns: slot(2)?,
                softirq_ns: slot(3)?,
                irq_ns: slot(4)?,
                idle_ns: slot(5)?,
                iowait_ns: slot(6)?,
                steal_ns: slot(7)?,
            };
            // `softirqs` is an array of `unsigned int`, which may have fewer than ten elements.
            let mut kinds = [0; 10];
            for (index, kind) in kinds.iter_mut().enumerate() {
                if 4 * (index as u64) < softirqs.size {
                    let at = count.wrapping_add(softirqs.offset() + 4 * index as u64);
                    *kind = u64::from(self.read_u32(at)?);
                }
            }
            stats.push(PerCpuTimeStats {
                cpu,
                cpustat,
                softirqs: kinds,
                irqs_sum: self.read_member(count, &irqs_sum)?,
            });
        }
        Ok(stats)
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<Vec<PerCpuTimeStats>> for Reading<'_, '_, M> {
    fn read_section(&self, _: &FailureDumpReport) -> Section<Vec<PerCpuTimeStats>> {
        self.view.per_cpu_time().into()
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<Vec<RqScxState>> for Reading<'_, '_, M> {
    fn read_section(&self, _: &FailureDumpReport) -> Section<Vec<RqScxState>> {
        self.view.runqueues().into()
    }
}
