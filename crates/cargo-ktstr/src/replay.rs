//! `cargo ktstr replay`: repeats a recorded run, and says whether the two runs are identical.
//!
//! The record has the hashes of the test binary, the scheduler, the kernel and the files in the guest, and the version of
//! QEMU, so changes since then are reported before anything is run. Exit codes: 0 if the runs are
//! identical, 1 if they differ, 2 if that is unknown or the run cannot be repeated.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use ktstr_record::compare::{Comparison, Run, repeated};
use ktstr_record::{CaptureMoment, Clock, RECORD_FILE, RunRecord, Start, TestName, runs_root};

use ktstr_record::terminal::eprint_line;
use ktstr_state::env;

use crate::child;
use crate::exit::Exit;
use crate::json::{self, Limit};
use crate::span::Span;
use crate::story::{self, Story};

/// The options of `cargo ktstr replay`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run: its name or the start of it, as `cargo ktstr runs` lists it, or the path of its folder or of its `record.json`.
    #[arg(value_name = "RUN")]
    record: PathBuf,
    /// Take a capture at this time since the beginning of the first step, such as `1.25s`; may be given up to 16 times.
    #[arg(long, value_name = "TIME")]
    capture_at: Vec<Span>,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// How much of a long list and of a long text the JSON contains.
    #[command(flatten)]
    limit: Limit,
}

/// The largest number of times at which captures can be requested.
const MOST_TIMES: usize = 16;

/// Repeats the run, and compares the repeat with the recorded run.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let path = find(&options.record, &runs_root())?;
    let recorded = Run::read(&path)?;
    check(&recorded.record)?;
    let record = &recorded.record;
    let times = times(&path, &options.capture_at)?;
    eprint_line(&format!(
        "replaying {}: seed {}, {} MIPS, kernel {}",
        record.test,
        record.seed.unwrap_or(0),
        record.mips.unwrap_or(0),
        record.kernel.as_deref().unwrap_or("unknown")
    ));
    let root = path
        .ancestors()
        .nth(2)
        .context("a record lies in a folder")?;
    let mut command = command(record, root)?;
    // A value in the environment of this process would be for another run.
    command.env_remove(&env::CAPTURE_AT);
    if !times.is_empty() {
        let times: Vec<String> = times.iter().map(u64::to_string).collect();
        command.env(&env::CAPTURE_AT, times.join(","));
    }
    let since = SystemTime::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("starting the test binary")?;
    child.wait().context("waiting for the test binary")?;
    let (again, replayed) = child::left(root, child.id(), since)?;
    let comparison = repeated(&recorded, &replayed);
    if options.json {
        let value = serde_json::json!({
            "same": match comparison {
                Comparison::Same => Some(true),
                Comparison::Differ(_) => Some(false),
                Comparison::Unknown(_) => None,
            },
            "text": comparison.to_string(),
            "recorded": path,
            "replayed": again,
            "digests": [&record.digest, &replayed.record.digest],
            "captured": asked_for(&replayed.record),
        });
        json::print(out, &value, options.limit)?;
    } else {
        write!(out, "{}", text(&comparison, &recorded, &replayed))?;
        writeln!(out, "recorded: {}", path.display())?;
        writeln!(out, "replayed: {}", again.display())?;
        if !times.is_empty() {
            out.write_all(captured(&comparison, &replayed.record, times.len()).as_bytes())?;
        }
    }
    Ok(match comparison {
        Comparison::Same => Exit::Done,
        Comparison::Differ(_) => Exit::Failed,
        Comparison::Unknown(_) => Exit::Host,
    })
}

/// Returns the absolute path of the record that `asked` names: a record, a folder with a record, the name of a run under
/// `root`, or the start of a name that only one of these runs has.
pub fn find(asked: &Path, root: &Path) -> Result<PathBuf> {
    let candidates = [
        asked.to_path_buf(),
        asked.join(RECORD_FILE),
        root.join(asked).join(RECORD_FILE),
    ];
    let found = candidates.into_iter().find(|path| path.is_file());
    let found = match found {
        Some(path) => path,
        None => by_prefix(asked, root)?,
    };
    Ok(std::path::absolute(found)?)
}

