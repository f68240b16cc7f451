//! Allocation counters of every NUMA node, as `/sys/devices/system/node/node*/numastat` shows them.
//!
//! The kernel counts per zone and CPU. It adds the counts of a CPU to those of the zone only when somebody reads these
//! counters (`fold_vm_numa_events()`, mm/vmstat.c) or when the CPU goes offline. This module therefore adds the counts of
//! all CPUs to those of the zone.

use std::collections::BTreeMap;

use ktstr_snapshot::ReadSection;
use ktstr_snapshot::report::{FailureDumpReport, PerNodeNumaStats, Section};

use crate::btf::Kind;
use crate::capture::Reading;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The largest number of nodes that are read (`CONFIG_NODES_SHIFT` is 10 at most).
const MAX_NODES: u32 = 1024;
/// The largest number of zones of a node that are read; x86-64 has up to five.
const MAX_ZONES: u64 = 16;
/// The largest number of counters of a zone that are read; there are six.
const MAX_COUNTERS: u64 = 16;

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the counters of each node that the guest has.
    ///
    /// # Errors
    /// If the kernel does not have these counters (`CONFIG_NUMA`), or memory cannot be read.
    pub fn per_node_numa(&self) -> Result<Vec<PerNodeNumaStats>, KernelError> {
        let (nodes, count) = (self.symbol("node_data")?, self.symbol("nr_node_ids")?);
        let zones = self.member("pglist_data", "node_zones")?;
        let present = self.member("zone", "present_pages")?;
        let zone_size = self.btf().find("zone", Kind::Struct);
        let zone_size = zone_size.and_then(|zone| self.btf().size_of(zone.id()));
        let counted = self.member("zone", "vm_numa_event")?;
        let per_cpu = self.member("zone", "per_cpu_zonestats")?.offset();
        let of_cpu = self.member("per_cpu_zonestat", "vm_numa_event")?.offset();
        let zone_count = zone_size
            .and_then(|size| zones.size.checked_div(size))
            .unwrap_or(0);
        let names: Vec<String> = (0..(counted.size / 8).min(MAX_COUNTERS))
            .map_while(|item| {
                let item = i64::try_from(item).ok()?;
                let name = self.btf().enumerator("numa_stat_item", item)?;
                Some(name.to_lowercase())
            })
            .collect();
        let offsets: Vec<u64> = (0..self.cpu_count()?)
            .map(|cpu| self.per_cpu_offset(cpu))
            .collect::<Result<_, _>>()?;
        let mut found = Vec::new();
        for node in 0..self.read_u32(count)?.min(MAX_NODES) {
            let data = self.read_u64(nodes.wrapping_add(8 * u64::from(node)))?;
            if data == 0 {
                continue;
            }
            let mut counters: BTreeMap<String, u64> = BTreeMap::new();
            for zone in 0..zone_count.min(MAX_ZONES) {
                let zone = data.wrapping_add(zones.offset() + zone * zone_size.unwrap_or(0));
                // A zone without memory still points to the counters that all zones share at boot, which must not be added.
                let is_populated = self.read_member(zone, &present)? != 0;
                let of_zone = self.read_u64(zone.wrapping_add(per_cpu))?;
                for (item, name) in (0_u64..).zip(&names) {
                    let mut sum = self.read_u64(zone.wrapping_add(counted.offset() + 8 * item))?;
                    for offset in offsets.iter().filter(|_| is_populated) {
                        let at = of_zone
                            .wrapping_add(*offset)
                            .wrapping_add(of_cpu + 8 * item);
                        sum = sum.wrapping_add(self.read_u64(at)?);
                    }
                    let counter = counters.entry(name.clone()).or_default();
                    *counter = counter.wrapping_add(sum);
                }
            }
            found.push(PerNodeNumaStats { node, counters });
        }
        Ok(found)
    }
}

impl<M: GuestMemory + ?Sized> ReadSection<Vec<PerNodeNumaStats>> for Reading<'_, '_, M> {
    fn read_section(&self, _: &FailureDumpReport) -> Section<Vec<PerNodeNumaStats>> {
        self.view.per_node_numa().into()
    }
}
