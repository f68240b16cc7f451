//! The ways a run's process can end badly: nothing half-written is ever listed, and nothing stays behind.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ktstr_record::{RecordError, RunDir, RunRecord, list};

const ROOT: &str = "KTSTR_RECORD_TEST_ROOT";

/// This test binary again, running only the test `name` with `root` in its environment.
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

/// The child of `a_killed_run_is_swept_by_the_next`; does nothing when run by itself.
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
    assert_eq!(staged(root.path()), 2, "the living were swept");
    drop(neighbour);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(staged(root.path()), 1);
    assert!(list(root.path(), None).unwrap().records.is_empty());

    let next = RunDir::create(root.path(), "next").unwrap();
    assert_eq!(staged(root.path()), 1, "the dead were not swept");
    next.commit(RunRecord::new("next")).unwrap();
    assert_eq!(staged(root.path()), 0);
    assert_eq!(list(root.path(), None).unwrap().records.len(), 1);
}

/// The child of `runs_of_many_processes_do_not_meet`.
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
fn runs_of_many_processes_do_not_meet() {
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

/// The child of `a_full_disk_leaves_no_run`: its root is a tiny file system of its own.
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
    // What is left of the disk does not hold the record either: the run must vanish, not half appear.
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
    // With the space free again, the same root serves.
    RunDir::create(root, "after")
        .unwrap()
        .commit(RunRecord::new("after"))
        .unwrap();
    println!("\nfilled");
}

#[test]
fn a_full_disk_leaves_no_run() {
    let root = tempfile::tempdir().unwrap();
    // A mount namespace of its own: the file system ends with the child, whatever happens.
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
        return eprintln!("no unshare(1): the full disk is not tried");
    };
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() && !out.contains("running 1 test") {
        return eprintln!("no mount namespace here, the full disk is not tried: {err}");
    }
    assert!(
        output.status.success() && out.contains("\nfilled"),
        "{out}{err}"
    );
}