/// Returns the record of the only run under `root` whose name starts with `asked`.
fn by_prefix(asked: &Path, root: &Path) -> Result<PathBuf> {
    let prefix = asked.to_string_lossy();
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name();
        !prefix.is_empty() && name.to_string_lossy().starts_with(&*prefix)
    });
    let records = named.map(|entry| entry.path().join(RECORD_FILE));
    let mut found: Vec<PathBuf> = records.filter(|path| path.is_file()).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => bail!(
            "{} is not a record, a folder with a record, or the start of the name of a run under {}: `cargo ktstr runs` lists \
             the runs",
            asked.display(),
            root.display()
        ),
        many => bail!(
            "the names of {many} runs under {} start with {}: give more of the name",
            root.display(),
            asked.display()
        ),
    }
}

/// Returns the tags of the captures that were taken at requested times and have data.
fn asked_for(record: &RunRecord) -> Vec<&str> {
    let captures = record.captures.iter();
    captures
        .filter(|capture| capture.moment == Some(CaptureMoment::Asked))
        .filter(|capture| capture.placeholder.is_none())
        .map(|capture| capture.tag.as_str())
        .collect()
}

/// Describes which captures were taken and how to see them, and how many of the `wanted` ones are missing and why.
fn captured(comparison: &Comparison, record: &RunRecord, wanted: usize) -> String {
    let tags = asked_for(record);
    let mut text = String::new();
    for tag in &tags {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "captured: cargo ktstr show {} --capture {tag}",
            record.run_id
        );
    }
    if tags.len() < wanted {
        let _ = writeln!(
            text,
            "not captured: {} of {wanted} times; {}",
            wanted - tags.len(),
            match comparison {
                Comparison::Same =>
                    "the schedule has no event at or after these times, or a capture failed and the record says why",
                _ => "the record of the replay says how it ended",
            }
        );
    }
    if !tags.is_empty() && *comparison != Comparison::Same {
        text.push_str("These captures were taken in the replay, which is not known to be the same as the recorded run.\n");
    }
    text
}

/// Converts the requested times, which count from the start of the first step, to nanoseconds of the kernel's scheduler clock.
/// `path` is the path of the run's record, next to which the schedule lies.
fn times(path: &Path, asked: &[Span]) -> Result<Vec<u64>> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    if asked.len() > MOST_TIMES {
        bail!(
            "{} captures are asked for, and {MOST_TIMES} can be taken: replay the run again for the others",
            asked.len()
        );
    }
    let (file, bytes) = story::bytes(path)?;
    let story = Story::read(&bytes).with_context(|| file.display().to_string())?;
    let end = story.to_ns.saturating_sub(story.zero_ns());
    if let Some(late) = asked.iter().find(|span| span.0 > end) {
        bail!(
            "there is nothing to capture at {:.6} s: the schedule ends {:.6} s after the first step began",
            late.0 as f64 / 1e9,
            end as f64 / 1e9
        );
    }
    let zero = story.zero_ns();
    Ok(asked
        .iter()
        .map(|span| zero.saturating_add(span.0))
        .collect())
}

