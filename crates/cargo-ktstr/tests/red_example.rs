//! Tests that the failed run in the README is what the README's example prints under a scheduler with a planted defect: the
//! same parts in the same order, whatever the schedule.
#![allow(clippy::unwrap_used)]

#[path = "readme_example.rs"]
mod example;

use ktstr::test_support::{ClockMode, KtstrTestEntry, find_test};

/// The path of the README, which is read at run time: if the binary contained the text, each edit of the README would change the
/// binary, and with it the run.
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
const DEFECT: &[&str] = &["--stall-after", "1"];

/// Runs the example's own entry under the defect as libtest does, in a thread that has the name of the test, and returns the
/// screen.
fn red() -> String {
    let entry: &'static KtstrTestEntry = Box::leak(Box::new(KtstrTestEntry {
        extra_sched_args: DEFECT,
        clock: ClockMode::Virtual,
        ..*find_test("fair").unwrap()
    }));
    let named = std::thread::Builder::new().name("example::fair".to_owned());
    let run = named
        .spawn(move || ktstr::run::run_and_repeat(entry).text)
        .unwrap();
    run.join().unwrap()
}

/// Replaces each path before `target/`, which differs from host to host, by `…`, as in the README.
fn marked(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((what @ ("record" | "record of the repeat" | "scheduler"), rest)) => {
            match rest.split_once("target/") {
                Some((_, path)) => format!("{what}: …/target/{path}"),
                None => line.to_owned(),
            }
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The beginnings of lines that every run of the example under the defect prints, in order.
const STARTS: &[&str] = &[
    "ktstr_test 'fair' [sched=scx-ktstr] [topo=1n1l2c1t] failed: the kernel ejected scx-ktstr, which ",
    "  the kernel ejected scheduler `scx-ktstr`: runnable task stall (",
    "  scheduler process died: the kernel has disabled the scheduler or is disabling it (the state of sched_ext is `",
    "  tid ",
    "  fault: the scheduler's (sched_ext reported SCX_EXIT_ERROR_STALL; detected in scx_",
    "cgroup ",
    "two ",
    "scheduler: …/target/debug/scx-ktstr (scx-ktstr 0.1.0, BLAKE3 ",
    "the repeat is identical to the first run, digest ",
    "capture chosen_time at ",
    "see: cargo ktstr show ",
    "record of the repeat: …/target/ktstr/",
    "record: …/target/ktstr/",
];
/// The beginnings of lines that are the same in every run, except for their numbers.
const WHOLE: &[&str] = &[
    "--- ",
    "last stage: ",
    "2 of 4 captures",
    "ktstr: ",
    "again: ",
];

/// Returns the parts of `text` that every run of the example under the defect prints. Which of the stalled tasks waited longest,
/// and so which task the kernel dumps first, depends on the schedule, which differs from build to build.
fn skeleton(text: &str) -> Vec<String> {
    let starts = |all: &[&str], line: &str| {
        let start = all.iter().find(|start| line.starts_with(**start))?;
        // A finding ends with its cgroup and step.
        let place = line.ends_with(']').then(|| line.rfind(" [")).flatten();
        let place = place.map_or_else(String::new, |at| masked(&line[at..]));
        Some(format!("{start}{place}"))
    };
    let of = |line: &str| {
        let whole = starts(WHOLE, line).map(|_| masked(line));
        whole.or_else(|| starts(STARTS, line))
    };
    let mut lines: Vec<_> = text.lines().filter_map(of).collect();
    lines.dedup();
    for start in [STARTS, WHOLE].concat() {
        let is_there = text.lines().any(|line| line.starts_with(start));
        assert!(is_there, "{start:?} is not in\n{text}");
    }
    lines
}

/// Replaces each number by `#`.
fn masked(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        match c.is_ascii_digit() {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.push(c),
        }
    }
    out
}

#[test]
fn the_red_run_in_the_readme_is_one() {
    let readme = std::fs::read_to_string(README).unwrap();
    let (_, shown) = readme.split_once("```\nktstr_test 'fair'").unwrap();
    let (shown, _) = shown.split_once("\n```").unwrap();
    let shown = format!("ktstr_test 'fair'{shown}");
    let printed = marked(&red());
    println!("{printed}");
    assert_eq!(
        skeleton(&printed),
        skeleton(&shown),
        "put this into README.md:\n{printed}\n"
    );
    assert!(printed.contains(" — the scheduler's fault.\n"), "{printed}");
}
