//! A run on the host: it makes a plan, starts a machine, follows the guest, judges what was seen, and writes the record.
//! Each of these stages has a module, and this module calls them in that order.

mod accelerator;
mod admission;
mod aim;
mod asks;
mod budget;
mod callbacks;
mod captures;
mod digest;
mod disk;
mod error;
mod guest_session;
mod guest_state;
mod headline;
mod host_times;
mod in_window;
mod include;
mod kernel_memory;
pub mod kvm;
mod machine_kind;
mod moments;
mod monitor;
pub(crate) mod perf_delta;
mod performance;
mod plan;
mod record_writer;
mod report;
mod repro;
mod reshape;
mod schedule;
mod scheduler;
mod settings;
mod shape;
mod stall;
mod start;
mod stats;
mod step_summary;
mod storm;
mod teardown;
pub mod templates;
pub(crate) mod thresholds;
mod verdict;
mod watched;
mod watched_maps;
mod workload_root;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ktstr_assert::{AssertDetail, AssertResult, DetailKind};
use ktstr_guest::protocol::SchedulerJob;
use ktstr_machine::Accelerator;
use ktstr_record::terminal::{eprint_line, escaped};
use ktstr_record::{RepeatRecord, RunVerdict, Switches};
use ktstr_scenario::scheduler::Promise;
use ktstr_snapshot::report::ScxExit;

pub use aim::{Aim, step};
pub use error::RunError;
pub use plan::SchedulerThatRan;
pub use report::say_again;
pub(crate) use report::under_nextest_as;
pub use repro::{place, queue_name, run_and_repeat};
pub use scheduler::{Found, Source as SchedulerSource, find as find_scheduler_binary};
pub use start::Level;
pub use verdict::Fault;

use crate::contention::ContentionWitness;
use crate::entry::KtstrTestEntry;
use crate::sidecar;
use crate::vm_result::{HostVcpuSchedstat, VmResult};
pub(crate) use captures::Taken;
use captures::{Captures, LazyKernelInfo};
use guest_session::End;
use guest_state::GuestState;
use host_times::HostTimes;
use in_window::InWindow;
use machine_kind::MachineKind;
use moments::{CaptureContext, Moments};
use monitor::Monitor;
use plan::Plan;
use repro::{Evidence, Observe};
use reshape::Reshaped;
use teardown::Teardown;
use verdict::Case;
pub(crate) use verdict::Judgement;
use watched::Watches;
use watched_maps::WatchedMaps;

/// The exit code of a pass, of a skip, and of an inconclusive run that the test allows (`allow_inconclusive`).
pub const EXIT_PASS: i32 = 0;
/// The exit code of a failure, and of an error that the user has to correct.
pub const EXIT_FAIL: i32 = 1;
/// The exit code of any other inconclusive run, and of an error that lies with the host.
pub const EXIT_INCONCLUSIVE: i32 = 2;

/// Stands for the exit code of a test process whose exit was not seen: it did not start, was killed, or still ran at the end.
const NO_EXIT: i32 = -1;

/// The time of each stage of a run. All are wall time, except for `attach`. A stage that the run did not reach is zero.
#[derive(Debug, Clone, Default)]
pub struct Timings {
    /// Finding QEMU and the kernel, and finding or building the scheduler.
    pub resolve: Duration,
    /// Reading the programs that go into the guest, and locating its other files.
    pub initramfs: Duration,
    /// Waiting until the host has room for another machine.
    pub slot: Duration,
    /// From the start of QEMU (or of building a template) until the guest is paused before its first instruction, which is that
    /// of the kernel, or the first one after a restore.
    pub restore: Duration,
    /// From the start of QEMU (or of building a template) to the first instruction of the test function, or to the exit of
    /// QEMU if the function was not called.
    pub boot: Duration,
    /// From the scheduler's start to its attach, in guest time. In a fork of an attached template the attach is the one
    /// in the template.
    pub attach: Duration,
    /// The workload window, without the time for captures.
    pub window: Duration,
    /// The time that the guest was frozen for captures.
    pub captures: Duration,
    /// The time for the monitor's samples, and for its checks whether the scheduler has ended. Both fall into the window for
    /// the most part.
    pub monitor: Duration,
    /// From the end of the window to the exit of QEMU.
    pub teardown: Duration,
    /// The time for computing the digests of the run.
    pub digest: Duration,
}

