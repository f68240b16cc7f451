//! Captures BPF maps: reads their bytes and types, and renders their values.

use std::cell::Cell;
use std::collections::HashMap;

use ktstr_snapshot::report::{
    ArenaSnapshot, FailureDumpArrayEntry, FailureDumpEntry, FailureDumpMap, FailureDumpPercpuEntry,
    FailureDumpPercpuHashEntry, FailureDumpReport, FailureDumpRingbuf, RenderedValue,
};

use super::pointers::{KnownArena, Pointers};
use super::storage::Owner;
use super::{CaptureOptions, part};
use crate::bpf::hash::MAX_BUCKETS;
use crate::bpf::maps::BpfMap;
use crate::btf::{Btf, Kind};
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;
use crate::render::{RenderLimits, Way, hex, render_along, render_bytes};

/// The largest number of BTF objects that are cached during a capture.
const MAX_BTFS: usize = 64;

pub(super) fn capture<M: GuestMemory + ?Sized>(
    view: &KernelView<'_, M>,
    options: &CaptureOptions,
    report: &mut FailureDumpReport,
) {
    let Some((maps, cut)) = part(view.bpf_maps(), &mut report.maps_unavailable) else {
        report.active_unavailable = Some("the maps could not be read".to_owned());
        return;
    };
    report.maps_truncated = cut;
    match part(view.active_scheduler(&maps), &mut report.active_unavailable) {
        Some(Some(active)) => {
            report.active_obj_name = Some(active.obj_name);
            report.active_map_kvas = active.map_kvas;
        }
        Some(None) => {
            report.active_unavailable = Some("no sched_ext scheduler is attached".to_owned());
        }
        None => {}
    }
    let is_active = |map: &BpfMap| report.active_map_kvas.contains(&map.kva);
    let arenas = maps.iter().filter(|map| map.type_name == "arena");
    let arenas = arenas.filter_map(|map| {
        Some(KnownArena {
            place: view.bpf_arena(map).ok()?,
            is_active: is_active(map),
        })
    });
    let mut reader = MapReader::new(view, options, arenas.collect());
    let dumps = maps.iter().map(|map| {
        reader.pointers.start_map(is_active(map));
        reader.dump(map)
    });
    report.maps = dumps.collect();
}

pub(super) struct MapReader<'v, 'a, M: GuestMemory + ?Sized> {
    pub(super) view: &'v KernelView<'a, M>,
    options: &'v CaptureOptions,
    cpus: u32,
    /// Types by the address of their `struct btf`: the maps of one object share it.
    types: HashMap<u64, Result<Btf, KernelError>>,
    bytes_left: Cell<u64>,
    nodes_left: Cell<usize>,
    pointers: Pointers<'v, 'a, M>,
}

impl<'v, 'a, M: GuestMemory + ?Sized> MapReader<'v, 'a, M> {
    pub(super) fn new(
        view: &'v KernelView<'a, M>,
        options: &'v CaptureOptions,
        arenas: Vec<KnownArena>,
    ) -> Self {
        Self {
            view,
            options,
            cpus: view.cpu_count().unwrap_or(0),
            types: HashMap::new(),
            bytes_left: Cell::new(options.max_total_bytes),
            nodes_left: Cell::new(options.max_total_nodes),
            pointers: Pointers::new(view, options.pointers, arenas),
        }
    }

