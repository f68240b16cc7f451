//! The cgroup v2 tree of a test, on a mounted cgroup2 file system.
//!
//! Names are relative to the manager's root and may be nested; missing cgroups in between are created. A controller is
//! enabled on the whole path from the mount point when a file of that controller is first written.
//! This module does not know which cgroups a scenario has (the engine does), and it does not stop workers.

mod clear;
mod events;
mod files;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use ktstr_scenario::cgroup::{CgroupError, CgroupOps, Controller};
use ktstr_scenario::topology::cpuset_string;

use events::wait_unpopulated;
use files::{access, read, write};

/// Maximum guest time to wait for the last task to leave after an `rmdir` has failed with `EBUSY`. If tasks are left after
/// that time, the removal of the cgroup fails.
const REMOVE_DEADLINE: Duration = Duration::from_secs(5);
/// Maximum number of `rmdir` attempts.
const REMOVE_TRIES: u32 = 16;

/// Creates, configures and removes the cgroups below one root.
#[derive(Debug)]
pub struct CgroupManager {
    root: PathBuf,
    /// The root of the cgroup2 file system that contains `root`; `None` if none contains it, so that no cgroup can be created.
    mount: Option<PathBuf>,
    /// The controllers given to `setup`. `create_cgroup` enables them in each cgroup above the new one.
    enabled: Mutex<BTreeSet<Controller>>,
}

