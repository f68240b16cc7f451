//! The counters of one worker in one phase, on their way from the worker's own memory through the memory that it shares with
//! its parent to its report. Counters that every worker has are rows of [`ktstr_assert::worker_counters!`];
//! the others are fields here.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use ktstr_assert::PhaseSlice;

use super::sys::{MASK_WORDS, SchedStat};

// Generates the two structs, which have a field for each counter, and the code that copies all of these fields.
macro_rules! counters {
    ($($(#[$doc:meta])* $(counted $counted:ident)? $(measured $measured:ident)? $({ $($_total:tt)* })?;)*) => {
        /// The counters of the current slice, which is the part of the worker's life that falls into the current phase. They are
        /// in the worker's own memory.
        #[derive(Debug, Clone, Copy, Default)]
        pub(super) struct SliceCounters {
            $($(pub $counted: u64,)?)*
            pub samples: u64,
            pub bench_samples: u64,
            pub bench_hits: u64,
            pub max_gap_ns: u64,
            pub max_gap_at_ns: u64,
            pub max_gap_cpu: u32,
            pub cpus: [u64; MASK_WORDS],
            pub began_ns: u64,
            pub began_cpu_ns: u64,
            pub sched: SchedStat,
        }

        /// The counters of one worker in one phase, as of its last checkpoint. The CPU time and the values from schedstat
        /// are 0 until the slice ends.
        #[repr(C)]
        #[derive(Debug)]
        pub struct Slice {
            /// The phase: 0 before the first step, 1 in the first step.
            pub phase: AtomicU32,
            /// The CPU on which the longest gap ended.
            pub max_gap_cpu: AtomicU32,
            /// The longest gap between two checkpoints, in ns of guest time.
            pub max_gap_ns: AtomicU64,
            /// The end of that gap, in ns since the release.
            pub max_gap_at_ns: AtomicU64,
            $($(#[$doc])* pub $($counted)? $($measured)?: AtomicU64,)*
            /// Number of samples offered to the reservoir.
            pub samples: AtomicU64,
            /// Number of samples that a benchmark offered to its own reservoir.
            pub bench_samples: AtomicU64,
            /// Number of look-ups of a benchmark that found their key, or of periods that an rt-app thread missed.
            pub bench_hits: AtomicU64,
            /// The CPUs that the worker was seen on, as a bit mask.
            pub cpus: [AtomicU64; MASK_WORDS],
        }

        impl SliceCounters {
            /// Stores what the worker has counted. This runs at every checkpoint, so it must be cheap.
            pub fn publish(&self, slice: &Slice) {
                $($(slice.$counted.store(self.$counted, Relaxed);)?)*
                slice.samples.store(self.samples, Relaxed);
                slice.bench_samples.store(self.bench_samples, Relaxed);
                slice.bench_hits.store(self.bench_hits, Relaxed);
                slice.max_gap_ns.store(self.max_gap_ns, Relaxed);
                slice.max_gap_at_ns.store(self.max_gap_at_ns, Relaxed);
                slice.max_gap_cpu.store(self.max_gap_cpu, Relaxed);
            }
        }

        impl Slice {
            /// Returns the published counters that every worker has, as a part of the report.
            pub fn counters(&self) -> PhaseSlice {
                PhaseSlice {
                    $($($counted)? $($measured)?: self.$($counted)? $($measured)?.load(Relaxed),)*
                    ..PhaseSlice::default()
                }
            }
        }
    };
}
ktstr_assert::worker_counters!(counters);

#[cfg(test)]
mod tests {
    use super::super::shared::{Shared, Telemetry};
    use super::*;

    macro_rules! each_counter {
        ($($(#[$doc:meta])* $(counted $counted:ident)? $(measured $measured:ident)? $({ $($_total:tt)* })?;)*) => {
            #[test]
            fn each_counter_goes_from_the_worker_to_its_report() {
                let tele = Shared::<Telemetry>::new().expect("memory");
                let (slice, mut own) = (&tele.slices[0], SliceCounters::default());
                let mut n = 0;
                $(
                    n += 1;
                    $(own.$counted = n;)?
                    $(slice.$measured.store(n, Relaxed);)?
                )*
                own.publish(slice);
                let reported = slice.counters();
                let mut n = 0;
                $(
                    n += 1;
                    $(assert_eq!(reported.$counted, n, stringify!($counted));)?
                    $(assert_eq!(reported.$measured, n, stringify!($measured));)?
                )*
            }
        };
    }
    ktstr_assert::worker_counters!(each_counter);
}