/// Returns an error if the run cannot be repeated exactly: a replay does not support its kind, or something has changed since.
fn check(record: &RunRecord) -> Result<()> {
    if record.test.starts_with(crate::cell::PREFIX) {
        bail!(
            "this run is one of `cargo ktstr check`, `compare`, `power` or `verifier`, which chose its scheduler and arguments: \
             run that command again; with each finding, `check` and `verifier` print the command that repeats its run"
        );
    }
    if record.test == ktstr_record::VERIFIER_CELL {
        bail!(
            "this run only loaded a scheduler, in a test `verifier/SCHEDULER/KERNEL/PRESET` of nextest, and a replay cannot \
             repeat it: run that test again"
        );
    }
    if record.test == crate::run::TEST {
        bail!(
            "this run is of a scenario in a file, and the record does not contain the file: `{}` makes the same run again",
            record.again.as_deref().unwrap_or("cargo ktstr run FILE")
        );
    }
    match record.clock {
        Some(Clock::Virtual) => {}
        Some(Clock::Real) => bail!(
            "this run had the real clock, under which no run can be repeated: run the test with KTSTR_CLOCK=virtual to get \
             one that can be replayed"
        ),
        None => bail!(
            "this run started no machine ({}): there is nothing to replay",
            record.reason.as_deref().unwrap_or("no reason kept")
        ),
    }
    let program = record.program.as_ref().context(
        "this record does not say which test binary ran: it was left by an older ktstr; run the test again",
    )?;
    unchanged(
        "the test binary",
        &program.path,
        &program.hash,
        "build it from the commit that was recorded",
    )?;
    if let Some(scheduler) = &record.scheduler
        && let (Some(path), Some(hash)) = (&scheduler.path, &scheduler.hash)
    {
        unchanged(
            "the scheduler",
            path,
            hash,
            "build it from the commit that was recorded",
        )?;
    }
    for (path, hash) in &record.staged {
        unchanged(
            "the staged scheduler",
            Path::new(path),
            hash,
            "build it from the commit that was recorded",
        )?;
    }
    for (path, hash) in &record.inputs {
        unchanged(
            "the test's file for the guest",
            Path::new(path),
            hash,
            "put back what was there",
        )?;
    }
    let named = record.environment.get(env::QEMU.name()).map(PathBuf::from);
    let path = env::PATH.get().unwrap_or_default();
    let qemu = ktstr_machine::Qemu::find_in(named, &path)?;
    if record.qemu.as_ref() != Some(&qemu.version) {
        bail!(
            "QEMU has changed: the run had version {}, and {} has version {}; to replay this run, install the old version there",
            record.qemu.as_deref().unwrap_or("none"),
            qemu.path.display(),
            qemu.version
        );
    }
    kernel(record)
}

/// Checks that the kernel is still in the cache, unchanged.
fn kernel(record: &RunRecord) -> Result<()> {
    let (Some(id), Some(hash)) = (&record.kernel_id, &record.kernel_hash) else {
        bail!("this record names no kernel: there is nothing to replay");
    };
    let cache = ktstr_kernel::cache::Cache::from_env()?;
    let (whole, _) = cache.scan()?;
    let Some(kernel) = whole.iter().find(|kernel| kernel.id == *id) else {
        let known: Vec<&str> = whole.iter().map(|kernel| kernel.id.as_str()).collect();
        bail!(
            "the kernel {id} is not in the cache {} any more (there are: {}): fetch it with `cargo ktstr kernel fetch`, \
             or run the test once with KTSTR_KERNEL set to its image",
            cache.kernels().display(),
            known.join(", ")
        );
    };
    if kernel.boot_sha256 != *hash {
        bail!(
            "the kernel {id} has changed: its image had the hash {hash}, now it has {}",
            kernel.boot_sha256
        );
    }
    Ok(())
}

fn unchanged(what: &str, path: &Path, hash: &str, todo: &str) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| {
        format!(
            "{what} {} cannot be read any more: {todo}, at this path",
            path.display()
        )
    })?;
    let now = blake3::hash(&bytes).to_hex().to_string();
    if now != hash {
        bail!(
            "{what} {} has changed since the run: its hash was {hash:.16}…, now it is {now:.16}…; {todo}",
            path.display()
        );
    }
    Ok(())
}