impl CgroupManager {
    /// Creates a manager of the tree at `root`, an absolute path inside a cgroup2 mount. No cgroup is created before
    /// [`CgroupOps::setup`] or [`CgroupOps::create_cgroup`].
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            mount: files::mount_of(&root),
            root,
            enabled: Mutex::new(BTreeSet::new()),
        }
    }

    /// Like [`CgroupManager::new`], for a tree in a cgroup2 file system that is known to be mounted at `mount`, so that the
    /// mount point need not be searched for.
    pub fn mounted(mount: impl Into<PathBuf>, root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            mount: Some(mount.into()),
            enabled: Mutex::new(BTreeSet::new()),
        }
    }

    /// Returns the directory of a cgroup. Rejects names that lead out of the root or that the kernel does not accept.
    pub fn path_of(&self, name: &str) -> Result<PathBuf, CgroupError> {
        let bad = |reason| {
            Err(CgroupError::InvalidName {
                name: name.to_owned(),
                reason,
            })
        };
        if name.is_empty() {
            return bad("is empty: give the cgroup a name below the test's root");
        }
        if name.contains(['\0', '\n']) {
            return bad("contains a NUL or a newline");
        }
        for part in name.split('/') {
            match part {
                "" => return bad("has an empty path component: use `a/b`, not `/a` or `a//b`"),
                "." | ".." => {
                    return bad("has a `.` or `..`: give the path from the test's root down");
                }
                _ if part.len() > 255 => return bad("has a component over 255 bytes"),
                _ if part.starts_with("cgroup.") => {
                    return bad(
                        "has a component starting with `cgroup.`, a prefix that the kernel reserves",
                    );
                }
                _ => {}
            }
        }
        Ok(self.root.join(name))
    }

    fn mount(&self) -> Result<&Path, CgroupError> {
        let mount = self.mount.as_deref();
        mount.ok_or_else(|| files::not_cgroup2(&self.root))
    }

    /// Creates the root, if it is in a cgroup2 file system.
    fn make_root(&self) -> Result<(), CgroupError> {
        self.mount()?;
        std::fs::create_dir_all(&self.root).map_err(|e| access("create", &self.root, e))
    }

    /// Enables `controller` for the children of every directory from the mount down to the parent of `dir`.
    fn enable_above(&self, controller: Controller, dir: &Path) -> Result<(), CgroupError> {
        let mut at = self.mount()?.to_owned();
        let below = dir.strip_prefix(&at).unwrap_or(Path::new("")).to_owned();
        for part in below.components() {
            files::enable(&at, controller)?;
            at.push(part);
        }
        Ok(())
    }

    fn make(&self, dir: &Path) -> Result<(), CgroupError> {
        match std::fs::create_dir(dir) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(access("create", dir, source))
            }
            _ => Ok(()),
        }
    }

    fn enabled(&self) -> BTreeSet<Controller> {
        self.enabled
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Returns the directory of a cgroup. If `file` is not there, first enables the controller that the file belongs to.
    fn with_file(
        &self,
        name: &str,
        controller: Controller,
        file: &str,
    ) -> Result<PathBuf, CgroupError> {
        let dir = self.path_of(name)?;
        if !dir.join(file).exists() {
            if !dir.exists() {
                let source = io::Error::from_raw_os_error(libc::ENOENT);
                return Err(access("find", &dir, source));
            }
            self.enable_above(controller, &dir)?;
        }
        Ok(dir)
    }

    /// Writes a controller's file, and enables the controller first if necessary.
    fn knob(
        &self,
        name: &str,
        controller: Controller,
        file: &str,
        value: &str,
    ) -> Result<(), CgroupError> {
        let dir = self.with_file(name, controller, file)?;
        write(&dir.join(file), value)
    }

    fn clear(&self, name: &str, set: clear::Set) -> Result<(), CgroupError> {
        let dir = self.with_file(name, Controller::Cpuset, set.file)?;
        clear::clear(&dir, set)
    }

    fn limit(
        &self,
        name: &str,
        controller: Controller,
        file: &str,
        limit: Option<u64>,
    ) -> Result<(), CgroupError> {
        let value = limit.map_or_else(|| "max".to_owned(), |n| n.to_string());
        self.knob(name, controller, file, &value)
    }

    fn weight(
        &self,
        name: &str,
        controller: Controller,
        file: &'static str,
        weight: u32,
    ) -> Result<(), CgroupError> {
        if !(1..=10_000).contains(&weight) {
            return Err(CgroupError::InvalidValue {
                name: name.to_owned(),
                file,
                value: weight.to_string(),
                reason: "a weight is in 1..=10000",
            });
        }
        let value = match controller {
            Controller::Io => format!("default {weight}"),
            _ => weight.to_string(),
        };
        self.knob(name, controller, file, &value)
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), CgroupError> {
        let mut last = io::Error::from_raw_os_error(libc::EBUSY);
        for _ in 0..REMOVE_TRIES {
            match std::fs::remove_dir(dir) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => last = e,
                Err(e) => return Err(access("remove", dir, e)),
            }
            wait_unpopulated(dir, REMOVE_DEADLINE)?;
        }
        Err(access("remove", dir, last))
    }

    /// Moves the tasks out of all cgroups below `dir` and removes the cgroups, deepest first.
    fn remove_below(&self, dir: &Path) -> Result<(), CgroupError> {
        for child in files::children(dir)? {
            self.remove_below(&child)?;
            self.drain_dir(&child)?;
            self.remove_dir(&child)?;
        }
        Ok(())
    }

    fn drain_dir(&self, dir: &Path) -> Result<(), CgroupError> {
        for pid in files::procs(dir)? {
            files::move_to(self.mount()?, pid, true)?;
        }
        Ok(())
    }

    fn set_of(
        &self,
        name: &str,
        file: &'static str,
        set: &BTreeSet<usize>,
    ) -> Result<(), CgroupError> {
        if set.is_empty() {
            return Err(CgroupError::InvalidValue {
                name: name.to_owned(),
                file,
                value: "the empty set".to_owned(),
                reason: "give at least one element, or clear the file to inherit the parent's",
            });
        }
        self.knob(name, Controller::Cpuset, file, &cpuset_string(set))
    }
}

impl CgroupOps for CgroupManager {
    fn parent_path(&self) -> &Path {
        &self.root
    }

    fn setup(&self, controllers: &BTreeSet<Controller>) -> Result<(), CgroupError> {
        // A scenario without cgroups can run on a host without cgroup2.
        if self.mount.is_none() && controllers.is_empty() {
            return Ok(());
        }
        self.make_root()?;
        for controller in controllers {
            self.enable_above(*controller, &self.root)?;
            files::enable(&self.root, *controller)?;
        }
        self.enabled
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .extend(controllers);
        Ok(())
    }

    fn create_cgroup(&self, name: &str) -> Result<(), CgroupError> {
        let dir = self.path_of(name)?;
        self.make_root()?;
        let mut at = self.root.clone();
        for part in name.split('/') {
            for controller in self.enabled() {
                files::enable(&at, controller)?;
            }
            at.push(part);
            self.make(&at)?;
        }
        debug_assert_eq!(at, dir);
        Ok(())
    }

