//! Parameters of the work types that are benchmarks: one declared worker becomes as many as the parameters say.

use serde::{Deserialize, Serialize};

macro_rules! config {
    ($(#[$doc:meta])+ $name:ident { $( $(#[$field_doc:meta])+ $field:ident: $ty:ty = $default:expr, )+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $( $(#[$field_doc])+ pub $field: $ty, )+
        }

        impl $name {
            /// All parameters as they are if nothing is said.
            pub const DEFAULT: Self = Self { $( $field: $default, )+ };

            $(
                $(#[$field_doc])+
                pub const fn $field(mut self, $field: $ty) -> Self {
                    self.$field = $field;
                    self
                }
            )+
        }

        text_struct! { $name, "parameters of a benchmark", Self::DEFAULT, { $($field),+ } }

        impl Default for $name {
            fn default() -> Self {
                Self::DEFAULT
            }
        }
    };
}

config! {
    /// Of [`WorkType::Schbench`](super::WorkType::Schbench): messengers who hand out requests, and workers who serve them.
    SchbenchConfig {
        /// Messengers, which hand out the requests; at least 1.
        message_threads: usize = 1,
        /// Workers of each messenger; 0 is the number of CPUs divided by that of messengers, rounded up.
        worker_threads: usize = 0,
        /// KiB of the three matrices of a worker.
        cache_footprint_kib: usize = 256,
        /// Multiplications of a request.
        operations: u64 = 5,
        /// Sleep at the begin of a request, µs.
        sleep_usec: u64 = 100,
        /// Requests a second of all messengers together; 0 hands out the next one as soon as a worker waits for it.
        requests_per_sec: u64 = 0,
    }
}

impl SchbenchConfig {
    /// How many workers it comes to on so many CPUs.
    pub const fn tasks(&self, cpus: usize) -> usize {
        let workers = match (self.worker_threads, self.message_threads) {
            (0, 0) => 1,
            (0, messengers) => cpus.div_ceil(messengers),
            (workers, _) => workers,
        };
        self.message_threads
            .saturating_mul(workers.saturating_add(1))
    }
}

config! {
    /// Of [`WorkType::Taobench`](super::WorkType::Taobench): clients who look keys up in a cache, and slow workers who fetch
    /// what is not there.
    TaobenchConfig {
        /// Clients; 0 is one for each CPU.
        client_threads: usize = 0,
        /// Slow workers; 0 is one for each four clients, rounded up.
        slow_threads: usize = 0,
        /// MiB of the cache. Each client has its part of it, and touches no other.
        cache_capacity_mib: usize = 64,
        /// How many of 100 look-ups find their key.
        target_hit_pct: u8 = 90,
        /// Sleep of a slow worker for a key, µs.
        slow_path_sleep_us: u64 = 100,
        /// Sleep of a slow worker for one key of a hundred, µs: the 99th percentile of a fetch; 0 is as long as for the others.
        slow_path_p99_us: u64 = 0,
        /// Look-ups a second of all clients together, whose latencies count from when they are due; 0 begins the next one
        /// when the one before is done, and measures no latencies.
        arrival_rate: u64 = 0,
    }
}

impl TaobenchConfig {
    /// How many clients there are on so many CPUs.
    pub const fn clients(&self, cpus: usize) -> usize {
        match self.client_threads {
            0 => cpus,
            clients => clients,
        }
    }

    /// How many workers it comes to on so many CPUs.
    pub const fn tasks(&self, cpus: usize) -> usize {
        let clients = self.clients(cpus);
        let slow = match self.slow_threads {
            0 => clients.div_ceil(4),
            slow => slow,
        };
        clients.saturating_add(slow)
    }

    /// How many of so many workers are clients.
    pub const fn clients_of(&self, tasks: usize) -> usize {
        match (self.client_threads, self.slow_threads) {
            // A quarter more, rounded up, than clients.
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
    fn parameters_come_to_workers() {
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
