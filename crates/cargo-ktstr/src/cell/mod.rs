//! A cell of a matrix: one scenario under one scheduler, on one kernel and one shape, with one seed. `power`, `check`,
//! `compare` and `verifier` are made of cells.
//!
//! A cell runs in a separate process of this binary (`run.rs`) and returns an [`Outcome`]. The commands decide which cells
//! there are and what their outcomes mean together.

pub mod axes;
mod bounds;
mod gate;
mod lock;
mod measure;
mod outcome;
pub mod pool;
mod promises;
mod run;
#[cfg(not(test))]
mod scenarios;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ktstr::prelude::*;
use ktstr::test_support::KTSTR_TESTS;
use serde::{Deserialize, Serialize};

pub use self::bounds::{BOUNDS, Bound};
pub use self::gate::{Gate, GateWish};
pub use self::measure::{Better, METRICS, Metric};
pub use self::outcome::{Found, Outcome, Program, Proof};
pub use self::promises::{PROMISES, key as promise_key};
pub use self::run::run_here;
pub use self::store::Store;

/// The prefix of the names of the scenarios' tests. It contains a hyphen, so no test function of a user has such a name.
pub const PREFIX: &str = "canned-";
/// The prefix, after [`PREFIX`], of scenarios that set no checks. Only `power` uses them.
pub const PLAIN: &str = "plain_";

/// The scenario without a workload. Only `verifier` uses it.
pub const LOAD_ONLY: &str = "load_only";

/// The scheduler with the planted defects.
pub const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

/// The scheduler of a cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Under {
    /// The kernel's own scheduler.
    Eevdf,
    /// The scx-ktstr of this workspace.
    ScxKtstr,
    /// The binary at this path.
    Binary(PathBuf),
}

/// The description of one run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// The name of the scenario: the name of a test of this binary without [`PREFIX`].
    pub scenario: String,
    /// What drives the CPUs: EEVDF or a scheduler's binary.
    pub under: Under,
    /// The scheduler's own arguments.
    pub args: Vec<String>,
    /// The seed of the run.
    pub seed: u64,
    /// The id of the kernel in the cache; `None` for the default kernel.
    pub kernel: Option<String>,
    /// The shape; `None` for the scenario's own.
    pub topology: Option<String>,
    /// The least memory of the machine in MiB, to which memory for the guest's files is added; `None` for the scenario's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// The promises that the scheduler does not make, by their names in `ktstr.toml` ([`promise_key`]).
    pub without: Vec<String>,
    /// Bounds that differ from the harness's own, by the keys of [`BOUNDS`].
    pub bounds: BTreeMap<String, Bound>,
    /// Whether the run starts the scheduler itself instead of forking a template that has it attached. `power` sets this for
    /// defects, because templates of each defect on each shape would evict all other templates from the cache.
    pub fresh: bool,
}

impl Cell {
    /// Returns a cell on the default kernel and the scenario's own shape, with the default bounds.
    pub fn new(scenario: &str, under: Under, seed: u64) -> Self {
        Self {
            scenario: scenario.to_owned(),
            under,
            args: Vec::new(),
            seed,
            kernel: None,
            topology: None,
            memory_mib: None,
            without: Vec::new(),
            bounds: BTreeMap::new(),
            fresh: false,
        }
    }

    /// Returns the same cell under the kernel's own scheduler, which promises everything and takes no arguments.
    pub fn baseline(&self) -> Self {
        Self {
            under: Under::Eevdf,
            args: Vec::new(),
            without: Vec::new(),
            fresh: false,
            ..self.clone()
        }
    }
}

/// Returns the names of the scenarios of this binary in alphabetical order: those that set no checks if `plain` is set, else the
/// others. [`LOAD_ONLY`] is in neither list.
pub fn scenarios(plain: bool) -> Vec<String> {
    let mut names: Vec<String> = KTSTR_TESTS
        .iter()
        .filter_map(|entry| entry.name.strip_prefix(PREFIX))
        .filter(|name| *name != LOAD_ONLY && name.starts_with(PLAIN) == plain)
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// Returns the shape that the scenario of that name declares itself; `None` if this binary has no such scenario.
pub fn own_shape(scenario: &str) -> Option<String> {
    let is_it = |entry: &&KtstrTestEntry| entry.name.strip_prefix(PREFIX) == Some(scenario);
    let entry = KTSTR_TESTS.iter().find(is_it)?;
    Some(entry.topology.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_differs_only_in_its_scheduler() {
        let mut cell = Cell::new("steady", Under::ScxKtstr, 3);
        cell.args = vec!["--slow".to_owned()];
        cell.topology = Some("1n2l2c1t".to_owned());
        cell.without = vec!["nice".to_owned()];
        cell.bounds.insert("max_owed_ms".to_owned(), Bound::Off);
        let baseline = cell.baseline();
        assert_eq!(baseline.under, Under::Eevdf);
        assert!(baseline.args.is_empty() && baseline.without.is_empty());
        assert_eq!(baseline.topology, cell.topology);
        assert_eq!(baseline.bounds, cell.bounds);
        assert_eq!(baseline.seed, 3);
    }
}
