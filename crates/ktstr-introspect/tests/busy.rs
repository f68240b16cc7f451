#![allow(clippy::unwrap_used)]
//! Tests of every reader of guest memory on a damaged image of a busy guest: overwritten queues, circular lists, wrong sizes and
//! counts. Each reader ends with a value or with a reason, in bounded time.
//!
//! The image was made by `examples/record_image.rs` from Debian's 7.3.4 cloud kernel under QEMU (two CPUs) while `scx-ktstr`
//! drove eight workers in two cgroups. The first test checks that the image has what each reader needs: damage to an image
//! without a queue would not test the reader of queues.

mod image;

use std::sync::OnceLock;
use std::time::Instant;

use image::{Image, Recording};
use ktstr_introspect::kernel::KernelView;
use ktstr_snapshot::report::{FailureDumpReport, RenderedValue};
use ktstr_snapshot::snapshot::Snapshot;
use proptest::prelude::*;

/// The longest time in seconds for all readers together. The undamaged image takes less than one.
const SECONDS: u64 = 20;
/// The lowest address of the kernel with the four-level paging of the image.
const KERNEL: u64 = 0xffff_8000_0000_0000;

fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| {
        Recording::unpack(
            include_bytes!("data/busy-7.3.pages.z"),
            include_str!("data/busy-7.3.kallsyms"),
            include_bytes!("data/busy-7.3.btf.z"),
        )
    })
}

/// Returns as text what the readers outside of captures return: the CPUs and cgroups of tasks, and the addresses of variables
/// and of the watchdog's timeout.
fn others(view: &KernelView<'_, Image>, report: &FailureDumpReport) -> Vec<String> {
    let mut all = Vec::new();
    for task in &report.task_enrichments {
        let cgroup = view.cgroup_node_of(task.task_kva);
        let cgroup = cgroup.and_then(|node| view.cgroup_at(node));
        all.push(format!("{cgroup:?} {:?}", view.affinity_of(task.task_kva)));
    }
    all.push(format!("{:?}", view.scx_watchdog_writes(1000)));
    for per_cpu in [false, true] {
        all.push(format!(
            "{:?}",
            view.scx_watched(".bss", "nr_dispatched", per_cpu)
        ));
    }
    all.push(format!("{:?}", view.scx_variable(".bss", "nr_dispatched")));
    all.push(format!(
        "{:?}",
        view.bpf_map_by_name("ktstr_task_ctx")
            .map(|map| map.is_some())
    ));
    all
}

#[test]
fn the_image_has_what_every_reader_needs() {
    let recording = recording();
    let report = recording.capture(&recording.image);
    let reasons: Vec<_> = report.unavailable().collect();
    assert_eq!(reasons, []);
    let queued: usize = report
        .dsq_states
        .iter()
        .map(|queue| queue.tasks.len())
        .sum();
    assert!(queued >= 2, "{:?}", report.dsq_states);
    let storage = report.maps.iter().find(|map| map.name == "ktstr_task_ctx");
    assert!(storage.unwrap().entries.len() > 10);
    let snapshot = Snapshot::new(&report);
    let kptrs = snapshot.map("ktstr_kptrs").unwrap();
    assert_eq!(kptrs.at(0).get("first_llc").as_str(), Ok("0-1"));
    let initiator = kptrs.at(0).get("initiator");
    assert!(initiator.get("pid").as_i64().unwrap() > 1);
    assert_eq!(initiator.get("cpus_ptr").as_str(), Ok("0-1"));
    let list = snapshot.var("ktstr_arena_list");
    assert_eq!(list.get("next.number").as_u64(), Ok(2));
    for end in ["/batch", "/pipes"] {
        let pressure = report
            .cgroup_psi
            .iter()
            .find(|group| group.path.ends_with(end));
        assert!(pressure.unwrap().lines.contains_key("cpu.some"), "{end}");
        let time = report
            .cgroup_cpu
            .iter()
            .find(|group| group.path.ends_with(end))
            .unwrap();
        assert!(
            time.usage_us > 100_000 && time.throttled.is_some(),
            "{time:?}"
        );
    }
    assert!(report.per_node_numa[0].counters["numa_hit"] > 1000);
    let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf).unwrap();
    let lines = others(&view, &report);
    assert!(
        lines.iter().any(|line| line.contains("/batch")),
        "{lines:?}"
    );
    let failed: Vec<&String> = lines.iter().filter(|line| line.contains("Err(")).collect();
    // Only `scx_watched` with `per_cpu` fails, since no per-CPU array has a variable `nr_dispatched`.
    assert_eq!(failed.len(), 1, "{failed:?}");
}

