//! Runs a cell in another process of this binary, so that a crash of the run affects nothing else.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use ktstr::prelude::*;
use ktstr_record::settings::Settings;
use ktstr_schedule::SCHEDULE_FILE;
use ktstr_state::env;

use super::outcome::{findings, first_line};
use super::{
    Cell, LOAD_ONLY, Outcome, PREFIX, Program, SCX_KTSTR, Under, bounds, measure, promises,
};
use crate::exit::Exit;

/// The prefix of a run's notes about promises that the scheduler does not make (`run/verdict/schedule.rs`).
const NOT_PROMISED: &str = "not promised (";
/// The default parent of the workload's cgroups.
const ROOT: &str = "/ktstr";

impl Cell {
    /// Runs the cell in a separate process, with its record below `records`. An error becomes an inconclusive outcome.
    pub fn run(&self, records: &Path) -> Outcome {
        let output = serde_json::to_string(self)
            .context("the cell as JSON")
            .and_then(|cell| self.command(&cell, records)?.output().context("a run"));
        match output {
            Err(error) => Outcome::without_answer(format!("{error:#}")),
            Ok(output) => serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
                Outcome::without_answer(format!("the run ended with {}", output.status))
            }),
        }
    }

    /// Returns the settings that change the numbers of a run but are not fields of the cell, and that are the same for all
    /// cells of a command: the version of QEMU, and the environment variables that the run inherits.
    ///
    /// # Errors
    ///
    /// There is no QEMU, or this binary was replaced.
    pub fn settings(&self) -> Result<Settings> {
        let command = self.command("", &ktstr_record::runs_root())?;
        // A variable that the command sets or removes is not inherited.
        let own: Vec<&OsStr> = command.get_envs().map(|(name, _)| name).collect();
        let inherited = env::recorded().filter(|row| !own.contains(&OsStr::new(row.name)));
        // QEMU is compared by its version, because its path says nothing about a run. The accelerator is left out, because only
        // one of them supports the virtual clock, which every cell uses.
        let without = [env::QEMU.name(), env::ACCEL.name()];
        let inherited = inherited.filter(|row| !without.contains(&row.name));
        let mut settings: Settings = inherited
            .filter_map(|row| Some((row.name.to_owned(), row.compared()?)))
            .collect();
        settings.insert("QEMU".to_owned(), ktstr_machine::Qemu::find()?.version);
        Ok(settings)
    }

    fn command(&self, cell: &str, records: &Path) -> Result<Command> {
        // If the file was replaced or removed, Linux adds ` (deleted)` to the path, which then does not exist.
        let own = std::env::current_exe()?;
        anyhow::ensure!(
            own.exists(),
            "the binary of this command was replaced or removed while the command ran: run the command again"
        );
        let mut command = Command::new(own);
        command
            .args(["run-cell", cell])
            .env(&env::SEED, self.seed.to_string())
            .env(&env::CLOCK, "virtual")
            .env(&env::RUNS_ROOT, records)
            .env(&env::SESSION, crate::child::session())
            .env_remove(&env::SCHEDULER)
            .env_remove(&env::FRESH_ATTACH)
            .env_remove(&env::TOPOLOGY)
            .env_remove(&env::SCHEDULE)
            // The command itself writes a summary of all cells to the page of the CI job, on which a cell alone would say little.
            .env_remove(&env::GITHUB_STEP_SUMMARY)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        crate::child::ends_with_its_parent(&mut command);
        if self.fresh {
            command.env(&env::FRESH_ATTACH, "1");
        }
        if self.under != Under::ScxKtstr {
            // Only scx-ktstr is built by cargo.
            command.env_remove(&env::SCHEDULER_PROFILE);
        }
        if let Some(kernel) = &self.kernel {
            command.env(&env::KERNEL, kernel);
            command.env_remove(&env::TEST_KERNEL);
        }
        if let Some(topology) = &self.topology {
            command.env(&env::TOPOLOGY, topology);
        }
        Ok(command)
    }
}

