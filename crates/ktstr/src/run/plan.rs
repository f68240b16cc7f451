//! From a declaration and the environment to everything a machine needs.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ktstr_guest::protocol::{Job, SchedulerJob};
use ktstr_kernel::Kernel;
use ktstr_machine::{Accelerator, Initramfs, MachineSpec, Qemu, Shape};
use ktstr_scenario::scheduler::SchedulerSpec;
use ktstr_scenario::topology::Topology;

use super::{RunError, environment, scheduler};
use crate::dispatch::GUEST_MARK;
use crate::entry::KtstrTestEntry;

/// Where the scheduler lies in the guest.
const SCHEDULER_FOLDER: &str = "/ktstr/bin";
/// Where further files lie in the guest.
const INCLUDE_FOLDER: &str = "/include-files";
/// Guest memory per CPU and at least, in MiB.
const MEMORY_PER_CPU: u32 = 64;
const MEMORY_LEAST: u32 = 256;

/// A run, ready to start.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) entry: &'static KtstrTestEntry,
    pub(super) qemu: Qemu,
    pub(super) kernel: Kernel,
    pub(super) scheduler: Option<scheduler::Found>,
    pub(super) shape: Shape,
    pub(super) memory_mib: u32,
    pub(super) initramfs: File,
    pub(super) job: Job,
    pub(super) resolve_time: Duration,
    pub(super) initramfs_time: Duration,
}

impl Plan {
    /// Finds all that `entry` needs.
    pub(super) fn make(entry: &'static KtstrTestEntry) -> Result<Self, RunError> {
        let began = Instant::now();
        let qemu = Qemu::find()?;
        let kernel = ktstr_kernel::resolve(None, &mut ktstr_kernel::progress::on_stderr())?;
        if entry.scheduler.binary.has_bpf_scheduler() {
            kernel.require_sched_ext()?.require_btf()?;
        }
        let scheduler = scheduler::find(&entry.scheduler.binary)?;
        let resolve_time = began.elapsed();
        let began = Instant::now();
        let (archive, job) = contents(entry, &kernel, scheduler.as_ref())?;
        let initramfs = archive.build()?;
        // The archive lies in memory twice while the kernel unpacks it.
        let archive_mib = (archive.content_len() >> 20) as u32;
        let cpus = entry.topology.total_cpus();
        let memory_mib = entry
            .memory_mib
            .max(MEMORY_LEAST)
            .max(cpus * MEMORY_PER_CPU)
            + archive_mib * 2;
        Ok(Self {
            entry,
            qemu,
            shape: shape(&entry.topology, memory_mib),
            kernel,
            scheduler,
            memory_mib,
            initramfs,
            job,
            resolve_time,
            initramfs_time: began.elapsed(),
        })
    }

    /// The machine for it.
    pub(super) fn machine(&self, accelerator: Accelerator) -> MachineSpec {
        let mut arguments = vec![format!("{GUEST_MARK}=1")];
        if environment("KTSTR_VERBOSE").as_deref() == Some("1") {
            arguments.push("loglevel=7".to_owned());
        }
        arguments.extend(self.entry.scheduler.kargs.iter().map(|s| s.to_string()));
        MachineSpec {
            kernel: self.kernel.vmlinux.clone(),
            kernel_arguments: arguments,
            shape: self.shape.clone(),
            accelerator,
        }
    }

    /// The declared topology as the guest must report it.
    pub(super) fn topology(&self) -> String {
        self.entry.topology.to_string()
    }
}

