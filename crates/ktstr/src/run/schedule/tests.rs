//! Observations contain registers and memory of the guest, so a hostile guest can put any values into them. These tests check
//! that any observations become a schedule that can be read, and that the queries on such a schedule end.
#![allow(clippy::unwrap_used)]

use ktstr_record::FindingRecord;
use ktstr_schedule::Schedule;
use ktstr_schedule::query::Answers;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::run::Evidence;

/// Generates observations of any kind. Most numbers are small, so that tasks, CPUs and cgroups occur more than once.
fn observation() -> impl Strategy<Value = Observation> {
    let word = || {
        prop_oneof![
            6 => 0_u64..6,
            1 => any::<u64>(),
            1 => Just(u64::MAX),
            1 => Just(1 << 63),
        ]
    };
    let words = [word(), word(), word(), word(), word(), word()];
    let clock = prop_oneof![8 => 0_u64..10_000_000_000, 1 => any::<u64>()];
    let number = || prop_oneof![8 => 0_u32..4, 1 => any::<u32>()];
    (
        // The kinds of the enqueue and dequeue functions begin at 32, and those of the table in points.rs at 64.
        prop::option::weighted(0.7, prop_oneof![32_u32..64, 64_u32..96, any::<u32>()]),
        clock,
        number(),
        number(),
        prop::bool::weighted(0.05),
        words,
    )
        .prop_map(
            |(kind, clock_ns, cpu, current, partial, words)| Observation {
                kind,
                clock_ns,
                cpu,
                current,
                partial,
                words,
            },
        )
}

/// Generates findings with any numbers about any task.
fn finding() -> impl Strategy<Value = FindingRecord> {
    (0_u32..5, any::<u64>(), 0_u64..20_000, any::<bool>()).prop_map(|(pid, at, length, gap)| {
        let data = match gap {
            true => json!({ "gap": { "tid": pid, "at_ms": at, "gap_ms": length } }),
            false => json!({ "starved": { "task": format!("x[{pid}]"), "from_ms": length, "waited_ms": at } }),
        };
        FindingRecord {
            outcome: "fail".to_owned(),
            phase: Some("Step[0]".to_owned()),
            data,
            ..FindingRecord::default()
        }
    })
}

proptest! {
    #[test]
    fn any_observations_are_a_schedule_that_can_be_read(
        seen in prop::collection::vec((observation(), prop::bool::weighted(0.02)), 0..400),
        findings in prop::collection::vec(finding(), 0..3),
    ) {
        let mut recorder = Recorder::default();
        let mut number = 0;
        for (seen, is_step) in &seen {
            recorder.observe(seen);
            if *is_step {
                number += 1;
                recorder.note(What::Phase { number });
            }
        }
        let count = seen.len();
        let file = recorder.finish();
        let schedule = Schedule::read(&file).unwrap();
        // A fork is two events, and a step is one.
        prop_assert!(schedule.events().unwrap().len() <= 3 * count);
        Answers::of(&schedule).unwrap();
        let evidence = Evidence::of(&findings, &file, "/ktstr", Some(5)).unwrap();
        prop_assert!(evidence.trail.len() <= 10, "{:?}", evidence.trail);
        prop_assert!(evidence.times(16).is_sorted());
    }
}
