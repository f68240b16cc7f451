//! The plan of a run: everything that a machine needs, from the test's declaration and the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ktstr_guest::protocol::{Job, SchedulerJob, Setup};
use ktstr_kernel::Kernel;
use ktstr_machine::{ClockMode, MachineSpec, Program, Qemu, Shape, stamp};
use ktstr_scenario::scheduler::{Scheduler, SchedulerSpec};
use ktstr_state::{Folder, env};

use super::machine_kind::MachineKind;
use super::workload_root;
use super::{RunError, include, schedule, scheduler, shape};
use crate::entry::KtstrTestEntry;

/// The folder of the schedulers' programs in the guest.
const PROGRAM_FOLDER: &str = "/ktstr/bin";
/// The path of the test's binary in the guest. It is the same for each binary: the kernel hashes the names of files, so that
/// another name can take another path through the kernel, and another schedule follows.
pub(super) const TEST_BINARY: &str = "/ktstr/test/ktstr-test";
/// The name that the kernel gives the test process, and each process that is forked from it and runs no other program.
pub(super) const TEST_COMM: &str = "ktstr-test";
/// The minimum memory of the guest per CPU, in MiB.
const MEMORY_PER_CPU: u32 = 64;
/// The minimum memory of the whole guest, in MiB.
const MEMORY_LEAST: u32 = 256;
/// Memory for the guest's files is added in steps of this many MiB, one step for each started 32 MiB of files: the files
/// are in memory up to twice while the kernel unpacks them. Because of the steps, the machine's size seldom changes when
/// a test is rebuilt.
const MEMORY_FOR_FILES: u32 = 64;

/// A run that is ready to start.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) entry: &'static KtstrTestEntry,
    /// The test's own binary, for the record.
    pub(super) program: ktstr_record::ProgramRecord,
    pub(super) qemu: Qemu,
    pub(super) kernel: Kernel,
    pub(super) scheduler: Option<scheduler::Found>,
    pub(super) scheduler_hash: Option<String>,
    pub(super) scheduler_version: scheduler::Version,
    /// The BLAKE3 hashes of the binaries of the staged schedulers, by their paths on the host.
    pub(super) staged: BTreeMap<String, String>,
    pub(super) shape: Shape,
    pub(super) memory_mib: u32,
    /// The files in the initramfs of every machine of this plan: the program of PID 1, and the kernel's configuration if it is
    /// known.
    pub(super) base: Files,
    /// The files that the scheduler and the staged schedulers need.
    pub(super) for_scheduler: Files,
    /// The files that the test process needs before it receives its job.
    pub(super) for_load: Files,
    /// The files that this test needs in addition.
    pub(super) for_test: Files,
    pub(super) setup: Setup,
    pub(super) job: Job,
    /// The size limit of the templates of this host, in bytes.
    pub(super) templates_cap: u64,
    pub(super) resolve_time: Duration,
    pub(super) pack_time: Duration,
}

/// The scheduler that a run actually used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerThatRan {
    /// The name in messages: the declared name, or the path that `KTSTR_SCHEDULER` gives.
    pub shown: String,
    /// The scheduler's binary on the host; `None` for a scheduler inside the kernel.
    pub path: Option<PathBuf>,
    /// How the binary was found; `None` if there is none.
    pub source: Option<scheduler::Source>,
    /// The first line that the binary prints for `--version`; `None` if there is no binary, or if the binary prints no line,
    /// fails, or does not exit in time.
    pub version: Option<String>,
    /// The BLAKE3 hash of the binary, in hexadecimal; `None` if there is no binary.
    pub hash: Option<String>,
}

impl std::fmt::Display for SchedulerThatRan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(path) = &self.path else {
            return f.write_str(&self.shown);
        };
        let version = self.version.as_deref().unwrap_or("no version");
        let hash = self.hash.as_deref().unwrap_or_default();
        write!(f, "{} ({version}, BLAKE3 {hash:.12}", path.display())?;
        match self.source {
            Some(source) => write!(f, ", {})", source.text()),
            None => f.write_str(")"),
        }
    }
}

