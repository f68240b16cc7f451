//! The rules for single fields of operations. The table of operations names the rule of a field after `=>`. Each rule is a
//! function that checks what the first sentence of its documentation states.

use std::borrow::Cow;
use std::time::Duration;

use super::Checked;
use super::stage::Stage;
use crate::ops::{KernelTarget, KernelValue, KernelValueWidth, MAX_WEIGHT, validate_writes};
use crate::workload::SchedPolicy;

/// The largest number of bytes of a tag or a symbol.
const MAX_TAG: usize = 64;

/// The cgroup exists.
pub(super) fn exists(stage: &mut Stage<'_>, name: &str) -> Checked {
    stage.get(name).map(drop)
}

/// The cgroup exists, if one is named.
pub(super) fn exists_or_none(stage: &mut Stage<'_>, name: &Option<Cow<'static, str>>) -> Checked {
    name.iter().try_for_each(|name| exists(stage, name))
}

/// The machine has a CPU of this number.
pub(super) fn cpu(stage: &Stage<'_>, cpu: &usize) -> Checked {
    let cpus = stage.topology.all_cpuset();
    match cpus.contains(cpu) {
        true => Ok(()),
        false => Err(format!(
            "the machine has no CPU {cpu}: its CPUs are {}",
            crate::topology::cpuset_string(&cpus)
        )),
    }
}

/// The length of a tag or a symbol is allowed.
pub(super) fn tag(_: &Stage<'_>, tag: &str) -> Checked {
    match tag.len() {
        1..=MAX_TAG => Ok(()),
        bytes => Err(format!(
            "the tag {tag:?} has {bytes} bytes: give it 1 to {MAX_TAG}"
        )),
    }
}

/// The length of a capture's tag is allowed, and the tag does not begin like the tags of the harness's periodic captures. The
/// host refuses the tags of the captures that it takes at events.
pub(super) fn capture_tag(stage: &Stage<'_>, name: &str) -> Checked {
    match name.starts_with("periodic_") {
        true => Err(format!(
            "the tag {name:?} begins with \"periodic_\", which is reserved for captures of the harness"
        )),
        false => tag(stage, name),
    }
}

/// The name of the BPF map is short enough for the kernel to keep it whole.
pub(super) fn map_name(_: &Stage<'_>, name: &str) -> Checked {
    match name.len() {
        1..=15 => Ok(()),
        bytes => Err(format!(
            "the map's name {name:?} has {bytes} bytes: the kernel keeps 1 to 15"
        )),
    }
}

/// The writes to the kernel's memory have bytes, and not too many in total.
pub(super) fn writes(_: &Stage<'_>, writes: &[(KernelTarget, KernelValue)]) -> Checked {
    validate_writes(writes)
}

/// The width of a read of the kernel's memory is valid.
pub(super) fn width(_: &Stage<'_>, width: &KernelValueWidth) -> Checked {
    width.validate()
}

/// The parameters of the scheduling policy are in their ranges.
pub(super) fn policy(_: &Stage<'_>, policy: &SchedPolicy) -> Checked {
    policy.validate().map_err(|error| error.to_string())
}

/// The quota is one that the kernel accepts.
pub(super) fn quota(_: &Stage<'_>, quota: &Option<Duration>) -> Checked {
    cpu_max(quota.is_none_or(|quota| quota >= Duration::from_millis(1)))
}

/// The period of a quota is one that the kernel accepts.
pub(super) fn period(_: &Stage<'_>, period: &Duration) -> Checked {
    cpu_max((Duration::from_millis(1)..=Duration::from_secs(1)).contains(period))
}

/// Returns the same message for an invalid quota and an invalid period, since people set both at once.
fn cpu_max(valid: bool) -> Checked {
    match valid {
        true => Ok(()),
        false => Err("the quota must be at least 1ms, the period 1ms to 1s".to_owned()),
    }
}

/// The weight is in the range of `cpu.weight`.
pub(super) fn weight(_: &Stage<'_>, weight: &u32) -> Checked {
    match (1..=MAX_WEIGHT).contains(weight) {
        true => Ok(()),
        false => Err(format!("the weight {weight} is not in 1..={MAX_WEIGHT}")),
    }
}

/// The bound of the utilization is a percentage.
pub(super) fn percent(_: &Stage<'_>, percent: &f64) -> Checked {
    match (0.0..=100.0).contains(percent) {
        true => Ok(()),
        false => Err(format!(
            "{percent} percent is out of range: give 0 to 100 percent of the capacity of a CPU"
        )),
    }
}

/// The bound of the utilization is a percentage, or there is no bound.
pub(super) fn percent_or_none(stage: &Stage<'_>, bound: &Option<f64>) -> Checked {
    bound.iter().try_for_each(|bound| percent(stage, bound))
}
