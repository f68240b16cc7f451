//! CPU topologies: the topology that a test declares ([`Topology`]), the constraints on the topologies on which it may run
//! ([`TopologyConstraints`]), and the topology of a running system ([`TestTopology`]). Nothing here starts a machine.
//!
//! The CPUs of a declared topology are numbered thread by thread, then core by core, LLC by LLC and node by node: if there are
//! two threads per core, CPUs 0 and 1 are the threads of core 0.

mod constraints;
mod cpulist;
mod declared;
mod effective;
mod node;
mod presets;
mod system;
mod text;
mod view;

pub use constraints::{ConstraintsError, TopologyConstraints};
pub use cpulist::{CpuListError, MAX_CPU, cpuset_string, parse_cpulist};
pub use declared::{Topology, TopologyError};
pub use effective::{OwnCpus, effective_cpus};
pub use node::{
    CacheAssociativity, CacheWritePolicy, MemPerformance, MemSideCache, NumaDistance, NumaNode,
};
pub use presets::{PRESETS, Preset};
pub use system::SysfsError;
pub use text::TopologyParseError;
pub use view::{LlcInfo, NodeInfo, NodeMemInfo, TestTopology};