/// A file of the guest.
#[derive(Debug, Clone)]
pub(super) struct GuestFile {
    /// A stamp that identifies the contents.
    pub(super) stamp: String,
    pub(super) mode: u32,
    pub(super) content: Content,
}

/// The source of a file's contents.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// A program, without its debug information.
    Program(Program),
    /// A file of the host, read when its contents are needed.
    Host(PathBuf),
    /// A text in the test's declaration.
    Written(&'static str),
}

impl GuestFile {
    /// Returns the contents of the file in the guest.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, RunError> {
        match &self.content {
            Content::Program(program) => Ok(program.bytes()?),
            Content::Host(path) => read("file for the guest", path),
            Content::Written(text) => Ok(text.as_bytes().to_vec()),
        }
    }
}

/// Files by their absolute path in the guest.
pub(super) type Files = BTreeMap<String, GuestFile>;

impl Plan {
    /// Resolves everything that `entry` needs. The error says what is missing or cannot be used.
    pub(super) fn make(entry: &'static KtstrTestEntry) -> Result<Self, RunError> {
        let began = Instant::now();
        let qemu = Qemu::find()?;
        let kernel = ktstr_kernel::resolve(None, &mut ktstr_kernel::progress::on_stderr())?;
        let staged = entry.staged_schedulers.iter();
        if entry.scheduler.binary.has_bpf_scheduler() || staged.clone().next().is_some() {
            kernel.require_sched_ext()?.require_btf()?;
        }
        let scheduler = scheduler::find(entry.scheduler)?;
        let scheduler_version = match &scheduler {
            Some(found) => scheduler::Version::ask(&found.path),
            None => scheduler::Version::default(),
        };
        let resolve_time = began.elapsed();
        let began = Instant::now();
        let programs = programs()?;
        let programs = programs.path();
        let own_path = own_binary()?;
        let own = Program::read(&own_path, Some(programs))?;
        let own_program = ktstr_record::ProgramRecord {
            path: own_path,
            hash: own.blake3.clone(),
            folder: std::env::current_dir().unwrap_or_default(),
        };
        let mut base = Files::new();
        let init = Program::embedded(ktstr_init::PROGRAM, ktstr_init::HASH, Some(programs))?;
        add_program(&mut base, "/init", init)?;
        if let Some(config) = &kernel.config {
            let path = format!("/boot/config-{}", kernel.release);
            base.insert(path, host_file(config, 0o644)?);
        }
        let mut for_scheduler = Files::new();
        let mut scheduler_hash = None;
        let program = match &scheduler {
            None => None,
            Some(found) => {
                let program = Program::read(&found.path, Some(programs))?;
                scheduler_hash = Some(program.blake3.clone());
                let name = found.path.file_name().unwrap_or_default();
                let path = format!("{PROGRAM_FOLDER}/{}", name.to_string_lossy());
                add_program(&mut for_scheduler, &path, program)?;
                Some(path)
            }
        };
        let mut setup = setup(entry, program, &mut for_scheduler)?;
        if let Some(config) = &entry.disk {
            setup.disk = Some(super::disk::plan(config, &kernel, &mut for_scheduler)?);
        }
        let mut hashes = BTreeMap::new();
        for declared in staged {
            let job = stage(entry, declared, programs, &mut for_scheduler, &mut hashes)?;
            setup.staged.push((declared.name.to_owned(), job));
        }
        let boot = setup.scheduler.clone().filter(|_| !setup.staged.is_empty());
        if let Some(boot) = boot {
            setup.staged.push((entry.scheduler.name.to_owned(), boot));
        }
        let mut for_load = Files::new();
        add_program(&mut for_load, TEST_BINARY, own)?;
        let mut for_test = Files::new();
        let packer = include::Packer {
            there: &[&base, &for_scheduler, &for_load],
            cache: Some(programs),
            search: env::PATH.get(),
        };
        for payload in entry.payload.iter().chain(entry.workloads) {
            packer.add_payload(&mut for_test, payload)?;
        }
        for spec in entry.extra_include_files {
            packer.add(&mut for_test, spec)?;
        }
        let job = job(entry)?;
        let memory_mib = entry
            .memory_mib
            .max(MEMORY_LEAST)
            .max(entry.topology.total_cpus() * MEMORY_PER_CPU)
            + MEMORY_FOR_FILES
                * size_of(&[&base, &for_scheduler, &for_load, &for_test])
                    .div_ceil(MEMORY_FOR_FILES / 2)
            + entry.disk.map_or(0, |disk| disk.capacity_mib);
        let shape = shape::of(entry, memory_mib)?;
        // A topology may declare more memory than the test needs.
        let memory_mib = u32::try_from(shape.total_memory_mib()).unwrap_or(u32::MAX);
        Ok(Self {
            entry,
            program: own_program,
            qemu,
            shape,
            kernel,
            scheduler,
            scheduler_hash,
            scheduler_version,
            staged: hashes,
            memory_mib,
            base,
            for_scheduler,
            for_load,
            for_test,
            setup,
            job,
            templates_cap: super::templates::cap()?,
            resolve_time,
            pack_time: began.elapsed(),
        })
    }

