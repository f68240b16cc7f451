//! The table from work types to the functions that workers run.
//!
//! To add a work type, write a `fn(&mut WorkerCtx)` in a file here and give it a line in [`work_loop`];
//! a work type without a line does not compile. The function must not allocate or panic, must
//! return when told to stop, and may block only in calls that a signal interrupts. The name,
//! parameters, defaults and group size of the work type are lines in
//! `ktstr-scenario/src/workload/work_type/table.rs`.

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
    /// All workers with the same nice value, policy and affinity.
    Alike,
    /// The workers at the same index of other groups, because the members of a group do different
    /// things.
    SameMember,
    /// No other worker, because this one changes its own affinity, policy or cgroup, or runs a
    /// function of the test or a thread of rt-app.
    Nobody,
}

/// The work loop of a work type and its parameters.
#[derive(Clone, Copy)]
pub(super) struct WorkLoop {
    /// The loop. It returns when the worker is told to stop.
    pub run: fn(&mut WorkerCtx<'_>),
    /// The parameters of the loop. Each loop documents their meaning.
    pub params: [u64; 4],
    /// How the members of a group are connected.
    pub graph: WakeGraph,
    /// The workers with which a worker is compared.
    pub peers: Peers,
    /// Number of workers in a group; 0 means that all workers form one group.
    pub group: usize,
}

impl WorkLoop {
    fn peers(self, peers: Peers) -> Self {
        Self { peers, ..self }
    }
}

/// Converts to nanoseconds. A duration that does not fit becomes 146 years.
fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

fn ms(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

fn us(us: u64) -> u64 {
    us.saturating_mul(1000)
}

/// Returns the work loop of a work type.
pub(super) fn work_loop(work: &WorkType) -> WorkLoop {
    use Peers::{Nobody, SameMember};
    let ring = |run: fn(&mut WorkerCtx<'_>), params: &[u64], graph| {
        let mut all = [0; 4];
        for (to, from) in all.iter_mut().zip(params) {
            *to = *from;
        }
        WorkLoop {
            run,
            params: all,
            graph,
            peers: Peers::Alike,
            group: match (work.tasks(1), work.worker_group_size()) {
                (Some(_), _) => 0,
                (None, group) => group.unwrap_or(1),
            },
        }
    };
    let alone = |run, params: &[u64]| ring(run, params, WakeGraph::None);
    let shared = |run, params: &[u64]| ring(run, params, WakeGraph::Shared);
    match work {
        WorkType::Sequence { .. } => alone(sequence::sequence, &[]),
        WorkType::Custom { .. } => alone(custom::custom, &[]).peers(Nobody),
        WorkType::SpinWait => alone(cpu::spin_wait, &[]),
        WorkType::YieldHeavy => alone(cpu::yield_heavy, &[]),
        WorkType::Mixed => alone(cpu::mixed, &[]),
        WorkType::IoSyncWrite => alone(io::sync_write, &[]),
        WorkType::IoRandRead => alone(io::rand_read, &[]),
        WorkType::IoConvoy => alone(io::convoy, &[]),
        WorkType::Bursty {
            burst_duration,
            sleep_duration,
        } => alone(timed::bursty, &[ns(*burst_duration), ns(*sleep_duration)]),
        WorkType::PipeIo { burst_iters } => {
            ring(wake::ring_units, &[*burst_iters], WakeGraph::Pipe)
        }
        WorkType::FutexPingPong { spin_iters } => {
            ring(wake::ring_units, &[*spin_iters], WakeGraph::Futex)
        }
        WorkType::CachePressure { size_kib, stride } => {
            alone(cpu::cache_pressure, &[*size_kib as u64, *stride as u64])
        }
        WorkType::CacheYield { size_kib, stride } => {
            alone(cpu::cache_yield, &[*size_kib as u64, *stride as u64])
        }
        WorkType::CachePipe {
            size_kib,
            burst_iters,
        } => ring(
            wake::ring_cached,
            &[*burst_iters, *size_kib as u64],
            WakeGraph::Pipe,
        ),
        // A field that is a number of members determines the size of the group, and the loop gets the other fields.
        WorkType::FutexFanOut {
            spin_iters,
            fan_out: _,
        } => shared(futex_group::fan_out, &[*spin_iters]),
        WorkType::ForkExit => alone(churn::fork_exit, &[]),
        WorkType::NiceSweep => alone(churn::nice_sweep, &[]),
        WorkType::AffinityChurn { spin_iters } => {
            alone(churn::affinity_churn, &[*spin_iters]).peers(Nobody)
        }
        WorkType::CrossAffinityChurn { spin_iters } => {
            alone(churn::cross_affinity_churn, &[*spin_iters]).peers(Nobody)
        }
        WorkType::PolicyChurn { spin_iters } => {
            alone(churn::policy_churn, &[*spin_iters]).peers(Nobody)
        }
        WorkType::FanOutCompute {
            fan_out: _,
            cache_footprint_kib,
            operations,
            sleep_usec,
        } => shared(
            futex_group::fan_out_compute,
            &[*cache_footprint_kib as u64, *operations, us(*sleep_usec)],
        ),
        WorkType::PageFaultChurn {
            region_kib,
            touches_per_cycle,
            spin_iters,
        } => alone(
            memory::page_fault_churn,
            &[*region_kib as u64, *touches_per_cycle as u64, *spin_iters],
        ),
        WorkType::MutexContention {
            contenders: _,
            hold_iters,
            work_iters,
        } => shared(futex_group::mutex, &[*hold_iters, *work_iters]),
        WorkType::ThunderingHerd {
            waiters: _,
            batches,
            inter_batch_ms,
        } => shared(futex_group::herd, &[ms(*inter_batch_ms), *batches]),
        WorkType::PriorityInversion {
            high_count,
            medium_count,
            low_count: _,
            hold_iters,
            work_iters,
            pi_mode: _,
        } => shared(
            classes::priority_inversion,
            &[
                *high_count as u64,
                *medium_count as u64,
                *hold_iters,
                *work_iters,
            ],
        )
        .peers(SameMember),
        WorkType::ProducerConsumerImbalance {
            producers,
            consumers: _,
            produce_rate_hz,
            consume_iters,
            queue_depth_target,
        } => shared(
            queues::imbalance,
            &[
                *producers as u64,
                1_000_000_000 / produce_rate_hz.max(&1),
                *consume_iters,
                *queue_depth_target,
            ],
        )
        .peers(SameMember),
        WorkType::RtStarvation {
            rt_workers,
            cfs_workers: _,
            rt_priority,
            burst_iters,
        } => alone(
            classes::rt_starvation,
            &[
                *rt_workers as u64,
                u64::from(rt_priority.unsigned_abs()),
                *burst_iters,
            ],
        )
        .peers(SameMember),
        WorkType::AsymmetricWaker { burst_iters, .. } => {
            ring(classes::asymmetric_waker, &[*burst_iters], WakeGraph::Futex).peers(SameMember)
        }
        WorkType::WakeChain {
            depth: _,
            wake,
            work_per_hop,
        } => ring(
            wake::ring_timed,
            &[ns(*work_per_hop)],
            match wake {
                WakeMechanism::Pipe => WakeGraph::Pipe,
                WakeMechanism::Futex => WakeGraph::Futex,
            },
        ),
        WorkType::NumaWorkingSetSweep {
            region_kib,
            sweep_period_ms,
            target_nodes: _,
        } => alone(
            memory::numa_sweep,
            &[*region_kib as u64, ms(*sweep_period_ms)],
        ),
        WorkType::CgroupChurn { groups, cycle_ms } => {
            alone(cgroups::cgroup_churn, &[*groups as u64, ms(*cycle_ms)]).peers(Nobody)
        }
        WorkType::CgroupAttachStorm { .. } => alone(cgroups::attach_storm, &[]),
        WorkType::SignalStorm {
            signals_per_iter,
            work_iters,
        } => alone(signals::signal_storm, &[*signals_per_iter, *work_iters]),
        WorkType::PreemptStorm {
            cfs_workers: _,
            rt_burst_iters,
            rt_sleep_us,
        } => alone(classes::preempt_storm, &[*rt_burst_iters, us(*rt_sleep_us)]).peers(SameMember),
        WorkType::EpollStorm {
            producers,
            consumers: _,
            events_per_burst,
        } => ring(
            queues::epoll_storm,
            &[*producers as u64, *events_per_burst],
            WakeGraph::Event,
        )
        .peers(SameMember),
        WorkType::NumaMigrationChurn { period_ms } => {
            alone(churn::numa_migration_churn, &[ms(*period_ms)]).peers(Nobody)
        }
        WorkType::IdleChurn {
            burst_duration,
            sleep_duration,
            precise_timing,
        } => alone(
            if *precise_timing {
                timed::bursty
            } else {
                timed::idle_churn
            },
            &[ns(*burst_duration), ns(*sleep_duration)],
        ),
        WorkType::TimerLatency { interval_us } => alone(timed::timer_latency, &[us(*interval_us)]),
        WorkType::Schbench { config: _ } => shared(schbench::schbench, &[]).peers(SameMember),
        WorkType::Taobench { config: _ } => shared(taobench::taobench, &[]).peers(SameMember),
        WorkType::NetTraffic {
            interval_us,
            frame_bytes,
        } => alone(net::traffic, &[us(*interval_us), u64::from(*frame_bytes)]),
        WorkType::IrqWake {
            interval_us,
            frame_bytes,
        } => shared(net::irq_wake, &[us(*interval_us), u64::from(*frame_bytes)]).peers(SameMember),
        WorkType::AluHot { .. } => alone(alu::alu_hot, &[]),
        WorkType::SmtSiblingSpin => alone(alu::smt_sibling_spin, &[]).peers(SameMember),
        WorkType::IpcVariance {
            hot_iters,
            cold_iters,
            period_iters,
        } => alone(alu::ipc_variance, &[*hot_iters, *cold_iters, *period_iters]),
        WorkType::RtApp { .. } => alone(rt_app::rt_app, &[]).peers(Nobody),
    }
}
