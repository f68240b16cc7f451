//! Writes a run's record and its artifacts to disk.

use std::path::PathBuf;
use std::time::Duration;

use ktstr_assert::{AssertResult, Finding, MetricStream, PayloadEnd, PayloadMetrics, Polarity};
use ktstr_machine::Accelerator;
use ktstr_record::compare::Run;
use ktstr_record::{
    CaptureRecord, FindingRecord, PayloadMetricRecord, PayloadRecord, ProgramRecord, RecordError,
    RepeatRecord, RunDir, RunRecord, SWITCHES_FILE, SchedulerRecord, SchedulerStats,
    SwitchesRecord, runs_root,
};
use ktstr_snapshot::report::FailureDumpReport;
use ktstr_snapshot::snapshot::MissingStatsReason;
use serde_json::Value;

use ktstr_schedule::SCHEDULE_FILE;
use ktstr_state::env;

use super::plan::Plan;
use super::{Finished, headline, moments, report, repro};
use crate::vm_result::VmResult;

/// Writes the record and all of its artifacts, or none of them. Returns the path of the record and, if this run repeats the
/// run `first`, how the two compare.
pub(super) fn write(
    finished: &Finished,
    plan: Option<&Plan>,
    accelerator: Option<Accelerator>,
    first: Option<&Run>,
) -> Result<(PathBuf, Option<RepeatRecord>), RecordError> {
    let mut folder = RunDir::create(&runs_root(), finished.entry.name)?;
    let mut record = RunRecord::new(finished.entry.name);
    record.verdict = finished.verdict;
    record.reason = (!finished.result.is_pass()).then(|| report::reason(&finished.result));
    record.fault = finished.fault.map(|fault| fault.name().to_owned());
    record.evidence = finished.evidence.clone();
    record.findings = findings(&finished.result);
    record.trail = finished.evidence_of_schedule.trail.clone();
    record.wall_s = finished.wall.as_secs_f64();
    record.variant = report::variant().map(str::to_owned);
    record.topology = Some(finished.entry.topology.to_string());
    let mut stats = finished.result.stats.clone();
    record.payload = finished
        .entry
        .payload
        .map(|payload| payload.name.to_owned());
    record.payloads = stats.payloads.drain(..).map(payload).collect();
    record.stats = serde_json::to_value(&stats).unwrap_or_default();
    record.environment = env::recorded()
        .filter_map(|row| Some((row.name.to_owned(), row.shown()?)))
        .collect();
    // `KTSTR_TEST_KERNEL` overrides `KTSTR_KERNEL`. Only `KTSTR_KERNEL` is recorded, with the value of whichever was used.
    let kernel = ktstr_kernel::requested().ok().flatten();
    let kernel = kernel.map(|kernel| (env::KERNEL.name().to_owned(), kernel));
    record.environment.extend(kernel);
    record.seed = super::plan::seed(finished.entry).ok();
    match plan {
        Some(plan) => describe_plan(&mut record, plan),
        None => describe_request(&mut record),
    }
    record.accelerator = accelerator.map(|accelerator| match accelerator {
        Accelerator::Tcg => ktstr_record::Accelerator::Tcg,
        Accelerator::Kvm => ktstr_record::Accelerator::Kvm,
    });
    if let Some(vm) = &finished.vm {
        record.clock = Some(match vm.clock {
            "virtual" => ktstr_record::Clock::Virtual,
            _ => ktstr_record::Clock::Real,
        });
        record.mips = vm.mips;
        let replayed = vm.mips.map(|_| folder.run_id());
        record.again = Some(report::again(finished.entry.name, vm.seed, replayed));
        record.digest = vm.digest.clone();
        record.switches = vm.switches.map(|switches| SwitchesRecord {
            count: switches.count,
            digest: format!("{:016x}", switches.digest),
        });
        record.captures_digest = vm.captures_digest.clone();
        record.template = vm.template.clone();
        record.seed = Some(vm.seed);
        record.start = Some(match vm.start {
            "cold" => ktstr_record::Start::Cold,
            "booted" => ktstr_record::Start::Booted,
            _ => ktstr_record::Start::Attached,
        });
        record.boot_s = Some(finished.timings.boot.as_secs_f64());
        record.timings = timings(finished);
        record.cleanup_duration_ms = vm.cleanup_duration.as_ref().map(milliseconds);
        record.periodic_target = vm.periodic_target;
        record.periodic_fired = vm.periodic_fired;
        record.periodic_real = vm.periodic_real;
        record.freeze_ms = vm.capture_freezes.iter().map(milliseconds).collect();
        let captures = captures(vm);
        record.captures = captures.iter().map(|(index, _)| index.clone()).collect();
        folder.add_text("console.log", &vm.kernel_log)?;
        if !vm.scheduler_log.is_empty() {
            folder.add_text("scheduler.log", &vm.scheduler_log)?;
        }
        if !vm.output.is_empty() {
            folder.add_text("stdout.log", &vm.output)?;
        }
        if !vm.test_stderr.is_empty() {
            folder.add_text("stderr.log", &vm.test_stderr)?;
        }
        if let Some(trace) = &vm.trace {
            folder.add_bytes(SWITCHES_FILE, &trace.encode())?;
        }
        if let Some(schedule) = &vm.schedule {
            folder.add_bytes(SCHEDULE_FILE, schedule)?;
        }
        if let Some(monitor) = vm.monitor.as_ref().filter(|m| !m.samples.is_empty()) {
            folder.add_json("monitor.json", monitor)?;
        }
        if let Some(exit) = &vm.scx_exit {
            folder.add_json("scx_exit.json", exit)?;
        }
        if !captures.is_empty() {
            let reports: Vec<_> = captures.iter().map(|(at, of)| (&at.tag, of)).collect();
            folder.add_json("captures.json", &reports)?;
        }
    }
    folder.add_json("result.json", &finished.result)?;
    if let Some(first) = first {
        let switches = finished.vm.as_ref().and_then(|vm| vm.trace.clone());
        let again = Run {
            record: record.clone(),
            switches,
        };
        record.repeats = Some(repro::compared(first, &again));
    }
    let repeats = record.repeats.clone();
    Ok((folder.commit(record)?, repeats))
}

