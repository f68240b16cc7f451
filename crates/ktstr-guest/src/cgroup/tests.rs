#![allow(clippy::unwrap_used)]

use super::*;

/// Creates a real cgroup2 tree for a test. Prints why the test is skipped if that is impossible.
fn real(name: &str) -> Option<CgroupManager> {
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let root = Path::new(mount).join(format!("ktstr-test-{}-{name}", std::process::id()));
        let is_v2 = Path::new(mount).join("cgroup.controllers").exists();
        if is_v2 && std::fs::create_dir(&root).is_ok() {
            return Some(CgroupManager::new(root));
        }
    }
    eprintln!("skipped: no writable cgroup2 mount on this machine");
    None
}

fn finish(manager: CgroupManager) {
    manager.cleanup_all().unwrap();
    let root = manager.parent_path().to_owned();
    std::fs::remove_dir(&root).unwrap();
}

/// Creates directories and files that look like a cgroup tree, to test what is written rather than
/// its effect.
fn fake() -> (tempfile::TempDir, CgroupManager) {
    let tmp = tempfile::tempdir().unwrap();
    for dir in ["", "root", "root/a"] {
        let dir = tmp.path().join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("cgroup.controllers"), "cpuset cpu memory\n").unwrap();
        std::fs::write(dir.join("cgroup.subtree_control"), "cpuset\n").unwrap();
    }
    let manager = CgroupManager::mounted(tmp.path(), tmp.path().join("root"));
    (tmp, manager)
}

#[test]
fn names_outside_of_the_root_are_rejected() {
    let manager = CgroupManager::new("/sys/fs/cgroup/ktstr");
    for bad in ["", "/x", "a/../b", ".", "a//b", "cgroup.procs", "a\nb"] {
        assert!(
            matches!(
                manager.create_cgroup(bad),
                Err(CgroupError::InvalidName { .. })
            ),
            "{bad:?}"
        );
    }
    assert_eq!(
        manager.path_of("cg_0/sub").unwrap(),
        Path::new("/sys/fs/cgroup/ktstr/cg_0/sub")
    );
}

#[test]
fn values_are_written_in_the_kernels_format() {
    let (tmp, manager) = fake();
    let a = tmp.path().join("root/a");
    let check = |file: &str, value: &str, run: &dyn Fn() -> Result<(), CgroupError>| {
        std::fs::write(a.join(file), "").unwrap();
        run().unwrap();
        assert_eq!(std::fs::read_to_string(a.join(file)).unwrap(), value);
    };
    let cpus = BTreeSet::from([0, 1, 2, 5]);
    check("cpuset.cpus", "0-2,5", &|| manager.set_cpuset("a", &cpus));
    check("cpuset.cpus", "\n", &|| manager.clear_cpuset("a"));
    check("cpu.max", "max 100000", &|| {
        manager.set_cpu_max("a", None, 100_000)
    });
    check("cpu.max", "5000 10000", &|| {
        manager.set_cpu_max("a", Some(5000), 10_000)
    });
    check("cpu.weight", "10000", &|| {
        manager.set_cpu_weight("a", 10_000)
    });
    check("memory.max", "4096", &|| {
        manager.set_memory_max("a", Some(4096))
    });
    check("memory.low", "0", &|| manager.set_memory_low("a", None));
    check("io.weight", "default 7", &|| manager.set_io_weight("a", 7));
    check("pids.max", "max", &|| manager.set_pids_max("a", None));
    check("cgroup.freeze", "1", &|| manager.set_freeze("a", true));
}

#[test]
fn errors_name_path_value_and_cause() {
    let (tmp, manager) = fake();
    let empty = manager.set_cpuset("a", &BTreeSet::new()).unwrap_err();
    assert!(empty.to_string().contains("cpuset.cpus"), "{empty}");
    let weight = manager.set_cpu_weight("a", 0).unwrap_err();
    assert!(weight.to_string().contains("1..=10000"), "{weight}");
    let missing = manager.set_io_weight("a", 100).unwrap_err();
    assert!(
        matches!(missing, CgroupError::ControllerMissing { .. }),
        "{missing}"
    );
    let none = manager.set_cpu_weight("nowhere", 100).unwrap_err();
    assert!(none.to_string().contains("nowhere"), "{none}");
    let freeze = manager.set_freeze("a", true).unwrap_err().to_string();
    assert!(
        freeze.contains("cgroup.freeze") && freeze.contains("\"1\"") && freeze.contains("os error"),
        "{freeze}"
    );
    drop(tmp);
}

