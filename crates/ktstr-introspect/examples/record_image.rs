//! Records what a capture reads from a guest, and what the readers outside of captures read. The recordings are the fixtures of
//! `tests/recorded.rs` and `tests/busy.rs`.
//!
//! `record_image RAM KALLSYMS BTF OUT` (the first three as for `inspect_image`) writes
//! - `OUT.pages.z`: zlib of (guest-physical address, 4096 bytes) for each page that was read, in the order of the addresses;
//! - `OUT.btf.z`: zlib of the BTF, in which every type that these readers do not need is blanked out (ids and
//!   string offsets stay, since guest memory and other BTF refer to them);
//! - `OUT.kallsyms`: the symbols that these readers look up.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;

use ktstr_introspect::btf::{Btf, Kind};
use ktstr_introspect::capture::{CaptureOptions, capture};
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::memory::{GuestMemory, MemoryError};
use ktstr_introspect::symbols::Symbols;

/// Types that a capture, or a reader outside of captures, looks up by name.
const ROOTS: &str = "task_struct signal_struct rq idr xa_node bpf_map bpf_array bpf_htab htab_elem \
    bucket bpf_prog bpf_prog_aux bpf_prog_stats bpf_link bpf_struct_ops_map \
    bpf_struct_ops_sched_ext_ops sched_ext_ops bpf_ringbuf bpf_ringbuf_map bpf_arena btf scx_sched \
    scx_sched_pcpu scx_event_stats scx_dispatch_q rhashtable bucket_table kernel_cpustat kernel_stat \
    bpf_map_type scx_enable_state scx_exit_kind bpf_local_storage bpf_local_storage_map \
    bpf_local_storage_elem bpf_local_storage_map_bucket scx_sched_pnode scx_dsq_list_node \
    cgroup cgroup_root css_set kernfs_node psi_group psi_states cgroup_rstat_base_cpu cgroup_rstat_cpu \
    cgroup_subsys_id task_group pglist_data zone per_cpu_zonestat numa_stat_item cpumask bpf_cpumask vm_struct";

/// Symbols that a capture, or a reader outside of captures, looks up.
const SYMBOLS: &str = "_text init_top_pgt jiffies jiffies_64 nr_cpu_ids __per_cpu_offset map_idr \
    prog_idr runqueues kernel_cpustat kstat init_task scx_root scx_enable_state_var scx_ops \
    scx_exit_kind scx_bypass_depth scx_aborting scx_watchdog_timeout scx_watchdog_timestamp \
    event_stats_cpu dsq_hash cgrp_dfl_root psi_system node_data nr_node_ids scx_watchdog_interval";

struct Recorder {
    ram: File,
    pages: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl GuestMemory for Recorder {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let len = buf.len();
        let failed = |error: std::io::Error| MemoryError::Host {
            gpa,
            len,
            reason: error.to_string(),
        };
        for page in gpa / 4096..=(gpa + len as u64 - 1) / 4096 {
            let mut bytes = vec![0; 4096];
            self.ram
                .read_exact_at(&mut bytes, page * 4096)
                .map_err(failed)?;
            self.pages.borrow_mut().insert(page * 4096, bytes);
        }
        self.ram.read_exact_at(buf, gpa).map_err(failed)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ram, kallsyms, btf, out] = arguments.as_slice() else {
        return Err("usage: record_image RAM KALLSYMS BTF OUT".into());
    };
    let text = String::from_utf8_lossy(&std::fs::read(kallsyms)?).into_owned();
    let wanted: HashSet<&str> = SYMBOLS.split_whitespace().collect();
    let lines = text
        .lines()
        .filter(|line| {
            line.split_whitespace()
                .nth(2)
                .is_some_and(|n| wanted.contains(n))
        })
        .filter(|line| line.split_whitespace().count() == 3);
    let kallsyms: String = lines.map(|line| format!("{}\n", line.trim_end())).collect();
    let blob = blank(&std::fs::read(btf)?)?;

    let memory = Recorder {
        ram: File::open(ram)?,
        pages: RefCell::default(),
    };
    let (symbols, types) = (
        Symbols::from_kallsyms(&kallsyms)?,
        Btf::parse(blob.clone())?,
    );
    let view = KernelView::new(&memory, &symbols, &types)?;
    view.jiffies()?;
    let report = capture(&view, &CaptureOptions::default());
    // Also call the readers that work outside of captures, for the schedule and for variables that a test names. Only the
    // pages that they read matter, and these are recorded during the read, so the results are dropped.
    for task in &report.task_enrichments {
        let _ = view.affinity_of(task.task_kva);
        if let Ok(node) = view.cgroup_node_of(task.task_kva) {
            let _ = view.cgroup_at(node);
        }
    }
    let _ = view.scx_watchdog_writes(1000);
    let _ = view.scx_variable(".bss", "nr_dispatched");

