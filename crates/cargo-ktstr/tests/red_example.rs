//! The red run that the README shows is what its own example prints under a scheduler with a planted
//! defect: the same lines, whatever the numbers in them.
#![allow(clippy::unwrap_used)]

#[path = "readme_example.rs"]
mod example;

use ktstr::test_support::{ClockMode, KtstrTestEntry, find_test};

/// Read when it runs: the text in the binary would make it another binary, and so another run.
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
const DEFECT: &[&str] = &["--stall-after", "1"];

/// The example's own entry under the defect, run as libtest runs it: in a thread of its name.
fn red() -> String {
    let entry: &'static KtstrTestEntry = Box::leak(Box::new(KtstrTestEntry {
        extra_sched_args: DEFECT,
        clock: ClockMode::Virtual,
        ..*find_test("fair").unwrap()
    }));
    let named = std::thread::Builder::new().name("example::fair".to_owned());
    let run = named.spawn(move || ktstr::run::run(entry).text).unwrap();
    run.join().unwrap()
}

/// The text with what differs from host to host cut off, as the README has it.
fn marked(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| match line.split_once("target/ktstr/") {
            Some((_, run)) => format!("record: …/target/ktstr/{run}"),
            None => line.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

/// Its lines with `#` for each number, in columns or not, and one name for all tasks: which of them
/// waited longest is a matter of instructions, which the next build has others of.
fn shape(text: &str) -> String {
    let is_task = |word: &str| word.starts_with("test-") || word.starts_with("init[");
    let text: String = text
        .replace("(n/a)", "0x0")
        .split_inclusive(|c: char| c.is_whitespace() || c == '(')
        .map(|word| match (is_task(word), word.split_once('[')) {
            (true, Some((_, pid))) => format!("task[{pid}"),
            _ => word.to_owned(),
        })
        .collect();
    let (before, rest) = text.split_once(" which gave ").unwrap();
    let (_, after) = rest.split_once(" no CPU for ").unwrap();
    let text = format!("{before} which gave # no CPU for {after}");
    let mut shape = String::new();
    let mut was = ' ';
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let end = word.chars().next_back().unwrap();
        let bare = word.trim_start_matches("cpu");
        let is_number = bare.starts_with(|c: char| c.is_ascii_digit());
        match (is_number, end.is_ascii_alphanumeric()) {
            (true, true) => shape.push('#'),
            (true, false) => shape.extend(['#', end]),
            (false, _) if word == " " && was == ' ' => {}
            (false, _) => shape.push_str(word),
        }
        was = end;
    }
    shape
}

#[test]
fn the_red_run_in_the_readme_is_one() {
    let readme = std::fs::read_to_string(README).unwrap();
    let (_, shown) = readme.split_once("```\nktstr_test 'fair'").unwrap();
    let (shown, _) = shown.split_once("\n```").unwrap();
    let shown = format!("ktstr_test 'fair'{shown}");
    let printed = marked(&red());
    assert_eq!(
        shape(&printed),
        shape(&shown),
        "put this into README.md:\n{printed}\n"
    );
    println!("{printed}");
}
