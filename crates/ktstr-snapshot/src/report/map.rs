//! One BPF map in a capture.

use serde::{Deserialize, Serialize};

use super::RenderedValue;

/// One BPF map and its contents. Which of the entry lists is used depends on the map's type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpMap {
    /// The map's name in the kernel, at most 15 bytes.
    pub name: String,
    /// The kernel address of its `struct bpf_map`.
    pub map_kva: u64,
    /// The type: the name of the kernel's `BPF_MAP_TYPE_*` in lower case and without the prefix (`array`), or the number.
    pub map_type: String,
    /// The size of a key, in bytes.
    pub key_size: u32,
    /// The size of a value, in bytes.
    pub value_size: u32,
    /// How many entries the map can hold.
    pub max_entries: u32,
    /// The value of a map with one entry: global sections, `struct_ops`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<RenderedValue>,
    /// Entries of hash maps, storage maps and tries (`lpm_trie`). The entries of a trie are in the order of their prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<FailureDumpEntry>,
    /// Elements of arrays, queues and stacks. An array with exactly one element has it in `value` instead. In a queue or a
    /// stack, the element that is removed next has the index 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub array_entries: Vec<FailureDumpArrayEntry>,
    /// Entries of per-CPU arrays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_entries: Vec<FailureDumpPercpuEntry>,
    /// Entries of per-CPU hash maps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_hash_entries: Vec<FailureDumpPercpuHashEntry>,
    /// The state of an arena.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arena: Option<ArenaSnapshot>,
    /// The state of a ring buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ringbuf: Option<FailureDumpRingbuf>,
    /// The state of a stack-trace map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_trace: Option<FailureDumpStackTrace>,
    /// The state of an array that holds programs, maps, cgroups or events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd_array: Option<FailureDumpFdArray>,
    /// Whether the list of entries, or the value of a map with one entry, was cut at a cap.
    pub truncated: bool,
    /// Why the map could not be read or rendered, or not in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One entry of a hash map, a storage map or a trie. The key of a storage map is its owner: a task, a cgroup, an inode or a
/// socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpEntry {
    /// The rendered key; raw bytes if it has no type.
    pub key: Option<RenderedValue>,
    /// The bytes of the key, two hexadecimal digits each; for a storage map, those of the owner's pid, id, number or address.
    pub key_hex: String,
    /// The rendered value; `None` if it could not be read.
    pub value: Option<RenderedValue>,
}

/// One element of an array map, a queue or a stack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpArrayEntry {
    /// The index in the array; for queues and stacks, the number of elements that are removed before this one.
    pub index: u32,
    /// The rendered value; never `None` in a capture that ktstr made.
    pub value: Option<RenderedValue>,
}

/// One element of a per-CPU array: one value per CPU.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpPercpuEntry {
    /// The index in the array.
    pub key: u32,
    /// The value of each possible CPU; `None` for a value that could not be read.
    pub per_cpu: Vec<Option<RenderedValue>>,
}

/// One entry of a per-CPU hash map.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpPercpuHashEntry {
    /// The rendered key; raw bytes if it has no type.
    pub key: Option<RenderedValue>,
    /// The bytes of the key, two hexadecimal digits each.
    pub key_hex: String,
    /// The value of each possible CPU; `None` for a value that could not be read.
    pub per_cpu: Vec<Option<RenderedValue>>,
}

/// The state of a `BPF_MAP_TYPE_ARENA` map (kernel/bpf/arena.c).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArenaSnapshot {
    /// The start of the arena in the address space of the process that mapped it.
    pub user_vm_start: u64,
    /// The end of the arena in that address space, exclusive.
    pub user_vm_end: u64,
}

/// The state of a `BPF_MAP_TYPE_RINGBUF` map (kernel/bpf/ringbuf.c).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpRingbuf {
    /// The number of bytes that the consumer has read since the map was created.
    pub consumer_pos: u64,
    /// The number of bytes that producers have reserved since the map was created.
    pub producer_pos: u64,
    /// The size of the data area, in bytes.
    pub size: u64,
}

/// The state of a `BPF_MAP_TYPE_STACK_TRACE` map (kernel/bpf/stackmap.c).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpStackTrace {
    /// The number of buckets of the map.
    pub n_buckets: u32,
    /// The stacks in the map, in the order of their ids. A map whose stacks have offsets in files instead of addresses
    /// (`BPF_F_STACK_BUILD_ID`) has none here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<FailureDumpStack>,
}

/// A stack in a stack-trace map.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpStack {
    /// The id that `bpf_get_stackid` returned for it.
    pub id: u32,
    /// Its frames from the innermost one, each as `symbol+0xoffset`, or as a plain address if it is outside of the kernel.
    pub frames: Vec<String>,
}

/// The state of a map whose elements are kernel objects (programs, inner maps, cgroups).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureDumpFdArray {
    /// The indices of the slots in use.
    pub occupied: Vec<u32>,
}
