//! Converts a declared topology into the machine that QEMU builds.

use ktstr_machine::{Hmat, Shape, SideCache};
use ktstr_scenario::topology::{CacheAssociativity, CacheWritePolicy, NumaNode};

use super::RunError;
use crate::entry::KtstrTestEntry;

/// Converts a declared topology into the shape of the machine. A node has the memory that it declares, or else an even
/// share of `memory_mib`.
///
/// # Errors
/// Returns an error if the nodes together declare less memory than `memory_mib`.
pub(super) fn of(entry: &KtstrTestEntry, memory_mib: u32) -> Result<Shape, RunError> {
    let topology = &entry.topology;
    let nodes = topology
        .nodes
        .map_or(topology.numa_nodes.max(1), |nodes| nodes.len() as u32);
    if let Some(declared) = topology.total_node_memory_mib()
        && declared < u64::from(memory_mib)
    {
        return Err(RunError::Declaration {
            test: entry.name.to_owned(),
            reason: format!(
                "its NUMA nodes declare {declared} MiB in total, but the guest needs {memory_mib} MiB, which is \
                 `memory_mib` or the minimum for its CPUs, plus the memory for its files and its disk: declare \
                 more memory for the nodes"
            ),
        });
    }
    let share = u64::from(memory_mib.div_ceil(nodes.max(1)));
    // The number of cores of each LLC, node by node.
    let llcs: Vec<Vec<u32>> = (0..nodes)
        .map(|node| {
            let first = topology.first_llc_in_node(node);
            let own = first..first.saturating_add(topology.llcs_in_node(node));
            own.map(|llc| topology.cores_in_llc(llc)).collect()
        })
        .filter(|llcs: &Vec<u32>| !llcs.is_empty())
        .collect();
    let llcs_per_node = llcs.iter().map(Vec::len).max().unwrap_or_default() as u32;
    let cores = llcs.iter().flatten().copied().max().unwrap_or_default();
    let even = |llcs: &Vec<u32>| {
        llcs.len() == llcs_per_node as usize && llcs.iter().all(|own| *own == cores)
    };
    Ok(Shape {
        nodes: topology.cpu_bearing_nodes(),
        llcs_per_node,
        cores,
        uneven: match llcs.iter().all(even) {
            true => Vec::new(),
            false => llcs,
        },
        threads: topology.threads_per_core,
        memory_mib: (0..nodes)
            .map(|node| topology.node_memory_mib(node).map_or(share, u64::from))
            .collect(),
        distances: match topology.distances {
            None => Vec::new(),
            Some(_) => (0..nodes)
                .map(|i| (0..nodes).map(|j| topology.distance(i, j)).collect())
                .collect(),
        },
        hmat: match topology.nodes {
            Some(nodes) if nodes.iter().any(|node| node.performance.is_some()) => {
                nodes.iter().map(hmat).collect()
            }
            _ => Vec::new(),
        },
    })
}

/// Returns the entry of the machine's HMAT for a node's memory; `None` for a node that declares no performance.
fn hmat(node: &NumaNode) -> Option<Hmat> {
    let performance = node.performance?;
    Some(Hmat {
        latency_ns: performance.latency_ns,
        bandwidth_mbs: performance.bandwidth_mbs,
        cache: node.side_cache.map(|cache| SideCache {
            size: cache.size,
            associativity: match cache.associativity {
                CacheAssociativity::None => "none",
                CacheAssociativity::Direct => "direct",
                CacheAssociativity::Complex => "complex",
            },
            policy: match cache.write_policy {
                CacheWritePolicy::None => "none",
                CacheWritePolicy::WriteBack => "write-back",
                CacheWritePolicy::WriteThrough => "write-through",
            },
            line: cache.line,
        }),
    })
}
