#![allow(clippy::unwrap_used)]
//! Tests of a capture of a real kernel with a real scheduler, from a recorded image.
//!
//! The image was made by `examples/record_image.rs` from Debian's 7.3.4 cloud kernel under QEMU (two CPUs, five-level
//! paging) while `scx-ktstr` drove three busy tasks. The guest also had one map of each basic kind, filled by hand. The
//! image holds only the pages that the readers read.

mod image;

use std::sync::OnceLock;

use image::{Image, Recording};
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::memory::{GuestMemory, MemoryError};
use ktstr_snapshot::report::RenderedValue;
use ktstr_snapshot::snapshot::Snapshot;
use proptest::prelude::*;

/// The scheduler's counter when the guest was stopped.
const NR_DISPATCHED: u64 = 41_776;

fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| {
        Recording::unpack(
            include_bytes!("data/scx-ktstr-7.3.pages.z"),
            include_str!("data/scx-ktstr-7.3.kallsyms"),
            include_bytes!("data/scx-ktstr-7.3.btf.z"),
        )
    })
}

#[test]
fn globals_of_the_attached_scheduler() {
    let recording = recording();
    let report = recording.capture(&recording.image);
    let snapshot = Snapshot::new(&report);
    assert_eq!(report.maps_unavailable, None);
    assert_eq!(report.active_unavailable, None);
    assert_eq!(report.active_obj_name.as_deref(), Some("bpf_bpf"));
    assert_eq!(snapshot.var("nr_dispatched").as_u64(), Ok(NR_DISPATCHED));
    assert_eq!(
        snapshot.live_var("nr_dispatched").as_u64(),
        Ok(NR_DISPATCHED)
    );
    assert_eq!(
        snapshot.var("stats_magic").as_u64(),
        Ok(0x5354_4154_7374_6174)
    );
    assert_eq!(snapshot.var("stall").as_bool(), Ok(false));
    let bss = snapshot.active().unwrap().map("bpf_bpf.bss").unwrap();
    assert_eq!(bss.at(0).get("nr_dispatched").as_u64(), Ok(NR_DISPATCHED));
    let plain = snapshot.active().unwrap().map("plain_array").unwrap_err();
    assert!(
        plain
            .to_string()
            .contains("not in the maps of the attached scheduler")
    );
}

#[test]
fn maps_of_every_plain_kind() {
    let recording = recording();
    let report = recording.capture(&recording.image);
    let snapshot = Snapshot::new(&report);
    let hex = |value: Option<&RenderedValue>| match value {
        Some(RenderedValue::Bytes { hex, .. }) => hex.clone(),
        other => panic!("expected bytes, found {other:?}"),
    };
    let array = snapshot.map("plain_array").unwrap();
    assert_eq!(array.len(), 5);
    // Each element has two u64: 100 plus its index, and all ones minus its index.
    assert_eq!(
        hex(array.at(3).get("").raw()),
        "6700000000000000fcffffffffffffff"
    );
    let hash = snapshot.map("plain_hash").unwrap().raw();
    let mut pairs: Vec<(String, String)> = hash
        .entries
        .iter()
        .map(|entry| (entry.key_hex.clone(), hex(entry.value.as_ref())))
        .collect();
    pairs.sort();
    assert_eq!(pairs.len(), 20);
    assert_eq!(
        pairs[2],
        ("06000000".to_owned(), "ea03000000000000".to_owned())
    );
    let percpu = snapshot.map("plain_pcpu").unwrap();
    assert_eq!(hex(percpu.cpu(1).at(1).get("").raw()), "2c00000000000000");
    assert_eq!(hex(percpu.cpu(0).at(0).get("").raw()), "0b00000000000000");
    let lru = snapshot.map("plain_lru").unwrap().raw();
    assert_eq!(hex(lru.entries[0].value.as_ref()), "4d00000000000000");
    let entry = &snapshot
        .map("plain_phash")
        .unwrap()
        .raw()
        .percpu_hash_entries[0];
    assert_eq!(entry.key_hex, "09000000");
    assert_eq!(hex(entry.per_cpu[1].as_ref()), "0600000000000000");
    let ring = snapshot.map("plain_ring").unwrap().ringbuf().unwrap();
    assert_eq!((ring.size, ring.producer_pos), (4096, 0));
}

#[test]
fn the_schedulers_callbacks_are_known() {
    let recording = recording();
    let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf).unwrap();
    assert_eq!(view.scx_implements("enqueue"), Some(true));
    assert_eq!(view.scx_implements("cgroup_set_weight"), Some(false));
    assert_eq!(view.scx_implements("name_of_no_callback"), None);
}

