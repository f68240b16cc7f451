#![allow(clippy::unwrap_used)]
//! Tests of queries to hand-made reports.

use super::*;
use crate::report::*;

fn uint(value: u64) -> RenderedValue {
    RenderedValue::Uint { bits: 64, value }
}

fn member(name: &str, value: RenderedValue) -> RenderedMember {
    RenderedMember {
        name: name.into(),
        value,
    }
}

fn record(members: Vec<RenderedMember>) -> RenderedValue {
    RenderedValue::Struct {
        type_name: Some("t".into()),
        members,
    }
}

fn section(name: &str, kva: u64, variables: Vec<RenderedMember>) -> FailureDumpMap {
    FailureDumpMap {
        name: name.into(),
        map_kva: kva,
        map_type: "array".into(),
        value: Some(record(variables)),
        ..FailureDumpMap::default()
    }
}

/// Returns a report with two copies of one scheduler, of which the second is attached, and the map of another object. The maps
/// of the first copy are at the addresses 0x10 and 0x11, and those of the second copy at 0x20 and 0x21.
fn two_copies() -> FailureDumpReport {
    FailureDumpReport {
        maps: vec![
            section("bpf_bpf.bss", 0x10, vec![member("nr", uint(7))]),
            section("bpf_bpf.data", 0x11, vec![member("limit", uint(70))]),
            section("bpf_bpf.bss", 0x20, vec![member("nr", uint(3))]),
            section("bpf_bpf.data", 0x21, vec![member("limit", uint(30))]),
            section("other.bss", 0x30, vec![member("only_here", uint(1))]),
        ],
        active_obj_name: Some("bpf_bpf".into()),
        active_map_kvas: vec![0x20, 0x21],
        ..FailureDumpReport::default()
    }
}

#[test]
fn var_returns_the_only_copy_or_the_copy_of_the_attached_scheduler() {
    let report = two_copies();
    let snapshot = Snapshot::new(&report);
    assert_eq!(snapshot.var("only_here").as_u64(), Ok(1));
    assert_eq!(snapshot.var("nr").as_u64(), Ok(3));
    assert_eq!(snapshot.live_var("nr").as_u64(), Ok(3));
    assert_eq!(snapshot.vars("nr").count(), 2);
    assert_eq!(snapshot.map_count(), 5);
    assert_eq!(snapshot.active().unwrap().map_count(), 2);
}

#[test]
fn var_without_an_attached_scheduler_is_ambiguous() {
    let mut report = two_copies();
    report.active_obj_name = None;
    report.active_map_kvas.clear();
    let snapshot = Snapshot::new(&report);
    assert_eq!(
        snapshot.var("nr").as_u64().unwrap_err(),
        SnapshotError::AmbiguousVar {
            requested: "nr".into(),
            found_in: vec!["bpf_bpf.bss".into(), "bpf_bpf.bss".into()],
        }
    );
    assert!(matches!(
        snapshot.live_var("nr").error(),
        Some(SnapshotError::NoActiveScheduler { .. })
    ));
    // Both copies have the name of the attached object, so without addresses its variables stay ambiguous.
    report.active_obj_name = Some("bpf_bpf".into());
    let snapshot = Snapshot::new(&report);
    assert_eq!(snapshot.active().unwrap().map_count(), 4);
    assert!(matches!(
        snapshot.live_var("nr").error(),
        Some(SnapshotError::AmbiguousVar { .. })
    ));
}

#[test]
fn the_error_for_a_variable_of_another_object_names_its_map() {
    let report = two_copies();
    let error = Snapshot::new(&report)
        .live_var("only_here")
        .as_u64()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`only_here` is not in the maps of the attached scheduler `bpf_bpf`; other maps have it: other.bss"
    );
    let error = Snapshot::new(&report)
        .active()
        .unwrap()
        .map("other.bss")
        .unwrap_err();
    assert!(matches!(
        error,
        SnapshotError::ActiveFilterExcludedMaps { .. }
    ));
}

#[test]
fn pickers_choose_among_all_copies() {
    let report = two_copies();
    let snapshot = Snapshot::new(&report);
    let picked = snapshot.live_var_via("nr", pickers::max_by_counter_value);
    assert_eq!(picked.as_u64(), Ok(7));
    let both = snapshot.live_vars_via(&["nr", "limit"], pickers::max_by_sum_u64);
    assert_eq!(both[0].as_u64(), Ok(7));
    assert_eq!(both[1].as_u64(), Ok(70));
    let both = snapshot.live_vars_via(&["limit", "nr"], |copies| {
        assert_eq!(copies.len(), 2);
        assert_eq!(copies[1].0, "bpf_bpf.data");
        Some(1)
    });
    assert_eq!(both[0].as_u64(), Ok(30));
    assert_eq!(both[1].as_u64(), Ok(3));
    assert!(matches!(
        snapshot.live_var_via("nr", |_| None).error(),
        Some(SnapshotError::NoMatch { candidates: 2, .. })
    ));
    assert!(matches!(
        snapshot.live_var_via("nr", |_| Some(9)).error(),
        Some(SnapshotError::IndexOutOfRange {
            index: 9,
            len: 2,
            ..
        })
    ));
    assert!(matches!(
        snapshot.live_var_via("none", |_| Some(0)).error(),
        Some(SnapshotError::VarNotFound { .. })
    ));
}

