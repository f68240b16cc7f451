//! Tests of the queue: the sum does not exceed the limit, large claims are served, and dead processes make room.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;

use super::*;
use crate::Place;

const LIMIT: Limit = Limit::Sum(Weight {
    memory_mib: 1000,
    cores: 4,
});

fn weight(memory_mib: u64, cores: u32) -> Weight {
    Weight { memory_mib, cores }
}

fn queue(folder: &Path) -> Queue {
    Queue::new(Folder::private(folder, Place::MACHINES).unwrap())
}

/// Enters the queue in a thread, reports when the claim is served, and keeps the turn until the returned
/// sender is dropped.
fn enter(
    folder: &Path,
    name: &'static str,
    claim: Weight,
    served: mpsc::Sender<&'static str>,
) -> (mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let (release, released) = mpsc::channel::<()>();
    let queue = queue(folder);
    let thread = std::thread::spawn(move || {
        let turn = queue.enter(name, claim, LIMIT, |_| {}).unwrap();
        served.send(name).unwrap();
        let _ = released.recv();
        drop(turn);
    });
    (release, thread)
}

/// Waits until the folder holds `count` tickets.
fn wait_for(folder: &Path, count: usize) {
    let began = Instant::now();
    while tickets(folder).len() != count {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{:?}",
            tickets(folder)
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_claim_must_fit_by_memory_and_by_cores() {
    let running = [weight(400, 1), weight(200, 1)];
    assert!(LIMIT.allows(&running, weight(400, 2)));
    assert!(!LIMIT.allows(&running, weight(401, 1)), "too much memory");
    assert!(!LIMIT.allows(&running, weight(100, 3)), "too many cores");
    assert!(
        LIMIT.allows(&[], weight(5000, 64)),
        "a claim over the limit runs alone"
    );
    assert!(!LIMIT.allows(&[weight(5000, 64)], weight(1, 1)));
    assert!(!LIMIT.allows(&[weight(u64::MAX, u32::MAX)], weight(u64::MAX, u32::MAX)));
    assert!(Limit::Count(3).allows(&running, weight(5000, 64)));
    assert!(!Limit::Count(2).allows(&running, weight(1, 1)));
}

#[test]
fn a_stream_of_small_claims_does_not_starve_a_large_one() {
    let dir = tempfile::tempdir().unwrap();
    let (served, order) = mpsc::channel();
    let first = enter(dir.path(), "first", weight(400, 1), served.clone());
    assert_eq!(order.recv().unwrap(), "first");
    let large = enter(dir.path(), "large", weight(900, 4), served.clone());
    wait_for(dir.path(), 2);
    // The claims `small` and `tiny` would both fit next to the claim `first`, which still runs.
    let small = enter(dir.path(), "small", weight(100, 1), served.clone());
    wait_for(dir.path(), 3);
    let tiny = enter(dir.path(), "tiny", weight(50, 1), served);
    wait_for(dir.path(), 4);
    assert!(order.recv_timeout(Duration::from_millis(300)).is_err());
    drop(first.0);
    assert_eq!(order.recv().unwrap(), "large");
    assert!(order.recv_timeout(Duration::from_millis(200)).is_err());
    drop(large.0);
    assert_eq!(order.recv().unwrap(), "small");
    assert_eq!(order.recv().unwrap(), "tiny");
    drop((small.0, tiny.0));
    for thread in [first.1, large.1, small.1, tiny.1] {
        thread.join().unwrap();
    }
    assert_eq!(tickets(dir.path()), [""; 0], "a ticket was left behind");
}

#[test]
fn the_sum_holds_for_many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..24u64 {
            let (now, most, queue) = (&now, &most, queue(dir.path()));
            scope.spawn(move || {
                // While the running claims have less than 500 MiB together, any waiting claim fits next to them. So 500 MiB
                // must be reached.
                let claim = weight(130 + 37 * (number % 9), 1);
                let _turn = queue.enter("one of many", claim, LIMIT, |_| {}).unwrap();
                let sum = now.fetch_add(claim.memory_mib, SeqCst) + claim.memory_mib;
                most.fetch_max(sum, SeqCst);
                // The claim is held for longer than one polling interval of the queue, so that others start next to it. On a
                // busy host they start later, so the claim is then held until 500 MiB have run at once, for at most 20 s more.
                std::thread::sleep(Duration::from_millis(60));
                let began = Instant::now();
                while most.load(SeqCst) < 500 && began.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                now.fetch_sub(claim.memory_mib, SeqCst);
            });
        }
    });
    let most = most.load(SeqCst);
    assert!((500..=1000).contains(&most), "{most} MiB ran at once");
}

/// Not a test by itself: `a_killed_process_makes_room` runs this in child processes.
#[test]
#[ignore = "a part of a_killed_process_makes_room"]
fn holds_until_it_is_killed() {
    let folder = std::env::var_os("QUEUE_TEST_FOLDER").unwrap();
    let _turn = queue(Path::new(&folder)).enter("killed", weight(900, 4), LIMIT, |_| {});
    std::thread::sleep(Duration::from_secs(600));
}

/// A child process of this test, which is killed when the test ends.
struct Holder(std::process::Child);

impl Holder {
    fn kill(&mut self) {
        // The process may have exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_killed_process_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "queue::tests::holds_until_it_is_killed",
            ])
            .env("QUEUE_TEST_FOLDER", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn();
        Holder(child.unwrap())
    };
    let mut running = start();
    let began = Instant::now();
    while !tickets(dir.path()).iter().any(|t| t.ends_with(RUNNING)) {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut waiting = start();
    wait_for(dir.path(), 2);
    let queue = queue(dir.path());
    let (shown, notices) = mpsc::channel();
    let third = std::thread::spawn(move || {
        let tell = |text: &str| shown.send(text.to_owned()).unwrap();
        queue.enter("third", weight(1, 1), LIMIT, tell).map(drop)
    });
    let notice = notices.recv_timeout(Duration::from_secs(60)).unwrap();
    let parts = [
        "third (1 MiB, 1 core) waits".to_owned(),
        format!("process {} runs killed (900 MiB, 4 cores)", running.0.id()),
        format!(
            "process {} waits to run killed (900 MiB, 4 cores)",
            waiting.0.id()
        ),
    ];
    for part in parts {
        assert!(notice.contains(&part), "no {part:?} in {notice}");
    }
    waiting.kill();
    running.kill();
    third.join().unwrap().unwrap();
    assert_eq!(tickets(dir.path()), [""; 0]);
}

#[test]
fn tickets_are_parsed_as_they_are_written() {
    let ticket = Ticket {
        number: 7,
        waits: true,
        pid: 42,
        weight: weight(512, 2),
        name: "a test of two words".to_owned(),
    };
    assert_eq!(ticket.file(), "00000007.waiting");
    assert_eq!(Ticket::parse(&ticket.file(), &ticket.text()), Some(ticket));
    for (name, text) in [
        ("x.waiting", "1 1 1 n"),
        ("1.other", "1 1 1 n"),
        ("1", "1 1 1 n"),
        ("1.running", ""),
        ("1.running", "1 -1 1 n"),
        ("1.running", "1 1 99999999999 n"),
    ] {
        assert_eq!(Ticket::parse(name, text), None, "{name} {text}");
    }
}

#[test]
fn a_malformed_ticket_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00000001.waiting"), "nonsense").unwrap();
    fs::write(dir.path().join("note"), "not a ticket").unwrap();
    let turn = queue(dir.path()).enter("one", weight(1, 1), LIMIT, |_| panic!("waited"));
    drop(turn.unwrap());
    assert_eq!(tickets(dir.path()), ["note"]);
}