/// A run that has finished.
#[derive(Debug)]
pub struct Finished {
    /// The test that was run.
    pub entry: &'static KtstrTestEntry,
    /// The verdict of the run.
    pub verdict: RunVerdict,
    /// Whose fault it is that the run did not pass; `None` for a pass and for a skip.
    pub fault: Option<Fault>,
    /// The evidence for the fault, in one line.
    pub evidence: Option<String>,
    /// The result: all outcomes, claims and measurements.
    pub result: AssertResult,
    /// The scheduler that the run's plan resolved to; `None` for the kernel's default scheduler, and for a run that ended
    /// before it had a plan.
    pub scheduler: Option<SchedulerThatRan>,
    /// What is known of the virtual machine after its end; `None` if no machine was started, and if a [`RunError`]
    /// ended the run.
    pub vm: Option<VmResult>,
    /// The time of each stage.
    pub timings: Timings,
    /// Wall time of the whole run.
    pub wall: Duration,
    /// The text of the failure report; empty if the exit code is 0, and for the repeat of another run.
    pub text: String,
    /// The path of the run's record on disk; `None` if it could not be written.
    pub record: Option<PathBuf>,
    /// How the run compares with the one that it repeats; `None` if it repeats none, or if its record could not be written.
    pub repeats: Option<RepeatRecord>,
    /// What the repeats of this run showed, as lines; `None` if it was not repeated.
    pub repeat: Option<String>,
    /// What the schedule shows about the failures; empty unless the run failed and left a schedule that can be read.
    evidence_of_schedule: Evidence,
    exit_code: i32,
}

impl Finished {
    /// Returns [`EXIT_PASS`], [`EXIT_FAIL`] or [`EXIT_INCONCLUSIVE`]. An inconclusive run that the test allows
    /// (`allow_inconclusive`) counts as a pass here.
    pub fn exit_code(&self) -> i32 {
        self.exit_code
    }

    /// Prints the report for the user. For a skip it prints the reason, and for any other run with exit code 0 nothing.
    pub fn print(&self) {
        if self.verdict == RunVerdict::Skip {
            eprint_line(&format!("ktstr: SKIP: {}", report::reason(&self.result)));
        }
        if !self.text.is_empty() {
            eprint_line(&self.text);
        }
    }
}

/// Runs one test to its end, as the harness does, and returns its result, which may be a skip. Use it in a test that checks
/// the outcome of another test.
///
/// # Errors
/// Returns the failure report if the run failed, or if it is inconclusive and the test does not
/// allow that (`allow_inconclusive`).
pub fn run_ktstr_test(entry: &'static KtstrTestEntry) -> anyhow::Result<AssertResult> {
    let finished = run(entry);
    if finished.exit_code() == EXIT_PASS {
        Ok(finished.result)
    } else {
        Err(anyhow::Error::msg(finished.text))
    }
}

/// Runs one test to its end, once, and writes its record and its sidecar. [`run_and_repeat`] also repeats a run that failed.
pub fn run(declared: &'static KtstrTestEntry) -> Finished {
    once(declared, &Observe::default())
}