/// Returns the command that runs the test binary with the settings of the recorded run.
fn command(record: &RunRecord, root: &Path) -> Result<Command> {
    let program = record.program.as_ref().context("checked before")?;
    // The name of the declared test is enough to repeat a variant: the recorded variables include the variant's shape, and the
    // kernel's id is recorded separately.
    let name = TestName::declared(&record.test).to_string();
    let mut command = child::command(&program.path, &name, root);
    if program.folder.is_dir() {
        command.current_dir(&program.folder);
    }
    for row in env::recorded() {
        command.env_remove(row.name);
    }
    // This variable would take precedence over `KTSTR_KERNEL`, which names the recorded kernel.
    command.env_remove(&env::TEST_KERNEL);
    command.envs(&record.environment);
    command.env(&env::CLOCK, "virtual");
    command.env(&env::SEED, record.seed.unwrap_or(0).to_string());
    if let Some(mips) = record.mips {
        command.env(&env::VIRTUAL_MIPS, mips.to_string());
    }
    if let Some(id) = &record.kernel_id {
        command.env(&env::KERNEL, id);
    }
    command.env_remove(&env::RECORDED_SCHEDULERS);
    if let Some(path) = replaced(record) {
        command.env(&env::SCHEDULER, path);
    } else {
        // Without the recorded binaries, cargo would build the schedulers from sources that may have changed since.
        let paths = schedulers(record);
        if !paths.is_empty() {
            let list = std::env::join_paths(paths)
                .context("the path of a scheduler has a colon, so a replay cannot name it")?;
            command.env(&env::RECORDED_SCHEDULERS, list);
        }
    }
    if record.start == Some(Start::Cold) {
        command.env(&env::COLD, "1");
    }
    Ok(command)
}

/// Returns the value of `KTSTR_SCHEDULER` for the replay. This variable names one binary that is used for every scheduler that
/// would be discovered. The value is the run's own scheduler if the variable was set in the recorded run, or if that run could
/// start no other scheduler. `None` otherwise.
fn replaced(record: &RunRecord) -> Option<&Path> {
    let scheduler = record.scheduler.as_ref()?;
    let of_environment = scheduler.resolve_source.as_deref() == Some("env_var");
    let path = scheduler.path.as_deref()?;
    (record.staged.is_empty() || of_environment).then_some(path)
}

/// Returns the paths of all schedulers that the recorded run could start. Two of them may have the same file name if the test
/// names them by their paths. If the replay has to find a scheduler by its name, it refuses a name that two of them have.
fn schedulers(record: &RunRecord) -> BTreeSet<PathBuf> {
    let own = record
        .scheduler
        .iter()
        .filter_map(|scheduler| scheduler.path.clone());
    own.chain(record.staged.keys().map(PathBuf::from)).collect()
}

