//! What a run leaves: `record.json`, `switches.bin`, the captures and the result, and what commands make of them.
#![no_main]

use std::sync::LazyLock;

use ktstr_assert::AssertResult;
use ktstr_fuzz::{Draw, Guest, bounded, damaged};
use ktstr_record::compare::{Run, compare, repeated};
use ktstr_record::{
    Accelerator, Clock, RunRecord, RunVerdict, Start, Switch, Switches, brief, markdown,
};
use ktstr_snapshot::report::FailureDumpReport;
use ktstr_snapshot::snapshot::{Snapshot, stats_path};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static RECORD: LazyLock<Value> = LazyLock::new(|| {
    let record = RunRecord {
        schema: ktstr_record::SCHEMA,
        run_id: "20260101T000000.000Z-test-7.0".to_owned(),
        test: "test".to_owned(),
        verdict: RunVerdict::Fail,
        reason: Some("a worker was stuck".to_owned()),
        fault: Some("scheduler".to_owned()),
        findings: vec![ktstr_record::FindingRecord {
            outcome: "fail".to_owned(),
            data: json!({"gap": {"tid": 1}}),
            ..Default::default()
        }],
        trail: vec!["+1.0 ms  got CPU 0".to_owned()],
        repeats: Some(ktstr_record::RepeatRecord::default()),
        accelerator: Some(Accelerator::Tcg),
        clock: Some(Clock::Virtual),
        seed: Some(7),
        digest: Some("00".to_owned()),
        switches: Some(ktstr_record::SwitchesRecord::default()),
        program: Some(ktstr_record::ProgramRecord::default()),
        scheduler: Some(ktstr_record::SchedulerRecord::default()),
        start: Some(Start::Booted),
        window_s: Some(2.0),
        boot_s: Some(0.5),
        freeze_ms: vec![1.5],
        payloads: vec![ktstr_record::PayloadRecord {
            metrics: vec![ktstr_record::PayloadMetricRecord::default()],
            ..Default::default()
        }],
        captures: vec![ktstr_record::CaptureRecord::default()],
        stats: json!({"cgroups": [{"workers": 1}]}),
        ..RunRecord::default()
    };
    serde_json::to_value(record).expect("plain data")
});
static RESULT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!(
        "../../crates/ktstr/tests/data/screens/stall.json"
    ))
    .expect("a result")
});
/// The capture of a recorded guest, with fewer entries in its lists: the whole capture has a hundred thousand values.
static CAPTURE: LazyLock<Value> = LazyLock::new(|| {
    let guest = Guest::busy();
    let mut report = guest.recording.capture(&guest.recording.image);
    if let Some(tasks) = report.task_enrichments.value_mut() {
        tasks.truncate(2);
    }
    report.maps.truncate(4);
    for map in &mut report.maps {
        map.entries.truncate(2);
    }
    serde_json::to_value(report).expect("plain data")
});

fn record(bytes: &[u8], switches: Option<Switches>) {
    let Ok(record) = serde_json::from_slice::<RunRecord>(bytes) else {
        return;
    };
    let encoded = serde_json::to_vec(&record).expect("plain data");
    let again: RunRecord = serde_json::from_slice(&encoded).expect("what was encoded");
    assert_eq!(again, record);
    let _ = (brief::headline(&record), brief::facts(&record));
    let _ = brief::evidence(&record);
    let again = brief::again(&record);
    let block = markdown::block(&record, again.as_deref(), None);
    assert!(block.len() < 64 * bytes.len() + 65_536, "{}", block.len());
    let left = Run { record, switches };
    let right = Run {
        record: serde_json::from_value(RECORD.clone()).expect("a record"),
        switches: Some(Switches::default()),
    };
    let _ = (compare(&left, &right), compare(&left, &left));
    let _ = (repeated(&left, &right), repeated(&right, &left));
}

