//! The table of work types. Each entry has the variant and the constructor; in parentheses the parameter that determines the
//! number of workers, for a benchmark; in brackets the number of workers per group, if the workers form groups; and the
//! parameters with their defaults and, after `=>`, their rules.
//!
//! To add a work type, write its entry here, and its body with a line for it in `ktstr-guest/src/workers/kinds`. Without that
//! line, the guest does not compile.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parts::{AluWidth, FutexLockMode, ReapMode, WakeMechanism, WorkPhase};
use super::rules::{self, Checked};
use crate::text::{Fields, Names, Node, Shape, Text, TextError, Unsayable, put_variant, variant};
use crate::workload::SchedClass;
use crate::workload::bench::{SchbenchConfig, TaobenchConfig};
use crate::workload::custom::{CustomCfg, CustomFn};
use crate::workload::rt_app::RtPhase;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Generates the constructor of a variant; `none` generates none, because it is written by hand.
macro_rules! ctor {
    (none $variant:ident $($rest:tt)*) => {};
    ($ctor:ident $variant:ident $({ $($field:ident: $ty:ty),+ })?) => {
        #[doc = concat!("[`WorkType::", stringify!($variant), "`] with these parameters.")]
        pub const fn $ctor($($($field: $ty),+)?) -> Self {
            Self::$variant $({ $($field),+ })?
        }
    };
}