    let pages = memory.pages.into_inner();
    let mut image = Vec::new();
    for (gpa, bytes) in &pages {
        image.extend_from_slice(&gpa.to_le_bytes());
        image.extend_from_slice(bytes);
    }
    let pack = |bytes: &[u8]| miniz_oxide::deflate::compress_to_vec_zlib(bytes, 10);
    std::fs::write(format!("{out}.pages.z"), pack(&image))?;
    std::fs::write(format!("{out}.btf.z"), pack(&blob))?;
    std::fs::write(format!("{out}.kallsyms"), kallsyms)?;
    println!(
        "{} pages, {} maps, {} tasks",
        pages.len(),
        report.maps.len(),
        report.task_enrichments.len()
    );
    Ok(())
}

/// Returns the BTF with only [`ROOTS`], the types that they contain by value, and the typedefs and qualifiers through which
/// pointers refer to [`ROOTS`]. All other types become anonymous forward declarations, so that the ids stay the same, and unused
/// strings become zeros.
fn blank(blob: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let btf = Btf::parse(blob.to_vec())?;
    let mut keep = HashSet::new();
    let roots = ROOTS
        .split_whitespace()
        .flat_map(|name| btf.ids_by_name(name));
    let mut open: Vec<u32> = roots.collect();
    while let Some(id) = open.pop() {
        if id == 0 || !keep.insert(id) {
            continue;
        }
        let Some(ty) = btf.get(id) else { continue };
        open.extend(ty.fields().map(|field| field.type_id));
        open.extend(ty.array().map(|array| array.element));
        let is_root = |id: &u32| {
            let target = btf.resolve(*id);
            target.is_some_and(|ty| ROOTS.split_whitespace().any(|root| root == ty.name()))
        };
        match ty.kind() {
            Kind::FuncProto => {}
            Kind::Ptr => open.extend(ty.target().filter(is_root)),
            _ => open.extend(ty.target()),
        }
    }
    let word = |at: usize| -> Result<usize, Box<dyn Error>> {
        let bytes = blob.get(at..at + 4).ok_or("short BTF")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    let header = word(4)?;
    let (types, types_len) = (header + word(8)?, word(12)?);
    let (strings, strings_len) = (header + word(16)?, word(20)?);
    let old_strings = &blob[strings..strings + strings_len];
    let mut new_strings = vec![0; strings_len];
    let mut records = Vec::new();
    let mut at = types;
    let mut id = 1;
    while at < types + types_len {
        let (kind, vlen) = (word(at + 4)? >> 24 & 0x1f, word(at + 4)? & 0xff_ffff);
        // The size of each element, and of the data between header and elements. Both follow from the kind (`BTF_KIND_*`).
        let (step, first) = match kind {
            1 | 14 | 17 => (0, 4),
            3 => (0, 12),
            4 | 5 | 15 | 19 => (12, 0),
            6 | 13 => (8, 0),
            _ => (0, 0),
        };
        let end = at + 12 + first + step * vlen;
        if keep.contains(&id) {
            records.extend_from_slice(&blob[at..end]);
            let named = (at + 12..end).step_by(step.max(1));
            let elements = named.filter(|_| matches!(kind, 4 | 5 | 6 | 19));
            for place in std::iter::once(at).chain(elements) {
                let start = word(place)?;
                let len = old_strings[start..]
                    .iter()
                    .position(|b| *b == 0)
                    .unwrap_or(0);
                new_strings[start..start + len].copy_from_slice(&old_strings[start..start + len]);
            }
        } else {
            // A forward declaration without a name (`BTF_KIND_FWD`).
            records.extend(
                [0u32, 7 << 24, 0]
                    .iter()
                    .flat_map(|word| word.to_le_bytes()),
            );
        }
        at = end;
        id += 1;
    }
    let mut out = vec![0x9f, 0xeb, 1, 0];
    let (types_len, strings_len) = (records.len() as u32, strings_len as u32);
    for word in [24, 0, types_len, types_len, strings_len] {
        out.extend_from_slice(&u32::to_le_bytes(word));
    }
    out.extend(records);
    out.extend(new_strings);
    Ok(out)
}
