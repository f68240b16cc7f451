//! The results of the loads as data: `--json` writes them, `--baseline` reads them, and the table is made from them.
//! `docs/verifier.md` describes each field.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ktstr_record::RunVerdict;
use serde::{Deserialize, Serialize};

use super::stats;
use crate::cell::{Outcome, Program};
use crate::check::Checked;
use crate::exit::Exit;
use crate::json;

/// The value of the field `format` in every file that `--json` writes.
const FORMAT: &str = "ktstr-verifier";
/// The version of the schema. It is raised when a field changes its meaning or goes away, or a new field is required.
const SCHEMA: u32 = 1;

/// A BPF program of the scheduler, with the verifier's statistics about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The name of the program. For a program that loads, it is only the first 15 bytes, because the kernel keeps no more.
    pub program: String,
    /// The instructions that the verifier processed on all paths; `None` if the kernel does not report the number.
    pub insns: Option<u64>,
    /// The states that the verifier saved for pruning; `None` if the scheduler's log does not have the number.
    pub states: Option<u64>,
    /// Whether it is the program that was rejected.
    pub refused: bool,
    /// The program's instructions in the baseline; `None` if there is no baseline, or if the baseline lacks the program.
    pub before: Option<u64>,
}

/// How a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The scheduler took over the CPUs, even if it was ejected at once.
    Loads,
    /// The scheduler did not load, by its own fault.
    Refused,
    /// The scheduler did not load, and it is undetermined whose fault that is. Usually the kernel lacks something that this
    /// scheduler was built for. The scheduler may also have been killed because the guest ran out of memory.
    DoesNotFit,
    /// The load was inconclusive, because something other than the scheduler failed, such as the harness or the host.
    NoAnswer,
}

impl Ended {
    /// Returns the result in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Loads => "loads",
            Self::Refused => "DOES NOT LOAD",
            Self::DoesNotFit => "does not fit",
            Self::NoAnswer => "no answer",
        }
    }
}

/// A load on one kernel and one shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Release of the kernel.
    pub kernel: String,
    /// Shape of the machine.
    pub topology: String,
    /// How the load ended.
    pub ended: Ended,
    /// The reason as reported by the verifier, the scheduler or the harness; for a scheduler that loads and is ejected at
    /// once, the reason for the ejection.
    pub reason: Vec<String>,
    /// The scheduler's programs: the rejected one first, and the others sorted by name.
    pub programs: Vec<Row>,
    /// How the load on this machine ended in the baseline; `None` if there is no baseline, or if it has no such load.
    pub before: Option<Ended>,
    /// Names of programs that only the baseline has.
    pub gone: Vec<String>,
    /// The command that repeats the load.
    pub again: String,
    /// Path of the run's record; `None` if none was kept.
    pub record: Option<PathBuf>,
}

impl Load {
    /// Returns the load on `kernel` that had this outcome. `topology` is used if the outcome does not name the machine's shape.
    pub fn of(kernel: &str, topology: &str, outcome: &Outcome, again: String) -> Self {
        let ended = match (outcome.never_attached(), outcome.verdict) {
            (true, RunVerdict::Fail) => Ended::Refused,
            (true, _) => Ended::DoesNotFit,
            (false, RunVerdict::Pass) => Ended::Loads,
            (false, RunVerdict::Fail) if outcome.fault.as_deref() == Some("scheduler") => {
                Ended::Loads
            }
            (false, _) => Ended::NoAnswer,
        };
        let reason = match outcome.verdict {
            RunVerdict::Pass => Vec::new(),
            _ => outcome.details.clone(),
        };
        Self {
            kernel: kernel.to_owned(),
            topology: outcome.topology.clone().unwrap_or(topology.to_owned()),
            ended,
            reason,
            programs: rows(&outcome.programs, &outcome.verifier_log),
            before: None,
            gone: Vec::new(),
            again,
            record: (outcome.record.clone()).filter(|_| outcome.verdict != RunVerdict::Pass),
        }
    }

    /// Returns whether both loads are on the same kernel and shape.
    fn is_of(&self, other: &Self) -> bool {
        (&self.kernel, &self.topology) == (&other.kernel, &other.topology)
    }
}

