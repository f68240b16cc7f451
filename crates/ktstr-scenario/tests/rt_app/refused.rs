//! Tests of rt-app files that cannot be run: each error names the line, and says what is expected or what to do.

use ktstr_scenario::text::Scenario;
use proptest::prelude::*;

fn error(text: &str) -> String {
    let refused = Scenario::from_rt_app(text);
    refused.expect_err(text).to_string()
}

/// Returns the error for a task with these keys, which begin in line 2.
fn of_task(keys: &str) -> String {
    error(&format!("{{ \"tasks\" : {{ \"t\" : {{\n{keys}\n}} }} }}"))
}

#[test]
fn what_is_not_known_is_named() {
    insta::assert_snapshot!(error("{\n\"task\" : {} }"), @r#"line 2, `task`: unknown key "task": did you mean "tasks"? The known ones are: global, tasks, resources"#);
    insta::assert_snapshot!(of_task("\"run\" : 1,\n\"slep\" : 2"), @r#"line 3, `tasks.t.slep`: unknown key "slep": did you mean "sleep"? The known ones are: loop, taskgroup, nodes_membind, util_min, util_max, policy, priority, dl-runtime, dl-period, dl-deadline, cpus, instance, delay, phases, period, deadline, run, runtime, sleep, timer, lock, unlock, wait, signal, broad, sync, barrier, suspend, resume, sem_post, sem_wait, yield, fork, mem, memrun, iorun"#);
    insta::assert_snapshot!(of_task("\"run\" : 1, \"policy\" :\n\"SCHED_FIF0\""), @r#"line 2, `tasks.t.policy`: unknown policy "SCHED_FIF0": did you mean "SCHED_FIFO"? The known ones are: SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_RR, SCHED_FIFO, SCHED_DEADLINE"#);
    let global =
        error("{ \"tasks\" : { \"t\" : { \"run\" : 1 } }, \"global\" : {\n\"durations\" : 1 } }");
    assert!(
        global.starts_with(
            "line 2, `global.durations`: unknown key \"durations\": did you mean \"duration\"?"
        ),
        "{global}"
    );
    let phase = of_task("\"phases\" : { \"p\" : {\n\"run\" : 1,\n\"instance\" : 2 } }");
    assert!(
        phase.starts_with("line 4, `tasks.t.phases.p.instance`: unknown key"),
        "{phase}"
    );
    let timer = of_task("\"timer\" : { \"period\" : 1,\n\"mod\" : \"absolute\" }");
    assert!(
        timer.starts_with(
            "line 3, `tasks.t.timer.mod`: unknown key \"mod\": did you mean \"mode\"?"
        ),
        "{timer}"
    );
}

#[test]
fn what_cannot_be_done_is_named() {
    insta::assert_snapshot!(of_task("\"run\" : 1,\n\"fork\" : \"other\""), @r#"line 3, `tasks.t.fork`: ktstr starts all threads when the scenario starts, and an event cannot start one: give "instance" and "delay" to the task that the event names"#);
    insta::assert_snapshot!(of_task("\"memrun_a\" : { \"type\" : \"read\" }"), @"line 2, `tasks.t.memrun_a`: ktstr has no events that access memory or files: leave it out, or add workers of the work type cache_pressure or io_sync_write");
    insta::assert_snapshot!(of_task("\"util_min\" : 512, \"run\" : 1"), @"line 2, `tasks.t.util_min`: ktstr does not clamp the utilization of a thread: leave the key out, or clamp the utilization of a cgroup with the operations set_uclamp_min and set_uclamp_max");
    insta::assert_snapshot!(
        of_task("\"phases\" : {\n\"p\" : { \"run\" : 1, \"taskgroup\" : \"/a\" },\n\"q\" : { \"run\" : 1, \"taskgroup\" : \"/\" } }"),
        @r#"line 4, `tasks.t.phases.q.taskgroup`: the thread would move from task group "/a" to "/", but ktstr cannot move a single thread: split the task into one task for each group"#
    );
    insta::assert_snapshot!(
        error("{ \"tasks\" : { \"a\" : { \"taskgroup\" : \"/x\", \"run\" : 1 },\n\"b\" : { \"taskgroup\" : \"/x/y\", \"run\" : 1 } } }"),
        @r#"line 2, `tasks.b`: its task group "/x/y" is below "/x", which has tasks as well, and in cgroup v2 a group that has groups below it cannot have tasks: put the tasks of "/x" into a group of their own below it"#
    );
    for (keys, wanted) in [
        ("\"mem\" : 1", "no events that access memory or files"),
        ("\"iorun\" : 1", "no events that access memory or files"),
        (
            "\"taskgroup\" : \"/x\", \"policy\" : \"SCHED_FIFO\", \"run\" : 1",
            "can have a task group",
        ),
        (
            "\"phases\" : { \"p\" : { \"run\" : 1, \"nodes_membind\" : [0] } }",
            "move the key to the task",
        ),
        (
            "\"phases\" : { \"p\" : { \"run\" : 1 } }, \"run\" : 2",
            "put it into one of them",
        ),
    ] {
        let printed = of_task(keys);
        assert!(
            printed.starts_with("line 2") && printed.contains(wanted),
            "{printed}"
        );
    }
}

#[test]
fn impossible_values_are_named() {
    insta::assert_snapshot!(of_task("\"run\" : \"10ms\""), @r#"line 2, `tasks.t.run`: found "10ms", expected microseconds, a whole number from 0 to 4294967295"#);
    insta::assert_snapshot!(of_task("\"run\" : 1,\n\"loop\" : 0"), @"line 3, `tasks.t.loop`: found the number 0, expected a number of repetitions, at least 1, or -1 for no end");
    insta::assert_snapshot!(of_task("\"policy\" : \"SCHED_RR\", \"run\" : 1,\n\"priority\" : 100"), @"line 3, `tasks.t.priority`: found the number 100, expected a priority from 1 to 99 under this policy");
    insta::assert_snapshot!(of_task("\"policy\" : \"SCHED_DEADLINE\", \"run\" : 1,\n\"dl-runtime\" : 9, \"dl-period\" : 5"), @"line 3, `tasks.t.dl-runtime`: SCHED_DEADLINE needs 0 < runtime <= deadline <= period, got 9µs, 5µs, 5µs");
    insta::assert_snapshot!(of_task("\"run\" : 1,\n\"loop\" : 2,\n\"loop\" : 3"), @r#"line 4, `tasks.t.loop`: the key "loop" is given a second time, but only events, phases and tasks can be repeated: remove one of the two"#);
    for (keys, wanted) in [
        ("\"run\" : -1", "the number -1"),
        ("\"run\" : 1.5", "the number 1.5"),
        ("\"run\" : 4294967296", "expected microseconds"),
        ("\"loop\" : -2, \"run\" : 1", "a number of repetitions"),
        ("\"priority\" : 20, \"run\" : 1", "-20 to 19"),
        ("\"cpus\" : [], \"run\" : 1", "the list is empty"),
        ("\"cpus\" : [1024], \"run\" : 1", "0 to 1023"),
        ("\"instance\" : -1, \"run\" : 1", "0 to 4096"),
        ("\"timer\" : { \"ref\" : \"x\" }", "\"period\" is missing"),
        ("\"timer\" : { \"period\" : 0 }", "more than 0"),
        (
            "\"timer\" : { \"period\" : 1, \"mode\" : \"later\" }",
            "\"relative\" or \"absolute\"",
        ),
        ("\"wait\" : { \"ref\" : \"c\" }", "\"mutex\" is missing"),
        ("\"wait\" : \"c\"", "expected an object"),
        ("\"lock\" : \"\"", "a name in quotes"),
        ("\"resume\"", "a name in quotes"),
        ("\"taskgroup\" : \"x\", \"run\" : 1", "begins with"),
        ("\"taskgroup\" : \"/a/../b\", \"run\" : 1", "a/../b"),
        ("\"loop\" : 1", "there is no event here"),
        ("\"phases\" : {}", "there is no phase"),
        (
            "\"policy\" : \"SCHED_DEADLINE\", \"run\" : 1",
            "SCHED_DEADLINE needs",
        ),
        ("\"instance\" : 0, \"run\" : 1", "no task with an instance"),
    ] {
        let printed = of_task(keys);
        assert!(
            printed.starts_with("line ") && printed.contains(wanted),
            "{keys}: {printed}"
        );
    }
    assert!(error("{}").contains("there are no tasks"));
    assert!(error("{ \"tasks\" : {} }").contains("no task with an instance"));
    assert!(error("[]").contains("expected an object"));
    let global = |keys: &str| {
        error(&format!(
            "{{ \"tasks\" : {{ \"t\" : {{ \"run\" : 1 }} }}, \"global\" : {{ {keys} }} }}"
        ))
    };
    assert!(global("\"duration\" : \"2\"").contains("a whole number"));
    assert!(global("\"pi_enabled\" : 1").contains("true or false"));
    assert!(global("\"default_policy\" : \"OTHER\"").contains("SCHED_OTHER"));
}

/// Parts of files: keys, values and punctuation, some of which are not valid.
const PARTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\n",
    "\"tasks\"",
    "\"global\"",
    "\"phases\"",
    "\"run\"",
    "\"timer\"",
    "\"loop\"",
    "\"cpus\"",
    "\"policy\"",
    "\"SCHED_FIFO\"",
    "\"SCHED_DEADLINE\"",
    "\"dl-runtime\"",
    "\"priority\"",
    "\"taskgroup\"",
    "\"/x\"",
    "\"barrier\"",
    "\"wait\"",
    "\"ref\"",
    "\"mutex\"",
    "\"duration\"",
    "\"instance\"",
    "\"suspend\"",
    "-1",
    "0",
    "1",
    "99",
    "4294967296",
    "1.5",
    "true",
    "null",
    "/*",
    "*/",
    "//",
    "\"é",
    "\\",
];

/// A valid file with most features of the format.
const GOOD: &str = r#"{ "tasks" : { "a" : { "instance" : 2, "policy" : "SCHED_RR", "phases" : { "p" : { "loop" : 3, "run" : 10,
    "timer" : { "ref" : "unique", "period" : 100, "mode" : "absolute" } }, "q" : { "lock" : "m", "wait" : { "ref" : "c", "mutex" : "m" },
    "unlock" : "m", "cpus" : [0, 1] } } }, "b" : { "suspend", "run" : 1, "resume" : "a", "taskgroup" : "/x", "barrier" : "z" } },
    "global" : { "duration" : 2, "pi_enabled" : true, "calibration" : 90, } }"#;

proptest! {
    #[test]
    fn no_sequence_of_parts_panics(parts in prop::collection::vec(prop::sample::select(PARTS), 0..60)) {
        let _ = Scenario::from_rt_app(&parts.concat());
    }

    /// Replaces up to 11 bytes of a valid file by a part.
    #[test]
    fn no_damaged_file_panics(at in 0..GOOD.len(), length in 0..12usize, part in prop::sample::select(PARTS)) {
        let end = (at + length).min(GOOD.len());
        let text = format!("{}{part}{}", &GOOD[..at], &GOOD[end..]);
        match Scenario::from_rt_app(&text) {
            Ok(file) => prop_assert!(file.scenario.to_text().is_ok()),
            Err(error) => {
                prop_assert!((1..=1 + text.matches('\n').count()).contains(&error.line), "{error}\n{text}");
                prop_assert!(!error.message.is_empty());
            }
        }
    }
}

#[test]
fn the_good_file_is_good() {
    assert!(Scenario::from_rt_app(GOOD).is_ok(), "{}", error(GOOD));
}
