//! The layout of the runqueues, tasks and scheduling domains that a sample reads, looked up once per sampler.

use crate::btf::{Btf, Member};
use crate::kernel::KernelError;

/// The largest number of bytes of a struct that are read at once.
const MAX_SPAN: u64 = 16 << 10;

/// Members of `struct rq`.
pub(super) struct RqLayout {
    /// The number of bytes from the start of the struct that contain all members, at most [`MAX_SPAN`]; members beyond that read
    /// as 0.
    pub span: usize,
    pub cpu: Member,
    pub nr_running: Member,
    pub clock: Member,
    pub curr: Member,
    pub idle: Member,
    pub online: Option<Member>,
    pub nr_switches: Option<Member>,
    pub cfs_tasks: Option<Member>,
    pub domain: Option<Member>,
    pub avg_irq: Option<Member>,
    pub run_delay: Option<Member>,
    pub pcount: Option<Member>,
    /// `yld_count`, `sched_count`, `sched_goidle`, `ttwu_count`, `ttwu_local`; `None` if the kernel lacks one of them.
    pub counts: Option<[Member; 5]>,
    pub scx: Option<ScxRq>,
}

/// The sched_ext part of a runqueue.
pub(super) struct ScxRq {
    pub nr_running: Member,
    pub flags: Member,
    /// The offset of the local dispatch queue in `struct rq`, in bytes.
    pub local_dsq: u64,
    pub local_nr: Member,
    pub runnable_list: Member,
}

impl RqLayout {
    pub fn new(btf: &Btf) -> Result<Self, KernelError> {
        let member = |path| btf.member("rq", path);
        let counts = || -> Option<[Member; 5]> {
            let names = [
                "yld_count",
                "sched_count",
                "sched_goidle",
                "ttwu_count",
                "ttwu_local",
            ];
            let all: Vec<Member> = names.iter().filter_map(|n| member(n).ok()).collect();
            all.try_into().ok()
        };
        let scx = || -> Option<ScxRq> {
            Some(ScxRq {
                nr_running: member("scx.nr_running").ok()?,
                flags: member("scx.flags").ok()?,
                local_dsq: member("scx.local_dsq").ok()?.offset(),
                local_nr: member("scx.local_dsq.nr").ok()?,
                runnable_list: member("scx.runnable_list").ok()?,
            })
        };
        let mut layout = Self {
            span: 0,
            cpu: member("cpu")?,
            nr_running: member("nr_running")?,
            clock: member("clock")?,
            curr: member("curr")?,
            idle: member("idle")?,
            online: member("online").ok(),
            nr_switches: member("nr_switches").ok(),
            cfs_tasks: member("cfs_tasks").ok(),
            domain: member("sd").ok(),
            avg_irq: member("avg_irq.util_avg").ok(),
            run_delay: member("rq_sched_info.run_delay").ok(),
            pcount: member("rq_sched_info.pcount").ok(),
            counts: counts(),
            scx: scx(),
        };
        layout.span = span(&layout.all());
        Ok(layout)
    }

    fn all(&self) -> Vec<Member> {
        let mut all = vec![self.cpu, self.nr_running, self.clock, self.curr, self.idle];
        let optional = [
            self.online,
            self.nr_switches,
            self.cfs_tasks,
            self.domain,
            self.avg_irq,
            self.run_delay,
            self.pcount,
        ];
        all.extend(optional.into_iter().flatten());
        all.extend(self.counts.into_iter().flatten());
        if let Some(scx) = &self.scx {
            all.extend([scx.nr_running, scx.flags, scx.local_nr, scx.runnable_list]);
        }
        all
    }
}

/// Members of `struct task_struct`.
pub(super) struct TaskLayout {
    /// The number of bytes from the start of the struct that contain all members except for `cpus_mask`, which is read
    /// separately. It is at most [`MAX_SPAN`]; members beyond that read as 0.
    pub span: usize,
    pub pid: Member,
    pub comm: Member,
    pub on_rq: Member,
    pub prio: Member,
    pub cpus_ptr: Member,
    pub cpus_mask: Member,
    pub migration_disabled: Option<Member>,
    pub ran: Member,
    pub delayed: Option<Member>,
    pub group_node: Member,
    pub scx_node: Option<Member>,
    pub scx_dsq: Option<Member>,
}

impl TaskLayout {
    pub fn new(btf: &Btf) -> Result<Self, KernelError> {
        let member = |path| btf.member("task_struct", path);
        let mut layout = Self {
            span: 0,
            pid: member("pid")?,
            comm: member("comm")?,
            on_rq: member("on_rq")?,
            prio: member("prio")?,
            cpus_ptr: member("cpus_ptr")?,
            cpus_mask: member("cpus_mask")?,
            migration_disabled: member("migration_disabled").ok(),
            ran: member("se.sum_exec_runtime")?,
            delayed: member("se.sched_delayed").ok(),
            group_node: member("se.group_node")?,
            scx_node: member("scx.runnable_node").ok(),
            scx_dsq: member("scx.dsq").ok(),
        };
        let mut all = vec![
            layout.pid,
            layout.comm,
            layout.on_rq,
            layout.prio,
            layout.cpus_ptr,
            layout.ran,
            layout.group_node,
        ];
        let optional = [
            layout.migration_disabled,
            layout.delayed,
            layout.scx_node,
            layout.scx_dsq,
        ];
        all.extend(optional.into_iter().flatten());
        layout.span = span(&all);
        Ok(layout)
    }
}

/// Members of `struct sched_domain`.
pub(super) struct DomainLayout {
    pub parent: Member,
    pub level: Member,
    pub span_weight: Member,
    /// The pointer to the name, which kernels before 6.15 have only with `CONFIG_SCHED_DEBUG`.
    pub name: Option<Member>,
    pub lb_count: Option<Member>,
}

impl DomainLayout {
    pub fn new(btf: &Btf) -> Option<Self> {
        let member = |path| btf.member("sched_domain", path).ok();
        Some(Self {
            parent: member("parent")?,
            level: member("level")?,
            span_weight: member("span_weight")?,
            name: member("name"),
            lb_count: member("lb_count"),
        })
    }
}

fn span(members: &[Member]) -> usize {
    let ends = members.iter().map(|m| m.offset().saturating_add(m.size));
    ends.max().unwrap_or(0).min(MAX_SPAN) as usize
}

/// Returns `member` as an unsigned number of up to 8 bytes, from the bytes of its struct; 0 if the bytes do not contain the whole
/// member. For a bit-field, only its own bits are returned.
pub(super) fn number(bytes: &[u8], member: &Member) -> u64 {
    let start = usize::try_from(member.offset()).unwrap_or(usize::MAX);
    let len = member.size.min(8) as usize;
    let mut value = [0; 8];
    if let Some(part) = start.checked_add(len).and_then(|end| bytes.get(start..end)) {
        value[..len].copy_from_slice(part);
    }
    let value = u64::from_le_bytes(value);
    match member.bitfield_bits {
        Some(bits) if bits < 64 => value >> (member.offset_bits % 8) & ((1 << bits) - 1),
        _ => value,
    }
}

/// Returns the pointer at the start of `member`, such as the first one of a `struct list_head`.
pub(super) fn pointer(bytes: &[u8], member: &Member) -> u64 {
    number(bytes, &Member { size: 8, ..*member })
}
