//! CPU topologies: the one a test declares ([`Topology`]), the filter the gauntlet applies
//! ([`TopologyConstraints`]), and the one that was found in the running system
//! ([`TestTopology`]). Nothing here starts a machine.
//!
//! CPUs are numbered sequentially, threads first, then cores, LLCs, NUMA nodes: CPU 0 and 1 are the
//! two threads of core 0 if there are two threads per core.

mod constraints;
mod cpulist;
mod declared;
mod node;
mod presets;
mod system;
mod text;
mod view;

pub use constraints::{ConstraintsError, TopologyConstraints};
pub use cpulist::{CpuListError, MAX_CPU, cpuset_string, parse_cpulist};
pub use declared::{Topology, TopologyError};
pub use node::{
    CacheAssociativity, CacheWritePolicy, MemPerformance, MemSideCache, NumaDistance, NumaNode,
};
pub use presets::{PRESETS, Preset};
pub use system::SysfsError;
pub use text::TopologyParseError;
pub use view::{LlcInfo, NodeInfo, NodeMemInfo, TestTopology};