    /// Returns the specification of the machine for this plan.
    pub(super) fn machine(&self, machine_kind: MachineKind) -> MachineSpec {
        let mut arguments = vec![format!("{}=1", ktstr_guest::init::GUEST_MARK_ENV)];
        if env::VERBOSE.is_on() {
            arguments.push("loglevel=7".to_owned());
        }
        if machine_kind.clock == ClockMode::Real && !env::SCHEDULE.is_off() {
            arguments.extend(schedule::kernel_arguments(&self.shape));
        }
        arguments.extend(self.declared_kargs().map(str::to_owned));
        MachineSpec {
            kernel: self.kernel.boot.clone(),
            kernel_arguments: arguments,
            shape: self.shape.clone(),
            accelerator: machine_kind.accelerator,
            clock: machine_kind.clock,
            parallel: true,
        }
    }

    /// Returns the kernel arguments that the scheduler and the test declare.
    pub(super) fn declared_kargs(&self) -> impl Iterator<Item = &'static str> {
        let entry = self.entry;
        entry.scheduler.kargs.iter().chain(entry.kargs).copied()
    }

    /// Returns the arguments of the scheduler's program, in order.
    pub(super) fn scheduler_args(&self) -> &[String] {
        match &self.setup.scheduler {
            Some(SchedulerJob::Program { args, .. }) => args,
            _ => &[],
        }
    }

    /// Returns the scheduler of this run, for the screen and the record; `None` for the kernel's default.
    pub(super) fn scheduler_that_ran(&self) -> Option<SchedulerThatRan> {
        let declared = self.entry.scheduler;
        let spec = &declared.binary;
        spec.has_active_scheduling().then(|| SchedulerThatRan {
            shown: self.scheduler_name(),
            path: self.scheduler.as_ref().map(|found| found.path.clone()),
            source: self.scheduler.as_ref().map(|found| found.source),
            version: self.scheduler_version.get().map(str::to_owned),
            hash: self.scheduler_hash.clone(),
        })
    }

    /// Returns the name of the scheduler in messages.
    pub(super) fn scheduler_name(&self) -> String {
        let spec = &self.entry.scheduler.binary;
        let found = self.scheduler.as_ref();
        found.map_or_else(
            || spec.display_name().to_owned(),
            |found| found.display_name(spec),
        )
    }

    /// Returns the declared topology in the form in which the guest reports its own.
    pub(super) fn topology(&self) -> String {
        self.entry.topology.to_string()
    }

    /// Returns the BLAKE3 hashes of the host's files that are packed into the guest's [`include::FOLDER`], by their path on
    /// the host; the files of a folder are listed one by one. Files that cannot be read are left out.
    pub(super) fn inputs(&self) -> BTreeMap<String, String> {
        let named = [&self.for_scheduler, &self.for_test];
        named
            .into_iter()
            .flatten()
            .filter(|(place, _)| Path::new(place).starts_with(include::FOLDER))
            .filter_map(|(_, file)| {
                let Content::Host(path) = &file.content else {
                    return None;
                };
                let bytes = std::fs::read(path).ok()?;
                let path = std::path::absolute(path).ok()?;
                let hash = blake3::hash(&bytes).to_hex().to_string();
                Some((path.display().to_string(), hash))
            })
            .collect()
    }

    /// Returns whether the run may start from a template that has the scheduler attached already.
    pub(super) fn shares_attach(&self) -> bool {
        matches!(self.setup.scheduler, Some(SchedulerJob::Program { .. }))
            && !self.entry.fresh_attach
            && !env::FRESH_ATTACH.is_on()
    }
}