/// Returns the rows of a load, from the numbers of the kernel and the numbers in the scheduler's log.
fn rows(programs: &[Program], log: &str) -> Vec<Row> {
    let printed = stats::of(log);
    // The kernel keeps 15 bytes of a name.
    let is = |name: &str, program: &str| name.get(..15).unwrap_or(name) == program;
    // Several programs can share these bytes. The number of verified instructions distinguishes them.
    let states = |program: &Program| {
        let named = |one: &&stats::Walked| {
            one.program
                .as_deref()
                .is_some_and(|name| is(name, &program.name))
        };
        let all = || printed.iter().rev().filter(named);
        let found = all().find(|one| one.insns == program.insns);
        found.or_else(|| all().next()).map(|one| one.states)
    };
    let mut rows: Vec<Row> = programs
        .iter()
        .map(|program| Row {
            program: program.name.clone(),
            insns: Some(program.insns).filter(|insns| *insns > 0),
            states: states(program),
            refused: false,
            before: None,
        })
        .collect();
    for one in printed {
        let name = one.program.unwrap_or_else(|| "(not named)".to_owned());
        if one.refused || !rows.iter().any(|row| is(&name, &row.program)) {
            rows.push(Row {
                program: name,
                insns: Some(one.insns),
                states: Some(one.states),
                refused: one.refused,
                before: None,
            });
        }
    }
    rows.sort_by(|a, b| (!a.refused, &a.program).cmp(&(!b.refused, &b.program)));
    rows
}

/// The loads of a scheduler on all kernels and shapes, as they are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`FORMAT`], by which a stored report is recognised.
    format: String,
    /// The [`SCHEMA`] of the command that wrote the report.
    schema: u32,
    /// The scheduler whose programs were loaded.
    pub scheduler: Checked,
    /// A load for each kernel and shape.
    pub loads: Vec<Load>,
    /// Requested kernels that are not available, and why.
    pub missing_kernels: Vec<String>,
    /// The scheduler of the baseline; `None` if there is no baseline.
    pub baseline: Option<Checked>,
    /// The growth of a program, in percent of its instructions in the baseline, above which it counts as a failure; `None` for
    /// no such bound.
    pub max_growth: Option<u32>,
    /// The exit code of the command: 1 if a load was refused or a program grew too much, 2 if a load has no answer, the
    /// scheduler and a kernel do not fit together, or a kernel is missing, otherwise 0.
    pub exit: u8,
}

