//! The step engine: executes the steps of a scenario inside the guest.
//!
//! A step consists of these parts: check that the scheduler runs (except before the first step); publish the number of the step;
//! apply operations; create cgroups and workers; send `StepStart`; hold; send `StepEnd`; stop and collect what belongs to the
//! step; judge it. Setup and teardown do not use up the duration of the scenario, because the time of the workload window
//! (`window.rs`) is paused meanwhile. A problem inside a step is a failed result rather than an error, so everything collected so
//! far is kept. The engine does not take captures (the host does) and does not decide the final verdict.

mod live_scenario;
mod liveness;
mod memory_nodes;
mod ops;
mod outcome;
mod partition;
mod payloads;
mod quota;
#[cfg(test)]
mod tests;
mod window;

pub use memory_nodes::memory_key;
pub use outcome::{FIRST_TURN_MS, HOG_KEY, SERVED_MS, hog_key};
pub(crate) use outcome::{acquit_of_gaps, report_ends};

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context as _, Result, bail};
use ktstr_assert::{Assert, AssertDetail, AssertResult, Finding, Phase, PhaseGuard};
use ktstr_scenario::Ctx;
use ktstr_scenario::cgroup::Controller;
use ktstr_scenario::ops::{Backdrop, CgroupDef, HoldSpec, Op, Setup, Step};

use crate::link;
use crate::protocol::{Ask, ChangeError, ToHost};
use crate::realtime::{self, RealTime};
use crate::stats::{Requests, SOCKET};
use crate::workers::clock::sleep_until;
use live_scenario::{Attached, LiveScenario, Owner};
use liveness::Liveness;
use window::{CutSteps, Window};

/// Runs a single step that lasts the whole window. Use this for a scenario whose cgroups and workers never change.
///
/// # Errors
/// The same errors as [`execute_steps`].
pub fn execute_defs(ctx: &Ctx, defs: Vec<CgroupDef>) -> Result<AssertResult> {
    execute_steps(ctx, vec![Step::with_defs(defs, HoldSpec::FULL)])
}

/// Runs the steps with the test's own checks.
///
/// # Errors
/// Before anything runs: the input is invalid (an impossible hold, more steps than can be numbered, an operation that cannot
/// be repeated in a step that loops, an invalid payload), the cgroup tree of the test cannot be prepared, or the memory that
/// the workers share cannot be mapped. A problem inside a step is a failure in the result instead.
pub fn execute_steps(ctx: &Ctx, steps: Vec<Step>) -> Result<AssertResult> {
    execute_steps_with(ctx, steps, None)
}

/// Runs the steps with `checks`, or with the test's own checks if `checks` is `None`.
///
/// # Errors
/// The same errors as [`execute_steps`].
pub fn execute_steps_with(
    ctx: &Ctx,
    steps: Vec<Step>,
    checks: Option<&Assert>,
) -> Result<AssertResult> {
    execute_scenario_with(ctx, Backdrop::new(), steps, checks)
}

/// Runs the steps with a backdrop: cgroups and workers that live for the whole scenario.
///
/// # Errors
/// The same errors as [`execute_steps`].
pub fn execute_scenario(ctx: &Ctx, backdrop: Backdrop, steps: Vec<Step>) -> Result<AssertResult> {
    execute_scenario_with(ctx, backdrop, steps, None)
}

/// Like [`execute_scenario`], with `checks` instead of the test's own if they are given.
///
/// # Errors
/// The same errors as [`execute_steps`].
pub fn execute_scenario_with(
    ctx: &Ctx,
    backdrop: Backdrop,
    steps: Vec<Step>,
    checks: Option<&Assert>,
) -> Result<AssertResult> {
    validate(&steps)?;
    validate_payloads(&backdrop, &steps)?;
    ctx.cgroups
        .setup(&controllers(&backdrop, &steps))
        .context("preparing the cgroup tree of the test")?;
    let checks = checks.unwrap_or(&ctx.assert);
    let scheduler = attached(ctx);
    let mut run = Run {
        ctx,
        checks,
        scenario: LiveScenario::new(checks.has_numa_checks(), scheduler)?,
        window: Window::open(ctx.duration),
        liveness: Liveness::new(scheduler),
        is_blind: false,
        cut: CutSteps::default(),
        result: AssertResult::pass(),
    };
    // Raise the engine's priority, so that the scheduler under test cannot delay the end of a step by starving the engine.
    // On the host the priority stays as it is.
    let in_guest = crate::init::is_test_process();
    let _raised = in_guest.then(|| RealTime::raise(realtime::ENGINE));
    ctx.current_step.store(0, Relaxed);
    link::send(&ToHost::ScenarioStart);
    if in_guest {
        let stats = Arc::new(Requests::begin(Path::new(SOCKET), ctx.capture_times()));
        run.window.is_followed_by(Arc::clone(&stats));
        run.scenario.stats = stats;
    }
    run.pause();
    if run.maps_are_written() && run.backdrop(&backdrop) {
        for (k0, step) in steps.iter().enumerate() {
            if !run.step(k0 as u16, step) {
                break;
            }
        }
    }
    run.finish();
    Ok(run.result)
}

