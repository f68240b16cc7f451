//! Builds a worker's report from the memory that the worker shares with its parent.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use ktstr_assert::{
    BenchRole, BenchSlice, Migration, PhaseSlice, SampleKind, WorkerExitInfo, WorkerReport,
};

use super::Worker;
use super::attrs;
use super::child::PANICKED;
use super::collect::End;
use super::counters::Slice;
use super::shared::{MAX_MIGRATIONS, MAX_SAMPLES, MAX_SLICES, SAMPLE_NS_BITS, Telemetry};
use super::unable::Unable;
use crate::protocol::WorkerNumbers;

/// Returns the report of a worker that ended in this way. If it did not end normally, the report says why and has the
/// counters of its last checkpoint, which are still in the shared memory. The report has no counters if the worker gave up,
/// its setup failed, or it could not be waited for.
pub(super) fn report(worker: &Worker, end: End, released_ns: u64) -> WorkerReport {
    let tele = &*worker.tele;
    let unable = tele.unable.load(Relaxed);
    let set_up = tele.setup_errno.load(Relaxed);
    let mut report = match end {
        _ if unable != 0 => missing(WorkerExitInfo::WaitFailed(Unable::sentence(
            unable,
            tele.unable_errno.load(Relaxed),
        ))),
        _ if set_up != 0 => missing(WorkerExitInfo::WaitFailed(format!(
            "the setup of the worker failed: {}",
            std::io::Error::from_raw_os_error(set_up)
        ))),
        End::Exited(0) if worker.custom.is_some() => custom(worker, tele),
        End::Exited(0) if tele.finished.load(Acquire) == 1 => measured(tele),
        End::Exited(PANICKED) => partial(tele, WorkerExitInfo::Panicked(panic_message(worker))),
        End::Exited(code) => partial(tele, WorkerExitInfo::Exited(code)),
        End::Signaled(signal) => partial(tele, WorkerExitInfo::Signaled(signal)),
        End::TimedOut { starved_until_ns } => {
            let mut report = partial(tele, WorkerExitInfo::TimedOut);
            if let Some(until_ns) = starved_until_ns {
                starved(&mut report, tele, until_ns.saturating_sub(released_ns));
            }
            report
        }
        End::WaitFailed(why) => missing(WorkerExitInfo::WaitFailed(why)),
    };
    report.tid = worker.tid;
    report.group_idx = worker.group_idx;
    report.entitlement = worker.entitlement;
    // If the last policy that the worker itself set is real-time, its whole life counts as real-time.
    let by_itself = tele.realtime.load(Relaxed) == 1;
    let since = report.cpu_time_ns.saturating_sub(worker.realtime_from_ns);
    report.realtime_cpu_ns = match (by_itself, worker.is_realtime()) {
        (true, _) => report.cpu_time_ns,
        (false, true) => worker.realtime_ns.saturating_add(since),
        (false, false) => worker.realtime_ns,
    };
    report.realtime = by_itself || worker.is_realtime() || worker.realtime_ns > 0;
    report.affinity_error.clone_from(&worker.affinity_error);
    report.sched_policy_error = worker
        .policy_error
        .clone()
        .or_else(|| own_policy_error(tele));
    let own = Some(tele.lowered_from.load(Relaxed)).filter(|priority| *priority > 0);
    report.lowered_from = worker.lowered_from.or(own);
    report
}

/// Returns the worker's counters between its first and its last mark in the exact schedule (see `sys::marked_cpu_ns`), or `None`
/// if the worker did not reach the last mark.
pub(super) fn numbers(worker: &Worker) -> Option<WorkerNumbers> {
    let tele = &*worker.tele;
    if tele.finished.load(Acquire) != 1 {
        return None;
    }
    Some(WorkerNumbers {
        tid: worker.tid,
        cpu_ns: sum(tele, |s| s.cpu_time_ns.load(Relaxed)),
        slack_ns: tele.slack_ns.load(Relaxed),
        runs: sum(tele, |s| s.schedstat_run_count.load(Relaxed)),
        migrations: sum(tele, |s| s.migration_count.load(Relaxed)),
    })
}

