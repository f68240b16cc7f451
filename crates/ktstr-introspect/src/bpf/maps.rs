//! The list of BPF maps, and the values of arrays and global sections.

use crate::btf::Member;
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;
use crate::narrow;

/// The largest number of maps that are listed.
pub const MAX_MAPS: usize = 1024;

/// A map's identity and shape, as in `struct bpf_map`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BpfMap {
    /// Address of its `struct bpf_map`.
    pub kva: u64,
    /// The map's id, as `bpftool map` shows it.
    pub id: u32,
    /// Name, at most 15 bytes.
    pub name: String,
    /// Number of its type (`enum bpf_map_type`).
    pub map_type: u32,
    /// Name of its type: `array` for `BPF_MAP_TYPE_ARRAY`, or the number if the kernel's BTF has no name for it.
    pub type_name: String,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// How many entries it can hold.
    pub max_entries: u32,
    /// Address of the `struct btf` that it was created with, or 0.
    pub btf: u64,
    /// Type id of a key in that BTF, or 0.
    pub btf_key_type_id: u32,
    /// Type id of a value in that BTF, or 0.
    pub btf_value_type_id: u32,
    /// Type id of a `struct_ops` value in the kernel's BTF, or 0.
    pub btf_vmlinux_value_type_id: u32,
}

/// Where the elements of an array map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayValues {
    /// The kernel address of the first element.
    pub first: u64,
    /// The distance between two elements, in bytes.
    pub stride: u64,
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Returns the maps in the order of their ids, and whether the list was cut at [`MAX_MAPS`]. A map that cannot be read
    /// is left out.
    pub fn bpf_maps(&self) -> Result<(Vec<BpfMap>, bool), KernelError> {
        let pointers = self.walk_idr(self.symbol("map_idr")?, MAX_MAPS + 1)?;
        let fields = MapFields::new(self)?;
        let cut = pointers.len() > MAX_MAPS;
        let maps = pointers
            .into_iter()
            .take(MAX_MAPS)
            .filter_map(|map| fields.read(self, map.pointer).ok())
            .collect();
        Ok((maps, cut))
    }

    /// Returns the map of that name, the one with the lowest id if there are several; `None` if there is none.
    pub fn bpf_map_by_name(&self, name: &str) -> Result<Option<BpfMap>, KernelError> {
        let (maps, _) = self.bpf_maps()?;
        Ok(maps.into_iter().find(|map| map.name == name))
    }

    /// Returns where the elements of an array map are.
    pub fn bpf_array_values(&self, map: &BpfMap) -> Result<ArrayValues, KernelError> {
        let value = self.member("bpf_array", "value")?;
        let elem_size = self.member("bpf_array", "elem_size")?;
        let stride = self.read_member(map.kva, &elem_size)?;
        let first = map.kva.wrapping_add(value.offset());
        Ok(ArrayValues { first, stride })
    }

    /// Returns the address of CPU `cpu`'s value in the element `index` of a per-CPU array.
    pub fn bpf_percpu_array_value(
        &self,
        map: &BpfMap,
        index: u32,
        cpu: u32,
    ) -> Result<u64, KernelError> {
        let pointers = self.member("bpf_array", "pptrs")?;
        let slot = map
            .kva
            .wrapping_add(pointers.offset() + 8 * u64::from(index));
        self.per_cpu(self.read_u64(slot)?, cpu)
    }
}

/// The members of `struct bpf_map`, looked up once per listing.
struct MapFields {
    name: Member,
    /// The other members, in the order of `MapFields::new`.
    numbers: [Member; 9],
}

impl MapFields {
    fn new<M: GuestMemory + ?Sized>(view: &KernelView<'_, M>) -> Result<Self, KernelError> {
        let member = |path| view.member("bpf_map", path);
        Ok(Self {
            name: member("name")?,
            numbers: [
                member("id")?,
                member("map_type")?,
                member("key_size")?,
                member("value_size")?,
                member("max_entries")?,
                member("btf")?,
                member("btf_key_type_id")?,
                member("btf_value_type_id")?,
                member("btf_vmlinux_value_type_id")?,
            ],
        })
    }

    fn read<M: GuestMemory + ?Sized>(
        &self,
        view: &KernelView<'_, M>,
        kva: u64,
    ) -> Result<BpfMap, KernelError> {
        let number = |index: usize| view.read_member(kva, &self.numbers[index]);
        let small = |index: usize| number(index).map(narrow::count);
        let map_type = small(1)?;
        let type_name = view
            .btf()
            .enumerator("bpf_map_type", i64::from(map_type))
            .and_then(|name| name.strip_prefix("BPF_MAP_TYPE_"))
            .map_or_else(|| map_type.to_string(), str::to_ascii_lowercase);
        Ok(BpfMap {
            kva,
            id: small(0)?,
            name: view.read_string(kva.wrapping_add(self.name.offset()), self.name.size)?,
            map_type,
            type_name: stable_type_name(map_type).map_or(type_name, str::to_owned),
            key_size: small(2)?,
            value_size: small(3)?,
            max_entries: small(4)?,
            btf: number(5)?,
            btf_key_type_id: small(6)?,
            btf_value_type_id: small(7)?,
            btf_vmlinux_value_type_id: small(8)?,
        })
    }
}

/// Returns the name of the map type with that number, for the types that a capture reads and for some others. These numbers
/// are ABI (include/uapi/linux/bpf.h). The result is `None` for all other types, whose names the caller looks up in the
/// kernel's BTF.
fn stable_type_name(map_type: u32) -> Option<&'static str> {
    Some(match map_type {
        1 => "hash",
        2 => "array",
        3 => "prog_array",
        4 => "perf_event_array",
        5 => "percpu_hash",
        6 => "percpu_array",
        7 => "stack_trace",
        8 => "cgroup_array",
        9 => "lru_hash",
        10 => "lru_percpu_hash",
        11 => "lpm_trie",
        12 => "array_of_maps",
        22 => "queue",
        23 => "stack",
        24 => "sk_storage",
        26 => "struct_ops",
        27 => "ringbuf",
        28 => "inode_storage",
        29 => "task_storage",
        32 => "cgrp_storage",
        33 => "arena",
        _ => return None,
    })
}