/// Returns the name of a step on screens, which counts from 1, for its index.
fn step_name(k0: impl Into<usize>) -> String {
    format!("step {}", k0.into() + 1)
}

fn validate(steps: &[Step]) -> Result<()> {
    if steps.len() >= usize::from(u16::MAX) {
        bail!(
            "{} steps: at most {} can be numbered",
            steps.len(),
            u16::MAX - 1
        );
    }
    for (k0, step) in steps.iter().enumerate() {
        step.hold
            .validate()
            .with_context(|| format!("{}: the hold is invalid", step_name(k0)))?;
        let loops = matches!(step.hold, HoldSpec::Loop { .. });
        if let Some(op) = step.ops.iter().find(|op| loops && op.is_once()) {
            bail!(
                "{}: {} cannot be in a step with HoldSpec::Loop, because it would be stored again in \
                 each round under the same tag: put it into a step of its own",
                step_name(k0),
                op.name()
            );
        }
    }
    Ok(())
}

/// Checks the declarations of all programs, except those of cgroups that a [`Setup::Factory`] creates when its step starts.
fn validate_payloads(backdrop: &Backdrop, steps: &[Step]) -> Result<()> {
    let ops = steps.iter().flat_map(|step| &step.ops).chain(&backdrop.ops);
    let of_ops = ops.filter_map(|op| match op {
        Op::RunPayload { payload, .. } => Some(*payload),
        Op::AddCgroupDef { def } => def.payload,
        _ => None,
    });
    let given = steps.iter().flat_map(|step| match &step.setup {
        Setup::Defs(defs) => defs.as_slice(),
        Setup::Factory(_) => &[],
    });
    let of_defs = given.chain(&backdrop.cgroups).filter_map(|def| def.payload);
    for payload in of_ops
        .chain(of_defs)
        .chain(backdrop.payloads.iter().copied())
    {
        payload.validate()?;
    }
    Ok(())
}

/// Returns the process id of the scheduler that is attached now, or `None` if there is no such process.
pub(crate) fn scheduler_pid(ctx: &Ctx) -> Option<i32> {
    attached(ctx).map(|scheduler| scheduler.pid)
}

/// Returns the scheduler that is attached now, or `None` if there is no scheduler that has a process.
fn attached(ctx: &Ctx) -> Option<Attached> {
    let spec = ctx.current_scheduler();
    let first = ctx.sched_pid.map(|pid| Attached {
        pid,
        bpf: spec.is_some_and(|spec| spec.has_bpf_scheduler()),
    });
    Attached::now(first)
}

/// Returns the controllers that the declarations need. What the cgroups of a [`Setup::Factory`] need is unknown until their
/// step starts, so those controllers are enabled on first use.
fn controllers(backdrop: &Backdrop, steps: &[Step]) -> BTreeSet<Controller> {
    let given = steps.iter().flat_map(|step| match &step.setup {
        Setup::Defs(defs) => defs.as_slice(),
        Setup::Factory(_) => &[],
    });
    let ops = steps.iter().flat_map(|step| &step.ops).chain(&backdrop.ops);
    let mut all: BTreeSet<Controller> = backdrop
        .cgroups
        .iter()
        .chain(given)
        .flat_map(CgroupDef::controllers)
        .collect();
    for op in ops {
        all.extend(op.controller());
        if let Op::AddCgroupDef { def } = op {
            all.extend(def.controllers());
        }
    }
    all
}

struct Run<'a, 'c> {
    ctx: &'a Ctx<'c>,
    checks: &'a Assert,
    scenario: LiveScenario,
    window: Window,
    liveness: Liveness,
    /// Whether a check could not see the scheduler.
    is_blind: bool,
    cut: CutSteps,
    result: AssertResult,
}