    pub(super) fn dump(&mut self, map: &BpfMap) -> FailureDumpMap {
        let mut dump = FailureDumpMap {
            name: map.name.clone(),
            map_kva: map.kva,
            map_type: map.type_name.clone(),
            key_size: map.key_size,
            value_size: map.value_size,
            max_entries: map.max_entries,
            ..FailureDumpMap::default()
        };
        let types = self.types_of(map);
        let result = match map.type_name.as_str() {
            "array" => self.array(map, &types, &mut dump),
            "percpu_array" => self.percpu_array(map, &types, &mut dump),
            "hash" | "lru_hash" => self.hash(map, &types, &mut dump),
            "percpu_hash" | "lru_percpu_hash" => self.percpu_hash(map, &types, &mut dump),
            "struct_ops" => self.struct_ops(map, &mut dump),
            "ringbuf" => self.ringbuf(map, &mut dump),
            "arena" => self.arena(map, &mut dump),
            "queue" => self.queue(map, false, &types, &mut dump),
            "stack" => self.queue(map, true, &types, &mut dump),
            "lpm_trie" => self.lpm_trie(map, &types, &mut dump),
            "stack_trace" => self.stack_trace(map, &mut dump),
            "prog_array" | "perf_event_array" | "cgroup_array" | "array_of_maps" => {
                self.fd_array(map, &mut dump)
            }
            kind => match Owner::of(kind) {
                Some(owner) => self.storage(map, owner, &types, &mut dump),
                None => {
                    dump.error = Some(format!("maps of the type {kind} are not read"));
                    Ok(())
                }
            },
        };
        if let Err(error) = result {
            dump.error = Some(error.to_string());
        } else if let Err(error) = types {
            dump.error = Some(format!("its types could not be read: {error}"));
        }
        dump
    }

    /// Returns the BTF that a map was created with; `None` if it has none.
    fn types_of(&mut self, map: &BpfMap) -> Result<Option<Btf>, KernelError> {
        if map.btf == 0 {
            return Ok(None);
        }
        if let Some(known) = self.types.get(&map.btf) {
            return known.clone().map(Some);
        }
        let types = self.read_btf(map.btf);
        if self.types.len() < MAX_BTFS {
            self.types.insert(map.btf, types.clone());
        }
        types.map(Some)
    }

    /// Renders a value of `map`, whose `bytes` were read at the kernel address `kva`.
    pub(super) fn value(
        &self,
        map: &BpfMap,
        types: &Types,
        kva: u64,
        bytes: &[u8],
    ) -> RenderedValue {
        self.typed(types, map.btf_value_type_id, kva, bytes)
    }

    pub(super) fn typed(&self, types: &Types, id: u32, kva: u64, bytes: &[u8]) -> RenderedValue {
        match types {
            Ok(Some(btf)) if id != 0 => {
                let way = Way::from_value(&self.pointers, btf, id, kva, false);
                self.render(btf, id, bytes, way)
            }
            _ => render_bytes(bytes),
        }
    }

    fn render(&self, btf: &Btf, id: u32, bytes: &[u8], way: Way<'_>) -> RenderedValue {
        let limits = RenderLimits {
            nodes: self.options.limits.nodes.min(self.nodes_left.get()),
            cpus: match self.cpus {
                // The number of CPUs could not be read.
                0 => self.options.limits.cpus,
                cpus => self.options.limits.cpus.min(cpus as usize),
            },
            ..self.options.limits
        };
        let (value, used) = render_along(btf, id, bytes, limits, way);
        self.nodes_left
            .set(self.nodes_left.get().saturating_sub(used));
        value
    }

    /// Reads `len` bytes. It is an error if they exceed the limit of one map, or what is left of the capture's budget.
    pub(super) fn read(&self, kva: u64, len: u64) -> Result<Vec<u8>, KernelError> {
        self.charge(kva, len)?;
        self.view.read_bytes(kva, len, self.options.max_map_bytes)
    }

    /// Subtracts `len` bytes from the budget of the capture. It is an error if fewer are left.
    pub(super) fn charge(&self, kva: u64, len: u64) -> Result<(), KernelError> {
        // An empty read also has a cost, so that a hostile map cannot have an unlimited number of entries of 0 bytes.
        let cost = len.max(8);
        let max = self.bytes_left.get();
        let left = max.checked_sub(cost);
        self.bytes_left
            .set(left.ok_or(KernelError::TooLarge { kva, len, max })?);
        Ok(())
    }

