//! The kinds of work a worker can do. One table gives the variants, their parameters with
//! defaults, and the names; a kind is here once its parameters are settled, and the guest says
//! which kinds it can run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a waker reaches its wakee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeMechanism {
    /// A byte through a pipe (a synchronous wake in the kernel).
    Pipe,
    /// `FUTEX_WAKE`.
    Futex,
}

/// One phase of [`WorkType::Sequence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkPhase {
    /// Burn CPU for so long.
    Spin(Duration),
    /// Sleep for so long.
    Sleep(Duration),
    /// Call `sched_yield` for so long.
    Yield(Duration),
}

impl WorkPhase {
    /// How long the phase lasts.
    pub const fn duration(&self) -> Duration {
        match self {
            Self::Spin(d) | Self::Sleep(d) | Self::Yield(d) => *d,
        }
    }
}

/// Why a work type cannot be run as given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkTypeValidationError {
    /// A parameter is zero that must not be.
    #[error("work type {work_type}: {parameter} is 0, it must be more")]
    Zero {
        /// Name of the work type.
        work_type: &'static str,
        /// Name of the parameter.
        parameter: &'static str,
    },
    /// A chain of fewer than two links.
    #[error("work type {work_type}: depth is {depth}, a chain needs at least 2")]
    DepthTooSmall {
        /// Name of the work type.
        work_type: &'static str,
        /// The depth given.
        depth: usize,
    },
    /// Workers that cannot be divided into whole groups.
    #[error(
        "work type {work_type}: {workers} workers cannot be divided into groups of {group}; \
         take a multiple of {group}"
    )]
    NotDivisible {
        /// Name of the work type.
        work_type: &'static str,
        /// Workers asked for.
        workers: usize,
        /// Workers of one group.
        group: usize,
    },
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

