//! The table of work types.
//!
//! Everything that depends on the list of work types is made from these rows: the enum with its constructors, names,
//! defaults, checks and text (`work_type/generate.rs`), and the loop that a worker runs in the guest
//! (`ktstr-guest/src/workers/kinds/mod.rs`). An example of a row:
//!
//! ```text
//! /// Pairs that wake each other through a pipe after a burst of work.
//! PipeIo / pipe_io [2] => wake::ring_units(burst_iters), wakes Pipe {
//!     /// Iterations of work between two wakes.
//!     burst_iters: u64 = 1024,
//! };
//! ```
//!
//! The row begins with the names of the variant and of the constructor. `none` in place of the constructor's name means that
//! the constructor is written by hand. Two items are optional. A benchmark has, in parentheses, the parameter that determines
//! the number of its workers. A work type whose workers form groups has, in brackets, the number of workers per group. After
//! `=>` the row names the body: a function in a file in `ktstr-guest/src/workers/kinds/`, with the numbers that it gets as
//! `WorkerCtx::params`, at most four. Each number is a parameter or an expression of parameters, in which the parameters are
//! references. A `Duration` becomes nanoseconds, and `from_ms`, `from_us` and `from_hz` convert other units to nanoseconds. Two
//! clauses may follow:
//!
//! - `wakes`: how the members of a group wake each other. This is a variant of the guest's `WakeGraph`, or a parameter that
//!   determines the variant. Without the clause, they do not wake each other.
//! - `peers`: the workers with which a worker's share of CPU time is compared, as a variant of the guest's `Peers`. Without
//!   the clause, these are all workers with the same nice value, policy and affinity.
//!
//! In braces are the parameters with their defaults and, after a second `=>`, their rules in `work_type/rules.rs`. The docs
//! of parameters call a unit of integer work an iteration of work. The iterations in a worker's report are
//! repetitions of its body.
//!
//! To add a work type, write its row and its body, and test its effect in `ktstr/tests/work_types/`. A row whose body or
//! rule is missing does not compile. CONTRIBUTING.md has the rules for bodies.