fn result(bytes: &[u8]) {
    let Ok(result) = serde_json::from_slice::<AssertResult>(bytes) else {
        return;
    };
    let encoded = serde_json::to_vec(&result).expect("plain data");
    let again: AssertResult = serde_json::from_slice(&encoded).expect("what was encoded");
    let twice = serde_json::to_vec(&again).expect("plain data");
    assert_eq!(twice, encoded);
    for detail in result.failure_details().chain(result.skip_details()) {
        let _ = (detail.display_with_kind(), detail.finding.to_string());
    }
}

fn capture(bytes: &[u8]) {
    let Ok(report) = serde_json::from_slice::<FailureDumpReport>(bytes) else {
        return;
    };
    let snapshot = Snapshot::new(&report);
    for name in ["nr_dispatched", "stall", ""] {
        let field = snapshot.var(name);
        let _ = (
            field.as_u64(),
            field.as_i64(),
            field.as_f64(),
            field.as_bool(),
        );
        let _ = (field.as_str(), field.as_u64_array(), field.as_f64_array());
        let _ = (
            snapshot.live_var(name).as_u64(),
            snapshot.vars(name).count(),
        );
    }
    for map in &report.maps {
        let Ok(map) = snapshot.map(&map.name) else {
            continue;
        };
        for index in [0, 1, usize::MAX] {
            let entry = map.at(index);
            let _ = (entry.get("").as_u64(), entry.get("a.b").as_u64());
            let _ = (
                entry.cpu_sum_u64(""),
                entry.cpu_max_i64(""),
                entry.cpu_sum_i64(""),
            );
            let _ = (entry.cpu_sum_f64(""), entry.cpu_min_f64(""));
        }
        let _ = map.cpu(usize::MAX).at(0).get("").as_u64();
        let _ = (map.len(), map.iter().count(), map.ringbuf().is_some());
    }
    for cpu in [0, u32::MAX] {
        let _ = (
            snapshot.per_cpu_time_at(cpu).is_ok(),
            snapshot.per_node_numa_at(cpu).is_ok(),
        );
    }
}

fn switches(bytes: &[u8]) -> Option<Switches> {
    let switches = Switches::decode(bytes)?;
    assert_eq!(switches.encode(), bytes);
    Some(switches)
}

fn drawn_switches(draw: &mut Draw<'_>) -> Switches {
    let switch = |draw: &mut Draw<'_>| Switch {
        clock_ns: draw.number(),
        cpu: draw.number() as u32,
        prev: draw.number() as u32,
        next: draw.number() as u32,
    };
    Switches {
        count: draw.number(),
        first: (0..draw.u8() % 8).map(|_| switch(draw)).collect(),
    }
}

fuzz_target!(|data: &[u8]| {
    bounded(|| {
        let mut draw = Draw::new(data);
        match draw.u8() % 8 {
            0 => record(draw.rest(), None),
            1 => {
                let bytes = [b"KTSTRSW1", draw.rest()].concat();
                switches(&bytes);
            }
            2 => result(draw.rest()),
            3 => capture(draw.rest()),
            4 => result(damaged(&RESULT, &mut draw).to_string().as_bytes()),
            5 => capture(damaged(&CAPTURE, &mut draw).to_string().as_bytes()),
            6 => {
                let value: Value = damaged(&RESULT, &mut draw);
                for path in [
                    "stats.cgroups.0.workers",
                    "",
                    "outcomes.99999999999999999999",
                ] {
                    let field = stats_path(&value, path);
                    let _ = (
                        field.as_u64(),
                        field.as_f64_array(),
                        field.iter_members().count(),
                    );
                }
            }
            _ => {
                let drawn = drawn_switches(&mut draw);
                let read = switches(&drawn.encode());
                assert_eq!(read.as_ref(), Some(&drawn));
                let bytes = damaged(&RECORD, &mut draw).to_string();
                record(bytes.as_bytes(), read);
            }
        }
    });
});