macro_rules! work_types {
    ($(
        $(#[$meta:meta])+
        $variant:ident / $ctor:ident
        $({ $( $(#[doc = $fdoc:literal])+ $field:ident: $ty:ty = $default:expr ),+ $(,)? })?
    ;)+) => {
        /// What a worker does, over and over, until it is stopped.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum WorkType {
            /// Goes through phases in a loop: `first`, then `rest`.
            Sequence {
                /// The first phase.
                first: WorkPhase,
                /// The phases after it.
                rest: Vec<WorkPhase>,
            },
            $(
                $(#[$meta])+
                $variant $({ $( $(#[doc = $fdoc])+ $field: $ty ),+ })?,
            )+
        }

        impl WorkType {
            /// The names of all work types, as [`WorkType::name`] gives them.
            pub const ALL_NAMES: &'static [&'static str] = &["Sequence", $(stringify!($variant)),+];

            /// The name of the variant.
            pub const fn name(&self) -> &'static str {
                match self {
                    Self::Sequence { .. } => "Sequence",
                    $(Self::$variant $({ $($field: _),+ })? => stringify!($variant),)+
                }
            }

            /// The work type of this exact name with default parameters. `None` for an unknown
            /// name and for `Sequence`, which has no default.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($variant) => {
                        Some(Self::$variant $({ $($field: $default),+ })?)
                    })+
                    _ => None,
                }
            }

            $(
                #[doc = concat!("[`WorkType::", stringify!($variant), "`] with these parameters.")]
                pub const fn $ctor($($($field: $ty),+)?) -> Self {
                    Self::$variant $({ $($field),+ })?
                }
            )+
        }
    };
}

work_types! {
    /// Burns CPU and nothing else.
    #[default]
    SpinWait / spin_wait;
    /// Calls `sched_yield` in every iteration.
    YieldHeavy / yield_heavy;
    /// A burst of CPU, then a yield.
    Mixed / mixed;
    /// Burns CPU for a while, then sleeps.
    Bursty / bursty {
        /// How long each burst uses the CPU, in guest time.
        burst_duration: Duration = ms(50),
        /// Sleep after it.
        sleep_duration: Duration = ms(100),
    };
    /// Pairs that wake each other through a pipe after a burst of work.
    PipeIo / pipe_io {
        /// Iterations of work between two wakes.
        burst_iters: u64 = 1024,
    };
    /// Pairs that wake each other through a futex.
    FutexPingPong / futex_ping_pong {
        /// Iterations of work between two wakes.
        spin_iters: u64 = 1024,
    };
    /// One waker wakes many at once through a futex; the woken record their latency.
    FutexFanOut / futex_fan_out {
        /// Workers woken by one.
        fan_out: usize = 4,
        /// Iterations of work between two wakes.
        spin_iters: u64 = 1024,
    };
    /// One waker releases all waiters in one broadcast.
    ThunderingHerd / thundering_herd {
        /// Workers that wait.
        waiters: usize = 7,
        /// Pause between two broadcasts, ms.
        inter_batch_ms: u64 = 5,
    };
    /// A ring of workers in which each wakes the next.
    WakeChain / wake_chain {
        /// Workers of one ring.
        depth: usize = 4,
        /// How the next one is woken.
        wake: WakeMechanism = WakeMechanism::Pipe,
        /// CPU burnt at each hop.
        work_per_hop: Duration = Duration::from_micros(100),
    };
    /// Forks a child that exits at once, and waits for it.
    ForkExit / fork_exit;
    /// Goes through the nice values -20..=19 (negative ones need CAP_SYS_NICE).
    NiceSweep / nice_sweep;
    /// Changes its own affinity all the time.
    AffinityChurn / affinity_churn {
        /// Iterations of work between two changes.
        spin_iters: u64 = 1024,
    };
    /// Changes the affinity of its siblings all the time.
    CrossAffinityChurn / cross_affinity_churn {
        /// Iterations of work between two changes.
        spin_iters: u64 = 1024,
    };
    /// Changes its own scheduling class all the time.
    PolicyChurn / policy_churn {
        /// Iterations of work between two changes.
        spin_iters: u64 = 1024,
    };
    /// Strided read-modify-write in a buffer.
    CachePressure / cache_pressure {
        /// Size of the buffer, KiB.
        size_kib: usize = 32,
        /// Distance of two accesses, bytes.
        stride: usize = 64,
    };
    /// The same, with a yield after each pass.
    CacheYield / cache_yield {
        /// Size of the buffer, KiB.
        size_kib: usize = 32,
        /// Distance of two accesses, bytes.
        stride: usize = 64,
    };
    /// Pairs that wake each other through a pipe and keep a buffer hot.
    CachePipe / cache_pipe {
        /// Size of the buffer, KiB.
        size_kib: usize = 32,
        /// Iterations of work between two wakes.
        burst_iters: u64 = 1024,
    };
    /// Touches fresh anonymous pages and gives them back.
    PageFaultChurn / page_fault_churn {
        /// Size of the region, KiB.
        region_kib: usize = 4096,
        /// Pages touched before they are given back.
        touches_per_cycle: usize = 256,
        /// Iterations of work between two touches.
        spin_iters: u64 = 64,
    };
    /// Contenders of one mutex, which they hold while working.
    MutexContention / mutex_contention {
        /// Workers that share one mutex.
        contenders: usize = 4,
        /// Iterations of work while holding it.
        hold_iters: u64 = 256,
        /// Iterations of work outside.
        work_iters: u64 = 1024,
    };
    /// Pairs that send each other signals.
    SignalStorm / signal_storm {
        /// Signals sent in one iteration.
        signals_per_iter: u64 = 16,
        /// Iterations of work between two volleys.
        work_iters: u64 = 1024,
    };
    /// Short bursts between short sleeps: CPUs go idle and come back.
    IdleChurn / idle_churn {
        /// How long each burst uses the CPU, in guest time.
        burst_duration: Duration = ms(1),
        /// Sleep after it.
        sleep_duration: Duration = ms(5),
        /// Whether the timer slack is set to its minimum.
        precise_timing: bool = false,
    };
    /// Sleeps to absolute deadlines and records how late it wakes.
    TimerLatency / timer_latency {
        /// Distance of two deadlines, µs.
        interval_us: u64 = 1000,
    };
    /// Pairs that spin with PAUSE on the two threads of a core.
    SmtSiblingSpin / smt_sibling_spin;
}

impl WorkType {
    /// Phases in a loop.
    pub const fn sequence(first: WorkPhase, rest: Vec<WorkPhase>) -> Self {
        Self::Sequence { first, rest }
    }

    /// The known name that `text` means when case, `_` and `-` are ignored: for messages.
    pub fn suggest(text: &str) -> Option<&'static str> {
        let plain = |s: &str| {
            s.chars()
                .filter(|c| c.is_ascii_alphanumeric())
                .map(|c| c.to_ascii_lowercase())
                .collect::<String>()
        };
        let wanted = plain(text);
        Self::ALL_NAMES
            .iter()
            .copied()
            .find(|name| plain(name) == wanted)
    }

    /// How many workers work as one group; `None` when each works alone.
    pub const fn worker_group_size(&self) -> Option<usize> {
        match self {
            Self::PipeIo { .. }
            | Self::FutexPingPong { .. }
            | Self::CachePipe { .. }
            | Self::SignalStorm { .. }
            | Self::SmtSiblingSpin => Some(2),
            Self::FutexFanOut { fan_out, .. } => Some(fan_out.saturating_add(1)),
            Self::ThunderingHerd { waiters, .. } => Some(waiters.saturating_add(1)),
            Self::WakeChain { depth, .. } => Some(*depth),
            Self::MutexContention { contenders, .. } => Some(*contenders),
            _ => None,
        }
    }

    /// Whether the parameters make sense.
    ///
    /// # Errors
    /// [`WorkTypeValidationError`] names the first that does not.
    pub fn validate(&self) -> Result<(), WorkTypeValidationError> {
        let zero = |parameter, is_zero| {
            if is_zero {
                Err(WorkTypeValidationError::Zero {
                    work_type: self.name(),
                    parameter,
                })
            } else {
                Ok(())
            }
        };
        match self {
            Self::Sequence { first, rest } => {
                for phase in std::iter::once(first).chain(rest) {
                    zero("the duration of a phase", phase.duration().is_zero())?;
                }
                Ok(())
            }
            Self::Bursty {
                burst_duration,
                sleep_duration,
            }
            | Self::IdleChurn {
                burst_duration,
                sleep_duration,
                ..
            } => {
                zero("burst_duration", burst_duration.is_zero())?;
                zero("sleep_duration", sleep_duration.is_zero())
            }
            Self::FutexFanOut { fan_out, .. } => zero("fan_out", *fan_out == 0),
            Self::ThunderingHerd { waiters, .. } => zero("waiters", *waiters == 0),
            Self::WakeChain { depth, .. } if *depth < 2 => {
                Err(WorkTypeValidationError::DepthTooSmall {
                    work_type: self.name(),
                    depth: *depth,
                })
            }
            Self::CachePressure { size_kib, stride } | Self::CacheYield { size_kib, stride } => {
                zero("size_kib", *size_kib == 0)?;
                zero("stride", *stride == 0)
            }
            Self::CachePipe { size_kib, .. } => zero("size_kib", *size_kib == 0),
            Self::PageFaultChurn {
                region_kib,
                touches_per_cycle,
                ..
            } => {
                zero("region_kib", *region_kib == 0)?;
                zero("touches_per_cycle", *touches_per_cycle == 0)
            }
            Self::MutexContention { contenders, .. } => zero("contenders", *contenders == 0),
            Self::SignalStorm {
                signals_per_iter, ..
            } => zero("signals_per_iter", *signals_per_iter == 0),
            Self::TimerLatency { interval_us } => zero("interval_us", *interval_us == 0),
            _ => Ok(()),
        }
    }

    /// The same, and whether `workers` can be divided into whole groups.
    ///
    /// # Errors
    /// As [`WorkType::validate`], or [`WorkTypeValidationError::NotDivisible`].
    pub fn validate_workers(&self, workers: usize) -> Result<(), WorkTypeValidationError> {
        self.validate()?;
        match self.worker_group_size() {
            Some(group) if group == 0 || !workers.is_multiple_of(group) => {
                Err(WorkTypeValidationError::NotDivisible {
                    work_type: self.name(),
                    workers,
                    group,
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_but_sequence_has_a_valid_default() {
        for name in WorkType::ALL_NAMES {
            let Some(work) = WorkType::from_name(name) else {
                assert_eq!(*name, "Sequence");
                continue;
            };
            assert_eq!(work.name(), *name);
            assert_eq!(work.validate(), Ok(()), "{name}");
            let group = work.worker_group_size().unwrap_or(1);
            assert_eq!(work.validate_workers(group * 3), Ok(()), "{name}");
            if group > 1 {
                assert!(work.validate_workers(group * 3 - 1).is_err(), "{name}");
            }
            assert_eq!(WorkType::suggest(&name.to_uppercase()), Some(*name));
        }
        assert_eq!(WorkType::from_name("spinwait"), None);
        assert_eq!(WorkType::suggest("spin_wait"), Some("SpinWait"));
        assert_eq!(WorkType::suggest("spin"), None);
    }

    #[test]
    fn errors_name_type_and_parameter() {
        let error = |w: WorkType, n| w.validate_workers(n).expect_err("invalid").to_string();
        insta::assert_snapshot!(
            error(WorkType::pipe_io(1), 3),
            @"work type PipeIo: 3 workers cannot be divided into groups of 2; take a multiple of 2"
        );
        insta::assert_snapshot!(
            error(WorkType::bursty(Duration::ZERO, ms(1)), 1),
            @"work type Bursty: burst_duration is 0, it must be more"
        );
        insta::assert_snapshot!(
            error(WorkType::wake_chain(1, WakeMechanism::Futex, ms(1)), 1),
            @"work type WakeChain: depth is 1, a chain needs at least 2"
        );
    }

    #[test]
    fn serde_is_snake_case() {
        let json = serde_json::to_string(&WorkType::pipe_io(7)).expect("plain data");
        assert_eq!(json, r#"{"pipe_io":{"burst_iters":7}}"#);
    }
}
