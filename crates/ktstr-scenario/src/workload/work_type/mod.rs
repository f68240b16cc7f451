//! The work types: their table, the rules for their parameters, and their names. The guest has a body for each of them.

mod generate;
mod parts;
mod rules;
mod table;

pub use generate::WorkType;
pub use parts::{AluWidth, FutexLockMode, ReapMode, WakeMechanism, WorkPhase};
pub use rules::WorkTypeValidationError;

use super::custom::{CustomCfg, CustomFn};

impl WorkType {
    /// Creates the work type that repeats these phases, at least one.
    pub const fn sequence(first: WorkPhase, rest: Vec<WorkPhase>) -> Self {
        Self::Sequence { first, rest }
    }

    /// Creates the work type that calls a function of the test. Messages and texts refer to it by `name`.
    pub fn custom(name: impl Into<String>, run: CustomFn) -> Self {
        Self::custom_with(name, run, CustomCfg::default())
    }

    /// Creates the work type that calls a function of the test with these parameters.
    pub fn custom_with(name: impl Into<String>, run: CustomFn, cfg: CustomCfg) -> Self {
        Self::Custom {
            name: name.into(),
            run,
            cfg,
        }
    }

    /// Returns the name of a work type that has the letters and digits of `text`, in the same order and regardless of their
    /// case; `None` if there is none. Use it to suggest a name in a message.
    pub fn suggest(text: &str) -> Option<&'static str> {
        let plain = |s: &str| {
            s.chars()
                .filter(|c| c.is_ascii_alphanumeric())
                .map(|c| c.to_ascii_lowercase())
                .collect::<String>()
        };
        let wanted = plain(text);
        Self::ALL_NAMES
            .iter()
            .copied()
            .find(|name| plain(name) == wanted)
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// [`WorkTypeValidationError`] names the first invalid parameter.
    pub fn validate(&self) -> Result<(), WorkTypeValidationError> {
        self.parameters()
    }

