//! Parameters of the work types that are benchmarks. A test declares one worker, and the parameters determine how
//! many are started.

use serde::{Deserialize, Serialize};

/// Generates a struct of parameters, with the default of each parameter and a setter of the same name.
macro_rules! config {
    ($(#[$doc:meta])+ $name:ident { $( $(#[$field_doc:meta])+ $field:ident: $ty:ident $(<$some:ty>)? = $default:expr, )+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $( $(#[$field_doc])+ pub $field: $ty $(<$some>)?, )+
        }

        impl $name {
            /// The default of all parameters.
            pub const DEFAULT: Self = Self { $( $field: $default, )+ };

            $( config! { @builder $(#[$field_doc])+ $field: $ty $(<$some>)? } )+
        }

        text_struct! { $name, "parameters of a benchmark", Self::DEFAULT, { $($field),+ } }

        impl Default for $name {
            fn default() -> Self {
                Self::DEFAULT
            }
        }
    };
    // The setter of an `Option` also takes a bare value.
    (@builder $(#[$field_doc:meta])+ $field:ident: Option<$some:ty>) => {
        $(#[$field_doc])+
        pub fn $field(mut self, $field: impl Into<Option<$some>>) -> Self {
            self.$field = $field.into();
            self
        }
    };
    (@builder $(#[$field_doc:meta])+ $field:ident: $ty:ty) => {
        $(#[$field_doc])+
        pub const fn $field(mut self, $field: $ty) -> Self {
            self.$field = $field;
            self
        }
    };
}

config! {
    /// The parameters of [`WorkType::Schbench`](super::WorkType::Schbench): messengers that hand out requests, and workers that
    /// serve them.
    SchbenchConfig {
        /// The number of messengers, which hand out the requests; at least 1.
        message_threads: usize = 1,
        /// The number of workers per messenger; 0 stands for the number of the cgroup's CPUs divided by the number of
        /// messengers, rounded up.
        worker_threads: usize = 0,
        /// The total size of a worker's three matrices, in KiB.
        cache_footprint_kib: usize = 256,
        /// The number of matrix multiplications per request.
        operations: u64 = 5,
        /// How long a worker sleeps at the start of a request, in µs.
        sleep_usec: u64 = 100,
        /// Whether workers multiply without a lock. With the lock, only one worker on each CPU multiplies at a time. A second
        /// worker that the scheduler puts on the CPU meanwhile spins until the first is done, so preempting a multiplying
        /// worker costs CPU time.
        skip_locking: bool = false,
        /// The number of requests per second of all messengers together. With 0, a messenger hands out the next request as
        /// soon as a worker waits for it.
        requests_per_sec: u64 = 0,
        /// The target utilization of the CPUs on which the workers are allowed to run, in percent, at most 100. Every 200 ms each
        /// messenger adapts the rate of requests, which starts at `requests_per_sec`, or at 100 per second if that is 0. If
        /// `auto_rps` is 0, the rate is not adapted.
        auto_rps: u64 = 0,
        /// The percentage of the cache footprint, and of the multiplications, for each worker's own matrices; the rest is for
        /// matrices that all workers of the benchmark share. `None` is the same as 100.
        split_percent: Option<u8> = None,
        /// The number of bytes that a messenger and a worker pass back and forth, at most [`MAX_PIPE_TRANSFER`]. With 0 they pass
        /// no bytes, and the worker sleeps and multiplies. With any other number the worker does not sleep or multiply, and each
        /// of the two tasks writes all bytes before it wakes the other. In that case wake-up latencies are measured, but not the
        /// latencies and the rate of requests.
        pipe_transfer_bytes: usize = 0,
    }
}

/// The largest `pipe_transfer_bytes` of [`SchbenchConfig`]: 1 MiB.
pub const MAX_PIPE_TRANSFER: usize = 1 << 20;

impl SchbenchConfig {
    /// Returns the number of messengers and workers together on `cpus` CPUs.
    pub const fn tasks(&self, cpus: usize) -> usize {
        let workers = match (self.worker_threads, self.message_threads) {
            (0, 0) => 1,
            (0, messengers) => cpus.div_ceil(messengers),
            (workers, _) => workers,
        };
        self.message_threads
            .saturating_mul(workers.saturating_add(1))
    }

    /// Returns the footprint in KiB and the multiplications of a request, first for a worker's own matrices, then for the
    /// matrices that all workers share.
    pub fn split(&self) -> [(usize, u64); 2] {
        let all = (self.cache_footprint_kib, self.operations);
        let Some(percent) = self.split_percent else {
            return [all, (0, 0)];
        };
        let percent = percent.min(100);
        let own = (
            all.0.saturating_mul(percent.into()) / 100,
            all.1.saturating_mul(percent.into()) / 100,
        );
        [own, (all.0 - own.0, all.1 - own.1)]
    }
}

config! {
    /// The parameters of [`WorkType::Taobench`](super::WorkType::Taobench): clients that look up keys in a cache, and slow
    /// workers that fetch missing keys.
    TaobenchConfig {
        /// The number of clients; 0 stands for one per CPU of the cgroup.
        client_threads: usize = 0,
        /// The number of slow workers; 0 stands for one per four clients, rounded up.
        slow_threads: usize = 0,
        /// The size of the cache in MiB. Each client has its own part of it.
        cache_capacity_mib: usize = 64,
        /// The percentage of look-ups that find their key.
        target_hit_pct: u8 = 90,
        /// How long a slow worker sleeps per key, in µs.
        slow_path_sleep_us: u64 = 100,
        /// How long a slow worker sleeps for one key in a hundred, chosen at random, in µs: the 99th percentile of its sleeps.
        /// 0 stands for `slow_path_sleep_us`.
        slow_path_p99_us: u64 = 0,
        /// The number of look-ups per second of all clients together; latencies are measured from the time at which a look-up is
        /// due. With 0, a client starts its next look-up when the one before is done, and no latencies are measured.
        arrival_rate: u64 = 0,
    }
}

impl TaobenchConfig {
    /// Returns the number of clients on `cpus` CPUs.
    pub const fn clients(&self, cpus: usize) -> usize {
        match self.client_threads {
            0 => cpus,
            clients => clients,
        }
    }

    /// Returns the number of clients and slow workers together on `cpus` CPUs.
    pub const fn tasks(&self, cpus: usize) -> usize {
        let clients = self.clients(cpus);
        let slow = match self.slow_threads {
            0 => clients.div_ceil(4),
            slow => slow,
        };
        clients.saturating_add(slow)
    }

    /// Returns how many of `tasks` clients and slow workers are clients; the inverse of [`Self::tasks`].
    pub const fn clients_of(&self, tasks: usize) -> usize {
        match (self.client_threads, self.slow_threads) {
            // `tasks` adds a quarter of the clients, rounded up, so four fifths of the tasks, rounded down, are clients.
            (0, 0) => tasks.saturating_mul(4) / 5,
            (0, slow) => tasks.saturating_sub(slow),
            (clients, _) => clients,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_divides_footprint_and_operations() {
        let bench = SchbenchConfig::DEFAULT
            .cache_footprint_kib(200)
            .operations(10);
        assert_eq!(bench.split(), [(200, 10), (0, 0)]);
        assert_eq!(bench.split_percent(25).split(), [(50, 2), (150, 8)]);
        assert_eq!(bench.split_percent(0).split(), [(0, 0), (200, 10)]);
        assert_eq!(bench.split_percent(Some(100)).split(), [(200, 10), (0, 0)]);
    }

    #[test]
    fn parameters_determine_the_number_of_workers() {
        let bench = SchbenchConfig::DEFAULT;
        assert_eq!(bench.tasks(4), 5);
        assert_eq!(bench.message_threads(2).tasks(3), 6);
        assert_eq!(bench.message_threads(2).worker_threads(3).tasks(64), 8);
        for cpus in 1..100 {
            for config in [
                TaobenchConfig::DEFAULT,
                TaobenchConfig::DEFAULT.slow_threads(3),
                TaobenchConfig::DEFAULT.client_threads(7),
                TaobenchConfig::DEFAULT.client_threads(2).slow_threads(9),
            ] {
                let (tasks, clients) = (config.tasks(cpus), config.clients(cpus));
                assert_eq!(config.clients_of(tasks), clients, "{config:?} on {cpus}");
                assert!(tasks > clients, "{config:?} on {cpus}");
            }
        }
    }
}