    /// Subtracts `count` values from the budget of the capture; false if fewer are left.
    pub(super) fn charge_nodes(&self, count: u64) -> bool {
        let left = self.nodes_left.get().checked_sub(narrow::length(count));
        self.nodes_left.set(left.unwrap_or(self.nodes_left.get()));
        left.is_some()
    }

    /// Reads the types of the `struct btf` at `kva`, within the budget of the capture.
    fn read_btf(&self, kva: u64) -> Result<Btf, KernelError> {
        let parts = self.view.btf_parts(kva)?;
        self.charge(parts.data, parts.size)?;
        self.view.btf_at(parts)
    }

    /// Returns how many of `count` entries are read under the caps on entries and bytes, if each entry takes `bytes` bytes.
    /// The cap on bytes allows at least one entry.
    pub(super) fn room(&self, count: u64, bytes: u64) -> u64 {
        let by_bytes = self.options.max_map_bytes / bytes.max(1);
        count
            .min(by_bytes.max(1))
            .min(self.options.max_entries as u64)
    }

    /// Returns how many of `count` pointers are read under the cap on bytes.
    pub(super) fn slots(&self, count: u64) -> u64 {
        count.min(self.options.max_map_bytes / 8)
    }

    fn array(
        &self,
        map: &BpfMap,
        types: &Types,
        dump: &mut FailureDumpMap,
    ) -> Result<(), KernelError> {
        let values = self.view.bpf_array_values(map)?;
        let (size, max) = (u64::from(map.value_size), self.options.max_map_bytes);
        if map.max_entries == 1 {
            let len = size.min(max);
            let bytes = self.read(values.first, len)?;
            dump.value = Some(self.value(map, types, values.first, &bytes));
            dump.truncated = len < size;
            return Ok(());
        }
        let count = narrow::count(self.room(u64::from(map.max_entries), size));
        dump.truncated = count < map.max_entries;
        for index in 0..count {
            let offset = u64::from(index).wrapping_mul(values.stride);
            let at = values.first.wrapping_add(offset);
            let bytes = self.read(at, size)?;
            dump.array_entries.push(FailureDumpArrayEntry {
                index,
                value: Some(self.value(map, types, at, &bytes)),
            });
        }
        Ok(())
    }

    fn percpu_array(
        &self,
        map: &BpfMap,
        types: &Types,
        dump: &mut FailureDumpMap,
    ) -> Result<(), KernelError> {
        let bytes = u64::from(map.value_size).max(8) * u64::from(self.cpus);
        let count = narrow::count(self.room(u64::from(map.max_entries), bytes));
        dump.truncated = count < map.max_entries;
        for index in 0..count {
            let per_cpu = (0..self.cpus).map(|cpu| {
                let at = self.view.bpf_percpu_array_value(map, index, cpu).ok()?;
                self.percpu_value(map, types, at)
            });
            dump.percpu_entries.push(FailureDumpPercpuEntry {
                key: index,
                per_cpu: per_cpu.collect(),
            });
        }
        Ok(())
    }

    fn percpu_value(&self, map: &BpfMap, types: &Types, at: u64) -> Option<RenderedValue> {
        let bytes = self.read(at, u64::from(map.value_size)).ok()?;
        Some(self.value(map, types, at, &bytes))
    }

    fn hash(
        &self,
        map: &BpfMap,
        types: &Types,
        dump: &mut FailureDumpMap,
    ) -> Result<(), KernelError> {
        let bytes = u64::from(map.key_size) + u64::from(map.value_size);
        let room = self.room(u64::from(map.max_entries), bytes);
        // The heads of the buckets are read too; a map has about `max_entries` of them.
        self.charge(map.kva, 8 * u64::from(map.max_entries).min(MAX_BUCKETS))?;
        let found = self.view.bpf_hash_entries(map, narrow::length(room))?;
        dump.truncated = found.truncated;
        for entry in found.entries {
            let key = self.read(entry.key, u64::from(map.key_size))?;
            let value = self.read(entry.value, u64::from(map.value_size));
            dump.entries.push(FailureDumpEntry {
                key: Some(self.typed(types, map.btf_key_type_id, entry.key, &key)),
                key_hex: hex(&key),
                value: value
                    .ok()
                    .map(|value| self.value(map, types, entry.value, &value)),
            });
        }
        Ok(())
    }

