//! The preconditions and effects of each operation. An operation that is missing here does not compile.

use std::borrow::Cow;
use std::time::Duration;

use super::Checked;
use super::stage::{Life, Stage, is_below};
use crate::ops::{MAX_WEIGHT, Op, SpawnPlacement, validate_writes};
use crate::payload::Payload;

/// The largest number of bytes of a tag or a symbol.
const MAX_TAG: usize = 64;

impl Stage<'_> {
    /// Checks that an operation can be done now, and applies its effects to the stage.
    pub(super) fn op(&mut self, life: Life, op: &Op) -> Checked {
        match op {
            Op::AddCgroup { name } => self.add(life, name),
            Op::AddCgroupDef { def } => self.add_def(life, def),
            Op::RemoveCgroup { cgroup } => self.remove(cgroup),
            Op::SetCpuset { cgroup, cpus } => {
                let cpus = self.cpus_of(cpus)?;
                self.get(cgroup)?.cpus = Some(cpus);
                Ok(())
            }
            Op::ClearCpuset { cgroup } => {
                self.get(cgroup)?.cpus = None;
                Ok(())
            }
            Op::SwapCpusets { a, b } => {
                let of_a = self.get(a)?.cpus.take();
                let of_b = std::mem::replace(&mut self.get(b)?.cpus, of_a);
                self.get(a)?.cpus = of_b;
                Ok(())
            }
            Op::Spawn { placement, work } => match placement {
                SpawnPlacement::Cgroup(name) => self.spawn(name, work),
                SpawnPlacement::RunnerCgroup if work.workers_pct.is_some() => Err(
                    "workers_pct needs a cgroup with CPUs of its own: give `workers` for the harness's cgroup".to_owned(),
                ),
                SpawnPlacement::RunnerCgroup => self.work(None, work),
            },
            Op::StopCgroup { cgroup } => {
                self.get(cgroup)?.busy = false;
                Ok(())
            }
            Op::KillCgroup { cgroup } => {
                self.get(cgroup)?;
                for (name, live) in &mut self.cgroups {
                    live.busy &= name != cgroup && !is_below(name, cgroup);
                }
                Ok(())
            }
            Op::SetAffinity { cgroup, affinity } => {
                let cpus = self.get(cgroup)?.cpus.clone();
                let resolved = affinity.resolve(cpus.as_ref(), self.topology);
                resolved.map(drop).map_err(|error| error.to_string())
            }
            Op::SetSchedPolicy { cgroup, policy } => {
                self.there(cgroup)?;
                policy.validate().map_err(|error| error.to_string())
            }
            Op::MoveAllTasks { from, to } => self.move_all(from, to),
            Op::RunPayload {
                payload,
                args,
                cgroup,
            } => self.run_payload(payload, args, cgroup.as_ref()),
            Op::WaitPayload { name: _, cgroup } | Op::KillPayload { name: _, cgroup } => {
                cgroup.iter().try_for_each(|name| self.there(name))
            }
            Op::FreezeCgroup { cgroup } | Op::UnfreezeCgroup { cgroup } => self.there(cgroup),
            Op::CaptureSnapshot { name } => match name.starts_with("periodic_") {
                true => Err(format!("the tag {name:?} begins with \"periodic_\", which is reserved for captures of the harness")),
                false => tag(name),
            },
            Op::WatchSnapshot { symbol } => tag(symbol),
            Op::CaptureCgroupProcs { tag: name, cgroup } => {
                tag(name)?;
                self.there(cgroup)
            }
            Op::WriteKernelHot { writes } | Op::WriteKernelCold { writes } => {
                validate_writes(writes)
            }
            Op::ReadKernelHot {
                tag: name,
                target: _,
                width,
            }
            | Op::ReadKernelCold {
                tag: name,
                target: _,
                width,
            } => {
                tag(name)?;
                width.validate()
            }
            // Which scheduler is attached at this time is only known in the run.
            Op::AttachScheduler { scheduler: _ }
            | Op::DetachScheduler
            | Op::RestartScheduler
            | Op::ReplaceScheduler { scheduler: _ } => Ok(()),
            Op::PinBpfMap { name } => match name.len() {
                1..=15 => Ok(()),
                bytes => Err(format!("the map's name {name:?} has {bytes} bytes: the kernel keeps 1 to 15")),
            },
            Op::SteerIrq { irq: _, cpu } | Op::CpuOffline { cpu } | Op::CpuOnline { cpu } => {
                self.cpu(*cpu)
            }
            Op::SetCpuMax {
                cgroup,
                quota,
                period,
            } => {
                self.there(cgroup)?;
                let (ms, s) = (Duration::from_millis(1), Duration::from_secs(1));
                match quota.is_some_and(|quota| quota < ms) || !(ms..=s).contains(period) {
                    true => Err("the quota must be at least 1ms, the period 1ms to 1s".to_owned()),
                    false => Ok(()),
                }
            }
            Op::SetCpuWeight { cgroup, weight } => {
                self.there(cgroup)?;
                match (1..=MAX_WEIGHT).contains(weight) {
                    true => Ok(()),
                    false => Err(format!("the weight {weight} is not in 1..={MAX_WEIGHT}")),
                }
            }
            Op::SetUclampMin { cgroup, percent } => self.percent(cgroup, Some(*percent)),
            Op::SetUclampMax { cgroup, percent } => self.percent(cgroup, *percent),
            Op::SetCpuIdle { cgroup, idle: _ }
            | Op::SetMemoryMax { cgroup, bytes: _ }
            | Op::SetMemoryHigh { cgroup, bytes: _ }
            | Op::SetMemoryLow { cgroup, bytes: _ }
            | Op::SetPidsMax { cgroup, max: _ }
            | Op::SetCpusetPartition {
                cgroup,
                partition: _,
            } => self.there(cgroup),
        }
    }

    /// Checks that the cgroup exists.
    fn there(&mut self, name: &str) -> Checked {
        self.get(name).map(drop)
    }

    fn remove(&mut self, name: &str) -> Checked {
        if let Some(below) = self.cgroups.keys().find(|other| is_below(other, name)) {
            return Err(format!(
                "cgroup {below:?} is below {name:?}: remove that one first"
            ));
        }
        // The engine only warns if the cgroup does not exist.
        self.cgroups.remove(name);
        Ok(())
    }

    fn move_all(&mut self, from: &str, to: &str) -> Checked {
        if from == to {
            return Err(format!("from and to are the same cgroup {from:?}"));
        }
        let life = |stage: &mut Self, name: &str| match name {
            "" => Ok(None),
            name => stage.get(name).map(|live| Some(live.life)),
        };
        // `None` stands for the harness's own cgroup, which is always there.
        let lives = (life(self, from)?, life(self, to)?);
        if lives == (Some(Life::Scenario), Some(Life::Step)) {
            return Err(format!(
                "cgroup {to:?} ends with the step, but the workers of {from:?} do not: move them to a cgroup of the backdrop"
            ));
        }
        let busy = match from {
            "" => true,
            from => std::mem::take(&mut self.get(from)?.busy),
        };
        match to {
            to if busy && !to.is_empty() => self.occupy(to),
            _ => Ok(()),
        }
    }

    fn run_payload(
        &mut self,
        payload: &'static Payload,
        args: &[String],
        cgroup: Option<&Cow<'static, str>>,
    ) -> Checked {
        payload.validate().map_err(|error| error.to_string())?;
        (args.iter())
            .try_for_each(|arg| payload.validate_arg(arg))
            .map_err(|error| error.to_string())?;
        cgroup.map_or(Ok(()), |name| self.occupy(name))
    }

    fn cpu(&self, cpu: usize) -> Checked {
        let cpus = self.topology.all_cpuset();
        match cpus.contains(&cpu) {
            true => Ok(()),
            false => Err(format!(
                "the machine has no CPU {cpu}: its CPUs are {}",
                crate::topology::cpuset_string(&cpus)
            )),
        }
    }

    /// Checks that the cgroup exists and that the bound is in its range; `None` is no bound.
    fn percent(&mut self, cgroup: &str, percent: Option<f64>) -> Checked {
        self.there(cgroup)?;
        match percent {
            Some(percent) if !(0.0..=100.0).contains(&percent) => Err(format!(
                "{percent} percent is out of range: give 0 to 100 percent of the capacity of a CPU"
            )),
            _ => Ok(()),
        }
    }
}

/// Checks the length of a tag or a symbol.
fn tag(tag: &str) -> Checked {
    match tag.len() {
        1..=MAX_TAG => Ok(()),
        bytes => Err(format!(
            "the tag {tag:?} has {bytes} bytes: give it 1 to {MAX_TAG}"
        )),
    }
}
