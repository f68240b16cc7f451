//! Messages between guest and host: JSON, and the plain format of the messages that a fork gets first.
#![no_main]

use std::sync::LazyLock;

use ktstr_assert::{AssertResult, Outcome, PassDetail};
use ktstr_fuzz::{Draw, bounded, damaged};
use ktstr_guest::protocol::{
    Answer, Ask, Job, ProcessEnd, SchedulerAnswer, SchedulerChange, SentSignal, Stream, ToGuest,
    ToHost, WorkerNumbers,
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Messages of many kinds to the host, to be damaged.
static MESSAGES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let result: AssertResult =
        serde_json::from_str(include_str!("../../crates/ktstr/tests/data/unfair.json"))
            .expect("a result");
    let mut passed = result.clone();
    passed.record_pass(PassDetail::default());
    passed.note("a note");
    passed.note_value("number", 0.5);
    let messages = [
        ToHost::Hello {
            topology: Ok("1n1l2c1t".to_owned()),
        },
        ToHost::SchedulerAttached {
            pid: 100,
            took_ns: 1 << 30,
        },
        ToHost::SchedulerDied {
            end: ProcessEnd::Signaled(9),
            signal: Some(SentSignal {
                signal: 9,
                sender: 7,
                comm: "kill".to_owned(),
            }),
        },
        ToHost::TestStarted { pid: 7 },
        ToHost::StepStart {
            step_index: 1,
            elapsed_ms: 2,
            op_count: 3,
            op_kinds: 4,
            cgroup_count: 5,
            worker_count: 6,
            total_iterations: 7,
        },
        ToHost::Output {
            stream: Stream::Stdout,
            text: "text".to_owned(),
        },
        ToHost::Ask {
            number: 1,
            ask: Ask::CgroupProcs {
                tag: "tag".to_owned(),
                cgroup: "cg_0".to_owned(),
                pids: vec![1, 2],
            },
        },
        ToHost::Workers(vec![WorkerNumbers {
            tid: 1,
            cpu_ns: 2,
            slack_ns: 3,
            runs: 4,
            migrations: 5,
        }]),
        ToHost::TestEnded {
            end: ProcessEnd::Exited(0),
            oom_killed: false,
        },
        ToHost::TestResult(Box::new(result)),
        ToHost::TestResult(Box::new(passed)),
    ];
    let mut all: Vec<Value> = messages
        .iter()
        .map(|message| serde_json::to_value(message).expect("plain data"))
        .collect();
    for target in [
        json!({"write_kernel": {"writes": [[{"symbol": "s"}, {"u64": 1}]], "cold": true}}),
        json!({"read_kernel": {"tag": "t", "target": {"symbol": "s"}, "width": "u64", "cold": false}}),
        json!({"capture": {"tag": "t", "step_index": 1}}),
        json!({"watch": {"symbol": "s"}}),
    ] {
        all.push(json!({"ask": {"number": 1, "ask": target}}));
    }
    all
});

/// Decodes a message as the host does, encodes it again, and produces the texts of a result in it.
fn to_host(bytes: &[u8]) {
    let Ok(mut message) = serde_json::from_slice::<ToHost>(bytes) else {
        return;
    };
    message.bound_texts();
    let encoded = message.encode();
    assert!(encoded.len() <= ktstr_mailbox::MAX_MESSAGE);
    let again: ToHost = serde_json::from_slice(&encoded).expect("what was encoded");
    assert_eq!(again.encode(), encoded);
    if let ToHost::TestResult(result) = message {
        shown(&result);
        let merged = AssertResult::all_of([(*result).clone(), AssertResult::pass()]);
        assert_eq!(merged.is_fail(), result.is_fail());
        shown(&merged);
        shown(&AssertResult::any_of([
            *result,
            AssertResult::fail_msg("no"),
        ]));
    }
}

/// Makes the texts of a result, as the report does.
fn shown(result: &AssertResult) {
    for outcome in &result.outcomes {
        if let Outcome::Fail(detail) | Outcome::Skip(detail) | Outcome::Inconclusive(detail) =
            outcome
        {
            let _ = (detail.display_with_kind(), detail.finding.to_string());
        }
    }
    let _ = result.outcome();
}

/// Decodes a message in each way in which the guest does, and checks that messages and jobs are unchanged when they are
/// encoded again.
fn to_guest(bytes: &[u8]) {
    if let Ok(message) = ToGuest::decode(bytes) {
        let encoded = message.encode().expect("plain data");
        let again = ToGuest::decode(&encoded).expect("what was encoded");
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
    }
    if let Some(job) = Job::decode(bytes) {
        assert_eq!(job.encode(), bytes);
    }
    let _ = serde_json::from_slice::<SchedulerChange>(bytes);
    let _ = serde_json::from_slice::<SchedulerAnswer>(bytes);
    let _ = serde_json::from_slice::<Answer>(bytes);
}

/// Draws a message or a job in the plain format, overwrites some of its bytes, and may cut off its end.
fn plain(draw: &mut Draw<'_>) -> Vec<u8> {
    let hits = draw.index(4);
    let damage = draw.bytes(3 * hits);
    let cut = draw.u8();
    let job = Job {
        test: draw.text(),
        env: (0..draw.u8() % 4)
            .map(|_| (draw.text(), draw.text()))
            .collect(),
        seed: draw.number(),
        variant: draw.number(),
        workload_root: draw.text(),
    };
    assert_eq!(Job::decode(&job.encode()).as_ref(), Some(&job));
    let message = match draw.u8() % 3 {
        0 => ToGuest::Refresh {
            realtime_ns: draw.flag().then(|| draw.u64() >> 1),
            entropy: draw.text().into_bytes(),
            last_pid: draw.u32(),
        },
        _ => ToGuest::Run {
            job: job.encode(),
            seed: draw.number(),
        },
    };
    let mut bytes = match draw.flag() {
        true => message.encode().expect("plain data"),
        false => job.encode(),
    };
    for hit in damage.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([hit[0], hit[1]])) % bytes.len();
        bytes[at] = hit[2];
    }
    // Half of the messages are not cut.
    bytes.truncate(bytes.len() - usize::from(cut.saturating_sub(128)).min(bytes.len()));
    bytes
}

fuzz_target!(|data: &[u8]| {
    bounded(|| {
        let mut draw = Draw::new(data);
        match draw.u8() % 8 {
            0 => to_host(draw.rest()),
            1 => to_guest(draw.rest()),
            2 | 3 => to_guest(&plain(&mut draw)),
            _ => {
                let message = &MESSAGES[draw.index(MESSAGES.len())];
                let bytes = damaged(message, &mut draw).to_string();
                to_host(bytes.as_bytes());
            }
        }
    });
});