#[test]
fn a_capture_of_a_whole_guest_survives_its_json() {
    let report = recording().capture(&recording().image);
    assert!(report.scx_sched_state.value().is_some());
    let json = serde_json::to_string(&report).unwrap();
    let back: FailureDumpReport = serde_json::from_str(&json).unwrap();
    assert_eq!(back, report);
}

/// The value with which a pointer of the image is overwritten.
#[derive(Debug, Clone)]
enum Hit {
    /// A number that is not a valid pointer.
    Number(u64),
    /// Another pointer of the guest, so that lists lead elsewhere, or back to where they came from.
    Pointer(prop::sample::Index),
}

fn hits() -> impl Strategy<Value = Vec<(prop::sample::Index, Hit)>> {
    let number = prop::sample::select(vec![
        0,
        1,
        u64::MAX,
        0xffff_ffff,
        1 << 31,
        0x7fff_ffff_ffff_ffff,
        0xffff_8880_0000_0002,
    ]);
    let hit = prop_oneof![
        1 => number.prop_map(Hit::Number),
        2 => any::<prop::sample::Index>().prop_map(Hit::Pointer),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), hit), 1..120)
}

/// Returns the pointers of the image, each as the address of its page, the index of its word in that page, and its value.
fn pointers() -> &'static [(u64, usize, u64)] {
    static POINTERS: OnceLock<Vec<(u64, usize, u64)>> = OnceLock::new();
    POINTERS.get_or_init(|| {
        let mut found = Vec::new();
        for (gpa, page) in &recording().image.0 {
            for (at, word) in page.chunks_exact(8).enumerate() {
                let value = u64::from_le_bytes(word.try_into().unwrap());
                found.extend((value >= KERNEL && value != u64::MAX).then_some((*gpa, at, value)));
            }
        }
        found.sort_unstable();
        found
    })
}

/// Overwrites the pointers that `hits` chooses in a copy of the image, runs every reader on it, and returns how long that
/// took in seconds.
fn read_damaged(hits: &[(prop::sample::Index, Hit)]) -> u64 {
    let recording = recording();
    let mut image = recording.image.clone();
    for (place, hit) in hits {
        let (gpa, word, _) = *place.get(pointers());
        let value = match hit {
            Hit::Number(number) => *number,
            Hit::Pointer(other) => other.get(pointers()).2,
        };
        let page = image.0.get_mut(&gpa).unwrap();
        page[8 * word..8 * word + 8].copy_from_slice(&value.to_le_bytes());
    }
    let began = Instant::now();
    let report = recording.capture(&image);
    if let Ok(view) = KernelView::new(&image, &recording.symbols, &recording.btf) {
        others(&view, &report);
    }
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.len() < 64 << 20, "{} bytes", json.len());
    began.elapsed().as_secs()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_pointers_end_in_reasons(hits in hits()) {
        prop_assert!(read_damaged(&hits) < SECONDS);
    }
}

