//! How much CPU time the host withheld from the guest while the scenario ran, as a whole and in each phase.

use ktstr_assert::monitor::{MonitorReport, MonitorSample};

use crate::vm_result::HostVcpuSchedstat;

/// How much CPU time the host's scheduler gave the vCPUs in the workload window, and how long they waited for it, under
/// the real clock.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ContentionWitness {
    /// The phases, in order, for which the monitor has at least two samples with the times of the vCPUs.
    pub per_phase: Vec<PerPhaseSchedstat>,
    /// The workload window as a whole, without regard to phases.
    pub body_window: BodyContentionWindow,
}

/// The CPU time that the vCPUs got in one phase, from the phase's first sample to its last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PerPhaseSchedstat {
    /// The phase: 0 is before the first step, 1 is the first step.
    pub step_index: u16,
    /// The CPU time and the run delay of the vCPUs in the phase.
    pub schedstat: HostVcpuSchedstat,
}

/// The CPU time that the vCPUs got in the workload window, from the first sample to the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodyContentionWindow {
    /// The time of the first sample, in milliseconds of guest time since the window opened.
    pub start_ms: u64,
    /// The time of the last sample, in milliseconds of guest time since the window opened.
    pub end_ms: u64,
    /// The CPU time and the run delay of the vCPUs between these two times.
    pub schedstat: HostVcpuSchedstat,
}

impl ContentionWitness {
    /// Computes the witness from the monitor's samples. Returns `None` for fewer than two samples, and if there is no vCPU whose
    /// CPU time and run delay are in both the first and the last sample. Samples under the virtual clock never have these times,
    /// because the host's load does not affect what the guest sees.
    pub(crate) fn of(report: &MonitorReport) -> Option<Self> {
        let same = |a: &MonitorSample, b: &MonitorSample| a.step_index == b.step_index;
        let phases = report.samples.chunk_by(same);
        Some(Self {
            per_phase: phases
                .filter_map(|samples| {
                    Some(PerPhaseSchedstat {
                        step_index: samples.first()?.step_index?,
                        schedstat: HostVcpuSchedstat::over(samples)?,
                    })
                })
                .collect(),
            body_window: BodyContentionWindow {
                start_ms: report.samples.first()?.elapsed_ms,
                end_ms: report.samples.last()?.elapsed_ms,
                schedstat: HostVcpuSchedstat::over(&report.samples)?,
            },
        })
    }

    /// Returns how many times longer the vCPUs took in the window than on an otherwise idle host.
    pub fn body_dilation(&self) -> f64 {
        self.body_window.schedstat.dilation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_assert::monitor::CpuSnapshot;

    fn sample(step: u16, at: u64, ran_ns: u64, waited_ns: u64) -> MonitorSample {
        MonitorSample {
            elapsed_ms: at,
            step_index: Some(step),
            cpus: vec![CpuSnapshot {
                vcpu_cpu_time_ns: Some(ran_ns),
                vcpu_run_delay_ns: Some(waited_ns),
                ..CpuSnapshot::default()
            }],
            ..MonitorSample::default()
        }
    }

    #[test]
    fn a_phase_has_what_its_own_samples_show() {
        let report = MonitorReport {
            samples: vec![
                sample(1, 100, 1000, 0),
                sample(1, 200, 2000, 1000),
                sample(2, 300, 2500, 1000),
                sample(3, 400, 3000, 1000),
                sample(3, 500, 4000, 1500),
            ],
            ..MonitorReport::default()
        };
        let witness = ContentionWitness::of(&report).expect("five samples");
        let phases = witness.per_phase.iter();
        let of: Vec<_> = phases
            .map(|p| (p.step_index, p.schedstat.dilation()))
            .collect();
        assert_eq!(of, [(1, 2.0), (3, 1.5)]);
        assert_eq!(
            (witness.body_window.start_ms, witness.body_window.end_ms),
            (100, 500)
        );
        assert_eq!(witness.body_dilation(), 1.5);
        assert_eq!(ContentionWitness::of(&MonitorReport::default()), None);
    }
}