#[test]
fn the_error_for_an_unknown_variable_lists_the_known_ones_or_the_unreadable_section() {
    let mut report = two_copies();
    report.maps.truncate(1);
    let error = Snapshot::new(&report).var("nope").as_u64().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no global variable `nope` in any .bss, .data or .rodata map; variables: bpf_bpf.bss:nr"
    );
    report.maps[0].error = Some("page not present".into());
    report.maps[0].value = None;
    let error = Snapshot::new(&report).var("nope").as_u64().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no global variable `nope` found, but not every section could be rendered: \
         bpf_bpf.bss: page not present"
    );
}

#[test]
fn every_query_of_a_placeholder_fails_with_its_reason() {
    let report = FailureDumpReport::placeholder("freeze timed out");
    let snapshot = Snapshot::new(&report);
    assert!(snapshot.is_placeholder());
    for error in [
        snapshot.var("x").as_u64().unwrap_err(),
        snapshot.map("x").unwrap_err(),
        snapshot.active().unwrap_err(),
        snapshot
            .live_var_via("x", |_| Some(0))
            .as_u64()
            .unwrap_err(),
    ] {
        assert!(
            matches!(&error, SnapshotError::PlaceholderSnapshot { reason, .. } if reason == "freeze timed out"),
            "{error}"
        );
    }
}

