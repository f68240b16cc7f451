//! The events that can happen to a task or a CPU in scheduling.

use serde::Serialize;

use crate::codec::{Codec, Field};

/// The number of fixed-point bits of `task_group.shares` on 64-bit kernels (`scale_load()`, kernel/sched/sched.h). The bits
/// above them are the cgroup's weight.
pub const SHARES_SHIFT: u32 = 10;
/// The weight of a cgroup with `cpu.idle` (`WEIGHT_IDLEPRIO`, kernel/sched/sched.h). It identifies these cgroups, because the
/// kernel converts even the smallest `cpu.weight`, which is 1, to a larger weight, which is 10.
pub const IDLE_CGROUP_WEIGHT: u64 = 3;

/// The id of a thread in the guest's root PID namespace. The idle task of every CPU has 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Pid(pub u32);

impl Pid {
    /// The idle task of any CPU.
    pub const IDLE: Self = Self(0);
    /// A task whose id is unknown.
    pub const UNKNOWN: Self = Self(u32::MAX);
}

/// A CPU, by the guest's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Cpu(pub u16);

impl Cpu {
    /// No CPU, as for an event that the host adds, or a CPU whose number does not fit into 16 bits.
    pub const UNKNOWN: Self = Self(u16::MAX);
}

/// A set of CPUs. The first word holds CPUs 0 to 63, the second one 64 to 127. Every CPU with a higher number is in every set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CpuMask(pub [u64; 2]);

impl CpuMask {
    /// The mask that allows every CPU.
    pub const ALL: Self = Self([u64::MAX; 2]);

    /// Creates the set from one number, with the bit of CPU 0 lowest.
    #[allow(clippy::cast_possible_truncation, reason = "the halves of the number")]
    pub const fn of(bits: u128) -> Self {
        Self([bits as u64, (bits >> 64) as u64])
    }

    /// Returns the set as one number, with the bit of CPU 0 lowest.
    pub fn bits(self) -> u128 {
        u128::from(self.0[0]) | u128::from(self.0[1]) << 64
    }

    /// Returns the CPUs that are in both sets.
    pub fn and(self, other: Self) -> Self {
        Self([self.0[0] & other.0[0], self.0[1] & other.0[1]])
    }