    /// Returns what a worker changes for its whole process, as a reason why the workers cannot be threads of one process; `None`
    /// if each thread changes only itself.
    pub(crate) fn changes_process(&self) -> Option<&'static str> {
        match self {
            Self::CgroupChurn { .. } => {
                Some("a write to cgroup.procs moves all threads of a process")
            }
            Self::CgroupAttachStorm {
                reap: ReapMode::SigIgn,
                ..
            } => Some(
                "ReapMode::SigIgn ignores SIGCHLD, which changes how the children of all threads of a process are reaped",
            ),
            _ => None,
        }
    }

    /// Checks the parameters, and that `workers` can be divided into whole groups.
    ///
    /// # Errors
    /// As [`WorkType::validate`], or [`WorkTypeValidationError::NotDivisible`].
    pub fn validate_workers(&self, workers: usize) -> Result<(), WorkTypeValidationError> {
        self.validate()?;
        match self.worker_group_size() {
            Some(group) if group == 0 || !workers.is_multiple_of(group) => {
                Err(WorkTypeValidationError::NotDivisible {
                    work_type: self.name(),
                    workers,
                    group,
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_name_but_two_has_a_valid_default() {
        for name in WorkType::ALL_NAMES {
            let Some(work) = WorkType::from_name(name) else {
                assert!(["Sequence", "Custom"].contains(name), "{name}");
                continue;
            };
            assert_eq!(work.name(), *name);
            assert_eq!(work.validate(), Ok(()), "{name}");
            let group = work.worker_group_size().unwrap_or(1);
            assert_eq!(work.validate_workers(group * 3), Ok(()), "{name}");
            if group > 1 {
                assert!(work.validate_workers(group * 3 - 1).is_err(), "{name}");
            }
            assert_eq!(WorkType::suggest(&name.to_uppercase()), Some(*name));
        }
        assert_eq!(WorkType::from_name("spinwait"), None);
        assert_eq!(WorkType::suggest("spin_wait"), Some("SpinWait"));
        assert_eq!(WorkType::suggest("spin"), None);
    }

    #[test]
    fn errors_name_type_and_parameter() {
        let error = |w: WorkType, n| w.validate_workers(n).expect_err("invalid").to_string();
        insta::assert_snapshot!(
            error(WorkType::pipe_io(1), 3),
            @"work type PipeIo: 3 workers cannot be divided into groups of 2; take a multiple of 2"
        );
        insta::assert_snapshot!(
            error(WorkType::bursty(Duration::ZERO, ms(1)), 1),
            @"work type Bursty: burst_duration is 0, but must be more than 0"
        );
        insta::assert_snapshot!(
            error(WorkType::wake_chain(1, WakeMechanism::Futex, ms(1)), 1),
            @"work type WakeChain: depth is 1, a chain needs at least 2"
        );
        insta::assert_snapshot!(
            error(WorkType::rt_starvation(1, 1, 100, 1024), 2),
            @"work type RtStarvation: rt_priority is 100, it must be in 1..=99"
        );
        insta::assert_snapshot!(
            error(WorkType::cgroup_attach_storm("a/b", ReapMode::SigIgn), 1),
            @r#"work type CgroupAttachStorm: dest "a/b" is not a valid name for a sibling of the worker's cgroup: it must have 1 to 128 bytes and no `/`, and must not be `.` or `..`"#
        );
        insta::assert_snapshot!(
            error(WorkType::net_traffic(0, 59), 1),
            @"work type NetTraffic: frame_bytes is 59, it must be in 60..=1514"
        );
        let config = crate::workload::TaobenchConfig::DEFAULT.target_hit_pct(101);
        insta::assert_snapshot!(
            error(WorkType::taobench(config), 1),
            @"work type Taobench: target_hit_pct is 101, it must be in 0..=100"
        );
        assert!(WorkType::ipc_variance(1, 0, 1).is_err());
        assert!(WorkType::ipc_variance(1, 1, 1).is_ok());
        let phases = WorkType::sequence(WorkPhase::Io(ms(1)), vec![WorkPhase::Spin(ms(0))]);
        assert!(error(phases, 1).contains("duration of a phase is 0"));
    }

    #[test]
    fn a_burst_without_a_sleep_is_work() {
        assert_eq!(WorkType::bursty(ms(1), Duration::ZERO).validate(), Ok(()));
    }

    #[test]
    fn groups_have_the_size_of_their_parts() {
        let size = |name| {
            WorkType::from_name(name)
                .expect("a known work type")
                .worker_group_size()
        };
        for (name, expected) in [
            ("SpinWait", None),
            ("PipeIo", Some(2)),
            ("FutexFanOut", Some(5)),
            ("FanOutCompute", Some(5)),
            ("MutexContention", Some(4)),
            ("ThunderingHerd", Some(8)),
            ("PriorityInversion", Some(3)),
            ("ProducerConsumerImbalance", Some(3)),
            ("RtStarvation", Some(2)),
            ("AsymmetricWaker", Some(2)),
            ("WakeChain", Some(4)),
            ("SignalStorm", Some(2)),
            ("PreemptStorm", Some(3)),
            ("EpollStorm", Some(3)),
            ("SmtSiblingSpin", Some(2)),
            ("IrqWake", Some(2)),
            ("NetTraffic", None),
            ("Schbench", None),
        ] {
            assert_eq!(size(name), expected, "{name}");
        }
    }

    #[test]
    fn serde_is_snake_case() {
        let json = serde_json::to_string(&WorkType::pipe_io(7)).expect("plain data");
        assert_eq!(json, r#"{"pipe_io":{"burst_iters":7}}"#);
        fn nothing(_: &super::super::WorkerCtx) -> ktstr_assert::WorkerReport {
            ktstr_assert::WorkerReport::default()
        }
        let custom = serde_json::to_string(&WorkType::custom("own", nothing));
        assert!(custom.is_err(), "a function cannot be written down");
    }
}