/// Writes `value` to the word at the kernel address `kva`.
fn write(image: &mut Image, kva: u64, value: u64) {
    let recording = recording();
    let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf).unwrap();
    let gpa = view.translate(kva).unwrap();
    let page = image.0.get_mut(&(gpa & !0xfff)).unwrap();
    let at = (gpa & 0xfff) as usize;
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The pointers in the values of the scheduler lead anywhere, so that any bytes are taken for a mask, a task or a list.
    #[test]
    fn pointers_that_lead_anywhere_end_in_reasons(
        places in prop::collection::vec((any::<prop::sample::Index>(), 0u64..64), 3),
    ) {
        let recording = recording();
        let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf).unwrap();
        let kptrs = view.bpf_map_by_name("ktstr_kptrs").unwrap().unwrap();
        let kptrs = view.bpf_array_values(&kptrs).unwrap().first;
        let list = view.scx_variable(".bss", "ktstr_arena_list").unwrap().gpa;
        let to = |index: usize| {
            let (place, offset) = &places[index];
            place.get(pointers()).2.wrapping_add(*offset)
        };
        let mut image = recording.image.clone();
        write(&mut image, kptrs, to(0));
        write(&mut image, kptrs + 8, to(1));
        let page = image.0.get_mut(&(list & !0xfff)).unwrap();
        let at = (list & 0xfff) as usize;
        page[at..at + 8].copy_from_slice(&to(2).to_le_bytes());
        let report = recording.capture(&image);
        let values = Snapshot::new(&report);
        let kptrs = values.map("ktstr_kptrs").unwrap().at(0);
        let targets = [kptrs.get("first_llc"), kptrs.get("initiator"), values.var("ktstr_arena_list")];
        for (index, target) in targets.iter().enumerate() {
            prop_assert_eq!(target.as_u64(), Ok(to(index)));
            let Some(RenderedValue::Ptr { deref, not_followed, .. }) = target.raw() else {
                panic!("{target:?}");
            };
            prop_assert!(deref.is_some() != not_followed.is_some(), "{:?}", target);
        }
        prop_assert!(serde_json::to_string(&report).unwrap().len() < 2 << 20);
    }
}

/// The first child of the root is its own next sibling, so the walk of the root's children never returns to the root.
#[test]
fn a_circular_list_of_cgroups_is_cut_and_has_a_reason() {
    let recording = recording();
    let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf).unwrap();
    let root = view.symbol("cgrp_dfl_root").unwrap()
        + view.member("cgroup_root", "cgrp").unwrap().offset();
    let children = view.member("cgroup", "self.children").unwrap().offset();
    let first = view.read_u64(root + children).unwrap();
    let mut image = recording.image.clone();
    write(&mut image, first, first);
    let began = Instant::now();
    let report = recording.capture(&image);
    assert!(began.elapsed().as_secs() < SECONDS);
    for reason in [report.cgroup_psi.reason(), report.cgroup_cpu.reason()] {
        let reason = reason.expect("a reason");
        assert!(reason.contains("children of a cgroup"), "{reason}");
    }
    // The walk lists the cgroup again and again, up to the limit.
    assert!(
        (2..=1024).contains(&report.cgroup_cpu.len()),
        "{}",
        report.cgroup_cpu.len()
    );
}

/// The kernfs node of a cgroup is its own parent, so the path from it never reaches the root.
#[test]
fn the_path_of_a_cgroup_that_is_its_own_parent_is_cut() {
    let recording = recording();
    let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf).unwrap();
    let report = recording.capture(&recording.image);
    let task = report.task_enrichments.iter().find(|task| {
        let node = view.cgroup_node_of(task.task_kva);
        node.and_then(|node| view.cgroup_at(node))
            .is_ok_and(|(_, path)| path.ends_with("/batch"))
    });
    let node = view.cgroup_node_of(task.unwrap().task_kva).unwrap();
    let parent = view.member("kernfs_node", "__parent").unwrap().offset();
    let mut image = recording.image.clone();
    write(&mut image, node + parent, node);
    let damaged = KernelView::new(&image, &recording.symbols, &recording.btf).unwrap();
    let (_, path) = damaged.cgroup_at(node).unwrap();
    assert_eq!(path.matches("/batch").count(), 64, "{path}");
}

/// A machine that claims to have four billion CPUs and nodes is read up to the limits.
#[test]
fn counts_that_are_too_large_are_capped() {
    let recording = recording();
    let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf).unwrap();
    let mut image = recording.image.clone();
    for count in ["nr_cpu_ids", "nr_node_ids"] {
        let gpa = view.translate(view.symbol(count).unwrap()).unwrap();
        let page = image.0.get_mut(&(gpa & !0xfff)).unwrap();
        let at = (gpa & 0xfff) as usize;
        page[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    }
    let began = Instant::now();
    let report = recording.capture(&image);
    assert!(began.elapsed().as_secs() < SECONDS);
    let reasons = [
        report.per_node_numa.reason(),
        report.cgroup_cpu.reason(),
        report.rq_scx_states.reason(),
    ];
    assert!(reasons.iter().all(Option::is_some), "{reasons:?}");
}