/// Runs one test, with the additional captures that `observe` asks for. A repeat of a run leaves the sidecar of the first run
/// as it is, and does not call the test's callbacks, which were called for the first run.
fn once(declared: &'static KtstrTestEntry, observe: &Observe) -> Finished {
    let is_repeat = observe.repeats.is_some();
    let began = Instant::now();
    let mut run = Run::default();
    let reshaped = reshape::reshape(declared);
    let entry = match &reshaped {
        Ok(Reshaped::Run(entry)) => entry,
        _ => declared,
    };
    let validated = entry.validate().map_err(|reason| RunError::Declaration {
        test: entry.name.to_owned(),
        reason: reason.to_string(),
    });
    let outcome = reshaped.and_then(|reshaped| {
        validated?;
        if let Some(why) = performance::skipped(entry)? {
            return Ok(Judgement::skip(why));
        }
        match reshaped {
            Reshaped::Skip(why) => Ok(Judgement::skip(why)),
            Reshaped::Run(_) if entry.host_only => {
                Ok(crate::host_side::call(entry, plan::seed(entry)?))
            }
            Reshaped::Run(_) => {
                // The sidecar describes the first run.
                if !is_repeat {
                    sidecar::begin(entry);
                }
                run.in_machine(entry, observe)
            }
        }
    });
    // `expect_err` asks for a failure of the run. An error that kept the run from being started or judged does not satisfy
    // it.
    let began_at_all = outcome.is_ok();
    let mut judgement = outcome.unwrap_or_else(|error| {
        let host_error = error.exit_code() == EXIT_INCONCLUSIVE;
        let (fault, detail) = (
            if host_error { Fault::Host } else { Fault::User },
            AssertDetail::new(DetailKind::Other, error.to_string()),
        );
        Judgement {
            guest: Err(error.to_string()),
            result: if host_error {
                AssertResult::inconclusive(detail)
            } else {
                AssertResult::fail(detail)
            },
            fault: Some(fault),
            evidence: None,
            crash: None,
        }
    });
    // A repeat leaves the files of the first run as they are.
    let dumped = is_repeat || dump_if_failed(entry, run.vm.as_ref(), &judgement);
    let missed_error =
        entry.expect_err && began_at_all && expect_error(entry, run.vm.as_ref(), &mut judgement);
    if let Some(vm) = &run.vm {
        storm::judge(&mut judgement, entry, vm);
        if !is_repeat {
            callbacks::call(entry, vm, &mut judgement, missed_error);
        }
        // A failure of a callback or of the cleanup budget must not satisfy `expect_err`, so both are judged after
        // `expect_error`, which inverts the verdict.
        teardown::judge(&mut judgement, entry, run.teardown, run.teardown_delay);
        let kernel = run.plan.as_ref().map(|plan| plan.kernel.release.as_str());
        perf_delta::judge(&mut judgement, entry, vm, kernel);
        if !dumped {
            dump_if_failed(entry, Some(vm), &judgement);
        }
    }
    let verdict = verdict_of(&judgement.result);
    let exit_code = match verdict {
        RunVerdict::Pass | RunVerdict::Skip => EXIT_PASS,
        RunVerdict::Inconclusive if entry.allow_inconclusive => EXIT_PASS,
        RunVerdict::Inconclusive => EXIT_INCONCLUSIVE,
        RunVerdict::Fail => EXIT_FAIL,
    };
    let mut finished = Finished {
        entry,
        verdict,
        fault: judgement.fault,
        evidence: judgement.evidence.or_else(|| {
            let fault = judgement.fault?;
            Some(verdict::default_evidence(fault).to_owned())
        }),
        result: judgement.result,
        scheduler: run.plan.as_ref().and_then(Plan::scheduler_that_ran),
        vm: run.vm.take(),
        timings: run.timings.clone(),
        wall: began.elapsed(),
        text: String::new(),
        record: None,
        repeats: None,
        repeat: None,
        evidence_of_schedule: Evidence::default(),
        exit_code,
    };
    if verdict == RunVerdict::Fail {
        finished.evidence_of_schedule = evidence(&mut finished, run.plan.as_ref());
    }
    let first = observe.repeats.as_deref();
    match record_writer::write(&finished, run.plan.as_ref(), run.accelerator, first) {
        Ok((path, repeats)) => {
            if !is_repeat && let Err(error) = sidecar::write(&finished, &path) {
                eprint_line(&format!(
                    "ktstr: the sidecar of the run could not be written: {error:#}"
                ));
            }
            (finished.record, finished.repeats) = (Some(path), repeats);
        }
        Err(error) => eprint_line(&format!(
            "ktstr: the run's record could not be written: {error}"
        )),
    }
    if exit_code != EXIT_PASS && !is_repeat {
        // `Finished::print` prints this text, or libtest prints it as the panic's message.
        finished.text = escaped(&report::text(&finished)).into_owned();
        let warning = finished.record.as_deref().and_then(step_summary::append);
        warning.iter().for_each(|warning| eprint_line(warning));
    }
    finished
}

