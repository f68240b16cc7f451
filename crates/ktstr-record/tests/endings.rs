//! Tests of runs that are killed, that run at the same time, or whose disk is full: no incomplete record is ever listed, and the
//! next run removes what a killed run has left.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ktstr_record::{RecordError, RunDir, RunRecord, list};

const ROOT: &str = "KTSTR_RECORD_TEST_ROOT";

/// Returns a command that runs only the test `name` of this test binary, with the path `root` in its environment.
fn myself(name: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .env(ROOT, root);
    command
}

fn staged(root: &Path) -> usize {
    fs::read_dir(root.join(".staging")).unwrap().count()
}

/// The child process of `a_killed_run_is_swept_by_the_next`; it does nothing when run as an ordinary test.
#[test]
fn child_waits_to_be_killed() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let mut run = RunDir::create(Path::new(&root), "killed").unwrap();
    run.add_text("console.log", "half").unwrap();
    println!("\nready");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_killed_run_is_swept_by_the_next() {
    let root = tempfile::tempdir().unwrap();
    let mut child: Child = myself("child_waits_to_be_killed", root.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.map_while(Result::ok).any(|line| line == "ready"),
        "the child did not get ready"
    );

    let neighbour = RunDir::create(root.path(), "neighbour").unwrap();
    assert_eq!(staged(root.path()), 2, "a live process lost its folder");
    drop(neighbour);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(staged(root.path()), 1);
    assert!(list(root.path(), None).unwrap().records.is_empty());

    let next = RunDir::create(root.path(), "next").unwrap();
    assert_eq!(staged(root.path()), 1, "a dead run was not removed");
    next.commit(RunRecord::new("next")).unwrap();
    assert_eq!(staged(root.path()), 0);
    assert_eq!(list(root.path(), None).unwrap().records.len(), 1);
}

/// The child process of `concurrent_runs_of_many_processes_do_not_collide`.
#[test]
fn child_makes_ten_runs() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    for _ in 0..10 {
        let mut run = RunDir::create(Path::new(&root), "many").unwrap();
        run.add_text("console.log", "x").unwrap();
        run.commit(RunRecord::new("many")).unwrap();
    }
}

#[test]
fn concurrent_runs_of_many_processes_do_not_collide() {
    let root = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..4)
        .map(|_| {
            myself("child_makes_ten_runs", root.path())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let listing = list(root.path(), None).unwrap();
    assert_eq!((listing.records.len(), listing.damaged.len()), (40, 0));
    assert_eq!(staged(root.path()), 0);
}

/// The child process of `a_full_disk_leaves_no_run`, whose root is a separate, tiny file system.
#[test]
fn child_fills_the_disk() {
    let Some(root) = std::env::var_os(ROOT) else {
        return;
    };
    let root = Path::new(&root);
    let mut run = RunDir::create(root, "full").unwrap();
    let error = run
        .add_text("console.log", vec![b'x'; 4 << 20])
        .unwrap_err();
    assert!(matches!(error, RecordError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    // The record does not fit on the disk either, so the whole run must disappear.
    let record = RunRecord {
        test: "x".repeat(4 << 20),
        ..RunRecord::default()
    };
    assert!(matches!(
        run.commit(record),
        Err(RecordError::DiskFull { .. })
    ));
    assert!(list(root, None).unwrap().records.is_empty());
    assert_eq!(staged(root), 0);
    // Once there is free space again, the same root can be used.
    RunDir::create(root, "after")
        .unwrap()
        .commit(RunRecord::new("after"))
        .unwrap();
    println!("\nfilled");
}

#[test]
fn a_full_disk_leaves_no_run() {
    let root = tempfile::tempdir().unwrap();
    // The child gets its own mount namespace, so that the file system disappears with it in any case.
    let script = r#"mount -t tmpfs -o size=1m,mode=0755 none "$0" || exit 77; exec "$@""#;
    let child = myself("child_fills_the_disk", root.path());
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(root.path())
        .arg(child.get_program())
        .args(child.get_args())
        .env(ROOT, root.path())
        .output();
    let Ok(output) = output else {
        return eprintln!("unshare(1) is missing, so the full disk is not tested");
    };
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() && !out.contains("running 1 test") {
        return eprintln!(
            "mount namespaces are not available, so the full disk is not tested: {err}"
        );
    }
    assert!(
        output.status.success() && out.contains("\nfilled"),
        "{out}{err}"
    );
}