    /// Returns the CPUs that are in at least one of the sets.
    pub fn or(self, other: Self) -> Self {
        Self([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }

    /// Whether `cpu` is in the set.
    pub fn contains(self, cpu: Cpu) -> bool {
        cpu.0 >= 128 || self.bits() >> cpu.0 & 1 == 1
    }
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $( $(#[$of:meta])* $code:literal $value:ident ),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $( $(#[$of])* $value = $code ),* }

        impl Field for $name {
            const BLANK: Self = [$( Self::$value ),*][0];
            fn code(self, codec: &mut Codec<'_>) -> Option<Self> {
                match codec.number(self as u64) {
                    $( $code => Some(Self::$value), )*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// Why a task stopped running.
    Reason {
        /// The task blocked, and waits to be woken.
        0 Slept,
        /// The task was still runnable, or its cgroup was out of quota, and another task was chosen.
        1 Preempted,
        /// The task gave up the CPU with `sched_yield()`.
        2 Yielded,
        /// The task had exited, and never runs again.
        3 Exited,
        /// The task was the idle task.
        4 Idle,
    }
}

codes! {
    /// A scheduling class of the kernel (`struct sched_class`, kernel/sched/sched.h).
    Class {
        /// The class is unknown.
        0 Unknown,
        /// `stop_sched_class` (`kernel/sched/stop_task.c`): the stopper thread of each CPU.
        1 Stop,
        /// `dl_sched_class` (kernel/sched/deadline.c): tasks with the policy `SCHED_DEADLINE`.
        2 Deadline,
        /// `rt_sched_class` (kernel/sched/rt.c): tasks with the policies `SCHED_FIFO` and `SCHED_RR`.
        3 RealTime,
        /// `fair_sched_class` (kernel/sched/fair.c): tasks that EEVDF schedules.
        4 Fair,
        /// `ext_sched_class` (kernel/sched/ext.c): tasks that the BPF scheduler of sched_ext schedules.
        5 Ext,
        /// `idle_sched_class` (kernel/sched/idle.c): the idle task of each CPU.
        6 Idle,
    }
}

impl Class {
    /// Whether the kernel serves tasks of this class before those of sched_ext, whatever the BPF scheduler asks for
    /// (`for_each_class`, `kernel/sched/sched.h`). The fair class also ranks above sched_ext, but holds only the tasks that the
    /// scheduler leaves to it.
    pub const fn is_above_ext(self) -> bool {
        matches!(self, Self::Stop | Self::Deadline | Self::RealTime)
    }
}

codes! {
    /// Why a task left its runqueue.
    DequeueReason {
        /// The task blocked (`DEQUEUE_SLEEP`), and waits to be woken.
        0 Sleep,
        /// The task is moved or changed, and is enqueued again at once.
        1 Change,
        /// The cgroup of the task has used up its quota.
        2 Throttle,
    }
}

codes! {
    /// A state change of sched_ext.
    SchedExtState {
        /// A BPF scheduler is being loaded.
        0 Enabling,
        /// The BPF scheduler is being unloaded.
        1 Disabling,
    }
}

macro_rules! events {
    ($( $(#[$doc:meta])* $tag:literal $name:ident {
        $( $(#[$of:meta])* $field:ident: $type:ty ),* $(,)?
    } )*) => {
        /// What happened. The file stores the tag of each kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum What {
            $( $(#[$doc])* $name { $( $(#[$of])* $field: $type ),* } ),*
        }

        impl What {
            pub(crate) fn tag(&self) -> u8 {
                match self { $( Self::$name { .. } => $tag ),* }
            }

            /// Returns an empty event with this tag, as a placeholder for reading.
            pub(crate) fn blank(tag: u64) -> Option<Self> {
                Some(match tag {
                    $( $tag => Self::$name { $( $field: <$type as Field>::BLANK ),* }, )*
                    _ => return None,
                })
            }

            /// Writes the fields of the event, or reads them. For reading, only the tag of `self` is used. Returns `None` if the
            /// bytes that are read are malformed: no writer produces them.
            pub(crate) fn code(self, codec: &mut Codec<'_>) -> Option<Self> {
                Some(match self { $(
                    Self::$name { $( $field ),* } => Self::$name { $( $field: $field.code(codec)? ),* }
                ),* })
            }
        }
    };
}

// The tags are part of the file format, so a new event needs a new tag.
events! {
    /// A CPU switches from one task to another.
    0 Switch {
        /// The task that stops.
        prev: Pid,
        /// The task that starts.
        next: Pid,
        /// The reason why `prev` stops running.
        reason: Reason,
    }
    /// The kernel is asked to wake a task (`try_to_wake_up()`). The task need not be asleep.
    1 Wake {
        /// The task to wake.
        task: Pid,
        /// The task that is running on the CPU that makes the request.
        waker: Pid,
        /// Whether an interrupt makes the request, and not `waker` itself.
        interrupt: bool,
    }
    /// A task is put on a CPU's runqueue: it has become runnable, or it returns there after a move or a change.
    2 Enqueue {
        /// The task that is put on the runqueue.
        task: Pid,
        /// The CPU to whose runqueue the task is added.
        on: Cpu,
        /// The scheduling class that it is queued in.
        class: Class,
        /// Whether the task was asleep until now.
        wakeup: bool,
    }
    /// A task leaves a runqueue.
    3 Dequeue {
        /// The task that leaves its runqueue.
        task: Pid,
        /// The CPU from whose runqueue the task is removed.
        on: Cpu,
        /// The scheduling class that it was queued in.
        class: Class,
        /// Why it left the runqueue.
        reason: DequeueReason,
    }
    /// A task is assigned to another CPU.
    4 Migrate {
        /// The task that is moved.
        task: Pid,
        /// The CPU to which it is assigned (`set_task_cpu()`, kernel/sched/core.c).
        to: Cpu,
    }
    /// The set of CPUs on which a task may run changes.
    5 Affinity {
        /// The task whose affinity changes.
        task: Pid,
        /// The CPUs on which it may run from now on.
        mask: CpuMask,
    }
    /// The nice value of a task changes.
    6 Nice {
        /// The task whose nice value changes.
        task: Pid,
        /// The new value, from -20 to 19.
        nice: i8,
    }
    /// The scheduling policy of a task changes.
    7 Policy {
        /// The task whose policy changes.
        task: Pid,
        /// The new policy, `SCHED_*` (include/uapi/linux/sched.h).
        policy: u8,
    }
    /// A task moves to a cgroup.
    8 Cgroup {
        /// The task that moves.
        task: Pid,
        /// The id of the cgroup to which the task moves (`cgroup->kn->id`).
        cgroup: u64,
    }
    /// The weight of a cgroup changes.
    9 Weight {
        /// The id of the cgroup whose weight changes (`cgroup->kn->id`).
        cgroup: u64,
        /// The new `task_group.shares`. A `cpu.weight` of 100, the default, is 1024, which 64-bit kernels multiply by 1024 again.
        shares: u64,
    }
    /// A cgroup, or one above it, has used up its quota on a CPU.
    10 Throttle {
        /// The id of the cgroup (`cgroup->kn->id`). Each cgroup below one that has used up its quota has an event of its own.
        cgroup: u64,
        /// The CPU that the cgroup may not use.
        on: Cpu,
    }
    /// A quota no longer keeps a cgroup from a CPU. A cgroup can be throttled on a CPU by its own quota and by those of its
    /// ancestors at the same time, so it may run there again only after as many of these events as [`What::Throttle`] events.
    11 Unthrottle {
        /// The id of the cgroup that may run again (`cgroup->kn->id`).
        cgroup: u64,
        /// The CPU that the cgroup may use again.
        on: Cpu,
    }
    /// A CPU goes online or offline.
    12 Online {
        /// The CPU that goes online or offline.
        cpu: Cpu,
        /// Whether it is online now.
        online: bool,
    }
    /// sched_ext starts or stops bypassing the BPF scheduler.
    13 Bypass {
        /// Whether the bypass starts rather than ends.
        on: bool,
    }
    /// sched_ext changes its state.
    14 SchedExt {
        /// The state that sched_ext enters.
        state: SchedExtState,
    }
    /// The BPF scheduler puts a task into a dispatch queue.
    15 Insert {
        /// The task that is put into the queue.
        task: Pid,
        /// The id of the dispatch queue; the built-in ones have the ids `SCX_DSQ_*` (include/linux/sched/ext.h).
        dsq: u64,
        /// The slice that the task gets, in nanoseconds; 0 if it keeps its current slice.
        slice_ns: u64,
    }
    /// The BPF scheduler asks a CPU to reschedule.
    16 Kick {
        /// The CPU that is asked.
        cpu: Cpu,
        /// The kernel's flags `SCX_KICK_*` of the kick.
        flags: u8,
    }
    /// A task is created.
    17 Fork {
        /// The task that was created and is about to be woken for the first time.
        task: Pid,
        /// The task that created it.
        parent: Pid,
    }
    /// A task is named. If the task has this name already, the event is a mark ([`Mark`](crate::query::Mark)), unless the host
    /// added the event to name a task that existed before.
    18 Name {
        /// The task that is named.
        task: Pid,
        /// The index of the name in the table of names.
        name: u32,
    }
    /// A task ends. It still runs until the switch away from it.
    19 Exit {
        /// The task that ends.
        task: Pid,
    }
    /// The hold of a step begins. The first step has number 1.
    20 Phase {
        /// The number of the phase, which is the number of its step.
        number: u16,
    }
    /// A step or the scenario ends. Later events belong to no phase.
    21 End {}
}

impl What {
    /// Returns a number that distinguishes events with the same tag by what is likely to follow them. The codec predicts the next
    /// event from it.
    pub(crate) fn detail(&self) -> u32 {
        match *self {
            Self::Switch { reason, .. } => reason as u32,
            Self::Wake { interrupt, .. } => u32::from(interrupt),
            Self::Enqueue { wakeup, .. } => u32::from(wakeup),
            Self::Dequeue { reason, .. } => reason as u32,
            _ => 0,
        }
    }

    /// Whether events of this kind are so rare that the writer keeps them even when it drops the frequent events of an old chunk
    /// to limit the size of the file.
    pub fn is_rare(&self) -> bool {
        !matches!(
            self,
            Self::Switch { .. }
                | Self::Wake { .. }
                | Self::Enqueue { .. }
                | Self::Dequeue { .. }
                | Self::Migrate { .. }
                | Self::Insert { .. }
                | Self::Kick { .. }
        )
    }
}

/// An event: what happened, when and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// The time by the kernel's scheduler clock, in nanoseconds; 0 for an event that describes the state before the recording.
    /// Events are in the order in which they happened. The time of a switch, an enqueue or a dequeue is the clock of its
    /// runqueue, which the kernel updated slightly before, so times may go back a little between events of different CPUs.
    pub time_ns: u64,
    /// The CPU on which it happened; [`Cpu::UNKNOWN`] for an event that the host adds.
    pub cpu: Cpu,
    /// What happened at that time.
    pub what: What,
}
