//! Admission: how many machines run at once on this host. All machines of this user share one queue, which is limited
//! by memory and cores.
//!
//! `ktstr_state::Queue` keeps the order of arrival and adds up the load. This module determines how much memory and how many
//! cores a machine needs, how many of both the host has, and where the queue is stored.

mod host;

use ktstr_kernel::cache::Cache;
use ktstr_machine::ClockMode;
use ktstr_state::{Folder, Limit, Place, Queue, StateError, Turn, Weight, env};

use super::RunError;
use super::machine_kind::MachineKind;
use super::plan::Plan;

/// The folder of the queue, in the first base folder that can be used.
const FOLDER: &str = "machines";

/// Waits until the host has room for the machine of `plan`. The memory and the cores of the machine count as used until the
/// returned value is dropped.
pub(super) fn enter(plan: &Plan, machine_kind: MachineKind) -> Result<Turn, RunError> {
    let weight = Weight {
        memory_mib: plan.memory_mib.into(),
        cores: cores(machine_kind.clock, plan.shape.cpus()),
    };
    let queue = Queue::new(folder()?);
    let notice = |text: &str| eprintln!("{text}");
    Ok(queue.enter(plan.entry.name, weight, limit()?, notice)?)
}

/// Returns the number of host cores that a machine keeps busy. The virtual clock executes all CPUs in one thread.
fn cores(clock: ClockMode, cpus: u32) -> u32 {
    match clock {
        ClockMode::Virtual { .. } => 1,
        ClockMode::Real => cpus,
    }
}

/// Returns the limit: `KTSTR_MACHINES`, otherwise half of the memory and all of the cores that this process may use.
fn limit() -> Result<Limit, RunError> {
    match env::MACHINES.get()? {
        Some(count) => Ok(Limit::Count(count)),
        None => Ok(Limit::Sum(Weight {
            memory_mib: host::memory_mib(std::path::Path::new("/")).map_or(u64::MAX, |m| m / 2),
            cores: super::host_cpus(),
        })),
    }
}

/// Returns the folder of the queue: in `XDG_RUNTIME_DIR`, otherwise in the user's own cache, otherwise in the folder
/// that `KTSTR_CACHE_DIR` names. All runs of a user on a host should share one queue, so `KTSTR_CACHE_DIR`, which may
/// differ from run to run, comes last. A base folder that cannot be used, for example because other users have access to it,
/// is skipped; if none is left, the error of the first one is returned.
fn folder() -> Result<Folder, RunError> {
    let mut refused = None;
    let runtime = env::XDG_RUNTIME_DIR
        .get()
        .map(|base| under_runtime_dir(&base));
    let candidates = runtime
        .into_iter()
        .chain(Cache::of_user().map(|cache| under(cache.root())))
        .chain(Cache::from_env().ok().map(|cache| under(cache.root())));
    for candidate in candidates {
        match candidate {
            Ok(folder) => return Ok(folder),
            Err(error) => refused.get_or_insert(error),
        };
    }
    Err(refused.map_or(ktstr_kernel::KernelError::NoCacheDir.into(), RunError::from))
}

/// Returns the queue's folder in the runtime folder, which must exist already: it is created at login.
fn under_runtime_dir(base: &std::path::Path) -> Result<Folder, StateError> {
    match Folder::existing(base, Place::MACHINES)? {
        Some(base) => under(&base.path().join("ktstr")),
        None => Err(StateError::Io {
            action: "open",
            place: Place::MACHINES,
            path: base.to_owned(),
            cause: std::io::ErrorKind::NotFound.into(),
        }),
    }
}

fn under(base: &std::path::Path) -> Result<Folder, StateError> {
    Folder::owned(base, Place::MACHINES)?.subfolder(FOLDER)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_virtual_clock_takes_one_core() {
        assert_eq!(cores(ClockMode::Virtual { shift: 2 }, 8), 1);
        assert_eq!(cores(ClockMode::Real, 8), 8);
    }

    #[test]
    fn a_runtime_folder_that_is_not_ours_alone_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let made = under_runtime_dir(dir.path()).unwrap();
        assert_eq!(made.path(), dir.path().join("ktstr/machines"));

        let missing = under_runtime_dir(&dir.path().join("missing")).unwrap_err();
        assert!(missing.to_string().contains("XDG_RUNTIME_DIR"), "{missing}");

        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert!(matches!(
            under_runtime_dir(&link).unwrap_err(),
            StateError::Link { .. }
        ));
        assert_eq!(std::fs::read_dir(&real).unwrap().count(), 0);

        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(
            under_runtime_dir(&real).unwrap_err(),
            StateError::OthersCanWrite { .. }
        ));
    }
}