impl Report {
    /// Builds the report of these loads.
    pub fn new(scheduler: Checked, loads: Vec<Load>, missing_kernels: Vec<String>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            schema: SCHEMA,
            scheduler,
            loads,
            missing_kernels,
            baseline: None,
            max_growth: None,
            exit: 0,
        }
    }

    /// Reads a report that an earlier call wrote.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is truncated, is not such a report, has another schema, or was written with `--limit`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the baseline {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the baseline {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let other = "it is not what `cargo ktstr verifier --json FILE` writes";
        let head: serde_json::Value = serde_json::from_str(text).map_err(|error| {
            let why = match error.is_eof() {
                true => "the file ends in the middle: copy it once more, or write it again",
                false => other,
            };
            anyhow::Error::new(error).context(why)
        })?;
        ensure!(head["format"] == FORMAT, other);
        ensure!(
            head["schema"] == SCHEMA,
            "its schema is {}, and this command reads only {SCHEMA}: write it again with this command",
            head["schema"]
        );
        ensure!(
            head.get(json::LEFT_OUT).is_none(),
            "it was written with --limit, so programs may be missing from it: write it again without"
        );
        serde_json::from_value(head).context("a field of it is damaged")
    }

    /// Fills the fields about the baseline, in the report and in each load and program, from the report of an earlier call.
    ///
    /// # Errors
    ///
    /// The two reports have no machine in common.
    pub fn hold_against(&mut self, earlier: &Self) -> Result<()> {
        let mut common = 0;
        for load in &mut self.loads {
            let Some(before) = earlier.loads.iter().find(|before| before.is_of(load)) else {
                continue;
            };
            common += 1;
            load.before = Some(before.ended);
            // The kernel keeps 15 bytes of a name, so several programs can have the same name. They are sorted by their
            // numbers of instructions, and are compared in this order if the baseline has the same number of them.
            let named = |rows: &[Row], name: &str| -> Vec<Option<u64>> {
                let same = rows.iter().filter(|one| one.program == name);
                same.map(|one| one.insns).collect()
            };
            let now = load.programs.clone();
            let mut place = BTreeMap::new();
            for row in &mut load.programs {
                let then = named(&before.programs, &row.program);
                let at = place.entry(row.program.clone()).or_insert(0usize);
                if then.len() == named(&now, &row.program).len() {
                    row.before = then.get(*at).copied().flatten();
                }
                *at += 1;
            }
            let there = |one: &&Row| now.iter().any(|row| row.program == one.program);
            let gone = before.programs.iter().filter(|one| !there(one));
            load.gone = gone.map(|one| one.program.clone()).collect();
        }
        ensure!(
            common > 0,
            "the baseline has none of these machines; it has loads on {}",
            (earlier.loads.iter())
                .map(|load| format!("{} {}", load.kernel, load.topology))
                .collect::<Vec<_>>()
                .join(", ")
        );
        self.baseline = Some(earlier.scheduler.clone());
        Ok(())
    }

    /// Returns the programs that have grown by more than the bound, with their loads.
    pub fn grown(&self) -> Vec<(&Load, &Row)> {
        let Some(most) = self.max_growth else {
            return Vec::new();
        };
        let rows = self.loads.iter().flat_map(|load| {
            let rows = load.programs.iter();
            rows.map(move |row| (load, row))
        });
        let too_much = |(_, row): &(&Load, &Row)| match (row.insns, row.before) {
            (Some(now), Some(before)) => {
                let bound = u128::from(before) * (100 + u128::from(most));
                u128::from(now) * 100 > bound
            }
            _ => false,
        };
        rows.filter(too_much).collect()
    }

    /// Returns the exit code for the loads of the report.
    pub fn code(&self) -> Exit {
        let any = |ended: Ended| self.loads.iter().any(|load| load.ended == ended);
        if any(Ended::Refused) || !self.grown().is_empty() {
            return Exit::Failed;
        }
        let unknown = any(Ended::DoesNotFit) || any(Ended::NoAnswer);
        match unknown || self.loads.is_empty() || !self.missing_kernels.is_empty() {
            true => Exit::Host,
            false => Exit::Done,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Returns a program as the kernel reports it.
    pub fn program(name: &str, insns: u64) -> Program {
        Program {
            name: name.to_owned(),
            insns,
        }
    }

    /// Returns a successful load with these programs.
    pub fn loaded(programs: Vec<Program>) -> Load {
        let mut outcome = Outcome::without_answer(String::new());
        outcome.verdict = RunVerdict::Pass;
        outcome.findings.clear();
        outcome.programs = programs;
        Load::of(
            "7.3.4",
            "1n1l2c1t",
            &outcome,
            "cargo ktstr verifier".to_owned(),
        )
    }

    /// Returns a load that the verifier rejected, with its log.
    pub fn refused() -> Load {
        let mut outcome = Outcome::without_answer("the verifier rejected it".to_owned());
        outcome.verdict = RunVerdict::Fail;
        outcome.fault = Some("scheduler".to_owned());
        outcome.findings[0].check = ktstr::assert::outcome::finding::CHECK_NOT_ATTACHED.to_owned();
        outcome.details.push("R1 invalid <mem>".to_owned());
        outcome.verifier_log = "processed 6 insns (limit 1000000) total_states 2\n\
                                libbpf: prog 'mine_init': failed to load: -EACCES\n"
            .to_owned();
        Load::of(
            "7.0.1",
            "1n1l2c1t",
            &outcome,
            "cargo ktstr verifier".to_owned(),
        )
    }

    /// Returns the report of these loads.
    pub fn report(loads: Vec<Load>) -> Report {
        let scheduler = Checked {
            path: "./scx_mine".into(),
            ..Checked::default()
        };
        Report::new(scheduler, loads, Vec::new())
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_load() {
        let fine = || loaded(vec![program("mine_enqueue", 400)]);
        assert_eq!(report(vec![fine()]).code(), Exit::Done);
        assert_eq!(report(vec![fine(), refused()]).code(), Exit::Failed);
        let mut misfit = refused();
        misfit.ended = Ended::DoesNotFit;
        assert_eq!(report(vec![fine(), misfit]).code(), Exit::Host);
        assert_eq!(report(Vec::new()).code(), Exit::Host);
        let mut missing = report(vec![fine()]);
        missing
            .missing_kernels
            .push("kernel 9.9: there is none".to_owned());
        assert_eq!(missing.code(), Exit::Host);
    }

    #[test]
    fn a_refused_program_has_the_numbers_of_its_log() {
        let load = refused();
        assert_eq!(load.ended, Ended::Refused);
        let row = &load.programs[0];
        assert_eq!((row.program.as_str(), row.refused), ("mine_init", true));
        assert_eq!((row.insns, row.states), (Some(6), Some(2)));
    }

    #[test]
    fn states_come_from_the_log_by_the_first_fifteen_bytes() {
        let log = "libbpf: prog 'mine_select_cpu_fast': -- BEGIN PROG LOAD LOG --\n\
                   processed 400 insns (limit 1000000) total_states 31\n";
        let rows = rows(&[program("mine_select_cpu", 400)], log);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].states, Some(31));
    }

    #[test]
    fn a_baseline_shows_programs_that_grew_are_new_or_are_gone() {
        let before = report(vec![loaded(vec![program("a", 100), program("old", 5)])]);
        let mut now = report(vec![loaded(vec![program("a", 121), program("new", 7)])]);
        let text = serde_json::to_string(&before).expect("JSON");
        now.hold_against(&Report::parse(&text).expect("a baseline"))
            .expect("a machine in common");
        let load = &now.loads[0];
        assert_eq!(load.before, Some(Ended::Loads));
        assert_eq!(load.gone, ["old"]);
        let before: Vec<_> = load.programs.iter().map(|row| row.before).collect();
        assert_eq!(before, [Some(100), None]);
        assert_eq!(now.code(), Exit::Done);
        for (most, code) in [(20, Exit::Failed), (21, Exit::Done)] {
            now.max_growth = Some(most);
            assert_eq!(now.code(), code, "{most} %");
        }
        let other = report(vec![refused()]);
        let error = now.hold_against(&other).expect_err("nothing in common");
        assert!(
            error.to_string().contains("it has loads on 7.0.1 1n1l2c1t"),
            "{error}"
        );
    }

    #[test]
    fn programs_of_the_same_name_have_their_own_states() {
        let log = "libbpf: prog 'mitosis_cgroup_init': BPF program load log:\n\
                   processed 50 insns (limit 1000000) max_states_per_insn 1 total_states 3 peak_states 3 mark_read 1\n\
                   libbpf: prog 'mitosis_cgroup_exit': BPF program load log:\n\
                   processed 200 insns (limit 1000000) max_states_per_insn 1 total_states 9 peak_states 9 mark_read 1\n";
        let two = [50, 200].map(|insns| program("mitosis_cgroup_", insns));
        let states: Vec<_> = rows(&two, log).iter().map(|row| row.states).collect();
        assert_eq!(states, [Some(3), Some(9)]);
    }

    #[test]
    fn programs_of_the_same_name_are_compared_in_pairs() {
        let three = || {
            vec![loaded(
                [50, 200, 400]
                    .map(|insns| program("mitosis_cgroup_", insns))
                    .into(),
            )]
        };
        let mut now = report(three());
        now.hold_against(&report(three()))
            .expect("the same machine");
        let before = |now: &Report| -> Vec<_> {
            now.loads[0].programs.iter().map(|row| row.before).collect()
        };
        assert_eq!(before(&now), [Some(50), Some(200), Some(400)]);
        now.max_growth = Some(0);
        assert_eq!(now.code(), Exit::Done);
        // If the number of these programs has changed, it is unknown which one is which.
        let two = [50, 200].map(|insns| program("mitosis_cgroup_", insns));
        let mut now = report(three());
        now.hold_against(&report(vec![loaded(two.into())]))
            .expect("the same machine");
        assert_eq!(before(&now), [None; 3]);
    }

    #[test]
    fn a_file_that_is_no_baseline_is_refused() {
        let text = serde_json::to_string(&report(vec![refused()])).expect("JSON");
        let error = |text: &str| format!("{:#}", Report::parse(text).expect_err("none"));
        assert!(error(&text[..text.len() / 2]).contains("ends in the middle"));
        assert!(error("{}").contains("it is not what"));
        assert!(error("prose").contains("it is not what"));
        let old = text.replacen("\"schema\":1", "\"schema\":0", 1);
        assert!(error(&old).contains("its schema is 0"));
        let bounded = text.replacen("{", "{\"left_out\":{},", 1);
        assert!(error(&bounded).contains("it was written with --limit"));
        let damaged = text.replacen("\"loads\"", "\"load\"", 1);
        assert!(error(&damaged).contains("a field of it is damaged"));
    }
}