/// Calls a macro with the rows of the table.
#[doc(hidden)]
#[macro_export]
macro_rules! work_type_table {
    ($consumer:ident) => {
        $consumer! {
            /// Uses the CPU and does nothing else.
            #[default]
            SpinWait / spin_wait => cpu::spin_wait();
            /// Calls `sched_yield` in every iteration.
            YieldHeavy / yield_heavy => cpu::yield_heavy();
            /// Uses the CPU for a short burst, then yields.
            Mixed / mixed => cpu::mixed();
            /// Writes 16 blocks of 4 KiB to the test's disk with `O_SYNC`, then calls `fdatasync(2)`. The worker sleeps in state
            /// D until each request has ended. Without a disk it writes to a temporary file, which is in memory, and does not
            /// sleep.
            IoSyncWrite / io_sync_write => io::sync_write();
            /// Reads blocks of 4 KiB with `O_DIRECT` at random places in 1 MiB of the test's disk. Each read is a short
            /// sleep in state D. Without a disk it reads a temporary file: see [`WorkType::IoSyncWrite`].
            IoRandRead / io_rand_read => io::rand_read();
            /// Alternates writes and random reads of blocks of 4 KiB through the page cache, with an `fdatasync(2)` after every
            /// 16 pairs, on the test's disk or a temporary file: see [`WorkType::IoSyncWrite`].
            IoConvoy / io_convoy => io::convoy();
            /// Uses the CPU for a while, then sleeps.
            Bursty / bursty => timed::bursty(burst_duration, sleep_duration) {
                /// How long each burst lasts, in guest time.
                burst_duration: Duration = ms(50) => nonzero,
                /// How long the worker sleeps after each burst; 0 for no sleep.
                sleep_duration: Duration = ms(100),
            };
            /// Pairs that wake each other through a pipe after a burst of work.
            PipeIo / pipe_io [2] => wake::ring_units(burst_iters), wakes Pipe {
                /// Iterations of work between two wakes.
                burst_iters: u64 = 1024,
            };
            /// Pairs that wake each other through a futex.
            FutexPingPong / futex_ping_pong [2] => wake::ring_units(spin_iters), wakes Futex {
                /// Iterations of work between two wakes.
                spin_iters: u64 = 1024,
            };
            /// Reads, modifies and writes bytes of a buffer at a fixed stride.
            CachePressure / cache_pressure => cpu::cache_pressure(size_kib, stride) {
                /// The size of the buffer, KiB; at most 1 GiB is used.
                size_kib: usize = 32 => nonzero,
                /// The distance between two accesses, bytes.
                stride: usize = 64 => nonzero,
            };
            /// Like [`WorkType::CachePressure`], with a yield after each pass over the buffer.
            CacheYield / cache_yield => cpu::cache_yield(size_kib, stride) {
                /// The size of the buffer, KiB; at most 1 GiB is used.
                size_kib: usize = 32 => nonzero,
                /// The distance between two accesses, bytes.
                stride: usize = 64 => nonzero,
            };
            /// Pairs that wake each other through a pipe. Each worker has a buffer, and passes over it once before each wake.
            CachePipe / cache_pipe [2] => wake::ring_cached(burst_iters, size_kib), wakes Pipe {
                /// The size of the buffer, KiB; at most 1 GiB is used.
                size_kib: usize = 32 => nonzero,
                /// Iterations of work between two wakes, in addition to one pass over the buffer.
                burst_iters: u64 = 1024,
            };
            /// One waker wakes many workers at once through a futex. The woken workers record their wake-up latencies.
            FutexFanOut / futex_fan_out [fan_out.saturating_add(1)] => futex_group::fan_out(spin_iters), wakes Shared {
                /// The number of workers that a waker wakes.
                fan_out: usize = 4 => nonzero,
                /// Iterations of work between two wakes.
                spin_iters: u64 = 1024,
            };
            /// Forks a child that exits at once, and waits for it.
            ForkExit / fork_exit => churn::fork_exit();
            /// Cycles through the nice values -20..=19 (negative ones need `CAP_SYS_NICE`).
            NiceSweep / nice_sweep => churn::nice_sweep(), peers Nobody;
            /// Pins itself to one random CPU after another, out of the CPUs that it may use.
            AffinityChurn / affinity_churn => churn::affinity_churn(spin_iters), peers Nobody {
                /// Iterations of work between two changes.
                spin_iters: u64 = 1024,
            };
            /// Pins one random worker after another to a random CPU. The worker is drawn from this worker and all that were
            /// started together with it, and the CPU from those that this worker may use.
            CrossAffinityChurn / cross_affinity_churn => churn::cross_affinity_churn(spin_iters), peers Nobody {
                /// Iterations of work between two changes.
                spin_iters: u64 = 1024,
            };
            /// Changes its own scheduling policy all the time: `SCHED_BATCH`, `SCHED_IDLE`, `SCHED_OTHER`.
            PolicyChurn / policy_churn => churn::policy_churn(spin_iters), peers Nobody {
                /// Iterations of work between two changes.
                spin_iters: u64 = 1024,
            };
            /// One waker wakes many workers at once. The woken ones sleep for a while, multiply matrices, and reply to the waker.
            FanOutCompute / fan_out_compute [fan_out.saturating_add(1)]
                => futex_group::fan_out_compute(cache_footprint_kib, operations, from_us(sleep_usec)), wakes Shared
            {
                /// The number of workers that a waker wakes.
                fan_out: usize = 4 => nonzero,
                /// The size of the three matrices of a worker together, KiB; at most 1 GiB is used.
                cache_footprint_kib: usize = 256 => nonzero,
                /// The number of multiplications for each wake-up.
                operations: u64 = 5,
                /// How long a worker sleeps between the wake-up and the multiplications, µs.
                sleep_usec: u64 = 100,
            };
            /// Touches fresh anonymous pages and releases them with `MADV_DONTNEED`.
            PageFaultChurn / page_fault_churn => memory::page_fault_churn(region_kib, touches_per_cycle, spin_iters) {
                /// The size of the region, KiB; at most 1 GiB is used.
                region_kib: usize = 4096 => nonzero,
                /// The number of pages that are touched before all are released, at most the number of pages in the region.
                touches_per_cycle: usize = 256 => nonzero,
                /// Iterations of work between two touches.
                spin_iters: u64 = 64,
            };
            /// Workers that contend for one mutex, and hold it while working.
            MutexContention / mutex_contention [*contenders] => futex_group::mutex(hold_iters, work_iters), wakes Shared {
                /// The number of workers that share one mutex.
                contenders: usize = 4 => nonzero,
                /// Iterations of work while holding the mutex.
                hold_iters: u64 = 256,
                /// Iterations of work without the mutex.
                work_iters: u64 = 1024,
            };
            /// One waker wakes all waiters at once with one broadcast, repeatedly.
            ThunderingHerd / thundering_herd [waiters.saturating_add(1)]
                => futex_group::herd(from_ms(inter_batch_ms), batches), wakes Shared
            {
                /// The number of workers that one broadcast wakes.
                waiters: usize = 7 => nonzero,
                /// The number of broadcasts, after which all workers wait to be stopped.
                batches: u64 = 1000 => nonzero,
                /// The pause between two broadcasts, ms.
                inter_batch_ms: u64 = 5,
            };
            /// Workers of three priorities and one lock. High workers (`SCHED_FIFO` 40) sleep and take the lock, medium
            /// workers (`SCHED_FIFO` 20) compute without the lock, and low workers, which have the declared policy, keep
            /// taking the lock. The high workers record how long they waited for the lock.
            PriorityInversion / priority_inversion
                [high_count.saturating_add(medium_count.saturating_add(*low_count))]
                => classes::priority_inversion(high_count, medium_count, hold_iters, work_iters),
                wakes Shared, peers SameMember
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
            ProducerConsumerImbalance / producer_consumer_imbalance [producers.saturating_add(*consumers)]
                => queues::imbalance(producers, from_hz(produce_rate_hz), consume_iters, queue_depth_target),
                wakes Shared, peers SameMember
            {
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
            RtStarvation / rt_starvation [rt_workers.saturating_add(*cfs_workers)]
                => classes::rt_starvation(rt_workers, rt_priority.unsigned_abs(), burst_iters), peers SameMember
            {
                /// The number of `SCHED_FIFO` workers, which never sleep.
                rt_workers: usize = 1 => nonzero,
                /// The number of workers of the declared policy, which the `SCHED_FIFO` workers can starve.
                cfs_workers: usize = 1,
                /// The priority of the `SCHED_FIFO` workers, 1 to 99.
                rt_priority: i32 = 50 => priority,
                /// Iterations of work in one burst.
                burst_iters: u64 = 1024 => nonzero,
            };
            /// Pairs that wake each other through a futex. Each worker of a pair has its own scheduling class.
            AsymmetricWaker / asymmetric_waker [2]
                => classes::asymmetric_waker(burst_iters), wakes Futex, peers SameMember
            {
                /// The scheduling class of the worker that wakes first.
                waker_class: SchedClass = SchedClass::Cfs,
                /// The scheduling class of the other worker.
                wakee_class: SchedClass = SchedClass::Cfs,
                /// Iterations of work between two wakes.
                burst_iters: u64 = 1024,
            };
            /// A ring of workers in which each wakes the next.
            WakeChain / wake_chain [*depth] => wake::ring_timed(work_per_hop), wakes wake {
                /// The number of workers of one ring, at least 2.
                depth: usize = 4 => chain,
                /// How a worker wakes the next one.
                wake: WakeMechanism = WakeMechanism::Pipe,
                /// How long a worker computes before it wakes the next one, in guest time.
                work_per_hop: Duration = Duration::from_micros(100),
            };
            /// Sweeps a region whose memory is bound to one node after the other.
            NumaWorkingSetSweep / numa_working_set_sweep => memory::numa_sweep(region_kib, from_ms(sweep_period_ms)) {
                /// The size of the region, KiB; at most 1 GiB is used.
                region_kib: usize = 4096 => nonzero,
                /// The time from the start of one sweep to the start of the next, ms. If a sweep takes longer, the next one
                /// starts at once.
                sweep_period_ms: u64 = 100 => nonzero,
                /// The nodes in their order; if the list is empty, the pages stay where the worker's memory
                /// policy puts them.
                target_nodes: Vec<usize> = Vec::new(),
            };
            /// Moves itself round-robin through cgroups that it creates below its own. The CPU controller is enabled for
            /// them once all tasks have left the worker's own cgroup, so do not put workers of other types into the same
            /// cgroup: they would stay there. The workers cannot be threads of one process, because the kernel moves whole
            /// processes.
            CgroupChurn / cgroup_churn => cgroups::cgroup_churn(groups, from_ms(cycle_ms)), peers Nobody {
                /// The number of cgroups in the cycle, 1 to 64.
                groups: usize = 2 => few,
                /// The time in each cgroup, ms.
                cycle_ms: u64 = 100 => nonzero,
            };
            /// Forks children that exit at once, and moves each to another cgroup while it exits.
            CgroupAttachStorm / none => cgroups::attach_storm() {
                /// The cgroup to which the children are moved: a sibling of the worker's own cgroup, which
                /// the test declares.
                dest: String = "dest".to_owned() => component,
                /// Who reaps the children.
                reap: ReapMode = ReapMode::SigIgn,
            };
            /// Pairs that send each other `SIGUSR2`.
            SignalStorm / signal_storm [2] => signals::signal_storm(signals_per_iter, work_iters) {
                /// The number of signals that a worker sends in one iteration.
                signals_per_iter: u64 = 16 => nonzero,
                /// Iterations of work between two series of signals.
                work_iters: u64 = 1024,
            };
            /// A worker under `SCHED_FIFO`, priority 50, that keeps waking up and preempts others, which spin.
            PreemptStorm / preempt_storm [cfs_workers.saturating_add(1)]
                => classes::preempt_storm(rt_burst_iters, from_us(rt_sleep_us)), peers SameMember
            {
                /// The number of workers that are preempted.
                cfs_workers: usize = 2 => nonzero,
                /// Iterations of work of the `SCHED_FIFO` worker between two sleeps.
                rt_burst_iters: u64 = 1024,
                /// How long the `SCHED_FIFO` worker sleeps, µs.
                rt_sleep_us: u64 = 1000 => nonzero,
            };
            /// Producers post bursts of events to an eventfd on which consumers wait through epoll.
            EpollStorm / epoll_storm [producers.saturating_add(*consumers)]
                => queues::epoll_storm(producers, events_per_burst), wakes Event, peers SameMember
            {
                /// The number of workers that post events to the eventfd.
                producers: usize = 1 => nonzero,
                /// The number of workers that wait for events through epoll.
                consumers: usize = 2 => nonzero,
                /// The number of events that are posted in one burst.
                events_per_burst: u64 = 32 => nonzero,
            };
            /// Moves itself from node to node by changes of its affinity. It needs CPUs of two nodes.
            NumaMigrationChurn / numa_migration_churn => churn::numa_migration_churn(from_ms(period_ms)), peers Nobody {
                /// The time on each node, ms.
                period_ms: u64 = 100 => nonzero,
            };
            /// Short bursts between short sleeps, so that CPUs often enter and leave idle.
            IdleChurn / idle_churn => timed::idle_churn(burst_duration, sleep_duration, precise_timing) {
                /// How long each burst lasts, in guest time.
                burst_duration: Duration = ms(1) => nonzero,
                /// How long the worker sleeps after each burst, in guest time.
                sleep_duration: Duration = ms(5) => nonzero,
                /// Whether the timer slack is set to its minimum, 1 ns.
                precise_timing: bool = false,
            };
            /// Sleeps until absolute deadlines at a fixed interval, and records how late it wakes up. If an iteration takes
            /// longer than the interval, the worker never sleeps.
            TimerLatency / timer_latency => timed::timer_latency(from_us(interval_us)) {
                /// The time between two deadlines, µs.
                interval_us: u64 = 1000 => nonzero,
            };
            /// Messengers hand out requests, and workers serve them: a worker sleeps for a while, then multiplies
            /// matrices. Declare one worker; the parameters determine how many are started. A request is an iteration. The
            /// time from the wake-up call until a worker runs is a sample of its wake-up latency. The percentiles
            /// of the wake-up latencies, of the latencies of requests, and of the rate of requests are metrics
            /// (`wakeup_*`, `request_*`, `rps_*`).
            Schbench / schbench (config) => schbench::schbench(), wakes Shared, peers SameMember {
                /// The numbers of messengers and workers, and the work per request.
                config: SchbenchConfig = SchbenchConfig::DEFAULT => schbench,
            };
            /// Clients look up keys in a cache, and slow workers fetch missing keys while the client waits. Declare one
            /// worker; the parameters determine how many are started. A look-up is an iteration of its client, and a
            /// fetched key is an iteration of its slow worker. The hit ratio and the rate of look-ups are metrics
            /// (`taobench_*`), and, with an arrival rate, so is their latency.
            Taobench / taobench (config) => taobench::taobench(), wakes Shared, peers SameMember {
                /// The numbers of clients and slow workers, and the properties of the cache.
                config: TaobenchConfig = TaobenchConfig::DEFAULT => taobench,
            };
            /// Sends frames to itself through the loopback device of the guest. This causes system calls, and softirqs
            /// (`NET_RX`) in which the frames come back. The guest has no network card.
            NetTraffic / net_traffic => net::traffic(from_us(interval_us), frame_bytes) {
                /// How long the worker sleeps between two frames, µs; 0 for no sleep.
                interval_us: u64 = 0,
                /// The size of a frame in bytes, its headers included, 60 to 1514.
                frame_bytes: u16 = 60 => frame,
            };
            /// Pairs of a worker that sends frames through the loopback device, and a worker that sleeps until a
            /// frame arrives. The wake-up comes from a softirq, as with a network card, and not from a task that is
            /// about to sleep.
            IrqWake / irq_wake [2] => net::irq_wake(from_us(interval_us), frame_bytes), wakes Shared, peers SameMember {
                /// The time that the sender sleeps between two frames, µs.
                interval_us: u64 = 1000 => nonzero,
                /// The size of a frame in bytes, its headers included, 60 to 1514.
                frame_bytes: u16 = 60 => frame,
            };
            /// Independent chains of integer additions, of which a core can execute several in each cycle.
            AluHot / alu_hot => alu::alu_hot() {
                /// The width of the registers.
                width: AluWidth = AluWidth::Widest,
            };
            /// Pairs that spin with PAUSE on two threads of a core. Each pair needs a core with at least two threads among
            /// the CPUs of the workers; if there are more pairs than such cores, pairs share cores.
            SmtSiblingSpin / smt_sibling_spin [2] => alu::smt_sibling_spin(), peers Nobody;
            /// Alternates independent arithmetic with dependent loads from 4 MiB, so that the instructions per cycle go
            /// up and down.
            IpcVariance / none => alu::ipc_variance(hot_iters, cold_iters, period_iters) {
                /// The approximate number of instructions of independent arithmetic, rounded up to a multiple of 64.
                hot_iters: u64 = 100_000 => nonzero,
                /// The number of loads, each of which needs the result of the load before.
                cold_iters: u64 = 1024 => nonzero,
                /// How often the arithmetic and the loads are repeated in one iteration.
                period_iters: u64 = 64 => nonzero,
            };
            /// Phases of actions, as a thread of an rt-app workload executes them: CPU time, sleeps, timers, locks,
            /// conditions, barriers, changes of policy and affinity. All workers of the scenario that use the same name for
            /// an object of one kind share the object. Each repetition of a phase is an iteration. After the last phase the
            /// worker waits to be stopped.
            RtApp / rt_app => rt_app::rt_app(), peers Nobody {
                /// The phases in their order; at least one.
                phases: Vec<RtPhase> = vec![RtPhase::usual()] => phases,
                /// How often the sequence of all phases is executed; 0 means without end.
                repeat: u64 = 0,
                /// How long the worker sleeps before its first phase.
                delay: Duration = Duration::ZERO,
                /// Whether the holder of a lock inherits the priority of its waiters. A lock with priority inheritance and
                /// a lock of the same name without it are two locks.
                inherits_priority: bool = false,
            };
        }
    };
}