/// Writes what was captured of the guest to the place where the test's callbacks look for it, if the run failed or is
/// inconclusive. Returns whether it failed or is inconclusive.
fn dump_if_failed(entry: &KtstrTestEntry, vm: Option<&VmResult>, judgement: &Judgement) -> bool {
    let failed = judgement.result.is_fail() || judgement.result.is_inconclusive();
    if failed
        && let Some(vm) = vm
        && let Err(error) = sidecar::write_dump(entry, vm)
    {
        eprint_line(&format!(
            "ktstr: what was captured of the guest could not be written: {error:#}"
        ));
    }
    failed
}

/// Returns what the schedule of a failed run shows about its failures; nothing if the run left no schedule, or if the schedule
/// cannot be read, which is noted.
fn evidence(finished: &mut Finished, plan: Option<&Plan>) -> Evidence {
    let schedule = finished.vm.as_ref().and_then(|vm| vm.schedule.as_deref());
    let (Some(schedule), Some(plan)) = (schedule, plan) else {
        return Evidence::default();
    };
    let findings = record_writer::findings(&finished.result);
    let moments = finished.vm.iter().flat_map(|vm| &vm.moments);
    // A scheduler that attached again at the kernel's request has an earlier exit as well, so the last exit counts.
    let mut exits = moments.filter(|m| m.moment == ktstr_record::CaptureMoment::ScxExit);
    let exit_ns = exits.next_back().and_then(|exit| exit.clock_ns);
    let root = &plan.job.workload_root;
    let found = Evidence::of(&findings, schedule, root, exit_ns);
    found.unwrap_or_else(|error| {
        finished
            .result
            .note(format!("the schedule could not be read back: {error}"));
        Evidence::default()
    })
}

fn verdict_of(result: &AssertResult) -> RunVerdict {
    if result.is_fail() {
        RunVerdict::Fail
    } else if result.is_inconclusive() {
        RunVerdict::Inconclusive
    } else if result.is_skip() {
        RunVerdict::Skip
    } else {
        RunVerdict::Pass
    }
}

/// Inverts the verdict of an `expect_err` test: the run passes if it failed with the error that the test expects, and
/// fails if it passed or failed with another error. A skip and an inconclusive run stay as they are. Returns whether the run
/// fails only because it passed.
fn expect_error(entry: &KtstrTestEntry, vm: Option<&VmResult>, judgement: &mut Judgement) -> bool {
    if judgement.result.is_skip() || judgement.result.is_inconclusive() {
        return false;
    }
    if judgement.result.is_fail() {
        let checks = entry.scheduler.assert.merge(&entry.assert);
        let text = vm.map(|vm| verdict::exit_text(vm, judgement));
        let mut other = checks.evaluate_scx_bpf_error_match(&text.unwrap_or_default());
        if other.is_fail() {
            other.merge(std::mem::take(&mut judgement.result));
            judgement.result = other;
            return false;
        }
        let wanted: Vec<String> = judgement
            .result
            .failure_details()
            .map(|d| d.message.clone())
            .collect();
        judgement.result = AssertResult::pass();
        for message in wanted {
            judgement.result.note(format!("as expected: {message}"));
        }
        judgement.blame_nobody();
        false
    } else {
        judgement.result.record_fail(AssertDetail::new(
            DetailKind::Other,
            "expect_err is set, and the run did not fail".to_owned(),
        ));
        if judgement.fault.is_none() {
            judgement.blame(Fault::Test, "the run passed".to_owned());
        }
        true
    }
}

/// Returns the message of a panic, or a text that stands for it if the panic's payload is no string.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// What a run in a machine leaves for the record, also if it ends with an error.
#[derive(Debug, Default)]
struct Run {
    plan: Option<Plan>,
    accelerator: Option<Accelerator>,
    timings: Timings,
    vm: Option<VmResult>,
    teardown: Option<Teardown>,
    /// For how long the host kept a vCPU from running during the teardown; `None` if that was not measured.
    teardown_delay: Option<Duration>,
}