macro_rules! work_types {
    ($(
        $(#[$meta:meta])+
        $variant:ident / $ctor:ident $(($bench:ident))? $([$group:expr])?
        $({ $(
            $(#[doc = $fdoc:literal])+
            $field:ident: $ty:ty = $default:expr $(=> $rule:ident)?
        ),+ $(,)? })?
    ;)+) => {
        /// The work that a worker repeats until it is stopped.
        // Two custom work types are equal if, among other things, they call the same function. The compiler may merge or
        // duplicate functions, but no decision depends on that.
        #[allow(unpredictable_function_pointer_comparisons)]
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum WorkType {
            /// Repeats a sequence of phases: `first`, then `rest`.
            Sequence {
                /// The phase with which each repetition begins.
                first: WorkPhase,
                /// The phases after it.
                rest: Vec<WorkPhase>,
            },
            /// Calls a function of the test once; see [`CustomFn`]. This work type cannot be serialized.
            #[serde(skip)]
            Custom {
                /// The name by which messages and texts refer to the work type.
                name: String,
                /// The function. It runs in the worker's process.
                run: CustomFn,
                /// The parameters, which the function gets from [`WorkerCtx::cfg`](crate::workload::WorkerCtx::cfg).
                cfg: CustomCfg,
            },
            $(
                $(#[$meta])+
                $variant $({ $( $(#[doc = $fdoc])+ $field: $ty ),+ })?,
            )+
        }

        impl WorkType {
            /// The names of all work types, as [`WorkType::name`] gives them.
            pub const ALL_NAMES: &'static [&'static str] =
                &["Sequence", "Custom", $(stringify!($variant)),+];

            /// Returns the name of the variant, such as `SpinWait`.
            pub const fn name(&self) -> &'static str {
                match self {
                    Self::Sequence { .. } => "Sequence",
                    Self::Custom { .. } => "Custom",
                    $(Self::$variant $({ $($field: _),+ })? => stringify!($variant),)+
                }
            }

            /// Returns the work type of this exact name with default parameters; `None` for an unknown name, and for `Sequence`
            /// and `Custom`, which have no default.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($variant) => {
                        Some(Self::$variant $({ $($field: $default),+ })?)
                    })+
                    _ => None,
                }
            }

            /// Returns the number of workers per group; `None` if each worker works alone, and for benchmarks, all of whose
            /// workers form one group.
            #[allow(unused_variables)]
            pub const fn worker_group_size(&self) -> Option<usize> {
                match self {
                    Self::Sequence { .. } | Self::Custom { .. } => None,
                    $(Self::$variant $({ $($field),+ })? => work_types!(@group $($group)?),)+
                }
            }

            /// Returns the number of workers that a benchmark starts for its one declared worker on `cpus` CPUs; `None` if the
            /// work type is not a benchmark.
            #[allow(unused_variables)]
            pub const fn tasks(&self, cpus: usize) -> Option<usize> {
                match self {
                    Self::Sequence { .. } | Self::Custom { .. } => None,
                    $(Self::$variant $({ $($field),+ })? => work_types!(@tasks cpus $($bench)?),)+
                }
            }

            /// Checks each parameter by its rule.
            #[allow(unused_variables)]
            pub(super) fn parameters(&self) -> Checked {
                let work_type = self.name();
                match self {
                    Self::Sequence { first, rest } => {
                        for phase in std::iter::once(first).chain(rest) {
                            let duration = phase.duration();
                            rules::nonzero(&duration, work_type, "the duration of a phase")?;
                        }
                    }
                    Self::Custom { .. } => {}
                    $(Self::$variant $({ $($field),+ })? => {
                        $($( $(rules::$rule($field, work_type, stringify!($field))?;)? )+)?
                    })+
                }
                Ok(())
            }

            $(ctor! { $ctor $variant $({ $($field: $ty),+ })? })+
        }

        impl Text for WorkType {
            fn expected() -> String {
                "a work type such as \"spin_wait\" or { pipe_io = { burst_iters = 64 } }".to_owned()
            }

            fn put(&self) -> Result<Node, Unsayable> {
                Ok(match self {
                    Self::Sequence { first, rest } => {
                        let phases = std::iter::once(first).chain(rest).copied();
                        put_variant("Sequence", Some(phases.collect::<Vec<_>>().put()?))
                    }
                    Self::Custom { name, .. } => put_variant("Custom", Some(name.put()?)),
                    $(Self::$variant $({ $($field),+ })? => put_variant(
                        stringify!($variant),
                        work_types!(@put $($($field)+)?),
                    ),)+
                })
            }

            #[allow(unused_variables)]
            fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
                let all = &[
                    ("Sequence", Shape::Value),
                    ("Custom", Shape::Value),
                    $((stringify!($variant), work_types!(@shape $($($field)+)?))),+
                ];
                let (name, value) = variant(node, "a work type", all)?;
                match (name, value) {
                    ("Sequence", Some(value)) => {
                        let mut phases = Vec::<WorkPhase>::take(value, names)?.into_iter();
                        let first = phases.next();
                        Ok(Self::Sequence {
                            first: first.ok_or_else(|| value.error("a sequence needs a phase"))?,
                            rest: phases.collect(),
                        })
                    }
                    ("Custom", Some(value)) => names.find_work(value),
                    $((stringify!($variant), value) => {
                        $(
                            let none = Node::table(Vec::new());
                            let known = &[$(stringify!($field)),+];
                            let fields = Fields::of(value.unwrap_or(&none), known, names)?;
                        )?
                        Ok(Self::$variant $({
                            $($field: fields.or(stringify!($field), || $default)?),+
                        })?)
                    })+
                    _ => Err(node.expected(&Self::expected())),
                }
            }
        }
    };
    (@put) => { None };
    (@put $($field:ident)+) => {
        Some(Node::table(vec![$((stringify!($field).to_owned(), $field.put()?)),+]))
    };
    (@shape) => { Shape::Word };
    (@shape $($field:ident)+) => { Shape::Either };
    (@tasks $cpus:ident) => { None };
    (@tasks $cpus:ident $bench:ident) => { Some($bench.tasks($cpus)) };
    (@group) => { None };
    (@group $group:expr) => { Some($group) };
}