/// `cargo ktstr run-cell CELL`: runs one cell in this process and prints the outcome as JSON.
pub fn run_here(out: &mut dyn Write, cell: &str) -> Result<Exit> {
    let cell: Cell = serde_json::from_str(cell).context("reading the cell")?;
    let name = format!("{PREFIX}{}", cell.scenario);
    let declared = find_test(&name).with_context(|| format!("there is no scenario {name}"))?;
    let scheduler = match cell.under {
        Under::ScxKtstr => SCX_KTSTR,
        Under::Eevdf => Scheduler::EEVDF,
        Under::Binary(path) => {
            let path = path.into_os_string().into_string();
            let path = path.map_err(|path| anyhow::anyhow!("{path:?} is not valid UTF-8"))?;
            Scheduler::named("other").binary(SchedulerSpec::Path(path.leak()))
        }
    };
    // The scheduler, its arguments and the entry are leaked: they live as long as the process, which makes one run.
    let scheduler = Box::leak(Box::new(Scheduler {
        promises: promises::without(&cell.without),
        ..scheduler
    }));
    let args: Vec<&'static str> = cell.args.into_iter().map(|arg| &*arg.leak()).collect();
    let entry: &'static KtstrTestEntry = Box::leak(Box::new(KtstrTestEntry {
        scheduler,
        extra_sched_args: args.leak(),
        assert: bounds::over(declared.assert, &cell.bounds),
        memory_mib: cell.memory_mib.unwrap_or(declared.memory_mib),
        ..*declared
    }));
    let finished = ktstr::run::run(entry);
    let record = finished.record.clone();
    let kept = record
        .as_deref()
        .and_then(|path| ktstr_record::read(path).ok())
        .unwrap_or_default();
    let (findings, details) = findings(&finished.result);
    let notes = finished.result.info_notes.iter();
    let notes = notes.filter(|note| note.message.starts_with(NOT_PROMISED));
    let guest = finished
        .vm
        .as_ref()
        .map(|vm| vm.guest_assert_result().is_ok());
    let metrics = (record.as_deref())
        .filter(|_| has_numbers(&finished.result, guest.unwrap_or(false)))
        .and_then(|record| std::fs::read(record.with_file_name(SCHEDULE_FILE)).ok())
        .map(|file| measure::measure(&file, ROOT, &finished.result.stats));
    let loaded = finished.vm.as_ref().filter(|_| cell.scenario == LOAD_ONLY);
    let outcome = Outcome {
        verdict: finished.verdict,
        fault: finished.fault.map(|fault| fault.name().to_owned()),
        findings,
        details,
        not_promised: notes.map(|note| first_line(&note.message)).collect(),
        metrics: metrics.unwrap_or_default(),
        programs: loaded.map_or_else(Vec::new, programs),
        verifier_log: loaded.map_or("", VmResult::scheduler_log).to_owned(),
        digest: finished.vm.as_ref().and_then(|vm| vm.digest.clone()),
        wall_s: finished.wall.as_secs_f64(),
        kernel: kept.kernel,
        topology: kept.topology,
        record,
    };
    serde_json::to_writer(&mut *out, &outcome)?;
    writeln!(out)?;
    finished.print();
    Ok(Exit::Done)
}

/// Returns whether the metrics of a run show how well the scheduler schedules. They do not if the run ended early, was
/// skipped, or was inconclusive. `reported` says whether the test in the guest reported its result.
fn has_numbers(result: &AssertResult, reported: bool) -> bool {
    // A run in which the scheduler left tasks to the fair class (`NotDriven`) did not end early.
    let ends = |detail: &AssertDetail| {
        detail.explains_the_rest() && !matches!(detail.finding, Finding::NotDriven { .. })
    };
    let ended_early = !reported || result.failure_details().any(ends);
    !ended_early && !result.is_inconclusive() && !result.is_skip()
}

/// Returns the guest's BPF programs in the last capture, sorted by name; none without a capture.
fn programs(vm: &VmResult) -> Vec<Program> {
    let last = vm.captures_series().iter_samples().last();
    let stats = last.map_or(&[][..], |sample| sample.snapshot.prog_runtime_stats());
    let mut programs: Vec<Program> = stats
        .iter()
        .map(|program| Program {
            name: program.name.clone(),
            insns: program.verified_insns,
        })
        .collect();
    programs.sort_by(|a, b| (&a.name, a.insns).cmp(&(&b.name, b.insns)));
    programs
}