impl<'a> Run<'a, '_> {
    /// Returns what workers are judged by: checks, topology, and whether a BPF scheduler drives them.
    fn judged(&self) -> outcome::By<'a> {
        outcome::By {
            checks: self.checks,
            topo: self.ctx.topo,
            bpf: self.scenario.scheduler.is_some_and(|by| by.bpf),
        }
    }

    fn pause(&mut self) {
        if self.window.pause() {
            link::send(&ToHost::ScenarioPause);
        }
    }

    fn resume(&mut self) {
        if self.window.resume() {
            link::send(&ToHost::ScenarioResume);
        }
    }

    fn fail(&mut self, finding: Finding) {
        self.result.record_fail(AssertDetail::of(finding));
    }

    fn fail_op(&mut self, stage: &str, error: &anyhow::Error) {
        let (stage, text) = (stage.to_owned(), format!("{error:#}"));
        let finding = match error.downcast_ref() {
            Some(ChangeError::NotAttached { scheduler, .. }) => Finding::StartupDeath {
                stage,
                scheduler: scheduler.clone(),
                error: text,
            },
            Some(ChangeError::Refused(_)) | None => Finding::SetUp { stage, error: text },
        };
        self.fail(finding);
    }

    /// Returns whether the scheduler still runs. If it does not, records a failure. If the kernel asked the scheduler to
    /// attach again, this function waits for that and pauses window time meanwhile.
    fn alive(&mut self) -> bool {
        if let Some(liveness) = self.scenario.changed.take() {
            self.liveness = liveness;
        }
        let Self {
            liveness, window, ..
        } = self;
        let mut paused = false;
        let found = liveness.check(self.scenario.scheduler, &mut || {
            // Between two steps, window time is already paused.
            let message = match window.pause() {
                true => ToHost::ScenarioPause,
                false => ToHost::Alive,
            };
            paused |= matches!(message, ToHost::ScenarioPause);
            link::send(&message);
        });
        let blind = liveness.take_blind();
        if paused {
            self.resume();
        }
        // Every later check has the same reason, so only the first one is told.
        if !self.is_blind
            && let Some(why) = blind
        {
            self.is_blind = true;
            self.result.note(why);
        }
        match found {
            Ok(0) => {}
            Ok(times) => {
                link::send(&ToHost::SchedulerAttachedAgain);
                let plural = if times == 1 { "" } else { "s" };
                self.result.note(format!(
                    "the scheduler attached again {times} time{plural}, as sched_ext requests when a CPU goes online or offline"
                ));
            }
            Err(death) => {
                self.fail(death);
                return false;
            }
        }
        true
    }

    fn set_up(
        &mut self,
        owner: Owner,
        defs: &[CgroupDef],
        ops: &[Op],
        ops_first: bool,
    ) -> Result<()> {
        let Self { ctx, scenario, .. } = self;
        let run_ops = |scenario: &mut LiveScenario| {
            ops.iter()
                .try_for_each(|op| ops::apply(ctx, scenario, owner, op))
        };
        if ops_first {
            run_ops(scenario)?;
        }
        for def in defs {
            scenario.add_def(ctx, owner, def)?;
        }
        if !ops_first {
            run_ops(scenario)?;
        }
        scenario.release(ctx)
    }

    /// Asks the host to write the test's values into the scheduler's variables. Returns `false` if the scenario cannot
    /// continue.
    fn maps_are_written(&mut self) -> bool {
        if !self.ctx.wait_for_map_write {
            return true;
        }
        let written = link::ask(&Ask::WriteMaps).map_err(anyhow::Error::msg);
        if let Err(error) = &written {
            let _label = PhaseGuard::install_baseline();
            self.fail_op("bpf_map_write", error);
        }
        written.is_ok()
    }

    /// Sets up the backdrop. Returns `false` if the scenario cannot continue.
    fn backdrop(&mut self, backdrop: &Backdrop) -> bool {
        let _label = PhaseGuard::install_baseline();
        self.scenario.phase.set(0);
        let mut ops = backdrop.ops.clone();
        let payloads = backdrop.payloads.iter().copied();
        ops.extend(payloads.map(|payload| Op::run_payload(payload, Vec::new())));
        let done = self.set_up(Owner::Backdrop, &backdrop.cgroups, &ops, false);
        if let Err(error) = &done {
            self.fail_op("backdrop", error);
        }
        done.is_ok()
    }

    /// Runs one step from setup to teardown. Returns `false` if the scenario cannot continue.
    fn step(&mut self, k0: u16, step: &Step) -> bool {
        let _label = PhaseGuard::install_step(k0);
        if k0 > 0 && !self.alive() {
            return false;
        }
        let ordinal = k0 + 1;
        self.ctx.current_step.store(ordinal, Relaxed);
        self.scenario.phase.set(ordinal);
        let defs = step.setup.defs(self.ctx);
        self.scenario.announce(&defs);
        let set_up = self.set_up(Owner::Step, &defs, &step.ops, true);
        let ok = match set_up {
            Err(error) => {
                self.fail_op(&step_name(k0), &error);
                false
            }
            Ok(()) => self.held(k0, step),
        };
        self.pause();
        let done = self
            .scenario
            .tear_down(self.ctx, Owner::Step, &mut self.result);
        let judged = self.judged();
        outcome::judge(&mut self.result, &judged, ordinal, done);
        ok
    }

    /// Holds the step and reports its start and its end to the host. Returns `false` if the scenario cannot continue.
    fn held(&mut self, k0: u16, step: &Step) -> bool {
        self.resume();
        let start_ms = self.window.elapsed_ms();
        link::send(&ToHost::StepStart {
            step_index: k0 + 1,
            elapsed_ms: start_ms,
            op_count: step.ops.len() as u32,
            op_kinds: step.ops.iter().fold(0, |bits, op| {
                bits | 1u64.checked_shl(op.wire_index().into()).unwrap_or(0)
            }),
            cgroup_count: self.scenario.cgroups() as u32,
            worker_count: self.scenario.workers() as u32,
            total_iterations: self.scenario.total_iterations(),
        });
        let ok = self.hold(k0, step);
        let end_ms = self.window.elapsed_ms();
        link::send(&ToHost::StepEnd {
            step_index: k0 + 1,
            elapsed_ms: end_ms,
            total_iterations: self.scenario.total_iterations(),
        });
        outcome::add_window(&mut self.result, Phase::step(k0), start_ms..=end_ms);
        ok
    }

    fn hold(&mut self, k0: u16, step: &Step) -> bool {
        let mut rounds = match step.hold {
            HoldSpec::Loop { interval } => Some(self.window.ticks(interval)),
            _ => None,
        };
        let requested = step.hold.requested(self.ctx.duration);
        let left = self.window.left();
        let whole = self.ctx.duration;
        self.cut.add(step_name(k0), requested, left, whole);
        let mut deadline = self.window.deadline(requested);
        loop {
            let until = match &rounds {
                Some(ticks) => ticks.next.min(deadline),
                None => deadline,
            };
            // Without a scheduler to check, there is no reason to wake up early.
            let at_end = if self.scenario.scheduler.is_some() {
                self.window.sleep_slice(until)
            } else {
                sleep_until(until);
                true
            };
            let paused_ns = self.window.paused_ns();
            if !self.alive() {
                return false;
            }
            let waited_ns = self.window.paused_ns().saturating_sub(paused_ns);
            if waited_ns > 0 {
                // The wait does not count as a part of the hold: move the end and the next round by its length.
                deadline = deadline.saturating_add(waited_ns);
                if let Some(ticks) = &mut rounds {
                    ticks.next = ticks.next.saturating_add(waited_ns);
                }
                continue;
            }
            if !at_end {
                continue;
            }
            if until >= deadline {
                return true;
            }
            if let Some(ticks) = &mut rounds {
                ticks.advance();
                if let Err(error) = self.set_up(Owner::Step, &[], &step.ops, true) {
                    self.fail_op(&step_name(k0), &error);
                    return false;
                }
            }
        }
    }

    fn finish(&mut self) {
        self.resume();
        let elapsed_ms = self.window.elapsed_ms();
        let _label = PhaseGuard::install_baseline();
        let done = self
            .scenario
            .tear_down(self.ctx, Owner::Backdrop, &mut self.result);
        let judged = self.judged();
        outcome::judge_backdrop(&mut self.result, &judged, done);
        if let Some(note) = self.cut.note(self.ctx.duration) {
            self.result.note(note);
        }
        link::send(&ToHost::ScenarioEnd {
            elapsed_ms,
            total_iterations: self.scenario.total_iterations(),
        });
        outcome::bound(&mut self.result);
    }
}