/// Returns the size of all files together, in MiB, rounded down.
fn size_of(all: &[&Files]) -> u32 {
    let bytes: u64 = all
        .iter()
        .flat_map(|files| files.values())
        .map(|file| match &file.content {
            Content::Program(program) => program.size,
            Content::Host(path) => std::fs::metadata(path).map_or(0, |m| m.len()),
            Content::Written(text) => text.len() as u64,
        })
        .sum();
    (bytes >> 20) as u32
}

/// Opens the folder of the cache in which programs are kept as they are packed.
pub(super) fn programs() -> Result<Folder, RunError> {
    Ok(ktstr_kernel::cache::Cache::from_env()?.folder("programs")?)
}

/// Packs a program and the shared libraries that it needs.
fn add_program(files: &mut Files, path: &str, program: Program) -> Result<(), RunError> {
    for library in &program.libraries {
        let name = library.to_string_lossy().into_owned();
        files.insert(name, host_file(library, 0o755)?);
    }
    let file = GuestFile {
        // The hash, instead of the host's file, identifies what is packed: a build that changes nothing in the guest uses the
        // templates of the build before it.
        stamp: program.packed_blake3.clone(),
        mode: 0o755,
        content: Content::Program(program),
    };
    files.insert(path.to_owned(), file);
    Ok(())
}

/// Returns a file of the host, unchanged.
pub(super) fn host_file(path: &Path, mode: u32) -> Result<GuestFile, RunError> {
    Ok(GuestFile {
        stamp: stamp(path)?,
        mode,
        content: Content::Host(path.to_owned()),
    })
}

/// Returns a file with a text from the test's declaration.
fn written_file(text: &'static str) -> GuestFile {
    GuestFile {
        stamp: format!("written-{}", blake3::hash(text.as_bytes()).to_hex()),
        mode: 0o644,
        content: Content::Written(text),
    }
}

/// Packs a scheduler's configuration file, and returns its path in the guest. It is an error if another file of the host
/// already has this path.
fn add_config(files: &mut Files, path: &str) -> Result<String, RunError> {
    let place = include::place(path);
    let file = host_file(Path::new(path), 0o644)?;
    match files.get(&place).map(|there| &there.content) {
        Some(Content::Host(first)) if first != Path::new(path) => Err(RunError::IncludeClash {
            first: first.clone(),
            second: path.into(),
            place,
        }),
        _ => {
            files.insert(place.clone(), file);
            Ok(place)
        }
    }
}

