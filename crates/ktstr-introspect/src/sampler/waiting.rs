//! The tasks of sched_ext and of the fair class that are runnable on a runqueue but not running, and the CPUs that they may
//! use.

use ktstr_snapshot::report::{WaitingTask, WaitsIn};

use super::Sampler;
use super::layout::{number, pointer};
use crate::kernel::KernelError;
use crate::memory::GuestMemory;
use crate::narrow;

/// The largest number of entries of one list that are read.
const MAX_WAITING: usize = 64;
/// The priorities of deadline and real-time tasks are below this one (include/linux/sched/prio.h).
const MAX_RT_PRIO: u64 = 100;

/// A runqueue whose queues are walked.
pub(super) struct Queues<'a> {
    pub rq: u64,
    pub bytes: &'a [u8],
    pub cpu: usize,
    pub cpus: usize,
}

/// What is wrong with a malformed list.
type Broken = &'static str;

impl Sampler {
    /// Returns the waiting tasks of sched_ext, then those of the fair class; the inner result is an error if a list is malformed.
    ///
    /// The list of sched_ext has all its runnable tasks except for the running one. The list of the fair class also has the
    /// running task and tasks whose dequeue is delayed, which are left out here.
    pub(super) fn waiting<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        queues: &Queues<'_>,
        task: &mut Vec<u8>,
    ) -> Result<Result<Vec<WaitingTask>, Broken>, KernelError> {
        let mut found = Vec::new();
        let scx = self.rq.scx.as_ref().map(|scx| scx.runnable_list);
        if let (Some(list), Some(node)) = (scx, self.task.scx_node) {
            let at = (list, node.offset());
            if let Err(broken) = self.list(memory, queues, at, false, task, &mut found)? {
                return Ok(Err(broken));
            }
        }
        if let Some(list) = self.rq.cfs_tasks {
            let at = (list, self.task.group_node.offset());
            if let Err(broken) = self.list(memory, queues, at, true, task, &mut found)? {
                return Ok(Err(broken));
            }
        }
        Ok(Ok(found))
    }

    fn list<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        queues: &Queues<'_>,
        (list, node): (crate::btf::Member, u64),
        fair: bool,
        task: &mut Vec<u8>,
        found: &mut Vec<WaitingTask>,
    ) -> Result<Result<(), Broken>, KernelError> {
        let head = queues.rq.wrapping_add(list.offset());
        let curr = number(queues.bytes, &self.rq.curr);
        task.resize(self.task.span, 0);
        let behind_higher_class = self.is_real_time(memory, curr, task)?;
        let mut at = pointer(queues.bytes, &list);
        for _ in 0..MAX_WAITING {
            if at == head || at == 0 {
                return Ok(Ok(()));
            }
            let kva = at.wrapping_sub(node);
            if let Err(error) = self.translations.read(memory, kva, task) {
                return match error {
                    // Only a list that is being modified has such a pointer.
                    KernelError::Paging(_) | KernelError::Wraps { .. } => {
                        Ok(Err("a list leads nowhere"))
                    }
                    other => Err(other),
                };
            }
            let layout = &self.task;
            let (pid, on_rq) = (number(task, &layout.pid), number(task, &layout.on_rq));
            // The idle task, whose PID is 0, is in no list, and no PID exceeds the kernel's limit (`PID_MAX_LIMIT`), which
            // is 2^22.
            let pid = i32::try_from(pid).unwrap_or(0);
            if pid == 0 || pid > 1 << 22 {
                return Ok(Err("a list has an entry that is not a task"));
            }
            let delayed = layout
                .delayed
                .as_ref()
                .is_some_and(|m| number(task, m) != 0);
            if kva != curr && on_rq != 0 && !(fair && delayed) {
                let dsq = layout.scx_dsq.as_ref().map_or(0, |m| number(task, m));
                let local = self.rq.scx.as_ref().map(|scx| scx.local_dsq);
                let local = local.is_some_and(|local| dsq == queues.rq.wrapping_add(local));
                let queue = match (fair, dsq) {
                    (true, _) => WaitsIn::Fair,
                    (false, _) if local => WaitsIn::Local,
                    (false, 0) => WaitsIn::Bpf,
                    (false, _) => WaitsIn::Shared,
                };
                let comm = text(task, layout.comm.offset(), layout.comm.size);
                let ran_ns = number(task, &layout.ran);
                let allowed = self.allowed(memory, queues, kva, task)?;
                found.push(WaitingTask {
                    pid,
                    comm,
                    allowed,
                    queue,
                    ran_ns,
                    behind_higher_class: behind_higher_class && queue == WaitsIn::Local,
                });
            }
            at = number(
                task,
                &crate::btf::Member {
                    offset_bits: node * 8,
                    size: 8,
                    type_id: 0,
                    bitfield_bits: None,
                },
            );
        }
        // The rest of a long list is left out.
        Ok(Ok(()))
    }

    /// Returns whether the task at this address is in a class above the fair class and sched_ext; false if the task cannot be
    /// read, which happens when the runqueue changes at this moment.
    fn is_real_time<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        kva: u64,
        task: &mut [u8],
    ) -> Result<bool, KernelError> {
        match self.translations.read(memory, kva, task) {
            Ok(()) => {
                // The member is an `int`, and a deadline task has -1.
                let prio = number(task, &self.task.prio);
                Ok(prio < MAX_RT_PRIO || prio > i32::MAX.unsigned_abs().into())
            }
            Err(KernelError::Paging(_) | KernelError::Wraps { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Returns the mask of the CPUs that a task may run on at this moment, 64 per word; all words are 0 if the address of
    /// the mask is invalid.
    fn allowed<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        queues: &Queues<'_>,
        kva: u64,
        task: &[u8],
    ) -> Result<Vec<u64>, KernelError> {
        let words = queues.cpus.div_ceil(64).max(1);
        let pinned = self
            .task
            .migration_disabled
            .as_ref()
            .is_some_and(|m| number(task, m) != 0);
        let mut mask = vec![0u64; words];
        if pinned {
            mask[queues.cpu / 64] |= 1 << (queues.cpu % 64);
            return Ok(mask);
        }
        let mut at = number(task, &self.task.cpus_ptr);
        if at == 0 {
            at = kva.wrapping_add(self.task.cpus_mask.offset());
        }
        let mut bytes = vec![0; words * 8];
        match self.translations.read(memory, at, &mut bytes) {
            Ok(()) => {}
            // The pointer was being changed, so it is unknown which CPUs are allowed.
            Err(KernelError::Paging(_) | KernelError::Wraps { .. }) => return Ok(mask),
            Err(other) => return Err(other),
        }
        for (word, bytes) in mask.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        }
        Ok(mask)
    }
}

/// Returns the text up to the first NUL in the `size` bytes at `offset`.
fn text(bytes: &[u8], offset: u64, size: u64) -> String {
    let start = narrow::length(offset);
    let field = bytes
        .get(start..start.saturating_add(narrow::length(size)))
        .unwrap_or_default();
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}
