//! Tests of the less frequent kinds of maps in a capture: queues, stacks, tries, and arrays of kernel objects.
//!
//! The test function creates the maps with system calls and fills them, and they exist until it returns.

use std::fs::File;
use std::io::Error;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use anyhow::{Context as _, Result, ensure};
use ktstr::prelude::*;
use ktstr::snapshot::RenderedValue;

/// Commands of bpf(2) and types of maps (include/uapi/linux/bpf.h).
const MAP_CREATE: i32 = 0;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const MAP_TAKE: i32 = 21;
const ARRAY: u32 = 2;
const PROG_ARRAY: u32 = 3;
const STACK_TRACE: u32 = 7;
const LPM_TRIE: u32 = 11;
const ARRAY_OF_MAPS: u32 = 12;
const QUEUE: u32 = 22;
const STACK: u32 = 23;
/// `BPF_F_NO_PREALLOC`, which a map of the type [`LPM_TRIE`] needs.
const NO_PREALLOC: u32 = 1;

#[ktstr_test(cores = 1, duration_s = 1, num_snapshots = 1, post_vm = maps_are_seen)]
fn a_capture_has_maps_of_the_less_frequent_kinds(ctx: &Ctx) -> Result<AssertResult> {
    let queue = create("a_queue", QUEUE, 0, 8, 4, 0)?;
    let stack = create("a_stack", STACK, 0, 8, 4, 0)?;
    for map in [&queue, &stack] {
        for value in 1..=3_u64 {
            update(map, None::<&u64>, &value)?;
        }
    }
    // The ring has five slots. 1 and 2 are removed, 4 and 5 are added to the last two slots, and 6 to the first one.
    for _ in 0..2 {
        let mut taken = 0_u64;
        let attributes = [fd(&queue), 0, &raw mut taken as u64, 0];
        bpf(MAP_TAKE, &attributes).context("taking from the queue")?;
    }
    update(&queue, None::<&u64>, &4_u64)?;
    update(&queue, None::<&u64>, &5_u64)?;
    update(&queue, None::<&u64>, &6_u64)?;

    // The prefixes 10.0.0.0/8, 10.1.0.0/16 and 192.168.0.0/16.
    let trie = create("a_trie", LPM_TRIE, 8, 4, 16, NO_PREALLOC)?;
    for (prefix, bytes, value) in [
        (16_u32, [192, 168, 0, 0], 3_u32),
        (8, [10, 0, 0, 0], 1),
        (16, [10, 1, 0, 0], 2),
    ] {
        update(&trie, Some(&[prefix, u32::from_ne_bytes(bytes)]), &value)?;
    }

    let inner = create("inner", ARRAY, 4, 8, 1, 0)?;
    let outer = create_with("outer", ARRAY_OF_MAPS, [4, 4, 8], 0, &inner)?;
    for index in [1_u32, 5, 6] {
        update(&outer, Some(&index), &(inner.as_raw_fd() as u32))?;
    }
    let six = 6_u32;
    bpf(MAP_DELETE, &[fd(&outer), &raw const six as u64, 0, 0]).context("removing a map")?;
    let programs = create("programs", PROG_ARRAY, 4, 4, 3, 0)?;
    let stacks = create("stacks", STACK_TRACE, 4, 8 * 16, 60, 0)?;

    let result = execute_defs(ctx, vec![CgroupDef::named("spinner").workers(1)]);
    drop((queue, stack, trie, inner, outer, programs, stacks));
    result
}

fn maps_are_seen(vm: &VmResult) -> Result<()> {
    let series = vm.periodic_series();
    let sample = series.iter_samples().next().context("no capture")?;
    let snapshot = sample.snapshot;
    for map in &snapshot.report().maps {
        ensure!(map.error.is_none() && !map.truncated, "{map:?}");
    }
    let numbers = |name| -> Result<Vec<String>> {
        let map = snapshot.map(name)?;
        Ok(map.iter().map(|entry| hex(entry.get("").raw())).collect())
    };
    // The element that is removed next comes first.
    ensure!(
        numbers("a_queue")? == [3, 4, 5, 6].map(word),
        "{:?}",
        numbers("a_queue")
    );
    ensure!(
        numbers("a_stack")? == [3, 2, 1].map(word),
        "{:?}",
        numbers("a_stack")
    );

    let trie = &snapshot.map("a_trie")?.raw().entries;
    let entries = trie
        .iter()
        .map(|entry| (entry.key_hex.as_str(), hex(entry.value.as_ref())));
    let entries: Vec<_> = entries.collect();
    let expected = [
        ("080000000a000000", "01000000".to_owned()),
        ("100000000a010000", "02000000".to_owned()),
        ("10000000c0a80000", "03000000".to_owned()),
    ];
    ensure!(entries == expected, "{entries:?}");

    let occupied = |name| -> Result<Vec<u32>> {
        let slots = snapshot.map(name)?.fd_array();
        Ok(slots.context("no slots")?.occupied.clone())
    };
    ensure!(occupied("outer")? == [1, 5], "{:?}", occupied("outer"));
    ensure!(occupied("programs")?.is_empty());
    let stacks = snapshot.map("stacks")?.stack_trace();
    let stacks = stacks.context("no stacks")?;
    ensure!(
        stacks.n_buckets == 64 && stacks.stacks.is_empty(),
        "{stacks:?}"
    );
    Ok(())
}

fn word(value: u64) -> String {
    let bytes = value.to_le_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex(value: Option<&RenderedValue>) -> String {
    match value {
        Some(RenderedValue::Bytes { hex, .. }) => hex.clone(),
        other => format!("{other:?}"),
    }
}

fn create(name: &str, kind: u32, key: u32, value: u32, entries: u32, flags: u32) -> Result<File> {
    create_map(name, kind, [key, value, entries], flags, 0)
}

fn create_with(name: &str, kind: u32, sizes: [u32; 3], flags: u32, inner: &File) -> Result<File> {
    create_map(name, kind, sizes, flags, inner.as_raw_fd() as u32)
}

fn create_map(name: &str, kind: u32, sizes: [u32; 3], flags: u32, inner: u32) -> Result<File> {
    let [key, value, entries] = sizes;
    let mut text = [0; 16];
    text[..name.len()].copy_from_slice(name.as_bytes());
    let text = u128::from_le_bytes(text);
    let attributes = [
        pair(kind, key),
        pair(value, entries),
        pair(flags, inner),
        // The NUMA node, and the first four bytes of the name.
        pair(0, text as u32),
        (text >> 32) as u64,
        (text >> 96) as u64,
    ];
    let map = bpf(MAP_CREATE, &attributes).with_context(|| format!("creating {name}"))?;
    // SAFETY: the system call has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { File::from_raw_fd(map) })
}

fn update<K, V>(map: &File, key: Option<&K>, value: &V) -> Result<()> {
    let key = key.map_or(0, |key| std::ptr::from_ref(key) as u64);
    let attributes = [fd(map), key, std::ptr::from_ref(value) as u64, 0];
    bpf(MAP_UPDATE, &attributes).context("updating a map")?;
    Ok(())
}

fn fd(map: &File) -> u64 {
    map.as_raw_fd() as u64
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn bpf(command: i32, attributes: &[u64]) -> Result<i32> {
    let size = size_of_val(attributes);
    // SAFETY: the attributes hold addresses of keys and values that live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size) };
    if result < 0 {
        return Err(Error::last_os_error().into());
    }
    Ok(result as i32)
}