/// Returns the scheduler's statistics in the form in which the record stores them; `None` if the test has no scheduler binary
/// that could be asked for any.
fn stats(stats: &Result<Value, MissingStatsReason>) -> Option<SchedulerStats> {
    match stats {
        Ok(value) => Some(SchedulerStats::Served(value.clone())),
        Err(MissingStatsReason::NoSchedulerBinary) => None,
        Err(why) => Some(SchedulerStats::Missing(why.to_string())),
    }
}

/// Returns all captures of a run in the order of their times. Under the real clock a capture from outside of the window has
/// no time, and comes last.
fn captures(vm: &VmResult) -> Vec<(CaptureRecord, &FailureDumpReport)> {
    let series = vm.captures_series().entries().iter().map(|entry| {
        let taken = vm.captures_taken.get(&entry.tag).copied();
        let taken = taken.unwrap_or_default();
        let index = CaptureRecord {
            tag: entry.tag.clone(),
            phase: entry.step_index,
            elapsed_ms: entry.elapsed_ms,
            clock_ns: taken.clock_ns,
            moment: None,
            freeze_ms: taken.freeze.as_ref().map(milliseconds),
            placeholder: moments::placeholder(&entry.report),
            stats: stats(&entry.stats),
        };
        (index, &entry.report)
    });
    let moments = vm.moments.iter().map(|capture| {
        let index = CaptureRecord {
            tag: capture.tag.clone(),
            phase: Some(capture.step_index),
            elapsed_ms: capture.elapsed_ms,
            clock_ns: capture.clock_ns,
            moment: Some(capture.moment),
            freeze_ms: Some(milliseconds(&capture.freeze)),
            placeholder: moments::placeholder(&capture.report),
            stats: None,
        };
        (index, &capture.report)
    });
    let mut all: Vec<_> = series.chain(moments).collect();
    // Either all captures of a run have a `clock_ns`, or none has one.
    all.sort_by_key(|(index, _)| index.clock_ns.or(index.elapsed_ms).unwrap_or(u64::MAX));
    all
}

