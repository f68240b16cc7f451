//! `host_only` tests: the test function runs in this process, without a machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ktstr_assert::{AssertDetail, AssertResult, DetailKind};
use ktstr_guest::cgroup::CgroupManager;
use ktstr_scenario::Ctx;
use ktstr_scenario::topology::TestTopology;
use ktstr_state::env;

use crate::entry::KtstrTestEntry;
use crate::run::{Fault, panic_text};

/// Calls the test function on the host, and judges its result.
pub(crate) fn call(entry: &'static KtstrTestEntry, seed: u64) -> crate::run::Judgement {
    let parent = env::HOST_CGROUP_PARENT
        .get()
        .unwrap_or_else(|| "/sys/fs/cgroup/ktstr".into());
    // Tests that run at the same time, in this process or in another one, have trees of their own.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let root = root_of(&parent, call);
    let cgroups = CgroupManager::new(root.clone());
    let (result, fault) = match TestTopology::from_system() {
        Err(error) => (
            AssertResult::inconclusive_msg(format!("the host's topology: {error}")),
            Some(Fault::Host),
        ),
        Ok(topology) => {
            let ctx = Ctx::builder(&cgroups, &topology)
                .duration(entry.duration)
                .assert(entry.assert)
                .seed(seed)
                .entry_name(entry.name)
                .variant_hash(crate::variant::hash(entry))
                .build();
            match catch_unwind(AssertUnwindSafe(|| (entry.func)(&ctx))) {
                Ok(Ok(result)) => {
                    let fault = (!result.is_pass() && !result.is_skip()).then_some(Fault::Test);
                    (result, fault)
                }
                Ok(Err(error)) => (failed(format!("{error:#}")), Some(Fault::Test)),
                Err(panic) => (
                    failed(format!(
                        "the test function panicked: {}",
                        panic_text(&*panic)
                    )),
                    Some(Fault::Test),
                ),
            }
        }
    };
    remove_tree(&root);
    crate::run::Judgement {
        guest: Ok(result.clone()),
        result,
        fault,
        evidence: fault.map(|_| "it ran on the host: no guest, no scheduler".to_owned()),
        crash: None,
    }
}

/// Returns the root of the cgroup tree of the call with this number, below `parent`. Removes the trees there that killed
/// processes left. A tree with the same name is removed as well: it belongs to a killed process that had this process's pid.
fn root_of(parent: &Path, call: u32) -> PathBuf {
    let root = parent.join(format!("{}-{call}", std::process::id()));
    remove_tree(&root);
    remove_trees(parent, |pid| {
        !Path::new("/proc").join(pid.to_string()).exists()
    });
    root
}

/// Removes the cgroup trees below `parent` of the processes for which `is_over` holds. A process that is killed leaves its trees.
fn remove_trees(parent: &Path, is_over: impl Fn(u32) -> bool) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.split_once('-')?.0.parse().ok());
        if pid.is_some_and(&is_over) {
            remove_tree(&entry.path());
        }
    }
}

/// Removes a cgroup with those below it. A cgroup that still has tasks, or is gone already, is left as it is.
fn remove_tree(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(root);
}

fn failed(message: String) -> AssertResult {
    AssertResult::fail(AssertDetail::new(DetailKind::Other, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_a_process_with_the_same_pid_left_is_removed() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let own = format!("{}-7", std::process::id());
        let other_call = format!("{}-6/cell", std::process::id());
        // No process has the pid 99999999: the kernel's limit is 2^22 (`PID_MAX_LIMIT`, include/linux/threads.h).
        for tree in [
            format!("{own}/cell"),
            other_call.clone(),
            "99999999-0/cell".to_owned(),
        ] {
            std::fs::create_dir_all(parent.path().join(tree)).expect("a folder");
        }
        assert_eq!(root_of(parent.path(), 7), parent.path().join(&own));
        let left: Vec<_> = std::fs::read_dir(parent.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert_eq!(
            left,
            [parent.path().join(other_call).parent().expect("a tree")]
        );
    }
}
