//! The task list: every thread of every process from `init_task` on.

use ktstr_snapshot::ReadSection;
use ktstr_snapshot::report::{FailureDumpReport, MAX_TASK_ENRICHMENTS, Section, TaskEnrichment};

use crate::btf::Member;
use crate::capture::Reading;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the tasks of the guest, at most `max`, and the reason if the list is incomplete.
    pub fn tasks(&self, max: usize) -> Result<(Vec<TaskEnrichment>, Option<String>), KernelError> {
        let fields = TaskFields::new(self)?;
        let init = self.symbol("init_task")?;
        let mut tasks = Vec::new();
        let mut trouble = None;
        let mut leaders = vec![init];
        let head = init.wrapping_add(fields.tasks);
        let walked = self.walk_list("init_task.tasks", head, max, |node| {
            leaders.push(node.wrapping_sub(fields.tasks));
            true
        });
        if let Err(error) = walked {
            trouble = Some(error.to_string());
        }
        // The limit on steps applies to all thread lists together, since hostile lists may share nodes.
        let mut steps = 2 * max;
        for leader in leaders {
            if let Err(error) = self.process(&fields, leader, max, &mut steps, &mut tasks) {
                trouble.get_or_insert(error.to_string());
            }
        }
        if tasks.len() >= max {
            trouble.get_or_insert(format!("cut at {max} tasks"));
        }
        Ok((tasks, trouble))
    }

    /// Appends the leader of a process and its other threads.
    fn process(
        &self,
        fields: &TaskFields,
        leader: u64,
        max: usize,
        steps: &mut usize,
        tasks: &mut Vec<TaskEnrichment>,
    ) -> Result<(), KernelError> {
        if tasks.len() >= max {
            return Ok(());
        }
        tasks.push(self.task(fields, leader)?);
        let signal = self.read_u64(leader.wrapping_add(fields.signal))?;
        let head = signal.wrapping_add(fields.thread_head);
        let mut threads = Vec::new();
        let room = max.saturating_sub(tasks.len());
        let most = *steps;
        self.walk_list("signal->thread_head", head, most, |node| {
            *steps -= 1;
            let task = node.wrapping_sub(fields.thread_node);
            if task != leader {
                threads.push(task);
            }
            threads.len() < room
        })?;
        for thread in threads {
            tasks.push(self.task(fields, thread)?);
        }
        Ok(())
    }

    fn task(&self, fields: &TaskFields, kva: u64) -> Result<TaskEnrichment, KernelError> {
        let number = |member: &Member| self.read_member(kva, member);
        let signed = |member: &Member| number(member).map(narrow::int);
        let optional = |member: &Option<Member>| match member {
            Some(member) => number(member).map(Some),
            None => Ok(None),
        };
        let comm = kva.wrapping_add(fields.comm.offset());
        Ok(TaskEnrichment {
            task_kva: kva,
            pid: signed(&fields.pid)?,
            tgid: signed(&fields.tgid)?,
            comm: self.read_string(comm, fields.comm.size)?,
            cpu: narrow::count(number(&fields.cpu)?),
            on_cpu: optional(&fields.on_cpu)?.unwrap_or(0) != 0,
            state: narrow::low_half(number(&fields.state)?),
            prio: signed(&fields.prio)?,
            utime_ns: number(&fields.utime)?,
            stime_ns: number(&fields.stime)?,
            nvcsw: number(&fields.nvcsw)?,
            nivcsw: number(&fields.nivcsw)?,
            scx_flags: optional(&fields.scx_flags)?.map(narrow::low_half),
            scx_slice_ns: optional(&fields.scx_slice)?,
            scx_dsq_vtime: optional(&fields.scx_vtime)?,
            scx_weight: optional(&fields.scx_weight)?.map(narrow::count),
            scx_runnable_at: optional(&fields.scx_runnable_at)?,
        })
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<Vec<TaskEnrichment>> for Reading<'_, '_, M> {
    fn read_section(&self, _: &FailureDumpReport) -> Section<Vec<TaskEnrichment>> {
        let max = self.options.max_tasks.min(MAX_TASK_ENRICHMENTS);
        self.options.tasks.then(|| self.view.tasks(max)).into()
    }
}

/// The members of `struct task_struct`, looked up once per listing.
struct TaskFields {
    tasks: u64,
    signal: u64,
    thread_node: u64,
    thread_head: u64,
    comm: Member,
    pid: Member,
    tgid: Member,
    cpu: Member,
    on_cpu: Option<Member>,
    state: Member,
    prio: Member,
    utime: Member,
    stime: Member,
    nvcsw: Member,
    nivcsw: Member,
    scx_flags: Option<Member>,
    scx_slice: Option<Member>,
    scx_vtime: Option<Member>,
    scx_weight: Option<Member>,
    scx_runnable_at: Option<Member>,
}

impl TaskFields {
    fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Result<Self, KernelError> {
        let member = |path| view.member("task_struct", path);
        Ok(Self {
            tasks: member("tasks")?.offset(),
            signal: member("signal")?.offset(),
            thread_node: member("thread_node")?.offset(),
            thread_head: view.member("signal_struct", "thread_head")?.offset(),
            comm: member("comm")?,
            pid: member("pid")?,
            tgid: member("tgid")?,
            cpu: member("thread_info.cpu")?,
            on_cpu: member("on_cpu").ok(),
            state: member("__state")?,
            prio: member("prio")?,
            utime: member("utime")?,
            stime: member("stime")?,
            nvcsw: member("nvcsw")?,
            nivcsw: member("nivcsw")?,
            scx_flags: member("scx.flags").ok(),
            scx_slice: member("scx.slice").ok(),
            scx_vtime: member("scx.dsq_vtime").ok(),
            scx_weight: member("scx.weight").ok(),
            scx_runnable_at: member("scx.runnable_at").ok(),
        })
    }
}