fn payload(run: PayloadMetrics) -> PayloadRecord {
    let end = match run.end {
        PayloadEnd::Exited(_) => "exited",
        PayloadEnd::Signaled(_) => "signaled",
        PayloadEnd::Stopped => "stopped",
        PayloadEnd::TimedOut { .. } => "timed out",
    };
    // A guest may send any value, and JSON cannot represent NaN.
    let finite = run.metrics.into_iter().filter(|m| m.value.is_finite());
    PayloadRecord {
        name: run.payload,
        index: run.payload_index as u64,
        cgroup: run.cgroup,
        end: end.to_owned(),
        exit_code: run.exit_code,
        elapsed_ms: run.elapsed_ns as f64 / 1e6,
        cpu_ms: run.cpu_time_ns as f64 / 1e6,
        metrics: finite
            .map(|metric| PayloadMetricRecord {
                name: metric.name,
                value: metric.value,
                unit: metric.unit,
                better: match metric.polarity {
                    Polarity::HigherBetter => "higher".to_owned(),
                    Polarity::LowerBetter => "lower".to_owned(),
                    Polarity::TargetValue(target) => format!("near {target}"),
                    Polarity::Informational => "informational".to_owned(),
                    Polarity::Unknown => "unknown".to_owned(),
                },
                stream: match metric.stream {
                    MetricStream::Stdout => "stdout".to_owned(),
                    MetricStream::Stderr => "stderr".to_owned(),
                },
            })
            .collect(),
    }
}

/// Returns the findings for the record: failures and inconclusive findings, the most significant first, and then skips.
pub(super) fn findings(result: &AssertResult) -> Vec<FindingRecord> {
    let skips = result.skip_details().map(|detail| ("skip", detail));
    let ranked = headline::ranked(result).into_iter().map(|detail| {
        let failed = result.failure_details().any(|d| std::ptr::eq(d, detail));
        (if failed { "fail" } else { "inconclusive" }, detail)
    });
    ranked
        .chain(skips)
        .map(|(outcome, detail)| FindingRecord {
            outcome: outcome.to_owned(),
            check: detail.check_name().into_owned(),
            kind: format!("{:?}", detail.kind),
            message: detail.message.clone(),
            phase: detail.phase.as_deref().map(str::to_owned),
            cgroup: detail.cgroup.as_deref().map(str::to_owned),
            data: match detail.finding {
                Finding::Text => serde_json::Value::Null,
                ref finding => serde_json::to_value(finding).unwrap_or_default(),
            },
        })
        .collect()
}

fn describe_plan(record: &mut RunRecord, plan: &Plan) {
    record.kernel = Some(plan.kernel.release.clone());
    record.kernel_id = Some(plan.kernel.id.clone());
    record.program = Some(plan.program.clone());
    record.inputs = plan.inputs();
    record.staged = plan.staged.clone();
    record.kernel_hash = Some(plan.kernel.boot_sha256.clone());
    record.vcpus = Some(plan.shape.cpus());
    record.memory_mib = Some(plan.memory_mib);
    record.qemu = Some(plan.qemu.version.clone());
    record.sysctls = plan.setup.sysctls.iter().cloned().collect();
    record.kargs = plan.declared_kargs().map(str::to_owned).collect();
    record.window_s = Some(plan.entry.duration.as_secs_f64());
    if plan.entry.scheduler.binary.has_active_scheduling() {
        record.scheduler = Some(SchedulerRecord {
            name: plan.entry.scheduler.name.to_owned(),
            path: plan.scheduler.as_ref().map(|s| s.path.clone()),
            version: plan.scheduler_version.get().map(str::to_owned),
            hash: plan.scheduler_hash.clone(),
            resolve_source: plan.scheduler.as_ref().map(|s| s.source.name().to_owned()),
            args: plan.scheduler_args().to_vec(),
        });
    }
}

/// Notes what was asked for in a run that ended before it had a plan, for example because its scheduler does not compile:
/// without this, `cargo ktstr test --last-failed` could not repeat the run.
fn describe_request(record: &mut RunRecord) {
    record.program = std::env::current_exe().ok().map(|path| ProgramRecord {
        path,
        ..ProgramRecord::default()
    });
    let list = env::KERNEL_LIST.get().ok().flatten();
    let list = list.map(|list| (env::KERNEL_LIST.name().to_owned(), list));
    record.environment.extend(list);
}

fn timings(finished: &Finished) -> std::collections::BTreeMap<String, f64> {
    let t = &finished.timings;
    [
        ("resolve", t.resolve),
        ("initramfs", t.initramfs),
        ("slot", t.slot),
        ("restore", t.restore),
        ("boot", t.boot),
        ("attach", t.attach),
        ("window", t.window),
        ("captures", t.captures),
        ("monitor", t.monitor),
        ("teardown", t.teardown),
        ("digest", t.digest),
    ]
    .into_iter()
    .map(|(name, time)| (name.to_owned(), time.as_secs_f64()))
    .collect()
}

fn milliseconds(time: &Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