impl Run {
    fn in_machine(
        &mut self,
        entry: &'static KtstrTestEntry,
        observe: &Observe,
    ) -> Result<Judgement, RunError> {
        // An invalid value of `KTSTR_AUTO_REPRO` is reported before the run, and not only when the run has failed.
        repro::tries()?;
        let Self {
            plan,
            accelerator: used,
            timings,
            vm,
            teardown,
            teardown_delay,
        } = self;
        let plan = &*plan.insert(Plan::make(entry)?);
        timings.resolve = plan.resolve_time;
        timings.initramfs = plan.pack_time;
        let machine_kind = MachineKind::choose(plan)?;
        let waiting = Instant::now();
        let _turn = admission::enter(plan, machine_kind)?;
        timings.slot = waiting.elapsed();
        *used = Some(machine_kind.accelerator);
        let mut kernel_info = LazyKernelInfo::load(&plan.kernel);
        let mut captures = Captures::new(entry);
        let mut watches = Watches::default();
        let mut moments = Moments::new(machine_kind, observe)?;
        let mut in_window = InWindow::default();
        let mut maps = WatchedMaps::new(entry.watch_bpf_maps, plan.job.seed);
        let builtin = matches!(plan.setup.scheduler, Some(SchedulerJob::Builtin { .. }));
        let mut monitor = Monitor::new(builtin, plan.job.seed);
        let started = Instant::now();
        let mut machine = start::start(plan, machine_kind, &mut kernel_info)?;
        let cpu_budget = budget::apply(entry, &machine.session.machine)?;
        machine.session.limit_cpus(cpu_budget);
        timings.restore = started.elapsed();
        let template = machine.template();
        if machine_kind.mips().is_none() {
            // The tables of the kernel are parsed in another thread, and the first sample waits for them. The guest's messages
            // are not read meanwhile, and under the real clock they count from the moment at which they are read. An error is
            // reported by whatever needs the tables.
            let _ = kernel_info.get();
        }
        let early = machine.dispatch(plan, machine_kind, &mut kernel_info)?;
        let start::Started {
            mut session,
            level,
            console: before,
            ..
        } = machine;
        let longest = entry.duration.max(entry.watchdog_timeout);
        let stall_limit = longest.saturating_add(stall::MARGIN);
        let mut timeouts_set = session.guest.all_attaches();
        let mut timeout_set = None;
        let mut host_times = HostTimes::default();
        let mut end = match early {
            Some(end) => end,
            None => session.run_to_end(stall_limit, |machine, recorder, guest, now, hold| {
                // Paths and names are looked up only after the test function has been called. Before that, the kernel's symbols
                // may still be loading, and the guest would be held until they are loaded. Nothing is lost, because whatever
                // could be looked up earlier can also be looked up later.
                if let Some(recorder) = recorder.as_mut().filter(|_| guest.called.is_some()) {
                    recorder.look_up(machine, &mut kernel_info);
                }
                captures.clock_ns = recorder.as_ref().map(schedule::Recorder::last_ns);
                captures.take_stats(machine, guest);
                host_times.poll(machine, guest);
                let writes = entry.bpf_map_write;
                watches.poll(machine, &mut kernel_info, &mut captures, guest, now, hold)?;
                asks::answer(
                    machine,
                    &mut kernel_info,
                    &mut captures,
                    &mut watches,
                    guest,
                    writes,
                    now,
                )?;
                // Each attach sets the stall timeout to the scheduler's own, so the timeout of the test has to be set again.
                let of_run = guest.scheduler_changes > 0 || guest.attached_again > 0;
                if of_run && timeouts_set != guest.all_attaches() {
                    timeouts_set = guest.all_attaches();
                    start::set_timeout(machine, plan, &mut kernel_info, &mut timeout_set);
                }
                in_window.poll(machine, &mut kernel_info, guest, plan);
                let sample = monitor.poll(machine, &mut kernel_info, guest, now);
                let mut context = CaptureContext {
                    machine,
                    kernel_info: &mut kernel_info,
                    captures: &mut captures,
                    recorder: recorder.as_ref(),
                    guest,
                    now,
                };
                moments.poll(&mut context, hold, &monitor)?;
                let map = maps.poll(machine, &mut kernel_info, guest, now);
                let capture = captures.take_if_due(machine, &mut kernel_info, guest, now)?;
                if let Some(clock) = machine.virtual_clock() {
                    // The stall timeout expires at the same instruction in every run.
                    let patience =
                        (guest.called).map(|_| guest.progress_at.saturating_add(stall_limit));
                    let due = [sample, map, capture, patience].into_iter().flatten().min();
                    clock.set_due(due.and_then(due_ns));
                }
                Ok(())
            })?,
        };
        if let End::TimedOut(_, stall) = &mut end {
            if session.hold.is_none() {
                // The guest's memory is read from here on. An error only means that the guest has stopped already, or that
                // QEMU is gone.
                let _ = session.machine.stop();
            }
            stall.tasks = captures::current_tasks(&session.machine, &mut kernel_info);
            stall.processes = captures::processes(&session.machine, &mut kernel_info);
        }
        let now = session.now();
        let mut context = CaptureContext {
            machine: &mut session.machine,
            kernel_info: &mut kernel_info,
            captures: &mut captures,
            recorder: session.recorder.as_ref(),
            guest: &session.guest,
            now,
        };
        moments.end(&mut context, &end)?;
        let mut followed = follow(&session, &end, template)?;
        followed.schedule = session.finish_recording(&mut kernel_info, &plan.shape);
        let guest_session::GuestSession { machine, guest, .. } = session;
        let console = format!("{before}{}", machine.end());
        let wall = started.elapsed();
        timings.fill(started, &guest, &captures, &monitor, Instant::now());
        let seen_at = |at: Option<Instant>| match entry.num_snapshots {
            0 => None,
            _ => at.map(|at| at - started),
        };
        let (opened, closed) = guest.seen;
        let (periodic_prereqs_ready, periodic_window_end) = (seen_at(opened), seen_at(closed));
        let case = Case {
            scheduler: &plan.scheduler_name(),
            under_test: (&entry.scheduler.binary).into(),
            changed: guest.scheduler_changes > 0,
            promises: match in_window.ignores_weights {
                true => entry.scheduler.promises.without(Promise::CpuWeight),
                false => entry.scheduler.promises,
            },
            told_of_idle: in_window.told_of_idle,
            topology: &plan.topology(),
            memory_mib: plan.memory_mib,
            virtual_clock: machine_kind.mips().is_some(),
            parallel_tcg: machine_kind.parallel_tcg(),
            hogs: verdict::Hogs::UNSEEN,
        };
        let seen = verdict::schedule::see(&case, followed.schedule.as_deref());
        let (seen, unreadable) = match seen {
            Ok(seen) => (seen, None),
            Err(error) => (None, Some(error)),
        };
        let case = Case {
            hogs: verdict::Hogs::new(seen.as_ref(), guest.test_pid),
            ..case
        };
        *teardown = Teardown::of(&guest);
        *teardown_delay = host_times.delay_of_teardown();
        let (mut report, scx_exit) = monitor.done();
        if let Some(report) = &mut report {
            report.watchdog_observation = in_window.watchdog;
        }
        let mut judgement = verdict::judge(&case, &end, &guest, &console, scx_exit.as_ref());
        if let Some(error) = unreadable {
            let note = format!("the schedule could not be read back: {error}");
            judgement.result.note(note);
        }
        let mut checks = entry.scheduler.assert.merge(&entry.assert);
        verdict::drop_driven_share(&mut judgement, &case, &mut checks);
        let logs = verdict::Logs {
            console: &console,
            scheduler: &guest.scheduler_log,
        };
        let root = &plan.job.workload_root;
        followed.metrics = seen.as_ref().map(|seen| {
            let reported = judgement.guest.as_ref().ok().map(|guest| &guest.stats);
            schedule::metrics::metrics(seen, root, reported)
        });
        let exact = seen.as_ref().filter(|seen| seen.is_exact());
        if let Some(seen) = exact {
            verdict::workers::judge(&mut judgement, seen, &guest.workers);
            verdict::schedule::judge(&mut judgement, &case, &checks, seen, root, logs);
        }
        verdict::monitor(&mut judgement, &case, &checks, report.as_ref());
        verdict::quota::judge(&mut judgement, &case, exact, logs);
        if let Some(seen) = exact {
            verdict::of_test::attribute(&mut judgement, seen);
        }
        if let Some(seen) = &followed.metrics {
            let stats = &mut judgement.result.stats;
            ktstr_assert::buckets::fold_schedule(&mut stats.phases, &seen.phases);
            stats.ext_metrics.extend(seen.ext_metrics.clone());
        }
        judgement.result.stats.ext_metrics.extend(maps.metrics());
        if judgement.result.is_pass() {
            maps.judge(&mut judgement, &guest, machine_kind.mips().is_none());
        }
        let host_vcpu_schedstat =
            (report.as_ref().and_then(HostVcpuSchedstat::of)).or_else(|| host_times.of_test());
        // Only a run that came to its end is excused here: the verdict about a hang has already taken the host into account.
        if let (Some(run), End::Completed) = (host_vcpu_schedstat, &end) {
            let samples = report.as_ref().map_or(&[][..], |report| &report.samples);
            let host = verdict::Contention {
                run,
                samples,
                stall_timeout: Duration::from_millis(plan.setup.watchdog_timeout_ms),
                own_watchdog: verdict::ended_by_own_watchdog(&guest),
            };
            verdict::downgrade_if_contended(&mut judgement, &case, logs, &host);
        }
        *vm = Some(VmResult {
            host_vcpu_schedstat,
            contention_witness: report.as_ref().and_then(ContentionWitness::of),
            verifier_stats: in_window.programs,
            virtio_blk_counters: guest.disk,
            watchdog: in_window.watchdog,
            periodic_prereqs_ready,
            periodic_window_end,
            cpu_budget,
            settings: settings::of(plan, machine_kind, cpu_budget),
            monitor: report,
            scx_exit: scx_exit.filter(ScxExit::is_error),
            watched_maps: maps.metrics(),
            moments: moments.taken,
            ..vm_result(
                plan,
                machine_kind,
                followed,
                &level,
                guest,
                &end,
                captures,
                console,
                wall,
                &judgement,
            )
        });
        timings.digest = vm.as_ref().map_or(Duration::ZERO, |vm| vm.digest_time);
        Ok(judgement)
    }
}