/// A plain folder is not taken for a cgroup, as on a machine whose /sys/fs/cgroup has only cgroup v1.
#[test]
fn a_root_outside_of_cgroup2_is_refused_and_not_created() {
    let tmp = tempfile::tempdir().unwrap();
    let manager = CgroupManager::new(tmp.path().join("root"));
    for error in [
        manager.create_cgroup("a").unwrap_err(),
        manager.setup(&[Controller::Cpu].into()).unwrap_err(),
    ] {
        let text = error.to_string();
        for part in [
            "root",
            "in no cgroup2 file system",
            "KTSTR_HOST_CGROUP_PARENT",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
    manager.setup(&BTreeSet::new()).unwrap();
    assert!(!tmp.path().join("root").exists());
}

/// The folders have the types that the kernel gives them: `a` has a process, and enables `cpu` for `a/b`.
#[test]
fn an_unsupported_write_names_the_type_and_the_root_of_the_threaded_subtree() {
    let (tmp, _) = fake();
    let root = tmp.path().join("root");
    for (folder, its, parts) in [
        ("a", "domain threaded\n", ["`domain threaded`", "memory"]),
        (
            "a/b",
            "domain invalid\n",
            ["`domain invalid`", "root/a\" has tasks"],
        ),
        ("a/c", "threaded\n", ["`threaded`", "root/a\" or below"]),
        ("d", "domain\n", ["`domain`", "does not support"]),
        ("e", "", ["cgroup.type", "cannot be read"]),
    ] {
        let folder = root.join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("cgroup.type"), its).unwrap();
        let error = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        let text = files::explain(&folder.join("cgroup.procs"), error).to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(text.starts_with("Operation not supported"), "{text}");
    }
}

#[test]
fn a_process_cannot_be_moved_below_a_threaded_cgroup() {
    let Some(manager) = real("threaded") else {
        return;
    };
    manager.create_cgroup("a/b").unwrap();
    manager.create_cgroup("a/c").unwrap();
    manager
        .set_file("a/b", None, "cgroup.type", "threaded")
        .unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let moved = manager.move_task("a/c", child.id() as i32);
    child.kill().unwrap();
    child.wait().unwrap();
    let text = moved.unwrap_err().to_string();
    assert!(
        text.contains("`domain invalid`") && text.contains("/a\" has tasks"),
        "{text}"
    );
    manager.remove_cgroup("a/b").unwrap();
    finish(manager);
}

#[test]
fn nested_cgroups_are_created_and_removed() {
    let Some(manager) = real("nested") else {
        return;
    };
    manager.create_cgroup("a/b/c").unwrap();
    assert!(manager.parent_path().join("a/b/c/cgroup.procs").exists());
    let busy = manager.remove_cgroup("a/b").unwrap_err().to_string();
    assert!(busy.contains("child cgroups"), "{busy}");
    manager.remove_cgroup("a/b/c").unwrap();
    manager.remove_cgroup("a/b/c").unwrap();
    finish(manager);
}

#[test]
fn removal_waits_for_the_last_task() {
    let Some(manager) = real("wait") else { return };
    manager.create_cgroup("a").unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let pid = child.id() as i32;
    manager.move_task("a", pid).unwrap();
    assert_eq!(manager.read_procs("a").unwrap(), [pid]);
    let began = std::time::Instant::now();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(150));
        child.kill().unwrap();
        child.wait().unwrap();
    });
    manager.remove_cgroup("a").unwrap();
    assert!(began.elapsed() >= Duration::from_millis(100));
    killer.join().unwrap();
    finish(manager);
}

#[test]
fn a_populated_cgroup_is_drained_by_cleanup() {
    let Some(manager) = real("drain") else { return };
    manager.create_cgroup("a/b").unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    manager.move_task("a/b", child.id() as i32).unwrap();
    manager.set_freeze("a", true).unwrap();
    manager.cleanup_all().unwrap();
    assert!(!manager.parent_path().join("a").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = manager.move_task("a", 1);
    assert!(gone.is_err());
    finish(manager);
}