    fn percpu_hash(
        &self,
        map: &BpfMap,
        types: &Types,
        dump: &mut FailureDumpMap,
    ) -> Result<(), KernelError> {
        let values = u64::from(map.value_size) * u64::from(self.cpus);
        let room = self.room(u64::from(map.max_entries), u64::from(map.key_size) + values);
        self.charge(map.kva, 8 * u64::from(map.max_entries).min(MAX_BUCKETS))?;
        let found = self.view.bpf_hash_entries(map, narrow::length(room))?;
        dump.truncated = found.truncated;
        let to_pointer = self.view.bpf_hash_percpu(map, &found.entries);
        if to_pointer.is_none() && !found.entries.is_empty() {
            dump.error = Some(format!(
                "its values are not shown: it is unknown where an entry with a key of {} bytes has the pointer to its values",
                map.key_size
            ));
        }
        for entry in found.entries {
            let key = self.read(entry.key, u64::from(map.key_size))?;
            let pointer = match to_pointer {
                Some(offset) => Some(self.view.read_u64(entry.key.wrapping_add(offset))?),
                None => None,
            };
            let per_cpu = (0..self.cpus).map(|cpu| {
                let at = self.view.per_cpu(pointer?, cpu).ok()?;
                self.percpu_value(map, types, at)
            });
            dump.percpu_hash_entries.push(FailureDumpPercpuHashEntry {
                key: Some(self.typed(types, map.btf_key_type_id, entry.key, &key)),
                key_hex: hex(&key),
                per_cpu: per_cpu.collect(),
            });
        }
        Ok(())
    }

    /// Captures the kernel's copy of a `struct_ops` map, whose type is in the kernel's BTF and not in the object's.
    fn struct_ops(&self, map: &BpfMap, dump: &mut FailureDumpMap) -> Result<(), KernelError> {
        let value = self.view.member("bpf_struct_ops_map", "kvalue")?;
        let at = map.kva.wrapping_add(value.offset());
        let bytes = self.read(at, u64::from(map.value_size))?;
        let id = map.btf_vmlinux_value_type_id;
        let is_struct = |kind| matches!(kind, Kind::Struct | Kind::Union);
        dump.value = Some(match self.view.btf().resolve(id) {
            Some(ty) if is_struct(ty.kind()) => {
                let btf = self.view.btf();
                let way = Way::from_value(&self.pointers, btf, id, at, true);
                self.render(btf, id, &bytes, way)
            }
            _ => render_bytes(&bytes),
        });
        Ok(())
    }

    fn ringbuf(&self, map: &BpfMap, dump: &mut FailureDumpMap) -> Result<(), KernelError> {
        let rb = self.view.member("bpf_ringbuf_map", "rb")?;
        let rb = self.view.read_member(map.kva, &rb)?;
        let field = |name| {
            self.view
                .read_member(rb, &self.view.member("bpf_ringbuf", name)?)
        };
        dump.ringbuf = Some(FailureDumpRingbuf {
            consumer_pos: field("consumer_pos")?,
            producer_pos: field("producer_pos")?,
            size: field("mask")?.wrapping_add(1),
        });
        Ok(())
    }

    fn arena(&self, map: &BpfMap, dump: &mut FailureDumpMap) -> Result<(), KernelError> {
        let field = |name| {
            let member = self.view.member("bpf_arena", name)?;
            self.view.read_member(map.kva, &member)
        };
        dump.arena = Some(ArenaSnapshot {
            user_vm_start: field("user_vm_start")?,
            user_vm_end: field("user_vm_end")?,
        });
        Ok(())
    }
}

/// The BTF of a map, as returned by `MapReader::types_of`.
pub(super) type Types = Result<Option<Btf>, KernelError>;