/// Returns the kernel's refusal of a policy that the worker set itself; `None` if it refused none.
fn own_policy_error(tele: &Telemetry) -> Option<String> {
    let errno = tele.policy_errno.load(Relaxed);
    (errno != 0).then(|| {
        format!(
            "the worker cannot set the policy {} of its work type: {}",
            attrs::policy_name(tele.policy.load(Relaxed)),
            std::io::Error::from_raw_os_error(errno)
        )
    })
}

/// Returns the report of a custom function. Times and schedstat values that the function left at 0, and its CPUs if it left
/// them empty, are filled in from the measurement around it.
fn custom(worker: &Worker, tele: &Telemetry) -> WorkerReport {
    let file = worker.custom.as_ref().map(read_all);
    let mut report: WorkerReport = match file {
        Some(Ok(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(report) => report,
            Err(error) => {
                return partial(
                    tele,
                    WorkerExitInfo::WaitFailed(format!(
                        "cannot decode the report of the custom function: {error}"
                    )),
                );
            }
        },
        Some(Err(error)) => {
            return partial(
                tele,
                WorkerExitInfo::WaitFailed(format!(
                    "cannot read the report of the custom function: {error}"
                )),
            );
        }
        None => WorkerReport::default(),
    };
    let around = measured(tele);
    report.completed = true;
    report.exit_info = None;
    report.waited_ns = around.waited_ns;
    report.cpu_unknown = around.cpu_unknown && report.cpu_time_ns == 0;
    report.fill_measured(&around);
    if report.off_cpu_ns == 0 {
        report.off_cpu_ns = around.off_cpu_ns;
    }
    if report.cpus_used.is_empty() {
        report.cpus_used = around.cpus_used;
    }
    if report.phase_slices.is_empty() {
        // Only the function knows what it did in which phase, so everything counts in the first one.
        let phase = around.phase_slices.first().map_or(0, |s| s.step_index);
        report.phase_slices = vec![report.as_slice(phase)];
    }
    report
}

/// Returns the panic message of a custom function, or a general one if another worker of the process panicked.
fn panic_message(worker: &Worker) -> String {
    let left = worker.custom.as_ref().map(read_all);
    let text = left.and_then(Result::ok).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    if text.is_empty() {
        return "a worker of this process panicked".to_owned();
    }
    text.into_owned()
}

fn read_all(fd: &std::os::fd::OwnedFd) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut file = std::fs::File::from(fd.try_clone()?);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn partial(tele: &Telemetry, why: WorkerExitInfo) -> WorkerReport {
    WorkerReport {
        completed: false,
        exit_info: Some(why),
        ..measured(tele)
    }
}

/// Counts the time from the last checkpoint to `until_ns` after the release as a gap, if it is longer than the worker's
/// longest gap so far. The worker was runnable but not scheduled, so it could not record the gap itself.
fn starved(report: &mut WorkerReport, tele: &Telemetry, until_ns: u64) {
    // The slices cover the time from the release to the last checkpoint without a break.
    let gap_ms = until_ns.saturating_sub(report.wall_time_ns) / MS;
    if gap_ms <= report.max_gap_ms {
        return;
    }
    report.max_gap_ms = gap_ms;
    report.max_gap_wall_ms = gap_ms;
    report.max_gap_at_ms = until_ns / MS;
    report.max_gap_cpu = tele.last_cpu.load(Relaxed) as usize;
}

fn missing(why: WorkerExitInfo) -> WorkerReport {
    WorkerReport::missing(0, why)
}

const MS: u64 = 1_000_000;

/// Returns the slices that are in use.
fn slices(tele: &Telemetry) -> &[Slice] {
    let used = (tele.slices_used.load(Relaxed) as usize).clamp(1, MAX_SLICES);
    tele.slices.get(..used).unwrap_or(&[])
}

/// Returns the sum of a counter over all slices.
fn sum(tele: &Telemetry, of: fn(&Slice) -> u64) -> u64 {
    slices(tele).iter().map(of).fold(0, u64::saturating_add)
}

fn measured(tele: &Telemetry) -> WorkerReport {
    let slices = slices(tele);
    let worst = slices.iter().max_by_key(|s| s.max_gap_ns.load(Relaxed));
    let gap = |of: fn(&Slice) -> u64| worst.map_or(0, of);
    let mut phase_slices: Vec<PhaseSlice> = slices.iter().map(slice).collect();
    let mut life = WorkerReport::default();
    for slice in &phase_slices {
        life.add_counters(slice);
    }
    let costs = samples(&tele.costs_seen, &tele.costs);
    let samples = samples(&tele.samples_seen, &tele.samples);
    let kind = SampleKind::ALL.get(tele.sample_kind.load(Relaxed) as usize);
    let kind = kind.copied().unwrap_or(SampleKind::Wakeup);
    for (phase, values) in samples.runs() {
        if let Some(slice) = phase_slices.iter_mut().find(|s| s.step_index == phase) {
            slice.samples_mut(kind).values.extend_from_slice(values);
        }
    }
    for (slice, counted) in phase_slices.iter_mut().zip(slices) {
        *slice.samples_mut(kind).total = counted.samples.load(Relaxed);
    }
    let own = life.samples_mut(kind);
    *own.values = samples.values;
    *own.total = tele.samples_seen.load(Relaxed);
    // Only the end of a slice stores its CPU time, so a worker that ended early did not store that of its last slice.
    let is_open = tele.finished.load(Acquire) != 1;
    if is_open && let Some(last) = phase_slices.last_mut() {
        (last.cpu_unknown, last.off_cpu_ns) = (true, 0);
    }
    let off_cpu_ns = match is_open {
        true => 0,
        false => life.wall_time_ns.saturating_sub(life.cpu_time_ns),
    };
    let role = BenchRole::ALL.get((tele.bench_role.load(Relaxed) as usize).wrapping_sub(1));
    let bench = role.map(|role| bench(tele, *role, &mut phase_slices));
    WorkerReport {
        off_cpu_ns,
        cpu_unknown: is_open,
        cpus_used: phase_slices
            .iter()
            .flat_map(|s| s.cpus_used.iter().copied())
            .collect(),
        migrations: moves(tele),
        max_gap_ms: gap(|s| s.max_gap_ns.load(Relaxed)) / MS,
        max_gap_wall_ms: gap(|s| s.max_gap_ns.load(Relaxed)) / MS,
        max_gap_cpu: gap(|s| u64::from(s.max_gap_cpu.load(Relaxed))) as usize,
        max_gap_at_ms: gap(|s| s.max_gap_at_ns.load(Relaxed)) / MS,
        waited_ns: (tele.waited_known.load(Relaxed) == 1).then(|| tele.waited_ns.load(Relaxed)),
        completed: true,
        is_messenger: tele.messenger.load(Relaxed) == 1,
        iteration_costs_ns: costs.values,
        iteration_cost_sample_total: tele.costs_seen.load(Relaxed),
        bench,
        phase_slices,
        ..life
    }
}

fn slice(slice: &Slice) -> PhaseSlice {
    let counters = slice.counters();
    PhaseSlice {
        step_index: slice.phase.load(Relaxed) as u16,
        off_cpu_ns: counters.wall_time_ns.saturating_sub(counters.cpu_time_ns),
        cpus_used: cpus(slice),
        max_gap_ms: slice.max_gap_ns.load(Relaxed) / MS,
        max_gap_cpu: slice.max_gap_cpu.load(Relaxed) as usize,
        ..counters
    }
}

fn cpus(slice: &Slice) -> BTreeSet<usize> {
    let mut set = BTreeSet::new();
    for (i, word) in slice.cpus.iter().enumerate() {
        let mut bits = word.load(Relaxed);
        while bits != 0 {
            set.insert(i * 64 + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
    set
}

/// Returns what the worker measured in its role over its life, and adds to each slice what was measured in that slice.
fn bench(tele: &Telemetry, role: BenchRole, slices: &mut [PhaseSlice]) -> BenchSlice {
    let of = |samples, sample_total, hits| BenchSlice {
        role,
        samples,
        sample_total,
        hits,
    };
    let samples = samples(&tele.bench_seen, &tele.bench);
    let mut hits = 0u64;
    for (slice, counted) in slices.iter_mut().zip(&tele.slices) {
        let own = samples
            .runs()
            .filter(|(phase, _)| *phase == slice.step_index);
        let found = counted.bench_hits.load(Relaxed);
        hits = hits.saturating_add(found);
        slice.bench = Some(of(
            own.flat_map(|(_, values)| values).copied().collect(),
            counted.bench_samples.load(Relaxed),
            found,
        ));
    }
    of(samples.values, tele.bench_seen.load(Relaxed), hits)
}

/// The samples that a reservoir kept, in the reservoir's order, and the phases in which they were measured.
struct Samples {
    values: Vec<u64>,
    /// Each run of adjacent samples from one phase: the phase, and the index after the run's last value. Samples that the
    /// reservoir did not replace are in the order of the phases, so there are few runs.
    ends: Vec<(u16, usize)>,
}

impl Samples {
    /// Returns each run of adjacent samples from one phase, with the phase.
    fn runs(&self) -> impl Iterator<Item = (u16, &[u64])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let runs = starts.zip(&self.ends);
        runs.map(|(start, (phase, end))| (*phase, self.values.get(start..*end).unwrap_or(&[])))
    }
}

/// Takes the samples out of a reservoir. This is a plain loop, because the guest executes it for up to 100 000 samples of
/// each worker in an unoptimised test binary, where each iterator adapter costs a hundred instructions per sample.
fn samples(seen: &AtomicU64, reservoir: &[AtomicU64]) -> Samples {
    let kept = seen.load(Relaxed).min(MAX_SAMPLES as u64) as usize;
    let kept = reservoir.get(..kept).unwrap_or(&[]);
    let mut values = vec![0; kept.len()];
    let out = values.as_mut_slice();
    let mut ends: Vec<(u16, usize)> = Vec::new();
    let mut phase = None;
    let mut i = 0;
    while i < kept.len() {
        let sample = kept[i].load(Relaxed);
        let own = (sample >> SAMPLE_NS_BITS) as u16;
        if let Some(before) = phase
            && before != own
        {
            ends.push((before, i));
        }
        phase = Some(own);
        out[i] = sample & ((1 << SAMPLE_NS_BITS) - 1);
        i += 1;
    }
    ends.extend(phase.map(|last| (last, i)));
    Samples { values, ends }
}

fn moves(tele: &Telemetry) -> Vec<Migration> {
    let kept = tele.moves_seen.load(Relaxed).min(MAX_MIGRATIONS as u64) as usize;
    let kept = tele.moves.get(..kept).unwrap_or(&[]);
    kept.iter()
        .map(|m| {
            let cpus = m.cpus.load(Relaxed);
            Migration {
                at_ns: m.at_ns.load(Relaxed),
                from_cpu: (cpus >> 32) as usize,
                to_cpu: (cpus & u64::from(u32::MAX)) as usize,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::shared::Shared;
    use super::*;

    #[test]
    fn samples_go_to_the_phases_in_which_they_were_taken() {
        let tele = Shared::<Telemetry>::new().expect("memory");
        tele.slices_used.store(2, Relaxed);
        tele.slices[1].phase.store(1, Relaxed);
        // The last sample has replaced an earlier one, as happens in a full reservoir, and phase 7 has no slice.
        let taken = [(0, 10), (0, 20), (1, 30), (1, 40), (7, 45), (0, 50)];
        for (at, (phase, ns)) in taken.into_iter().enumerate() {
            tele.samples[at].store(phase << SAMPLE_NS_BITS | ns, Relaxed);
        }
        let of_phases = |report: &WorkerReport, of: fn(&PhaseSlice) -> &Vec<u64>| {
            let slices = report.phase_slices.iter();
            slices.map(|s| of(s).clone()).collect::<Vec<_>>()
        };
        assert!(measured(&tele).wake_latencies_ns.is_empty());

        tele.samples_seen.store(taken.len() as u64, Relaxed);
        let report = measured(&tele);
        assert_eq!(report.wake_latencies_ns, [10, 20, 30, 40, 45, 50]);
        let wakes = of_phases(&report, |s| &s.wake_latencies_ns);
        assert_eq!(wakes, [vec![10, 20, 50], vec![30, 40]]);

        tele.sample_kind.store(1, Relaxed);
        let report = measured(&tele);
        assert_eq!(report.timer_latencies_ns, [10, 20, 30, 40, 45, 50]);
        assert_eq!(of_phases(&report, |s| &s.timer_latencies_ns), wakes);
    }

    #[test]
    fn the_cpus_of_a_slice_are_those_of_its_bits() {
        let tele = Shared::<Telemetry>::new().expect("memory");
        tele.slices[0].cpus[0].store(1 << 63 | 0b101, Relaxed);
        tele.slices[0].cpus[1].store(0b10, Relaxed);
        assert_eq!(cpus(&tele.slices[0]), BTreeSet::from([0, 2, 63, 65]));
    }

    /// The worker is killed in its second phase, in which it has computed for half a second without a break.
    #[test]
    fn the_cpu_time_of_a_worker_that_ended_early_is_unknown_in_its_last_phase() {
        let tele = Shared::<Telemetry>::new().expect("memory");
        tele.slices_used.store(2, Relaxed);
        tele.slices[0].wall_time_ns.store(1_000 * MS, Relaxed);
        tele.slices[0].cpu_time_ns.store(900 * MS, Relaxed);
        tele.slices[1].phase.store(1, Relaxed);
        tele.slices[1].wall_time_ns.store(500 * MS, Relaxed);
        let report = partial(&tele, WorkerExitInfo::Signaled(9));
        let off_cpu = |slice: &PhaseSlice| (slice.cpu_unknown, slice.off_cpu_ns / MS);
        let slices: Vec<_> = report.phase_slices.iter().map(off_cpu).collect();
        assert_eq!(slices, [(false, 100), (true, 0)]);
        assert_eq!((report.cpu_unknown, report.off_cpu_pct()), (true, None));
        tele.slices[1].cpu_time_ns.store(400 * MS, Relaxed);
        tele.finished.store(1, Relaxed);
        let report = measured(&tele);
        assert_eq!((report.cpu_unknown, report.off_cpu_ns), (false, 200 * MS));
        let slices: Vec<_> = report.phase_slices.iter().map(off_cpu).collect();
        assert_eq!(slices, [(false, 100), (false, 100)]);
    }

    #[test]
    fn a_worker_that_starves_until_the_end_has_a_gap_until_the_end() {
        let tele = Shared::<Telemetry>::new().expect("memory");
        tele.last_cpu.store(3, Relaxed);
        // The worker had two phases of one second each, and no checkpoint after them.
        tele.slices_used.store(2, Relaxed);
        for slice in &tele.slices[..2] {
            slice.wall_time_ns.store(1_000 * MS, Relaxed);
            slice.max_gap_ns.store(20 * MS, Relaxed);
        }
        let mut report = partial(&tele, WorkerExitInfo::TimedOut);
        assert_eq!(report.max_gap_ms, 20);
        starved(&mut report, &tele, 7_500 * MS);
        assert_eq!(
            (report.max_gap_ms, report.max_gap_at_ms, report.max_gap_cpu),
            (5_500, 7_500, 3)
        );
    }
}
