//! Dispatch queues of sched_ext and the tasks in them, in the order in which they will be dispatched (kernel/sched/ext.c).
//!
//! | Queue | Location |
//! | --- | --- |
//! | local, one per CPU | `rq.scx.local_dsq` |
//! | bypass, one per CPU | `rq.scx.bypass_dsq` in 6.19 and 7.0, `scx_sched_pcpu.bypass_dsq` from 7.1 on |
//! | reject, one per CPU | `rq.scx.reject_dsq` from 7.3 on |
//! | global, one per node | the global `global_dsqs` until 6.15, `scx_sched.global_dsqs` until 7.0, `scx_sched_pnode.global_dsq` since |
//! | user | the global hash table `dsq_hash` until 6.15, `scx_sched.dsq_hash` since |
//!
//! The bypass and reject queues are only listed if they hold tasks. A queue ordered by vtime also keeps its tasks in a tree,
//! but its list has the same order.

use ktstr_snapshot::ReadSection;
use ktstr_snapshot::report::{DsqState, FailureDumpReport, QueuedTask, RqScxState, Section};

use crate::btf::Member;
use crate::capture::Reading;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;

/// The largest number of user dispatch queues that are listed.
const MAX_DSQS: usize = 1024;
/// The largest number of buckets of the hash table that are read.
const MAX_BUCKETS: u64 = 1 << 14;
/// The largest number of nodes whose global queue is read.
const MAX_NODES: u64 = 64;
/// The largest number of tasks of one queue that are listed.
const MAX_QUEUED: usize = 256;
/// The flag of a list node that is not a task but the cursor of an iterator (`SCX_DSQ_LNODE_ITER_CURSOR`).
const CURSOR: u64 = 1;

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the dispatch queues, and the reason if some of the scheduler's own queues are missing. The queues of each CPU in
    /// `rqs` come first, then the global ones, then the scheduler's own.
    ///
    /// # Errors
    /// If the kernel has no sched_ext, or memory cannot be read.
    pub fn dsq_states(
        &self,
        rqs: &[RqScxState],
    ) -> Result<(Vec<DsqState>, Option<String>), KernelError> {
        let fields = DsqFields::new(self)?;
        let base = self.symbol("runqueues")?;
        let mut states = Vec::new();
        for rq in rqs {
            for (name, at) in self.dsqs_of_cpu(base, rq.cpu)? {
                let state = fields.read(self, at, format!("{name} cpu {}", rq.cpu))?;
                if name == "local" || state.nr > 0 {
                    states.push(state);
                }
            }
        }
        for (node, at) in self.global_dsqs().into_iter().enumerate() {
            states.push(fields.read(self, at, format!("global node {node}"))?);
        }
        let trouble = self.user_dsqs(&fields, &mut states);
        Ok((states, trouble.err().map(|error| error.to_string())))
    }

    /// Returns the names and addresses of the queues that this kernel has for a CPU.
    fn dsqs_of_cpu(&self, base: u64, cpu: u32) -> Result<Vec<(&'static str, u64)>, KernelError> {
        let rq = self.per_cpu(base, cpu)?;
        let local = self.member("rq", "scx.local_dsq")?;
        let mut found = vec![("local", rq.wrapping_add(local.offset()))];
        for (name, path) in [("bypass", "scx.bypass_dsq"), ("reject", "scx.reject_dsq")] {
            if let Ok(member) = self.member("rq", path) {
                found.push((name, rq.wrapping_add(member.offset())));
            }
        }
        if let (Some(sched), Ok(member)) =
            (self.scx_root(), self.member("scx_sched_pcpu", "bypass_dsq"))
        {
            let pcpu = self.read_member(sched, &self.member("scx_sched", "pcpu")?)?;
            let at = self.per_cpu(pcpu, cpu)?;
            found.push(("bypass", at.wrapping_add(member.offset())));
        }
        Ok(found)
    }

    /// Returns the addresses of the global queues in the order of their nodes, up to the first that is not allocated or
    /// whose pointer cannot be read.
    fn global_dsqs(&self) -> Vec<u64> {
        let sched = self.scx_root();
        let of_sched = |name| {
            let member = self.member("scx_sched", name).ok()?;
            self.read_member(sched?, &member).ok()
        };
        // `table` is an array of pointers, one per node: to the queue, or to a struct that has the queue at `inside`.
        let (table, inside) = match self.member("scx_sched_pnode", "global_dsq") {
            Ok(member) => (of_sched("pnode"), member.offset()),
            Err(_) => {
                let global = || self.read_symbol_u64("global_dsqs").ok();
                (of_sched("global_dsqs").or_else(global), 0)
            }
        };
        let Some(table) = table.filter(|table| *table != 0) else {
            return Vec::new();
        };
        let nodes = self
            .symbol("nr_node_ids")
            .and_then(|at| self.read_u32(at))
            .map_or(1, u64::from);
        (0..nodes.clamp(1, MAX_NODES))
            .map_while(|node| self.read_u64(table.wrapping_add(8 * node)).ok())
            .take_while(|at| *at != 0)
            .map(|at| at.wrapping_add(inside))
            .collect()
    }

    /// Appends the scheduler's own queues, which are in an rhashtable (include/linux/rhashtable.h).
    fn user_dsqs(&self, fields: &DsqFields, states: &mut Vec<DsqState>) -> Result<(), KernelError> {
        let table = match self.scx_root() {
            Some(sched) => sched.wrapping_add(self.member("scx_sched", "dsq_hash")?.offset()),
            None => match self.symbol("dsq_hash") {
                Ok(table) => table,
                Err(_) => return Ok(()),
            },
        };
        let tbl = self.read_member(table, &self.member("rhashtable", "tbl")?)?;
        if tbl == 0 {
            return Ok(());
        }
        let size = self.read_member(tbl, &self.member("bucket_table", "size")?)?;
        let buckets = self.member("bucket_table", "buckets")?.offset();
        let node = self.member("scx_dispatch_q", "hash_node")?.offset();
        let mut queues = Vec::new();
        let mut collect = || {
            for index in 0..size.min(MAX_BUCKETS) {
                // Bit 0 of a bucket's head is its lock.
                let head = self.read_u64(tbl.wrapping_add(buckets + 8 * index))? & !1;
                let room = MAX_DSQS.saturating_sub(queues.len());
                self.walk_nulls("dispatch queue bucket", head, room, |at| {
                    queues.push(at.wrapping_sub(node));
                })?;
            }
            Ok(())
        };
        // The queues that were found before an error are listed nevertheless.
        let collected = collect();
        for kva in queues {
            states.push(fields.read(self, kva, "user".to_owned())?);
        }
        collected
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<Vec<DsqState>> for Reading<'_, '_, M> {
    fn read_section(&self, report: &FailureDumpReport) -> Section<Vec<DsqState>> {
        self.view.dsq_states(&report.rq_scx_states).into()
    }
}

/// The members of a queue and of a task in it, looked up once per listing.
struct DsqFields {
    id: Member,
    nr: Member,
    seq: Option<Member>,
    list: u64,
    /// The offset from a task to its node in a queue's list.
    node: u64,
    /// The flags of a task's node in a queue's list.
    flags: Option<Member>,
    pid: Member,
    comm: Member,
    vtime: Member,
}

impl DsqFields {
    fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Result<Self, KernelError> {
        let task = |path| view.member("task_struct", path);
        Ok(Self {
            id: view.member("scx_dispatch_q", "id")?,
            nr: view.member("scx_dispatch_q", "nr")?,
            seq: view.member("scx_dispatch_q", "seq").ok(),
            list: view.member("scx_dispatch_q", "list")?.offset(),
            node: task("scx.dsq_list.node")?.offset(),
            flags: view.member("scx_dsq_list_node", "flags").ok(),
            pid: task("pid")?,
            comm: task("comm")?,
            vtime: task("scx.dsq_vtime")?,
        })
    }

    fn read<M: GuestMemory + ?Sized>(
        &self,
        view: &KernelView<'_, M>,
        kva: u64,
        origin: String,
    ) -> Result<DsqState, KernelError> {
        let (tasks, trouble) = self.tasks(view, kva.wrapping_add(self.list));
        Ok(DsqState {
            id: view.read_member(kva, &self.id)?,
            nr: narrow::count(view.read_member(kva, &self.nr)?),
            seq: match &self.seq {
                Some(seq) => view.read_member(kva, seq)?,
                None => 0,
            },
            origin,
            tasks,
            tasks_unavailable: trouble,
        })
    }

    /// Returns the tasks of the list at `head`, and the reason if some are missing.
    fn tasks<M: GuestMemory + ?Sized>(
        &self,
        view: &KernelView<'_, M>,
        head: u64,
    ) -> (Vec<QueuedTask>, Option<String>) {
        let mut nodes = Vec::new();
        let walked = view.walk_list("dispatch queue", head, MAX_QUEUED, |node| {
            nodes.push(node);
            true
        });
        let mut trouble = walked.err().map(|error| error.to_string());
        let mut tasks = Vec::new();
        for node in nodes {
            match self.task(view, node) {
                Ok(Some(task)) => tasks.push(task),
                Ok(None) => {}
                Err(error) => {
                    trouble.get_or_insert(error.to_string());
                    break;
                }
            }
        }
        (tasks, trouble)
    }

    /// Returns the task of a list node; `None` if the node is the cursor of an iterator.
    fn task<M: GuestMemory + ?Sized>(
        &self,
        view: &KernelView<'_, M>,
        node: u64,
    ) -> Result<Option<QueuedTask>, KernelError> {
        if let Some(flags) = &self.flags
            && view.read_member(node, flags)? & CURSOR != 0
        {
            return Ok(None);
        }
        let task = node.wrapping_sub(self.node);
        let comm = task.wrapping_add(self.comm.offset());
        Ok(Some(QueuedTask {
            pid: narrow::int(view.read_member(task, &self.pid)?),
            comm: view.read_string(comm, self.comm.size)?,
            vtime: view.read_member(task, &self.vtime)?,
        }))
    }
}