    fn remove_cgroup(&self, name: &str) -> Result<(), CgroupError> {
        self.remove_dir(&self.path_of(name)?)
    }

    fn set_cpuset(&self, name: &str, cpus: &BTreeSet<usize>) -> Result<(), CgroupError> {
        self.set_of(name, "cpuset.cpus", cpus)
    }

    fn clear_cpuset(&self, name: &str) -> Result<(), CgroupError> {
        self.clear(name, clear::CPUS)
    }

    fn set_cpuset_mems(&self, name: &str, nodes: &BTreeSet<usize>) -> Result<(), CgroupError> {
        self.set_of(name, "cpuset.mems", nodes)
    }

    fn clear_cpuset_mems(&self, name: &str) -> Result<(), CgroupError> {
        self.clear(name, clear::NODES)
    }

    fn set_cpu_max(
        &self,
        name: &str,
        quota_us: Option<u64>,
        period_us: u64,
    ) -> Result<(), CgroupError> {
        let quota = quota_us.map_or_else(|| "max".to_owned(), |n| n.to_string());
        self.knob(
            name,
            Controller::Cpu,
            "cpu.max",
            &format!("{quota} {period_us}"),
        )
    }

    fn set_cpu_weight(&self, name: &str, weight: u32) -> Result<(), CgroupError> {
        self.weight(name, Controller::Cpu, "cpu.weight", weight)
    }

    fn set_memory_max(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError> {
        self.limit(name, Controller::Memory, "memory.max", bytes)
    }

    fn set_memory_high(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError> {
        self.limit(name, Controller::Memory, "memory.high", bytes)
    }

    fn set_memory_low(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError> {
        // No value means no protection, which is 0 and not "max".
        self.limit(
            name,
            Controller::Memory,
            "memory.low",
            Some(bytes.unwrap_or(0)),
        )
    }

    fn set_memory_swap_max(&self, name: &str, bytes: Option<u64>) -> Result<(), CgroupError> {
        self.limit(name, Controller::Memory, "memory.swap.max", bytes)
    }

    fn set_io_weight(&self, name: &str, weight: u16) -> Result<(), CgroupError> {
        self.weight(name, Controller::Io, "io.weight", u32::from(weight))
    }

    fn set_freeze(&self, name: &str, frozen: bool) -> Result<(), CgroupError> {
        let path = self.path_of(name)?.join("cgroup.freeze");
        write(&path, if frozen { "1" } else { "0" })
    }

    fn set_pids_max(&self, name: &str, max: Option<u64>) -> Result<(), CgroupError> {
        self.limit(name, Controller::Pids, "pids.max", max)
    }

    fn set_file(
        &self,
        name: &str,
        controller: Option<Controller>,
        file: &str,
        value: &str,
    ) -> Result<(), CgroupError> {
        match controller {
            Some(controller) => self.knob(name, controller, file, value),
            None => write(&self.path_of(name)?.join(file), value),
        }
    }

    fn move_task(&self, name: &str, pid: i32) -> Result<(), CgroupError> {
        files::move_to(&self.path_of(name)?, pid, false)
    }

    fn move_tasks(&self, name: &str, pids: &[i32]) -> Result<(), CgroupError> {
        let dir = self.path_of(name)?;
        pids.iter()
            .try_for_each(|pid| files::move_to(&dir, *pid, true))
    }

    fn place_task_during_handshake(&self, name: &str, pid: i32) -> Result<(), CgroupError> {
        self.move_task(name, pid)
    }

    fn clear_subtree_control(&self, name: &str) -> Result<(), CgroupError> {
        let path = self.path_of(name)?.join("cgroup.subtree_control");
        let text = read(&path)?;
        let off: Vec<String> = text.split_whitespace().map(|c| format!("-{c}")).collect();
        if off.is_empty() {
            return Ok(());
        }
        write(&path, &off.join(" "))
    }

    fn drain_tasks(&self, name: &str) -> Result<(), CgroupError> {
        self.drain_dir(&self.path_of(name)?)
    }

    fn read_procs(&self, name: &str) -> Result<Vec<i32>, CgroupError> {
        files::procs(&self.path_of(name)?)
    }

    fn cleanup_all(&self) -> Result<(), CgroupError> {
        if !self.root.exists() {
            return Ok(());
        }
        self.remove_below(&self.root)
    }
}