fn setup(
    entry: &KtstrTestEntry,
    program: Option<String>,
    files: &mut Files,
) -> Result<Setup, RunError> {
    let declared = entry.scheduler;
    let mut args = Vec::new();
    if let Some(path) = declared.config_file {
        args.extend(["--config".to_owned(), add_config(files, path)?]);
    }
    if let (Some((_, path)), Some(content)) = (declared.config_file_def, entry.config_content) {
        files.insert(path.to_owned(), written_file(content));
        args.extend(declared.config_args());
    }
    let written = declared.sched_args.iter().chain(entry.extra_sched_args);
    args.extend(written.map(|s| (*s).to_owned()));
    let scheduler = match (&declared.binary, program) {
        (SchedulerSpec::KernelBuiltin { enable, disable }, _) => Some(SchedulerJob::Builtin {
            enable: enable.iter().map(|s| (*s).to_owned()).collect(),
            disable: disable.iter().map(|s| (*s).to_owned()).collect(),
        }),
        (_, Some(path)) => Some(SchedulerJob::Program {
            path,
            args,
            env: passed_on().collect(),
        }),
        _ => None,
    };
    Ok(Setup {
        scheduler,
        sysctls: declared
            .sysctls
            .iter()
            .map(|s| (s.key().to_owned(), s.value().to_owned()))
            .collect(),
        cgroup_parent: declared.cgroup_parent.map(|p| p.as_str().to_owned()),
        watchdog_timeout_ms: entry.watchdog_timeout.as_millis() as u64,
        disk: None,
        staged: Vec::new(),
    })
}

/// Packs a staged scheduler, which the test may start. Its program gets a folder of its own, because two schedulers may have
/// programs of the same name.
fn stage(
    entry: &KtstrTestEntry,
    declared: &Scheduler,
    programs: &Path,
    files: &mut Files,
    hashes: &mut BTreeMap<String, String>,
) -> Result<SchedulerJob, RunError> {
    let Some(found) = scheduler::find(declared)? else {
        return Err(RunError::Declaration {
            test: entry.name.to_owned(),
            reason: format!(
                "the staged scheduler {:?} has no program to start: stage one with a binary",
                declared.name
            ),
        });
    };
    if declared.config_file_def.is_some() {
        return Err(RunError::Declaration {
            test: entry.name.to_owned(),
            reason: format!(
                "the staged scheduler {:?} has a config_file_def, and `config` is for the test's own scheduler: stage one with a config_file",
                declared.name
            ),
        });
    }
    let program = Program::read(&found.path, Some(programs))?;
    hashes.insert(found.path.display().to_string(), program.blake3.clone());
    let name = found.path.file_name().unwrap_or_default();
    let path = format!(
        "{PROGRAM_FOLDER}/staged-{:.16}/{}",
        program.packed_blake3,
        name.to_string_lossy()
    );
    add_program(files, &path, program)?;
    let mut args = Vec::new();
    if let Some(path) = declared.config_file {
        args.extend(["--config".to_owned(), add_config(files, path)?]);
    }
    args.extend(declared.sched_args.iter().map(|arg| (*arg).to_owned()));
    Ok(SchedulerJob::Program {
        path,
        args,
        env: passed_on().collect(),
    })
}

/// Returns the host's environment variables that are passed to the test and the scheduler in the guest.
fn passed_on() -> impl Iterator<Item = (String, String)> {
    [
        env::RUST_BACKTRACE.row(),
        env::RUST_LOG.row(),
        env::LOG_PASSES.row(),
    ]
    .into_iter()
    .filter_map(|row| Some((row.name.to_owned(), row.shown()?)))
}

fn job(entry: &KtstrTestEntry) -> Result<Job, RunError> {
    let env = passed_on()
        .chain([(
            "PATH".to_owned(),
            format!("{}:/bin:/usr/bin", include::FOLDER),
        )])
        .collect();
    Ok(Job {
        test: entry.name.to_owned(),
        env,
        seed: seed(entry)?,
        variant: crate::variant::hash(entry),
        workload_root: workload_root::of(entry),
    })
}

/// Returns the seed of a run of this test: `KTSTR_SEED`, else that of the test, else 0.
pub(super) fn seed(entry: &KtstrTestEntry) -> Result<u64, RunError> {
    Ok(env::SEED.get()?.or(entry.seed).unwrap_or(0))
}

fn own_binary() -> Result<PathBuf, RunError> {
    std::env::current_exe().map_err(|cause| RunError::Include {
        what: "this test's own binary",
        path: "/proc/self/exe".to_owned(),
        cause,
    })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, RunError> {
    std::fs::read(path).map_err(|cause| RunError::Include {
        what,
        path: path.display().to_string(),
        cause,
    })
}