#[test]
fn kernel_state_is_captured() {
    let recording = recording();
    let report = recording.capture(&recording.image);
    let snapshot = Snapshot::new(&report);
    let state = snapshot.scx_sched_state().unwrap();
    assert_eq!(state.enable_state, "enabled");
    assert_eq!(state.ops_name.as_deref(), Some("ktstr"));
    assert_eq!(state.exit_kind_name.as_deref(), Some("SCX_EXIT_NONE"));
    assert_eq!((state.aborting, state.bypass_depth), (Some(false), Some(0)));
    // 5000 jiffies are 20 s at 250 Hz.
    assert_eq!(state.watchdog_timeout, Some(5000));
    let rqs = snapshot.rq_scx_states();
    assert_eq!(rqs.len(), 2);
    let running: u32 = rqs.iter().map(|rq| rq.scx_nr_running).sum();
    assert!(running >= 2, "{rqs:?}");
    let spinning = |rq: &&_| {
        let rq: &ktstr_snapshot::report::RqScxState = rq;
        rq.curr_comm
            .as_deref()
            .is_some_and(|comm| comm.starts_with("spin"))
    };
    assert!(rqs.iter().any(|rq| spinning(&rq)), "{rqs:?}");
    assert!(snapshot.dsq_states().iter().any(|dsq| dsq.origin == "user"));
    let tasks = snapshot.task_enrichments();
    for name in ["swapper/0", "init", "spin0", "spin1", "spin2"] {
        assert!(tasks.iter().any(|task| task.comm == name), "no {name}");
    }
    assert_eq!(snapshot.task_enrichment_by_pid(1).unwrap().comm, "init");
    assert_eq!(snapshot.per_cpu_time().len(), 2);
    assert!(snapshot.per_cpu_time_at(1).unwrap().cpustat.user_ns > 0);
    assert_eq!(snapshot.event_counter_timeline().len(), 1);
    assert!(
        snapshot
            .prog_runtime_stats_by_name("ktstr_dispatch")
            .is_some()
    );
    let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf).unwrap();
    assert!(view.page_table().la57);
    // The number is `INITIAL_JIFFIES` at 250 Hz, the value with which the counter starts.
    assert!(view.jiffies().unwrap() > 4_294_892_296);
}

/// If a page cannot be read, only the data on it is missing, and the report says so.
#[test]
fn a_missing_page_is_named_in_the_report() {
    let recording = recording();
    let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf).unwrap();
    let map_idr = view.translate(view.symbol("map_idr").unwrap()).unwrap();
    let mut image = recording.image.clone();
    image.0.remove(&(map_idr & !0xfff));
    let report = recording.capture(&image);
    let reason = report.maps_unavailable.unwrap();
    assert!(reason.contains("does not hold this page"), "{reason}");
    assert!(report.maps.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Damage anywhere leads to a report of bounded size in bounded time.
    #[test]
    fn any_damage_ends_in_a_report(
        hits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..512, prop::sample::select(vec![
                0, 1, 2, u64::MAX, 0xffff_ffff, 1 << 31, 0xffff_8880_0000_0002, 0x7fff_ffff_ffff_ffff,
            ]), any::<bool>()),
            1..200,
        ),
        noise in any::<u64>(),
    ) {
        let recording = recording();
        let mut image = recording.image.clone();
        let mut pages: Vec<u64> = image.0.keys().copied().collect();
        pages.sort_unstable();
        let copies: Vec<u64> = image.0[&pages[pages.len() / 2]]
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        for (page, word, value, copied) in hits {
            let value = if copied { copies[word] ^ (noise & 0xff) } else { value };
            let page = image.0.get_mut(page.get(&pages)).unwrap();
            page[8 * word..8 * word + 8].copy_from_slice(&value.to_le_bytes());
        }
        let start = std::time::Instant::now();
        let report = recording.capture(&image);
        prop_assert!(start.elapsed().as_secs() < 20);
        prop_assert!(serde_json::to_string(&report).unwrap().len() < 64 << 20);
        let _ = Snapshot::new(&report).var("nr_dispatched").as_u64();
    }
}

mod sampling {
    use std::cell::Cell;

    use ktstr_introspect::sampler::{ExitReader, Sample, SampleError, Sampler};

    use super::*;