/// Converts a time to the nanoseconds that the clock's plugin counts; `None` for a time that the guest's clock cannot
/// reach.
fn due_ns(due: Duration) -> Option<u64> {
    u64::try_from(due.as_nanos()).ok()
}

impl Timings {
    /// Fills in the stages from the boot on. `started` is when the host started to build the machine, and `ended` is when
    /// QEMU had exited.
    fn fill(
        &mut self,
        started: Instant,
        guest: &GuestState,
        captures: &Captures,
        monitor: &Monitor,
        ended: Instant,
    ) {
        self.boot = guest.called.unwrap_or(ended) - started;
        self.captures = captures.frozen();
        self.monitor = monitor.spent();
        self.attach = guest.attached.as_ref().map_or(Duration::ZERO, |a| a.took);
        if let (Some(opened), Some(closed)) = guest.seen {
            self.window = (closed - opened).saturating_sub(self.captures);
            self.teardown = ended - closed;
        }
    }
}

/// What the virtual clock recorded during a run; empty under the real clock.
#[derive(Debug, Default)]
struct Followed {
    digest: Option<String>,
    switches: Option<ktstr_machine::SwitchDigest>,
    trace: Option<Switches>,
    schedule: Option<Vec<u8>>,
    metrics: Option<ktstr_assert::ScenarioStats>,
    template: Option<String>,
    took: Duration,
}

