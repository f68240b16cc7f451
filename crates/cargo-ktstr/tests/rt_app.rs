//! Tests of `cargo ktstr run` with a workload file of rt-app. The exact schedule of the run shows that each thread did what its
//! events say, and nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use common::text;
use ktstr_record::RunVerdict;
use ktstr_schedule::{Event, Pid, Reason, SCHEDULE_FILE, Schedule, What};

/// The example of the guide: a thread that uses a fifth of a CPU, a thread that wakes another one every 50 ms, and a thread
/// that nobody resumes.
const FILE: &str = include_str!("../../../docs/guide/rt-app.json");

/// Runs `cargo ktstr run` with these arguments in a folder that has this file as `file.json`.
fn run(root: &Path, file: &str, words: &[&str]) -> Output {
    std::fs::write(root.join("file.json"), file).unwrap();
    common::run(root, words)
}

/// What a thread did between a wake-up and its next sleep.
#[derive(Debug)]
struct Turn {
    /// The task that woke it; if an interrupt woke it, the task that was interrupted.
    waker: Pid,
    /// Whether an interrupt woke it.
    interrupt: bool,
    woken_ns: u64,
    slept_ns: u64,
    /// How long it ran on a CPU.
    ran_ns: u64,
}

/// Returns the turns of a thread in their order. A turn that is not over when the run ends is left out.
fn turns(events: &[Event], of: Pid) -> Vec<Turn> {
    let mut all = Vec::new();
    let mut open: Option<Turn> = None;
    let mut on_since = None;
    for event in events {
        match event.what {
            What::Wake {
                task,
                waker,
                interrupt,
            } if task == of && open.is_none() => {
                open = Some(Turn {
                    waker,
                    interrupt,
                    woken_ns: event.time_ns,
                    slept_ns: 0,
                    ran_ns: 0,
                });
            }
            // A wake-up alone does not update the runqueue's clock, so the time of the enqueue is more exact.
            What::Enqueue {
                task, wakeup: true, ..
            } if task == of => {
                if let Some(turn) = &mut open {
                    turn.woken_ns = event.time_ns;
                }
            }
            What::Switch { next, .. } if next == of => on_since = Some(event.time_ns),
            What::Switch { prev, reason, .. } if prev == of => {
                let ran = on_since
                    .take()
                    .map_or(0, |since| event.time_ns.saturating_sub(since));
                if let Some(turn) = &mut open {
                    turn.ran_ns += ran;
                    turn.slept_ns = event.time_ns;
                }
                if matches!(reason, Reason::Slept | Reason::Exited) {
                    all.extend(open.take());
                }
            }
            _ => {}
        }
    }
    all
}

#[test]
fn threads_do_what_their_events_say() {
    let root = tempfile::tempdir().unwrap();
    let output = run(root.path(), FILE, &["file.json", "--seed", "3"]);
    let printed = text(&output);
    println!("{printed}");
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let note = "note: file.json: line 29, `global.calibration`: it has no effect: `run` is an amount of CPU time, which needs no calibration";
    assert!(printed.contains(note), "{printed}");
    assert!(
        printed.contains("Running file.json: 3s of guest time under "),
        "{printed}"
    );
    let left = ktstr_record::list(&root.path().join("ktstr"), None).unwrap();
    let [left] = left.records.as_slice() else {
        panic!("{} records", left.records.len())
    };
    assert_eq!(left.record.verdict, RunVerdict::Pass);
    assert_eq!(
        left.record.again.as_deref(),
        Some("cargo ktstr run file.json --seed 3")
    );

    let file = std::fs::read(left.path.with_file_name(SCHEDULE_FILE)).unwrap();
    let schedule = Schedule::read(&file).unwrap();
    let names = &schedule.tables().names;
    let events = schedule.events().unwrap();
    let named: BTreeMap<&str, Pid> = events
        .iter()
        .filter_map(|event| match event.what {
            What::Name { task, name } => Some((names.get(name as usize)?.as_str(), task)),
            _ => None,
        })
        .collect();
    let of = |name: &str| turns(&events, named[name]);

    // `light` uses 20 ms of CPU time and then sleeps for 80 ms, about 30 times in 3 s.
    let light = of("light");
    let bursts: Vec<&Turn> = light
        .iter()
        .filter(|turn| turn.ran_ns > 1_000_000)
        .collect();
    assert!((27..=30).contains(&bursts.len()), "{bursts:?}");
    for turn in &bursts {
        assert!((20_000_000..20_600_000).contains(&turn.ran_ns), "{turn:?}");
    }
    // The sleep after the last burst is not compared, because the end of the run cuts it short.
    for pair in bursts.windows(2) {
        let slept = pair[1].woken_ns - pair[0].slept_ns;
        assert!((79_900_000..80_300_000).contains(&slept), "{pair:?}");
    }

    // `waiter` runs when `caller` has signalled the condition, and at no other time.
    let waiter = of("waiter");
    let bursts = waiter.iter().filter(|turn| turn.ran_ns > 1_000_000);
    let bursts: Vec<&Turn> = bursts.collect();
    // The first turn begins with the release of all threads, and the end of the run may cut the last turn short.
    let bursts = &bursts[1..bursts.len() - 1];
    assert!((55..=60).contains(&bursts.len()), "{bursts:?}");
    for turn in bursts {
        assert!(turn.waker == named["caller"] && !turn.interrupt, "{turn:?}");
        assert!((5_000_000..5_600_000).contains(&turn.ran_ns), "{turn:?}");
    }
    // The caller's timer does not drift: on average, its period is 50 ms.
    let periods =
        (bursts.last().unwrap().woken_ns - bursts[0].woken_ns) / (bursts.len() as u64 - 1);
    assert!((49_900_000..50_100_000).contains(&periods), "{periods}");

    // Nobody resumes `never`. It only waits for three seconds, which must not count as a stall.
    let never: u64 = of("never").iter().map(|turn| turn.ran_ns).sum();
    assert!(never < 5_000_000, "{never} ns");
}

