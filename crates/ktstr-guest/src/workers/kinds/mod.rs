//! The bodies of work types: the functions that workers run.
//!
//! The table of work types (`ktstr-scenario/src/workload/work_type/table.rs`) gives, for each work type, the name of its body and
//! the numbers that the body gets as parameters. A body is a `fn(&mut WorkerCtx)` in a file of this folder. If a body is missing,
//! the code does not compile. A body must not allocate or panic, must return when told to stop, and may block only in calls that
//! a signal interrupts.

mod alu;
mod cgroups;
mod churn;
mod classes;
mod cpu;
mod cpu_lock;
mod custom;
mod desk;
mod futex_group;
mod io;
mod loopback;
mod matrix;
mod memory;
mod net;
mod pace;
mod queues;
mod rt_app;
mod schbench;
mod sequence;
mod signals;
mod taobench;
mod timed;
mod wake;

use std::time::Duration;

use ktstr_scenario::workload::{WakeMechanism, WorkType};

use super::ctx::WorkerCtx;

pub(super) use cgroups::CHURN;
pub(super) use schbench::shared_bytes;
pub(super) use signals::on_signal;

/// Returns the keys of the objects that a worker with this thread id names, so that they can be reset once no worker uses them
/// any more. The locks for CPUs ([`CpuLock`](super::objects::Kind::CpuLock)) are left out, because they need no reset: their
/// keys contain the thread id of the first member of the group, so later workers do not find them.
pub(super) fn named_objects(work_type: &WorkType, tid: i32) -> Vec<u64> {
    match work_type {
        WorkType::RtApp {
            phases,
            inherits_priority,
            ..
        } => rt_app::keys(phases, *inherits_priority, tid),
        _ => Vec::new(),
    }
}

/// How the members of a group wake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WakeGraph {
    /// The members do not wake each other.
    None,
    /// Each member waits on its own pipe.
    Pipe,
    /// Each member waits on its own futex word.
    Futex,
    /// All members share futex words.
    Shared,
    /// All members share futex words and an eventfd.
    Event,
}

/// The workers with which a worker's share of CPU time is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peers {
    /// All workers with the same work type and parameters, nice value, policy and affinity.
    Alike,
    /// The workers at the same index of other groups, because the members of a group do different
    /// things.
    SameMember,
    /// No other worker, because the nice value, affinity, policy or cgroup of this one changes, or because it runs a function
    /// of the test or a thread of rt-app.
    Nobody,
}

/// The body of a work type, the parameters that the body gets, and how the workers form groups and are compared.
#[derive(Clone, Copy)]
pub(super) struct WorkLoop {
    /// The body. It returns when the worker is told to stop.
    pub run: fn(&mut WorkerCtx<'_>),
    /// The parameters of the body. Each body documents their meaning.
    pub params: [u64; 4],
    /// How the members of a group are connected.
    pub graph: WakeGraph,
    /// The workers with which a worker is compared.
    pub peers: Peers,
    /// Number of workers in a group; 0 means that all workers form one group.
    pub group: usize,
}

impl WorkLoop {
    /// Describes the body of workers that do not wake each other. Each worker is a group of its own.
    fn new<const N: usize>(run: fn(&mut WorkerCtx<'_>), given: [u64; N]) -> Self {
        const { assert!(N <= 4, "a body gets at most four parameters") };
        let mut params = [0; 4];
        for (to, from) in params.iter_mut().zip(given) {
            *to = from;
        }
        Self {
            run,
            params,
            graph: WakeGraph::None,
            peers: Peers::Alike,
            group: 1,
        }
    }

    fn wakes(self, graph: WakeGraph) -> Self {
        Self { graph, ..self }
    }

    fn peers(self, peers: Peers) -> Self {
        Self { peers, ..self }
    }
}

impl From<&WakeMechanism> for WakeGraph {
    fn from(mechanism: &WakeMechanism) -> Self {
        match mechanism {
            WakeMechanism::Pipe => Self::Pipe,
            WakeMechanism::Futex => Self::Futex,
        }
    }
}

/// A parameter of a work type as the number that a body gets.
trait Number {
    fn number(&self) -> u64;
}

/// Implements [`Number`]. A row is a type, a name for its value, and the number, such as `bool: value => u64::from(*value);`.
macro_rules! numbers {
    ($( $of:ty: $value:ident => $number:expr; )+) => {
        $(
            impl Number for $of {
                fn number(&self) -> u64 {
                    let $value = self;
                    $number
                }
            }
        )+
    };
}

numbers! {
    u64: value => *value;
    u32: value => u64::from(*value);
    u16: value => u64::from(*value);
    usize: value => *value as u64;
    bool: value => u64::from(*value);
    Duration: value => ns(*value);
}

/// Converts to nanoseconds. A duration that does not fit becomes `u64::MAX / 4` ns, which is 146 years.
fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Converts milliseconds to nanoseconds.
fn from_ms(ms: &u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

/// Converts microseconds to nanoseconds.
fn from_us(us: &u64) -> u64 {
    us.saturating_mul(1000)
}

/// Returns the interval in nanoseconds between events that occur `hz` times a second.
fn from_hz(hz: &u64) -> u64 {
    1_000_000_000 / hz.max(&1)
}

/// Generates [`work_loop`] from the rows of `work_type_table!`; see there for an example.
macro_rules! loops {
    ($(
        $(#[$meta:meta])+
        $variant:ident / $ctor:ident $(($bench:ident))? $([$group:expr])?
            => $file:ident::$body:ident($($param:expr),*) $(, wakes $graph:ident)? $(, peers $peers:ident)?
        $({ $(
            $(#[doc = $fdoc:literal])+
            $field:ident: $ty:ty = $default:expr $(=> $rule:ident)?
        ),+ $(,)? })?
    ;)+) => {
        /// Returns the work loop of a work type.
        #[allow(unused_variables)]
        pub(super) fn work_loop(work: &WorkType) -> WorkLoop {
            use WakeGraph::{Event, Futex, Pipe, Shared};
            let work_loop = match work {
                WorkType::Sequence { .. } => WorkLoop::new(sequence::sequence, []),
                WorkType::Custom { .. } => WorkLoop::new(custom::custom, []).peers(Peers::Nobody),
                $( WorkType::$variant $({ $($field),+ })? => {
                    WorkLoop::new($file::$body, [$($param.number()),*])
                        $(.wakes($graph.into()))?
                        $(.peers(Peers::$peers))?
                } )+
            };
            let group = match (work.tasks(1), work.worker_group_size()) {
                (Some(_), _) => 0,
                (None, group) => group.unwrap_or(1),
            };
            WorkLoop { group, ..work_loop }
        }
    };
}

ktstr_scenario::work_type_table!(loops);