/// Collects what the virtual clock recorded, before the machine ends.
fn follow(
    session: &guest_session::GuestSession,
    end: &End,
    template: Option<String>,
) -> Result<Followed, RunError> {
    let machine = &session.machine;
    let Some(clock) = machine.virtual_clock() else {
        return Ok(Followed::default());
    };
    let began = Instant::now();
    // Only a guest that completed is held at its last message. The memory of any other guest has no defined final state.
    let digest = match end {
        End::Completed => Some(digest::digest(machine.ram(), &machine.console())?),
        _ => None,
    };
    Ok(Followed {
        digest,
        switches: (clock.failures() == 0).then(|| clock.switches()),
        trace: Some(Switches {
            count: clock.switches().count,
            first: clock.trace().iter().map(kept).collect(),
        }),
        template,
        took: began.elapsed(),
        ..Followed::default()
    })
}

fn kept(switch: &ktstr_machine::Switch) -> ktstr_record::Switch {
    ktstr_record::Switch {
        clock_ns: switch.clock_ns,
        cpu: switch.cpu,
        prev: switch.prev,
        next: switch.next,
    }
}

fn host_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// Returns the exit code of the test process, or [`NO_EXIT`].
fn exit_code_of(guest: &GuestState) -> i32 {
    match guest.test_end {
        Some((ktstr_guest::protocol::ProcessEnd::Exited(code), _)) => code,
        _ => NO_EXIT,
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "it only collects the parts of the result"
)]
fn vm_result(
    plan: &Plan,
    machine_kind: MachineKind,
    followed: Followed,
    level: &Level,
    guest: GuestState,
    end: &End,
    captures: Captures,
    console: String,
    wall: Duration,
    judgement: &Judgement,
) -> VmResult {
    let killed = match end {
        End::TimedOut(reason, _) => Some(*reason),
        _ => None,
    };
    VmResult {
        success: judgement.result.is_pass(),
        exit_code: exit_code_of(&guest),
        timed_out: killed.is_some(),
        watchdog_kill_reason: killed,
        final_guest_phase: guest.phase,
        final_progress_epoch: guest.count,
        duration: wall,
        vcpus: plan.shape.cpus(),
        accelerator: machine_kind.accelerator.name(),
        clock: machine_kind.clock_name(),
        mips: machine_kind.mips(),
        digest: followed.digest,
        switches: followed.switches,
        captures_digest: machine_kind
            .mips()
            .map(|_| captures.digest.finalize().to_hex().to_string()),
        digest_time: followed.took + captures.digest_time,
        trace: followed.trace,
        schedule: followed.schedule,
        schedule_metrics: followed.metrics,
        template: followed.template,
        start: level.name(),
        seed: plan.job.seed,
        stderr: format!("{console}{}{}", guest.stderr, guest.scheduler_log),
        cleanup_duration: Teardown::of(&guest).map(Teardown::whole),
        test_stderr: guest.stderr,
        output: guest.stdout,
        crash_message: judgement.crash.clone(),
        scx_exit: None,
        host_vcpu_schedstat: None,
        contention_witness: None,
        verifier_stats: Vec::new(),
        virtio_blk_counters: None,
        watchdog: None,
        periodic_prereqs_ready: None,
        periodic_window_end: None,
        monitor: None,
        watched_maps: Default::default(),
        moments: Vec::new(),
        captures_taken: captures.taken,
        periodic_target: plan.entry.num_snapshots,
        periodic_fired: captures.fired,
        periodic_real: captures.real,
        capture_freezes: captures.freezes,
        snapshot_bridge: captures.bridge,
        bpf_map_writes_delivered: captures.map_writes,
        cpu_budget: 0,
        settings: Default::default(),
        resolve_source: plan.scheduler.as_ref().map(|s| s.source.name().to_owned()),
        kern_kaslr_offset: 0,
        entry_name: Some(plan.entry.name),
        variant_hash: plan.job.variant,
        kernel_log: console,
        scheduler_log: guest.scheduler_log,
        stimulus: guest.stimulus,
        guest_result: judgement.guest.clone(),
        drained: Arc::new(OnceLock::new()),
    }
}