work_types! {
    /// Uses the CPU and does nothing else.
    #[default]
    SpinWait / spin_wait;
    /// Calls `sched_yield` in every iteration.
    YieldHeavy / yield_heavy;
    /// A burst of CPU, then a yield.
    Mixed / mixed;
    /// Writes 16 blocks of 4 KiB to a temporary file opened with `O_SYNC`, then `fdatasync(2)`. The guest has no disk, so the
    /// file is in memory: the worker exercises the file system, but does not sleep in state D.
    IoSyncWrite / io_sync_write;
    /// Reads blocks of 4 KiB at random places of a temporary file of 1 MiB, with `O_DIRECT` if the file system supports it. The
    /// file is in memory: see [`WorkType::IoSyncWrite`].
    IoRandRead / io_rand_read;
    /// Alternates writes and random reads of blocks of 4 KiB, with an `fdatasync(2)` after every 16 pairs. The file is in
    /// memory: see [`WorkType::IoSyncWrite`].
    IoConvoy / io_convoy;
    /// Uses the CPU for a while, then sleeps.
    Bursty / bursty {
        /// How long each burst lasts, in guest time.
        burst_duration: Duration = ms(50) => nonzero,
        /// How long the worker sleeps after each burst; 0 for no sleep.
        sleep_duration: Duration = ms(100),
    };
    /// Pairs that wake each other through a pipe after a burst of work.
    PipeIo / pipe_io [2] {
        /// Iterations of work between two wakes.
        burst_iters: u64 = 1024,
    };
    /// Pairs that wake each other through a futex.
    FutexPingPong / futex_ping_pong [2] {
        /// Iterations of work between two wakes.
        spin_iters: u64 = 1024,
    };
    /// Reads, modifies and writes bytes of a buffer at a fixed stride.
    CachePressure / cache_pressure {
        /// The size of the buffer, KiB.
        size_kib: usize = 32 => nonzero,
        /// The distance between two accesses, bytes.
        stride: usize = 64 => nonzero,
    };
    /// Like [`WorkType::CachePressure`], with a yield after each pass over the buffer.
    CacheYield / cache_yield {
        /// The size of the buffer, KiB.
        size_kib: usize = 32 => nonzero,
        /// The distance between two accesses, bytes.
        stride: usize = 64 => nonzero,
    };
    /// Pairs that wake each other through a pipe. Each worker has a buffer, and passes over it in each turn.
    CachePipe / cache_pipe [2] {
        /// The size of the buffer, KiB.
        size_kib: usize = 32 => nonzero,
        /// Iterations of work between two wakes, in addition to one pass over the buffer.
        burst_iters: u64 = 1024,
    };
    /// One waker wakes many workers at once through a futex. The woken workers record their wake-up latencies.
    FutexFanOut / futex_fan_out [fan_out.saturating_add(1)] {
        /// The number of workers that a waker wakes.
        fan_out: usize = 4 => nonzero,
        /// Iterations of work between two wakes.
        spin_iters: u64 = 1024,
    };
    /// Forks a child that exits at once, and waits for it.
    ForkExit / fork_exit;
    /// Cycles through the nice values -20..=19 (negative ones need `CAP_SYS_NICE`).
    NiceSweep / nice_sweep;
    /// Pins itself to one random CPU after the other of those that it may use.
    AffinityChurn / affinity_churn {
        /// Iterations of work between two changes.
        spin_iters: u64 = 1024,
    };
    /// Pins one random worker after the other to a random CPU, out of the workers that were started with it, itself included.
    CrossAffinityChurn / cross_affinity_churn {
        /// Iterations of work between two changes.
        spin_iters: u64 = 1024,
    };
    /// Changes its own scheduling policy all the time: `SCHED_BATCH`, `SCHED_IDLE`, `SCHED_OTHER`.
    PolicyChurn / policy_churn {
        /// Iterations of work between two changes.
        spin_iters: u64 = 1024,
    };
    /// One waker wakes many workers at once. They sleep for a while, multiply matrices, and reply to the waker.
    FanOutCompute / fan_out_compute [fan_out.saturating_add(1)] {
        /// The number of workers that a waker wakes.
        fan_out: usize = 4 => nonzero,
        /// The size of the three matrices of a worker together, KiB.
        cache_footprint_kib: usize = 256 => nonzero,
        /// The number of multiplications for each wake-up.
        operations: u64 = 5,
        /// How long a worker sleeps between the wake-up and the multiplications, µs.
        sleep_usec: u64 = 100,
    };
    /// Touches fresh anonymous pages and releases them with `MADV_DONTNEED`.
    PageFaultChurn / page_fault_churn {
        /// The size of the region, KiB.
        region_kib: usize = 4096 => nonzero,
        /// The number of pages that are touched before all are released, up to the pages of the region.
        touches_per_cycle: usize = 256 => nonzero,
        /// Iterations of work between two touches.
        spin_iters: u64 = 64,
    };
    /// Workers that contend for one mutex, and hold it while working.
    MutexContention / mutex_contention [*contenders] {
        /// The number of workers that share one mutex.
        contenders: usize = 4 => nonzero,
        /// Iterations of work while holding the mutex.
        hold_iters: u64 = 256,
        /// Iterations of work without the mutex.
        work_iters: u64 = 1024,
    };
    /// One waker wakes all waiters at once with one broadcast, repeatedly.
    ThunderingHerd / thundering_herd [waiters.saturating_add(1)] {
        /// The number of workers that one broadcast wakes.
        waiters: usize = 7 => nonzero,
        /// The number of broadcasts, after which all workers wait to be stopped.
        batches: u64 = 1000 => nonzero,
        /// The pause between two broadcasts, ms.
        inter_batch_ms: u64 = 5,
    };
    /// Workers of three priorities and one lock. High workers (`SCHED_FIFO` 40) sleep and take the lock, medium workers
    /// (`SCHED_FIFO` 20) compute without the lock, and low workers, which have the declared policy, keep taking the lock. The
    /// high workers record how long they waited for the lock.
    PriorityInversion / priority_inversion
        [high_count.saturating_add(medium_count.saturating_add(*low_count))]
    {
        /// The number of workers of the high priority.
        high_count: usize = 1 => nonzero,
        /// The number of workers of the medium priority, which do not take the lock.
        medium_count: usize = 1,
        /// The number of workers of the low priority.
        low_count: usize = 1 => nonzero,
        /// Iterations of work while holding the lock.
        hold_iters: u64 = 4096,
        /// Iterations of work without the lock.
        work_iters: u64 = 1024,
        /// Whether the holder of the lock inherits the priority of the waiters.
        pi_mode: FutexLockMode = FutexLockMode::Plain,
    };
    /// Producers put items into a queue at a rate that consumers may not keep up with.
    ProducerConsumerImbalance / producer_consumer_imbalance [producers.saturating_add(*consumers)] {
        /// The number of workers that put items into the queue.
        producers: usize = 2 => nonzero,
        /// The number of workers that take items out of the queue and work on them.
        consumers: usize = 1 => nonzero,
        /// The number of items per second of each producer, at most 1000000.
        produce_rate_hz: u64 = 1000 => rate,
        /// Iterations of work for each item.
        consume_iters: u64 = 4096,
        /// The number of items in the queue at which producers block.
        queue_depth_target: u64 = 1024 => nonzero,
    };
    /// `SCHED_FIFO` workers that never sleep, together with workers of the declared policy.
    RtStarvation / rt_starvation [rt_workers.saturating_add(*cfs_workers)] {
        /// The number of `SCHED_FIFO` workers, which never sleep.
        rt_workers: usize = 1 => nonzero,
        /// The number of workers of the declared policy, which are starved.
        cfs_workers: usize = 1,
        /// The priority of the `SCHED_FIFO` workers, 1 to 99.
        rt_priority: i32 = 50 => priority,
        /// Iterations of work in one burst.
        burst_iters: u64 = 1024 => nonzero,
    };
    /// Pairs of two scheduling classes that wake each other through a futex.
    AsymmetricWaker / asymmetric_waker [2] {
        /// The scheduling class of the worker that wakes first.
        waker_class: SchedClass = SchedClass::Cfs,
        /// The scheduling class of the other worker.
        wakee_class: SchedClass = SchedClass::Cfs,
        /// Iterations of work between two wakes.
        burst_iters: u64 = 1024,
    };
    /// A ring of workers in which each wakes the next.
    WakeChain / wake_chain [*depth] {
        /// The number of workers of one ring, at least 2.
        depth: usize = 4 => chain,
        /// How a worker wakes the next one.
        wake: WakeMechanism = WakeMechanism::Pipe,
        /// How long a worker computes before it wakes the next one, in guest time.
        work_per_hop: Duration = Duration::from_micros(100),
    };
    /// Sweeps a region whose memory is bound to one node after the other.
    NumaWorkingSetSweep / numa_working_set_sweep {
        /// The size of the region, KiB.
        region_kib: usize = 4096 => nonzero,
        /// The time from the start of one sweep to the start of the next, ms.
        sweep_period_ms: u64 = 100 => nonzero,
        /// The nodes in their order; if the list is empty, the pages stay where the worker's memory policy puts them.
        target_nodes: Vec<usize> = Vec::new(),
    };
    /// Moves itself round-robin through cgroups that it creates below its own. The CPU controller is enabled for them once all
    /// tasks have left the worker's own cgroup, so do not put workers of other types into the same cgroup: they would stay there.
    CgroupChurn / cgroup_churn {
        /// The number of cgroups in the cycle, 1 to 64.
        groups: usize = 2 => few,
        /// The time in each cgroup, ms.
        cycle_ms: u64 = 100 => nonzero,
    };
    /// Forks children that exit at once, and moves each to another cgroup while it exits.
    CgroupAttachStorm / none {
        /// The cgroup to which the children are moved: a sibling of the worker's own cgroup, which the test declares.
        dest: String = "dest".to_owned() => component,
        /// Who reaps the children.
        reap: ReapMode = ReapMode::SigIgn,
    };
    /// Pairs that send each other `SIGUSR2`.
    SignalStorm / signal_storm [2] {
        /// The number of signals that a worker sends in one iteration.
        signals_per_iter: u64 = 16 => nonzero,
        /// Iterations of work between two series of signals.
        work_iters: u64 = 1024,
    };
    /// A `SCHED_FIFO` worker that keeps waking up and preempts others, which spin.
    PreemptStorm / preempt_storm [cfs_workers.saturating_add(1)] {
        /// The number of workers that are preempted.
        cfs_workers: usize = 2 => nonzero,
        /// Iterations of work of the `SCHED_FIFO` worker between two sleeps.
        rt_burst_iters: u64 = 1024,
        /// How long the `SCHED_FIFO` worker sleeps, µs.
        rt_sleep_us: u64 = 1000 => nonzero,
    };
    /// Producers post bursts of events to an eventfd on which consumers wait through epoll.
    EpollStorm / epoll_storm [producers.saturating_add(*consumers)] {
        /// The number of workers that post events to the eventfd.
        producers: usize = 1 => nonzero,
        /// The number of workers that wait for events through epoll.
        consumers: usize = 2 => nonzero,
        /// The number of events that are posted in one burst.
        events_per_burst: u64 = 32 => nonzero,
    };
    /// Moves itself from node to node by its affinity. It needs CPUs of two nodes.
    NumaMigrationChurn / numa_migration_churn {
        /// The time on each node, ms.
        period_ms: u64 = 100 => nonzero,
    };
    /// Short bursts between short sleeps, so that CPUs often enter and leave idle.
    IdleChurn / idle_churn {
        /// How long each burst lasts, in guest time.
        burst_duration: Duration = ms(1) => nonzero,
        /// How long the worker sleeps after each burst, in guest time.
        sleep_duration: Duration = ms(5) => nonzero,
        /// Whether the timer slack is set to its minimum, 1 ns.
        precise_timing: bool = false,
    };
    /// Sleeps until absolute deadlines at a fixed interval, and records how late it wakes up.
    TimerLatency / timer_latency {
        /// The time between two deadlines, µs.
        interval_us: u64 = 1000 => nonzero,
    };
    /// Messengers hand out requests, and workers serve them: a worker sleeps for a while, then multiplies matrices. Declare one
    /// worker; the parameters determine how many are started. The time from the wake-up call until a worker runs is a sample of
    /// its wake-up latency; a request is an iteration. The percentiles of the wake-up latencies, of the latencies of requests,
    /// and of the rate of requests are metrics (`wakeup_*`, `request_*`, `rps_*`).
    Schbench / schbench (config) {
        /// The numbers of messengers and workers, and the work per request.
        config: SchbenchConfig = SchbenchConfig::DEFAULT => schbench,
    };
    /// Clients look up keys in a cache, and slow workers fetch missing keys while the client waits. Declare one worker; the
    /// parameters determine how many are started. A look-up is an iteration of its client, and a fetched key is an iteration
    /// of its slow worker. The hit ratio and the rate of look-ups are metrics (`taobench_*`), and, with an arrival rate, so
    /// is their latency.
    Taobench / taobench (config) {
        /// The numbers of clients and slow workers, and the properties of the cache.
        config: TaobenchConfig = TaobenchConfig::DEFAULT => taobench,
    };
    /// Sends frames to itself through the loopback device of the guest. This causes system calls, and softirqs (`NET_RX`) in
    /// which the frames come back. The guest has no network card.
    NetTraffic / net_traffic {
        /// How long the worker sleeps between two frames, µs; 0 for no sleep.
        interval_us: u64 = 0,
        /// The size of a frame in bytes, its headers included, 60 to 1514.
        frame_bytes: u16 = 60 => frame,
    };
    /// Pairs of a worker that sends frames through the loopback device, and a worker that sleeps until a frame arrives. The
    /// wake-up comes from a softirq, as with a network card, and not from a task that is about to sleep.
    IrqWake / irq_wake [2] {
        /// The time that the sender sleeps between two frames, µs.
        interval_us: u64 = 1000 => nonzero,
        /// The size of a frame in bytes, its headers included, 60 to 1514.
        frame_bytes: u16 = 60 => frame,
    };
    /// Independent chains of integer arithmetic that keep all units of a core busy.
    AluHot / alu_hot {
        /// The width of the registers.
        width: AluWidth = AluWidth::Widest,
    };
    /// Pairs that spin with PAUSE on two threads of a core. Each pair needs a core with at least two threads among the CPUs of
    /// the workers; if there are more pairs than such cores, pairs share cores.
    SmtSiblingSpin / smt_sibling_spin [2];
    /// Alternates independent arithmetic with dependent loads from 4 MiB, so that the instructions per cycle go up and down.
    IpcVariance / none {
        /// The approximate number of instructions of independent arithmetic, rounded up to a multiple of 64.
        hot_iters: u64 = 100_000 => nonzero,
        /// The number of loads, each of which needs the result of the load before.
        cold_iters: u64 = 1024 => nonzero,
        /// How often the arithmetic and the loads are repeated in one iteration.
        period_iters: u64 = 64 => nonzero,
    };
    /// Phases of actions, as a thread of an rt-app workload executes them: CPU time, sleeps, timers, locks, conditions,
    /// barriers, changes of policy and affinity. All workers of the scenario that use the same name for an object of one kind
    /// share the object. Each repetition of a phase is an iteration. After the last phase the worker waits to be stopped.
    RtApp / rt_app {
        /// The phases in their order; at least one.
        phases: Vec<RtPhase> = vec![RtPhase::usual()] => phases,
        /// How often the sequence of all phases is executed; 0 means without end.
        repeat: u64 = 0,
        /// How long the worker sleeps before its first phase.
        delay: Duration = Duration::ZERO,
        /// Whether the holder of a lock inherits the priority of its waiters. A lock with priority inheritance and a lock of the
        /// same name without it are two locks.
        inherits_priority: bool = false,
    };
}

impl WorkType {
    /// [`WorkType::CgroupAttachStorm`] with these parameters.
    pub fn cgroup_attach_storm(dest: impl Into<String>, reap: ReapMode) -> Self {
        Self::CgroupAttachStorm {
            dest: dest.into(),
            reap,
        }
    }

    /// [`WorkType::IpcVariance`] with these parameters.
    ///
    /// # Errors
    /// [`WorkTypeValidationError`](super::WorkTypeValidationError) if one of the parameters is 0.
    pub fn ipc_variance(
        hot_iters: u64,
        cold_iters: u64,
        period_iters: u64,
    ) -> Result<Self, super::WorkTypeValidationError> {
        let work = Self::IpcVariance {
            hot_iters,
            cold_iters,
            period_iters,
        };
        work.parameters().map(|()| work)
    }
}
