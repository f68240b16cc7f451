//! Tests of a section's JSON, of a report's list of unavailable sections, and of the text of the sections.

use super::*;

/// A report from the time when the Rust type had two fields for each section: the value, and the reason why it is missing.
/// The JSON still has both. The sections of this report are lists that are whole, incomplete, missing or empty, and a
/// missing value that is not a list.
const BEFORE: &str = concat!(
    r#"{"schema":"single","maps":[],"active_map_kvas":[],"active_unavailable":"maps were not asked for","#,
    r#""prog_runtime_stats":[{"name":"dispatch","id":7,"cnt":18446744073709551615,"nsecs":2,"misses":0,"verified_insns":9}],"#,
    r#""per_cpu_time":[],"per_cpu_time_unavailable":"no symbol","#,
    r#""cgroup_psi":[{"path":"/","lines":{"cpu.some":{"avg10":0.25,"total_us":3}}}],"cgroup_psi_unavailable":"cut","#,
    r#""cgroup_cpu":[],"per_node_numa":[],"#,
    r#""task_enrichments":[],"task_enrichments_unavailable":"not asked for","#,
    r#""event_counter_timeline":[],"event_counters_unavailable":"no scheduler is attached","#,
    r#""rq_scx_states":[],"dsq_states":[],"#,
    r#""scx_sched_state_unavailable":"no sched_ext","#,
    r#""maps_truncated":false,"is_placeholder":false}"#
);

fn parsed(json: &str) -> FailureDumpReport {
    serde_json::from_str(json).expect("a report")
}

#[test]
fn a_report_with_pairs_of_fields_is_read_and_written_as_before() {
    let report = parsed(BEFORE);
    assert_eq!(report.prog_runtime_stats[0].cnt, u64::MAX);
    assert_eq!(report.prog_runtime_stats.reason(), None);
    assert_eq!(report.per_cpu_time, Section::Missing("no symbol".into()));
    assert!(
        matches!(&report.cgroup_psi, Section::Part(groups, why) if groups.len() == 1 && why == "cut")
    );
    assert_eq!(report.cgroup_psi[0].lines["cpu.some"].avg10, 0.25);
    assert_eq!(report.cgroup_cpu, Section::Whole(Vec::new()));
    let counters = Snapshot::new(&report).event_counters_unavailable();
    assert_eq!(counters, Some("no scheduler is attached"));
    let state = Snapshot::new(&report).scx_sched_state();
    let error = state.expect_err("no state").to_string();
    assert!(error.contains("no sched_ext"), "{error}");
    let written = serde_json::to_string(&report).expect("JSON");
    let value: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    let before: serde_json::Value = serde_json::from_str(BEFORE).expect("JSON");
    let before = before.as_object().expect("an object");
    for (name, member) in value.as_object().expect("an object") {
        // A section that did not exist when that report was written is an empty list.
        assert_eq!(
            member,
            before.get(name).unwrap_or(&serde_json::json!([])),
            "{name}"
        );
    }
    let place = |json: &str, name: &String| json.find(&format!("\"{name}\":")).expect("a member");
    let sorted = |json| {
        let mut names: Vec<&String> = before.keys().collect();
        names.sort_by_key(|name| place(json, name));
        names
    };
    assert_eq!(sorted(&written), sorted(BEFORE));
    let back: FailureDumpReport = serde_json::from_value(value).expect("a report");
    assert_eq!(back, report);
}

#[test]
fn a_report_without_the_sections_is_read_as_the_default() {
    let report = parsed(r#"{"sdt_allocations": [], "scx_sched_state": null}"#);
    assert_eq!(report, FailureDumpReport::default());
    assert_eq!(report.scx_sched_state, Section::Absent);
    assert_eq!(report.unavailable().next(), None);
    let json = serde_json::to_string(&report).expect("JSON");
    assert_eq!(parsed(&json), report);
    assert!(json.contains(r#""dsq_states":[]"#), "{json}");
    assert!(!json.contains("scx_sched_state"), "{json}");
}

#[test]
fn a_section_of_the_wrong_type_is_refused() {
    let read = serde_json::from_str::<FailureDumpReport>(r#"{"per_cpu_time": 3}"#);
    let error = read.expect_err("no list").to_string();
    assert!(error.contains("invalid type: integer `3`"), "{error}");
}

#[test]
fn each_answer_of_a_reader_has_its_section() {
    type List = Section<Vec<PerNodeNumaStats>>;
    let one = || vec![PerNodeNumaStats::default()];
    let whole: Result<_, String> = Ok(one());
    assert_eq!(List::from(whole), Section::Whole(one()));
    let part: Result<_, String> = Ok((one(), Some("cut".to_owned())));
    assert_eq!(List::from(part), Section::Part(one(), "cut".into()));
    let nothing: Result<_, String> = Ok((Vec::new(), Some("cut".to_owned())));
    assert_eq!(List::from(nothing), Section::Missing("cut".into()));
    let failed: Result<Vec<_>, _> = Err("no symbol");
    assert_eq!(List::from(failed), Section::Missing("no symbol".into()));
    let unasked: Option<Result<Vec<_>, String>> = None;
    assert_eq!(
        List::from(unasked),
        Section::Missing("not asked for".into())
    );
}

#[test]
fn every_part_of_a_placeholder_has_the_reason() {
    let report = FailureDumpReport::placeholder("guest is gone");
    let parts: Vec<_> = report.unavailable().collect();
    assert_eq!(
        parts[..2].iter().map(|part| part.0).collect::<Vec<_>>(),
        ["maps", "active"]
    );
    assert!(
        parts.iter().any(|part| part.0 == "scx_sched_state"),
        "{parts:?}"
    );
    assert!(
        parts
            .iter()
            .all(|part| part.1 == "placeholder: guest is gone"),
        "{parts:?}"
    );
}

#[test]
fn the_text_says_what_is_missing() {
    let name: QueueName = |id, origin| format!("{origin} {id}");
    insta::assert_snapshot!(FailureDumpReport::default().sections_text(name), @r"
    sched_ext: unknown
    empty dispatch queues: 0
    ");
    let queue = DsqState {
        id: 4,
        nr: 1,
        origin: "user".into(),
        tasks_unavailable: Some("a list that is circular".into()),
        ..DsqState::default()
    };
    let report = FailureDumpReport {
        dsq_states: Section::Part(vec![queue], "no table".into()),
        rq_scx_states: vec![RqScxState::default()].into(),
        scx_sched_state: Section::Missing("no symbol".into()),
        ..FailureDumpReport::default()
    };
    insta::assert_snapshot!(report.sections_text(name), @r"
    sched_ext: no symbol
    CPU 0: runs unknown, 0 runnable
    user 4: 1 task
      other tasks are unknown: a list that is circular
    other dispatch queues are unknown: no table
    ");
}