fn text(comparison: &Comparison, recorded: &Run, replayed: &Run) -> String {
    let mut text = String::new();
    let (a, b) = (&recorded.record, &replayed.record);
    // Writing to a String cannot fail.
    let _ = match comparison {
        Comparison::Same => writeln!(
            text,
            "SAME: the verdict of the recorded run is {}, and that of the replay {}; both made {} context switches, and ended with \
             the same memory and console output (digest {})",
            a.verdict.as_str(),
            b.verdict.as_str(),
            a.switches.as_ref().map_or(0, |switches| switches.count),
            a.digest.as_deref().unwrap_or_default()
        ),
        Comparison::Differ(parting) => writeln!(
            text,
            "DIFFERENT: the recorded run ended with {}, and the replay with {}\n{}\n{parting}",
            a.verdict.as_str(),
            b.verdict.as_str(),
            format_args!(
                "digest {:.16}…, then {:.16}…",
                a.digest.as_deref().unwrap_or_default(),
                b.digest.as_deref().unwrap_or_default()
            )
        ),
        Comparison::Unknown(why) => writeln!(text, "NO ANSWER: {why}"),
    };
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_is_found_by_path_folder_and_name() {
        let root = tempfile::tempdir().unwrap();
        let run = ktstr_record::RunDir::create(root.path(), "t").unwrap();
        let name = run.run_id().to_owned();
        let path = run.commit(RunRecord::new("t")).unwrap();
        for asked in [&path, &root.path().join(&name), &PathBuf::from(&name)] {
            assert_eq!(find(asked, root.path()).unwrap(), path);
        }
        let error = find(Path::new("nothing"), root.path()).unwrap_err();
        assert!(error.to_string().contains("nothing is not a record"));
    }

    #[test]
    fn the_start_of_a_name_is_enough_if_only_one_run_has_it() {
        let root = tempfile::tempdir().unwrap();
        for name in ["20260102T03-a-1.0", "20260102T04-b-1.1"] {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(RECORD_FILE), "{}").unwrap();
        }
        // A folder without a record is no run.
        std::fs::create_dir(root.path().join("20260102T03-c-1.2")).unwrap();
        let of = |start: &str| find(Path::new(start), root.path());
        assert!(
            of("20260102T03")
                .unwrap()
                .ends_with("20260102T03-a-1.0/record.json")
        );
        let several = of("20260102T").unwrap_err().to_string();
        assert!(several.contains("the names of 2 runs"), "{several}");
        assert!(of("").is_err());
    }

    #[test]
    fn a_replay_builds_no_scheduler() {
        let own = |source: &str| ktstr_record::SchedulerRecord {
            name: "own".to_owned(),
            path: Some("/built/scx_own".into()),
            resolve_source: Some(source.to_owned()),
            ..ktstr_record::SchedulerRecord::default()
        };
        let mut record = RunRecord {
            program: Some(ktstr_record::ProgramRecord::default()),
            scheduler: Some(own("auto_built")),
            ..RunRecord::new("t")
        };
        let set = |record: &RunRecord, name: &str| {
            let command = command(record, Path::new("/runs")).unwrap();
            let mut all = command.get_envs();
            let found = all
                .find(|(known, _)| *known == name)
                .and_then(|(_, value)| value);
            found.map(|value| value.to_string_lossy().into_owned())
        };
        let (one, all) = (env::SCHEDULER.name(), env::RECORDED_SCHEDULERS.name());
        assert_eq!(set(&record, one).as_deref(), Some("/built/scx_own"));
        assert_eq!(set(&record, all), None);
        record.staged = [("/built/scx_next".to_owned(), "11".to_owned())].into();
        assert_eq!(set(&record, one), None);
        assert_eq!(
            set(&record, all).as_deref(),
            Some("/built/scx_next:/built/scx_own")
        );
        // A scheduler that replaced all others in the recorded run does so in the replay, too.
        record.scheduler = Some(own("env_var"));
        assert_eq!(set(&record, one).as_deref(), Some("/built/scx_own"));
        // A test without a scheduler of its own can start one, too.
        record.scheduler = None;
        assert_eq!(set(&record, all).as_deref(), Some("/built/scx_next"));
        record
            .staged
            .extend([("/other/scx_next".to_owned(), "22".to_owned())]);
        assert_eq!(
            set(&record, all).as_deref(),
            Some("/built/scx_next:/other/scx_next")
        );
    }

    #[test]
    fn what_cannot_be_replayed_is_refused_with_a_reason() {
        let refused = |record: &RunRecord| check(record).unwrap_err().to_string();
        assert!(refused(&RunRecord::new("canned-steady")).contains("cargo ktstr check"));
        let mut record = RunRecord::new("t");
        assert!(refused(&record).contains("no machine"));
        record.clock = Some(Clock::Real);
        assert!(refused(&record).contains("KTSTR_CLOCK=virtual"));
        record.clock = Some(Clock::Virtual);
        assert!(refused(&record).contains("older ktstr"));
        let file = tempfile::NamedTempFile::new().unwrap();
        record.program = Some(ktstr_record::ProgramRecord {
            path: file.path().to_path_buf(),
            hash: "0".repeat(64),
            folder: PathBuf::new(),
        });
        let text = refused(&record).replace(&file.path().display().to_string(), "PATH");
        insta::assert_snapshot!(text, @"the test binary PATH has changed since the run: its hash was 0000000000000000…, now it is af1349b9f5f9a1a6…; build it from the commit that was recorded");
    }
}