#[test]
fn paths_follow_pointers_and_errors_list_the_members() {
    let inner = record(vec![member(
        "depth",
        RenderedValue::Int {
            bits: 32,
            value: -4,
        },
    )]);
    let value = record(vec![
        member(
            "next",
            RenderedValue::Ptr {
                value: 0xffff_8880_0000_1000,
                deref: Some(Box::new(inner)),
                not_followed: None,
                target_type: Some("t".into()),
            },
        ),
        member(
            "slots",
            RenderedValue::Array {
                len: 2,
                elements: vec![uint(5), uint(6)],
            },
        ),
        member(
            "state",
            RenderedValue::Enum {
                bits: 32,
                signed: false,
                value: 2,
                variant: Some("RUNNING".into()),
            },
        ),
        member(
            "cut",
            RenderedValue::Truncated {
                needed: 24,
                had: 8,
                partial: Some(Box::new(RenderedValue::Array {
                    len: 3,
                    elements: vec![uint(5)],
                })),
            },
        ),
    ]);
    let field = SnapshotField::new("ctx", &value);
    assert_eq!(field.get("cut.0").as_u64(), Ok(5));
    assert!(matches!(
        field.get("cut.2").as_u64(),
        Err(SnapshotError::NoRendered { .. })
    ));
    assert!(matches!(
        field.get("cut.9").as_u64(),
        Err(SnapshotError::IndexOutOfRange { len: 3, .. })
    ));
    assert_eq!(field.get("next.depth").as_i64(), Ok(-4));
    assert_eq!(field.get("next").get("depth").as_i64(), Ok(-4));
    assert_eq!(field.get("slots.1").as_u64(), Ok(6));
    assert_eq!(field.get("slots").as_u32_array(), Ok(vec![5, 6]));
    assert_eq!(field.get("state").as_str(), Ok("RUNNING"));
    assert_eq!(field.get("state").as_u64(), Ok(2));
    let messages = [
        field.get("next.depth").as_u64().unwrap_err(),
        field.get("next.nope").as_u64().unwrap_err(),
        field.get("state.x").as_u64().unwrap_err(),
        field.get("slots.9").as_u64().unwrap_err(),
        field.get("a..b").as_u64().unwrap_err(),
    ]
    .map(|error| error.to_string());
    insta::assert_snapshot!(messages.join("\n"), @r"
    `ctx.next.depth` cannot be read as u64: it is i32 of value -4
    `ctx.next.nope`: no member `nope` in struct t; members: depth
    `ctx.state.x`: cannot look up `x` in enum of 32 bits
    `ctx.slots.9`: index 9 is out of range: there are 2 elements
    `ctx.a..b`: no member `a` in struct t; members: next, slots, state, cut
    ");
}

#[test]
fn a_pointer_gives_its_target_or_the_reason_why_there_is_none() {
    let pointer = |value, deref: Option<RenderedValue>, reason: Option<&str>| RenderedValue::Ptr {
        value,
        deref: deref.map(Box::new),
        not_followed: reason.map(str::to_owned),
        target_type: None,
    };
    let mask = RenderedValue::CpuList { cpus: "0-3".into() };
    let pair = RenderedValue::Array {
        len: 2,
        elements: vec![uint(5), uint(6)],
    };
    let value = record(vec![
        member("count", pointer(0x1000, Some(uint(7)), None)),
        member("mask", pointer(0x2000, Some(mask), None)),
        member("pair", pointer(0x3000, Some(pair), None)),
        member("bad", pointer(0x4000, None, Some("it is not mapped"))),
        member("none", pointer(0, None, None)),
        member("name", pointer(0x5000, None, None)),
    ]);
    let field = SnapshotField::new("ctx", &value);
    assert_eq!(field.get("count").as_u64(), Ok(0x1000));
    assert_eq!(field.get("count").target().as_u64(), Ok(7));
    assert_eq!(field.get("mask").as_str(), Ok("0-3"));
    assert_eq!(field.get("pair").as_u64_array(), Ok(vec![5, 6]));
    assert_eq!(field.get("pair.1").as_u64(), Ok(6));
    let messages = [
        field.get("bad.x").as_u64(),
        field.get("bad").target().as_u64(),
        field.get("none.x").as_u64(),
        field.get("name").target().as_u64(),
        field.get("pair.0").target().as_u64(),
        field.get("count").target().get("x").as_u64(),
    ]
    .map(|result| result.unwrap_err().to_string());
    insta::assert_snapshot!(messages.join("\n"), @r"
    `ctx.bad.x`: cannot look up `x` in a pointer that was not followed (it is not mapped)
    `ctx.bad` cannot be read as the target of a pointer: it is a pointer that was not followed (it is not mapped)
    `ctx.none.x`: cannot look up `x` in a NULL pointer
    `ctx.name` cannot be read as the target of a pointer: it is a pointer that was not followed
    `ctx.pair.0` cannot be read as the target of a pointer: it is u64 of value 5
    `*ctx.count.x`: cannot look up `x` in u64
    ");
}

#[test]
fn maps_give_entries_of_every_kind() {
    let report = FailureDumpReport {
        maps: vec![
            FailureDumpMap {
                name: "pcpu".into(),
                percpu_entries: vec![FailureDumpPercpuEntry {
                    key: 0,
                    per_cpu: vec![
                        Some(record(vec![member("n", uint(4))])),
                        Some(record(vec![member("n", uint(6))])),
                    ],
                }],
                ..FailureDumpMap::default()
            },
            FailureDumpMap {
                name: "tasks".into(),
                entries: vec![
                    FailureDumpEntry {
                        key: Some(uint(1)),
                        value: Some(record(vec![member("w", uint(10))])),
                        ..FailureDumpEntry::default()
                    },
                    FailureDumpEntry {
                        key: Some(uint(2)),
                        value: Some(record(vec![member("w", uint(30))])),
                        ..FailureDumpEntry::default()
                    },
                ],
                ..FailureDumpMap::default()
            },
        ],
        ..FailureDumpReport::default()
    };
    let snapshot = Snapshot::new(&report);
    let pcpu = snapshot.map("pcpu").unwrap();
    assert_eq!(pcpu.at(0).cpu_sum_u64("n"), Ok(10));
    assert_eq!(pcpu.at(0).cpu_max_u64("n"), Ok(6));
    assert_eq!(pcpu.at(0).cpu_min_f64("n"), Ok(4.0));
    assert_eq!(pcpu.cpu(1).at(0).get("n").as_u64(), Ok(6));
    assert_eq!(pcpu.at(0).key("").as_u64(), Ok(0));
    assert!(matches!(
        pcpu.at(0).get("n").error(),
        Some(SnapshotError::PerCpuNotNarrowed { cpus: 2, .. })
    ));
    assert!(matches!(
        pcpu.cpu(7).at(0).get("n").error(),
        Some(SnapshotError::PerCpuSlot { cpu: 7, .. })
    ));
    let tasks = snapshot.map("tasks").unwrap();
    let second = tasks.find(|entry| entry.key("").as_u64() == Ok(2));
    assert_eq!(second.get("w").as_u64(), Ok(30));
    assert!(matches!(
        tasks.cpu(1).at(0).get("w").as_u64(),
        Err(SnapshotError::TypeMismatch { .. })
    ));
    let heaviest = tasks.max_by(|entry| entry.get("w").as_u64().ok());
    assert_eq!(heaviest.key("").as_u64(), Ok(2));
    assert_eq!(tasks.filter(|e| e.get("w").as_u64() == Ok(10)).len(), 1);
    assert!(!tasks.find(|_| false).is_present());
    assert!(matches!(
        tasks.at(5),
        SnapshotEntry::Missing(SnapshotError::IndexOutOfRange {
            index: 5,
            len: 2,
            ..
        })
    ));
    assert_eq!(
        snapshot.map("nope").unwrap_err().to_string(),
        "no BPF map named `nope` in the capture; maps: pcpu, tasks"
    );
}
