#![allow(clippy::unwrap_used)]
//! Tests of the less frequent kinds of maps in a hand-made kernel of a few pages. `ktstr/tests/vm/map_kinds.rs` reads maps
//! of a real kernel, but there no program puts stacks into the stack-trace map.

use proptest::prelude::*;

use super::*;
use crate::btf::testing::Builder;
use crate::capture::CaptureOptions;
use crate::kernel::testing::{BASE, Guest};

/// Where the tests put a map, the buckets of stacks, and the nodes of a trie.
const MAP: u64 = BASE + 0x8000;
const BUCKETS: u64 = BASE + 0x9000;
const NODES: u64 = BASE + 0xa000;

fn guest() -> Guest {
    let mut b = Builder::new();
    let long = b.int("unsigned long", 8, 0);
    let int = b.int("unsigned int", 4, 0);
    let none = b.array(long, 0);
    let two = b.array(long, 2);
    b.record("bpf_map", 8, &[("map_flags", int, 0)]);
    b.record("bpf_array", 8, &[("ptrs", none, 64)]);
    b.record(
        "bpf_stack_map",
        16,
        &[("n_buckets", int, 64), ("buckets", none, 128)],
    );
    b.record("stack_map_bucket", 8, &[("nr", int, 0), ("data", none, 64)]);
    let ring = [
        ("head", int, 64),
        ("tail", int, 96),
        ("size", int, 128),
        ("elements", none, 192),
    ];
    b.record("bpf_queue_stack", 24, &ring);
    b.record(
        "lpm_trie",
        24,
        &[("root", long, 64), ("data_size", long, 128)],
    );
    let node = [
        ("child", two, 0),
        ("prefixlen", int, 128),
        ("flags", int, 160),
        ("data", none, 192),
    ];
    b.record("lpm_trie_node", 24, &node);
    Guest::new(true, b, &[("schedule", BASE + 0x6000)])
}

fn dump(guest: &Guest, kind: &str, sizes: [u32; 3]) -> FailureDumpMap {
    let [key_size, value_size, max_entries] = sizes;
    let map = BpfMap {
        kva: MAP,
        type_name: kind.to_owned(),
        key_size,
        value_size,
        max_entries,
        ..BpfMap::default()
    };
    let view = guest.view();
    let options = CaptureOptions {
        max_total_nodes: 100,
        ..CaptureOptions::default()
    };
    MapReader::new(&view, &options, Vec::new()).dump(&map)
}

#[test]
fn slots_and_frames_count_towards_the_limit_on_values() {
    let mut guest = guest();
    for index in 0..120 {
        guest.put(MAP + 8 + 8 * index, BUCKETS);
    }
    let slots = dump(&guest, "prog_array", [4, 4, 120]);
    assert!(slots.truncated);
    assert_eq!(slots.fd_array.unwrap().occupied, Vec::from_iter(0..100));
    // The first slot becomes the number of buckets (`n_buckets`): five. The slots after it still point at `BUCKETS`, so each
    // bucket holds the same stack of 30 frames. Three such stacks fit into the limit of 100 values.
    guest.put(MAP + 8, 5);
    guest.put(BUCKETS, 30);
    let found = dump(&guest, "stack_trace", [4, 8 * 127, 5]);
    assert!(found.truncated && found.error.is_none(), "{found:?}");
    assert_eq!(found.stack_trace.unwrap().stacks.len(), 3);
}

#[test]
fn stacks_are_read_with_their_symbols() {
    let mut guest = guest();
    guest.put(MAP + 8, 4);
    // The buckets 1 and 3 are in use. Bucket 3 claims more frames than a stack of this map can have.
    guest.put(MAP + 16 + 8, BUCKETS);
    guest.put(MAP + 16 + 24, BUCKETS + 0x100);
    guest.put(BUCKETS, 2);
    guest.put(BUCKETS + 8, BASE + 0x6010);
    guest.put(BUCKETS + 16, 0x7fff_0000_1234);
    guest.put(BUCKETS + 0x100, u64::from(u32::MAX));
    guest.put(BUCKETS + 0x108, BASE + 0x6000 + (1 << 20));
    let read = |guest: &Guest| {
        let found = dump(guest, "stack_trace", [4, 16, 4]);
        assert_eq!((found.error, found.truncated), (None, false));
        let trace = found.stack_trace.unwrap();
        assert_eq!(trace.n_buckets, 4);
        trace
            .stacks
            .into_iter()
            .map(|stack| (stack.id, stack.frames))
            .collect::<Vec<_>>()
    };
    let frames = |all: [&str; 2]| all.map(str::to_owned).to_vec();
    let expected = [
        (1, frames(["schedule+0x10", "0x7fff00001234"])),
        (3, frames(["0xffffffff80106000", "0x0"])),
    ];
    assert_eq!(read(&guest), expected);
    // The stacks of a map with this flag hold no addresses.
    guest.put(MAP, STACK_BUILD_ID);
    assert_eq!(read(&guest), []);
}

#[test]
fn a_ring_with_impossible_positions_has_no_elements() {
    let mut guest = guest();
    let ring = |guest: &mut Guest, head: u64, tail: u64, size: u64| {
        guest.put(MAP + 8, head | tail << 32);
        guest.put(MAP + 16, size);
        dump(guest, "queue", [0, 8, 3]).array_entries.len()
    };
    assert_eq!(ring(&mut guest, 1, 3, 4), 2);
    for (head, tail, size) in [(4, 0, 4), (0, 4, 4), (0, 0, 0), (1, 1, 4)] {
        assert_eq!(ring(&mut guest, head, tail, size), 0);
    }
    // This hostile ring claims four billion elements. Only `CaptureOptions::max_entries` of them are read.
    assert_eq!(
        ring(&mut guest, 0xffff_fff0, 0, 0xffff_ffff),
        CaptureOptions::default().max_entries
    );
}

#[test]
fn a_circular_trie_is_cut() {
    let mut guest = guest();
    guest.put(MAP + 8, NODES);
    guest.put(MAP + 16, 4);
    // Both children of the only node are the node itself.
    guest.put(NODES, NODES);
    guest.put(NODES + 8, NODES);
    let found = dump(&guest, "lpm_trie", [8, 8, 10]);
    assert!(found.truncated && found.error.is_none(), "{found:?}");
    assert_eq!(found.entries.len(), 10);
}

proptest! {
    #[test]
    fn any_memory_ends_in_a_map_of_bounded_size(
        ram in prop::collection::vec((0u64..0x800, prop_oneof![any::<u64>(), 0u64..0x10, BASE..BASE + 0x20000]), 0..200),
        sizes in prop::array::uniform3(prop_oneof![any::<u32>(), 0u32..64]),
    ) {
        let mut guest = guest();
        for (at, word) in ram {
            guest.put(MAP + 8 * at, word);
        }
        for kind in ["queue", "stack", "lpm_trie", "stack_trace", "prog_array"] {
            let found = dump(&guest, kind, sizes);
            let json = serde_json::to_string(&found).unwrap();
            prop_assert!(json.len() < 8 << 20, "{kind}: {} bytes", json.len());
        }
    }
}