    /// The image of a running guest: every other read of a runqueue finds one more task in the queue, until `calm` reads
    /// have been made.
    struct Running<'a> {
        image: &'a Image,
        reads: Cell<usize>,
        calm: Cell<usize>,
    }

    /// A read of more bytes than this is taken for a read of a runqueue. Other reads have at most a page.
    const RQ_BYTES: usize = 4096;

    impl GuestMemory for Running<'_> {
        fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
            let mut done = 0;
            while done < buf.len() {
                let at = gpa + done as u64;
                let here = (4096 - at as usize % 4096).min(buf.len() - done);
                self.image.read(at, &mut buf[done..done + here])?;
                done += here;
            }
            if buf.len() > RQ_BYTES {
                let reads = self.reads.replace(self.reads.get() + 1);
                if reads < self.calm.get() {
                    // `rq.nr_running` comes first in this kernel.
                    buf[0] = buf[0].wrapping_add((reads % 2) as u8);
                }
            }
            Ok(())
        }
    }

    fn sampled(calm: usize, running: bool) -> Result<Sample, SampleError> {
        let recording = recording();
        let guest = Running {
            image: &recording.image,
            reads: Cell::new(0),
            calm: Cell::new(0),
        };
        let view = KernelView::new(&guest, &recording.symbols, &recording.btf).unwrap();
        let mut sampler = Sampler::new(&view).unwrap();
        assert_eq!(guest.reads.get(), 0, "the layout is read page by page");
        guest.calm.set(calm);
        let sample = sampler.sample(&guest, running);
        assert!(guest.reads.get() >= 2, "each of the two runqueues is read");
        sample
    }

    #[test]
    fn runqueues_of_a_stopped_guest() {
        let sample = sampled(0, false).unwrap();
        assert_eq!(sample.scx_attached, Some(true));
        assert_eq!(sample.cpus.len(), 2);
        let report = recording().capture(&recording().image);
        let counters = &report.event_counter_timeline[0].counters;
        let mut keep_last = 0;
        for (cpu, rq) in sample.cpus.iter().zip(&report.rq_scx_states) {
            assert_eq!(cpu.nr_running, rq.nr_running);
            assert_eq!(cpu.scx_nr_running, rq.scx_nr_running);
            assert_eq!(cpu.rq_clock, rq.rq_clock);
            assert_eq!(cpu.nr_switches, rq.nr_switches);
            assert_eq!(cpu.idle, rq.curr_pid == Some(0));
            let waiting = cpu.waiting.as_ref().unwrap();
            assert_eq!(waiting.len() as u32, cpu.nr_running - 1);
            for task in waiting {
                assert!(task.may_run_on(0) && task.may_run_on(1) && !task.may_run_on(2));
                assert!(task.pid > 0 && !task.comm.is_empty() && task.ran_ns > 0);
            }
            keep_last += cpu.event_counters.as_ref().unwrap().dispatch_keep_last;
            assert!(cpu.schedstat.unwrap().pcount > 0);
        }
        assert_eq!(keep_last, counters.dispatch_keep_last);
    }

    #[test]
    fn a_runqueue_that_changes_meanwhile_is_read_again_or_torn() {
        // An attempt takes two readings. No runqueue changes from the third reading on, so the second attempt succeeds.
        let calm = sampled(2, true).unwrap();
        assert_eq!(calm, sampled(0, false).unwrap());
        assert!(sampled(6, true).is_ok() && sampled(8, true).is_err());
        let torn = sampled(usize::MAX, true).unwrap_err();
        assert_eq!(torn.to_string(), "cpu0: the queue changed, in attempt 4");
        // If the caller says that the guest is stopped, there is only one reading.
        assert!(sampled(usize::MAX, false).is_ok());
    }

    proptest! {
        #[test]
        fn damaged_pages_do_not_cause_a_panic(damage in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..4096, any::<u8>()), 1..200,
        ), running in any::<bool>()) {
            let recording = recording();
            let mut image = recording.image.clone();
            let mut pages: Vec<u64> = image.0.keys().copied().collect();
            pages.sort_unstable();
            for (page, at, byte) in &damage {
                image.0.get_mut(page.get(&pages)).unwrap()[*at] = *byte;
            }
            let guest = Running { image: &image, reads: Cell::new(0), calm: Cell::new(0) };
            if let Ok(view) = KernelView::new(&guest, &recording.symbols, &recording.btf) {
                if let Ok(mut sampler) = Sampler::new(&view) {
                    let _ = sampler.sample(&guest, running);
                }
                if let Ok(mut exit) = ExitReader::new(&view) {
                    for _ in 0..2 {
                        let _ = exit.look(&guest, &recording.btf, &recording.symbols);
                    }
                }
            }
        }
    }
}