fn contents(
    entry: &KtstrTestEntry,
    kernel: &Kernel,
    found: Option<&scheduler::Found>,
) -> Result<(Initramfs, Job), RunError> {
    let mut archive = Initramfs::new();
    archive.add_program("/init", &own_binary()?)?;
    if let Some(config) = &kernel.config {
        let bytes = read("the kernel's config", config.clone())?;
        archive.add_file(&format!("/boot/config-{}", kernel.release), bytes);
    }
    let mut args = Vec::new();
    let declared = entry.scheduler;
    if let Some(path) = declared.config_file {
        let guest = format!("{INCLUDE_FOLDER}/{}", file_name(path));
        archive.add_file(&guest, read("config file", path.into())?);
        args.extend(["--config".to_owned(), guest]);
    }
    args.extend(declared.sched_args.iter().map(|s| s.to_string()));
    args.extend(entry.extra_sched_args.iter().map(|s| s.to_string()));
    for path in entry.extra_include_files {
        let bytes = read("include file", path.into())?;
        archive.add_file(&format!("{INCLUDE_FOLDER}/{}", file_name(path)), bytes);
    }
    let scheduler = match (&declared.binary, found) {
        (SchedulerSpec::KernelBuiltin { enable, disable }, _) => Some(SchedulerJob::Builtin {
            enable: enable.iter().map(|s| s.to_string()).collect(),
            disable: disable.iter().map(|s| s.to_string()).collect(),
        }),
        (_, Some(found)) => {
            let name = file_name(&found.path.to_string_lossy());
            let path = format!("{SCHEDULER_FOLDER}/{name}");
            archive.add_program(&path, &found.path)?;
            Some(SchedulerJob::Program { path, args })
        }
        _ => None,
    };
    let env = ["RUST_BACKTRACE", "RUST_LOG", "KTSTR_LOG_PASSES"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), environment(name)?)))
        .chain([("PATH".to_owned(), format!("{INCLUDE_FOLDER}:/bin:/usr/bin"))])
        .collect();
    let job = Job {
        test: entry.name.to_owned(),
        scheduler,
        sysctls: declared
            .sysctls
            .iter()
            .map(|s| (s.key().to_owned(), s.value().to_owned()))
            .collect(),
        watchdog_timeout_ms: entry.watchdog_timeout.as_millis() as u64,
        env,
        seed: seed(entry)?,
        workload_root: entry
            .workload_root_cgroup
            .map_or_else(|| "/ktstr".to_owned(), |path| path.as_str().to_owned()),
        cgroup_parent: declared.cgroup_parent.map(|p| p.as_str().to_owned()),
    };
    Ok((archive, job))
}

fn seed(entry: &KtstrTestEntry) -> Result<u64, RunError> {
    match environment("KTSTR_SEED") {
        None => Ok(entry.seed.unwrap_or(0)),
        Some(value) => value.parse().map_err(|_| RunError::Environment {
            name: "KTSTR_SEED",
            value,
            wanted: "expected a whole number from 0 to 2^64-1".to_owned(),
        }),
    }
}

fn own_binary() -> Result<PathBuf, RunError> {
    std::env::current_exe().map_err(|source| RunError::Include {
        what: "this test's own binary",
        path: "/proc/self/exe".to_owned(),
        source,
    })
}

fn read(what: &'static str, path: PathBuf) -> Result<Vec<u8>, RunError> {
    std::fs::read(&path).map_err(|source| RunError::Include {
        what,
        path: path.display().to_string(),
        source,
    })
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// QEMU's shape of a declared topology; nodes share `memory_mib` unless they say how much.
fn shape(topology: &Topology, memory_mib: u32) -> Shape {
    let nodes = topology.numa_nodes.max(1);
    let share = u64::from(memory_mib.div_ceil(nodes));
    let all_nodes = topology.nodes.map_or(nodes as usize, <[_]>::len) as u32;
    Shape {
        nodes: topology.cpu_bearing_nodes(),
        llcs_per_node: topology.llcs / topology.cpu_bearing_nodes().max(1),
        cores: topology.cores_per_llc,
        threads: topology.threads_per_core,
        memory_mib: (0..all_nodes)
            .map(|node| {
                topology
                    .node_memory_mib(node)
                    .map_or(share, |mib| u64::from(mib).max(share))
            })
            .collect(),
        distances: match topology.distances {
            None => Vec::new(),
            Some(_) => (0..all_nodes)
                .map(|i| (0..all_nodes).map(|j| topology.distance(i, j)).collect())
                .collect(),
        },
    }
}
