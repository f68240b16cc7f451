//! Captures of a whole guest whose memory is damaged (maps, queues, tasks, cgroups, NUMA nodes), and the look-ups of tests.
#![no_main]

use ktstr_fuzz::{Draw, Guest, bounded};
use ktstr_introspect::kernel::KernelView;
use ktstr_snapshot::snapshot::Snapshot;
use libfuzzer_sys::fuzz_target;

fn run(guest: &Guest, draw: &mut Draw<'_>) {
    let recording = &guest.recording;
    guest.damaged(draw, |image| {
        let report = recording.capture(image);
        let json = serde_json::to_string(&report).expect("plain data");
        assert!(json.len() < 64 << 20, "{} bytes", json.len());
        let snapshot = Snapshot::new(&report);
        let _ = snapshot.var("nr_dispatched").as_u64();
        let _ = snapshot.live_var("nr_dispatched").as_u64();
        let _ = (
            snapshot.active().is_ok(),
            snapshot.per_cpu_time_at(1).is_ok(),
        );
        let Ok(view) = KernelView::new(image, &recording.symbols, &recording.btf) else {
            return;
        };
        for task in &report.task_enrichments {
            let node = view.cgroup_node_of(task.task_kva);
            let _ = node.and_then(|node| view.cgroup_at(node));
            let _ = view.affinity_of(task.task_kva);
        }
        let _ = view.scx_watchdog_writes(1000);
        for per_cpu in [false, true] {
            let _ = view.scx_watched(".bss", "nr_dispatched", per_cpu);
        }
        let _ = view.scx_variable(".bss", "nr_dispatched");
        let _ = view.bpf_map_by_name("ktstr_task_ctx");
    });
}

thread_local! {
    static GUESTS: [Guest; 2] = [Guest::busy(), Guest::with_maps()];
}

fuzz_target!(|data: &[u8]| {
    GUESTS.with(|guests| {
        let mut draw = Draw::new(data);
        let guest = &guests[draw.index(guests.len())];
        bounded(|| run(guest, &mut draw));
    });
});
