//! The rules for the parameters of work types. The table of work types names a parameter's rule after `=>`.

use std::time::Duration;

use crate::workload::bench::{MAX_PIPE_TRANSFER, SchbenchConfig, TaobenchConfig};
use crate::workload::rt_app::{self, RtPhase};

/// Why a work type is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkTypeValidationError {
    /// A parameter that must not be zero is zero.
    #[error("work type {work_type}: {parameter} is 0, but must be more than 0")]
    Zero {
        /// Name of the work type.
        work_type: &'static str,
        /// Name of the parameter.
        parameter: &'static str,
    },
    /// A chain of fewer than two workers.
    #[error("work type {work_type}: depth is {depth}, a chain needs at least 2")]
    DepthTooSmall {
        /// Name of the work type.
        work_type: &'static str,
        /// The number of workers of the chain.
        depth: usize,
    },
    /// A parameter that is outside of its range.
    #[error("work type {work_type}: {parameter} is {value}, it must be in {min}..={max}")]
    OutOfRange {
        /// Name of the work type.
        work_type: &'static str,
        /// Name of the parameter.
        parameter: &'static str,
        /// The value that was given for the parameter.
        value: i64,
        /// The smallest value that is allowed.
        min: i64,
        /// The largest value that is allowed.
        max: i64,
    },
    /// A name that a sibling of the worker's cgroup cannot have.
    #[error(
        "work type {work_type}: {parameter} {name:?} is not a valid name for a sibling of the worker's cgroup: \
         it must have 1 to 128 bytes and no `/`, and must not be `.` or `..`"
    )]
    NoName {
        /// Name of the work type.
        work_type: &'static str,
        /// Name of the parameter.
        parameter: &'static str,
        /// The name, as it was given.
        name: String,
    },
    /// Phases of an rt-app worker that are invalid.
    #[error("work type {work_type}: {parameter}: {what}")]
    Phases {
        /// Name of the work type.
        work_type: &'static str,
        /// Name of the parameter.
        parameter: &'static str,
        /// What is wrong, and where.
        what: String,
    },
    /// More than one worker is declared for a benchmark, whose parameters determine the number of workers.
    #[error(
        "work type {work_type}: workers({workers}) are declared, but its config determines their number: declare workers(1)"
    )]
    NotOne {
        /// Name of the work type.
        work_type: &'static str,
        /// How many workers were declared.
        workers: usize,
    },
    /// Workers that cannot be divided into whole groups.
    #[error(
        "work type {work_type}: {workers} workers cannot be divided into groups of {group}; \
         take a multiple of {group}"
    )]
    NotDivisible {
        /// Name of the work type.
        work_type: &'static str,
        /// How many workers were declared.
        workers: usize,
        /// The number of workers of one group.
        group: usize,
    },
}

/// The result of a rule.
pub(super) type Checked = Result<(), WorkTypeValidationError>;

/// A type of parameters that can be compared with zero.
pub(super) trait Zero {
    fn is_zero(&self) -> bool;
}

macro_rules! zero {
    ($($ty:ty)+) => { $(impl Zero for $ty {
        fn is_zero(&self) -> bool {
            *self == 0
        }
    })+ };
}

zero!(u64 usize);

impl Zero for Duration {
    fn is_zero(&self) -> bool {
        Duration::is_zero(self)
    }
}

/// The parameter must be larger than zero.
pub(super) fn nonzero(
    value: &impl Zero,
    work_type: &'static str,
    parameter: &'static str,
) -> Checked {
    if value.is_zero() {
        return Err(WorkTypeValidationError::Zero {
            work_type,
            parameter,
        });
    }
    Ok(())
}

/// A chain must have at least two workers.
pub(super) fn chain(depth: &usize, work_type: &'static str, _: &'static str) -> Checked {
    if *depth < 2 {
        return Err(WorkTypeValidationError::DepthTooSmall {
            work_type,
            depth: *depth,
        });
    }
    Ok(())
}

/// The parameter must be the name of a cgroup: one component of a path, at most 128 bytes.
pub(super) fn component(name: &str, work_type: &'static str, parameter: &'static str) -> Checked {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." || name.len() > 128 {
        return Err(WorkTypeValidationError::NoName {
            work_type,
            parameter,
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// The parameter must be in the range from `min` to `max`, both included.
fn within(
    value: i64,
    min: i64,
    max: i64,
    work_type: &'static str,
    parameter: &'static str,
) -> Checked {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(WorkTypeValidationError::OutOfRange {
        work_type,
        parameter,
        value,
        min,
        max,
    })
}

/// The parameter must be a priority of `SCHED_FIFO`.
pub(super) fn priority(value: &i32, work_type: &'static str, parameter: &'static str) -> Checked {
    within(i64::from(*value), 1, 99, work_type, parameter)
}

/// The rate in Hz must be at least 1, and leave at least a microsecond between two events.
pub(super) fn rate(value: &u64, work_type: &'static str, parameter: &'static str) -> Checked {
    let value = i64::try_from(*value).unwrap_or(i64::MAX);
    within(value, 1, 1_000_000, work_type, parameter)
}

/// The parameter must be the size of an Ethernet frame without its check sequence, in bytes.
pub(super) fn frame(value: &u16, work_type: &'static str, parameter: &'static str) -> Checked {
    within(i64::from(*value), 60, 1514, work_type, parameter)
}

/// The parameters of Schbench must be within their limits.
pub(super) fn schbench(
    config: &SchbenchConfig,
    work_type: &'static str,
    _: &'static str,
) -> Checked {
    nonzero(&config.message_threads, work_type, "message_threads")?;
    nonzero(
        &config.cache_footprint_kib,
        work_type,
        "cache_footprint_kib",
    )?;
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let most = MAX_PIPE_TRANSFER as u64;
    let percent = config.split_percent.unwrap_or(0);
    for (value, max, parameter) in [
        (config.auto_rps, 100, "auto_rps"),
        (percent.into(), 100, "split_percent"),
        (
            config.pipe_transfer_bytes as u64,
            most,
            "pipe_transfer_bytes",
        ),
    ] {
        within(number(value), 0, number(max), work_type, parameter)?;
    }
    Ok(())
}

/// The parameters of Taobench must be within their limits.
pub(super) fn taobench(
    config: &TaobenchConfig,
    work_type: &'static str,
    _: &'static str,
) -> Checked {
    nonzero(&config.cache_capacity_mib, work_type, "cache_capacity_mib")?;
    within(
        i64::from(config.target_hit_pct),
        0,
        100,
        work_type,
        "target_hit_pct",
    )
}

/// The phases must be valid.
pub(super) fn phases(
    phases: &[RtPhase],
    work_type: &'static str,
    parameter: &'static str,
) -> Checked {
    match rt_app::wrong(phases) {
        None => Ok(()),
        Some(what) => Err(WorkTypeValidationError::Phases {
            work_type,
            parameter,
            what,
        }),
    }
}

/// The parameter, the number of cgroups that a worker creates below its own, must be 1 to 64.
pub(super) fn few(value: &usize, work_type: &'static str, parameter: &'static str) -> Checked {
    let value = i64::try_from(*value).unwrap_or(i64::MAX);
    within(value, 1, 64, work_type, parameter)
}
