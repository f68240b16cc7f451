//! What a worker of a benchmark (Schbench, Taobench) or of an rt-app workload measures in addition to what every worker
//! counts.

use serde::{Deserialize, Serialize};

/// The part that a worker plays in its benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BenchRole {
    /// Hands out the requests of a Schbench. Its samples are rates in requests per second, one for each tenth of a second.
    SchbenchMessenger,
    /// Serves the requests of a Schbench. Its samples are request latencies in nanoseconds, from the messenger's wake-up of
    /// the worker to the end of the work; an iteration is a request.
    SchbenchWorker,
    /// Looks keys up for a Taobench. Its samples are serve latencies in nanoseconds, counted from when the look-up was due;
    /// there are none in the closed loop (`arrival_rate` 0). An iteration is a look-up.
    TaobenchClient,
    /// Fetches the keys of a Taobench that were not found. It takes no samples; an iteration is a key that was fetched.
    TaobenchSlow,
    /// A thread of an rt-app workload that uses a timer. Its samples are slacks in nanoseconds: how much of a timer's period
    /// was left when the thread began to wait for the end of the period; 0 for a period that was missed.
    RtAppThread,
}

impl BenchRole {
    /// All roles, in the order in which the guest numbers them.
    pub const ALL: [Self; 5] = [
        Self::SchbenchMessenger,
        Self::SchbenchWorker,
        Self::TaobenchClient,
        Self::TaobenchSlow,
        Self::RtAppThread,
    ];
}

/// What a worker measured in its role, over its life or in one phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchSlice {
    /// The part that the worker plays, which decides what the samples are.
    pub role: BenchRole,
    /// A uniform sample of at most 100 000 values.
    pub samples: Vec<u64>,
    /// The number of values from which the samples were drawn.
    pub sample_total: u64,
    /// Look-ups of a Taobench client that found their key, or periods that an rt-app thread missed; 0 for the other roles.
    pub hits: u64,
}