#[test]
fn the_guide_shows_the_file() {
    let page = include_str!("../../../docs/guide/rt-app.md");
    assert!(
        page.contains(FILE),
        "docs/guide/rt-app.md does not show docs/guide/rt-app.json as it is"
    );
    // The page names all of these events and keys.
    let keys = "run runtime sleep timer lock unlock wait signal broad sync barrier suspend resume sem_post sem_wait yield fork \
                mem memrun iorun calibration lock_pages logdir log_basename log_size gnuplot ftrace cumulative_slack io_device \
                mem_buffer_size util_min util_max nodes_membind taskgroup instance delay loop";
    for key in keys.split_whitespace() {
        assert!(
            page.contains(&format!("`{key}`")),
            "{key} is not on the page"
        );
    }
}

#[test]
fn a_file_for_rt_app_that_cannot_be_run_is_refused_before_a_machine_boots() {
    let root = tempfile::tempdir().unwrap();
    let pinned = "{ \"tasks\" : { \"t\" : { \"run\" : 1, \"cpus\" : [ 5 ] } } }";
    for (file, words, wanted) in [
        (
            "{ \"tasks\" : { \"t\" : {\n\"runs_\" : 1,\n\"exec\" : 1 } } }",
            &["file.json"][..],
            "error: file.json: line 3, `tasks.t.exec`: unknown key \"exec\": ",
        ),
        (
            "{ \"tasks\" : {\n\"t\" : { \"run\" : 1 }\n\"u\" : { \"run\" : 1 } } }",
            &["file.json"],
            "error: file.json: line 3, `tasks.t`: found '\"', expected a comma or '}'",
        ),
        (
            pinned,
            &["file.json", "--topology", "1n1l2c1t"],
            "error: file.json: in its TOML form, which `--print` shows: line ",
        ),
        (
            "{}",
            &["other.conf", "--rt-app"],
            "error: other.conf: line 1, `tasks`: there are no tasks",
        ),
    ] {
        std::fs::write(root.path().join("other.conf"), file).unwrap();
        let output = run(root.path(), file, words);
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains(wanted), "{printed}");
        assert!(!printed.contains("Running"), "{printed}");
    }
    assert!(
        !root.path().join("ktstr").exists(),
        "a refused file was run"
    );
    // `--print` shows the scenario in TOML, with a machine that has all CPUs which the file names.
    let output = run(root.path(), pinned, &["file.json", "--print"]);
    let toml = String::from_utf8(output.stdout).unwrap();
    assert!(
        toml.contains("cores = 6") && toml.contains("[[cgroup]]"),
        "{toml}"
    );
    std::fs::write(root.path().join("other.toml"), &toml).unwrap();
    let again = run(root.path(), "", &["other.toml", "--print"]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), toml);
}
