//! The programs that a scenario runs next to its workers: their owners, and the results that the programs leave when they exit.

use anyhow::{Result, bail};
use ktstr_assert::AssertResult;
use ktstr_assert::payload::PayloadMetrics;
use ktstr_scenario::Ctx;
use ktstr_scenario::payload::Payload;

use super::live_scenario::{Owner, is_below};
use crate::payload::{PayloadHandle, RunsPayloads};

/// A program that was started and has not been waited for. It may have exited already.
struct Running {
    owner: Owner,
    handle: PayloadHandle,
    /// The cgroup in which the program is now; `None` for the harness's own. The program was started in the cgroup of `handle`.
    cgroup: Option<String>,
}

impl Running {
    /// Returns whether this is the program with this name, in this cgroup if one is given.
    fn is(&self, name: &str, cgroup: Option<&str>) -> bool {
        let in_cgroup = cgroup.is_none() || self.cgroup.as_deref() == cgroup;
        self.handle.payload_name() == name && in_cgroup
    }

    fn shown(&self) -> String {
        match &self.cgroup {
            Some(cgroup) => format!("{} in cgroup {cgroup:?}", self.handle.payload_name()),
            None => format!("{} in the harness's cgroup", self.handle.payload_name()),
        }
    }
}

/// All programs of a scenario.
#[derive(Default)]
pub(super) struct Payloads {
    /// Programs of cgroups that are being set up. They start together with the workers.
    waiting: Vec<(Owner, &'static Payload, String)>,
    running: Vec<Running>,
    /// The merged results of the programs that have exited.
    done: AssertResult,
}

impl Payloads {
    /// Schedules a cgroup's own program to start with the workers.
    pub fn announce(&mut self, owner: Owner, payload: &'static Payload, cgroup: &str) {
        self.waiting.push((owner, payload, cgroup.to_owned()));
    }

    /// Starts the programs that were announced.
    pub fn start_announced(&mut self, ctx: &Ctx) -> Result<()> {
        for (owner, payload, cgroup) in std::mem::take(&mut self.waiting) {
            self.start(ctx, owner, payload, &[], Some(&cgroup))?;
        }
        Ok(())
    }

    /// Starts a program in a cgroup, or in the harness's own. `args` follow the arguments of its declaration.
    pub fn start(
        &mut self,
        ctx: &Ctx,
        owner: Owner,
        payload: &'static Payload,
        args: &[String],
        cgroup: Option<&str>,
    ) -> Result<()> {
        let same =
            |r: &Running| r.handle.payload_name() == payload.name && r.cgroup.as_deref() == cgroup;
        if let Some(at) = self.running.iter().position(same) {
            match self.running[at].handle.try_wait()? {
                None => bail!(
                    "payload {} runs already: wait for it or kill it first, or start another declaration of it",
                    self.running[at].shown()
                ),
                Some(left) => self.keep(left),
            }
            self.running.swap_remove(at);
        }
        let mut run = ctx.payload(payload).args(args.iter().cloned());
        if let Some(cgroup) = cgroup {
            run = run.in_cgroup(cgroup);
        }
        let handle = run.spawn()?;
        self.running.push(Running {
            owner,
            handle,
            cgroup: cgroup.map(str::to_owned),
        });
        Ok(())
    }

    /// Waits until a program exits, and keeps its result.
    pub fn wait(&mut self, name: &str, cgroup: Option<&str>) -> Result<()> {
        let left = self.take(name, cgroup)?.handle.wait()?;
        self.keep(left);
        Ok(())
    }

    /// Kills a program unless it has exited, and keeps its result.
    pub fn kill(&mut self, name: &str, cgroup: Option<&str>) -> Result<()> {
        let left = self.take(name, cgroup)?.handle.kill()?;
        self.keep(left);
        Ok(())
    }

    /// Collects the results of the programs in a cgroup and its descendants, which were all just killed. Programs that have
    /// not started yet stay announced, because the cgroup still exists.
    pub fn forget_killed(&mut self, cgroup: &str) -> Result<()> {
        self.end(PayloadHandle::killed, |r| {
            (r.cgroup.as_deref()).is_some_and(|own| is_below(own, cgroup))
        })
    }

    /// Kills the programs that are in a cgroup, and forgets those that were announced for it.
    pub fn end_in(&mut self, cgroup: &str) -> Result<()> {
        self.waiting.retain(|(_, _, own)| own != cgroup);
        self.end(PayloadHandle::kill, |r| r.cgroup.as_deref() == Some(cgroup))
    }

    /// Records that the programs in the cgroup `from` were moved to another cgroup; a `to` of `None` is the harness's own.
    /// Returns whether there were any programs.
    pub fn moved(&mut self, from: &str, to: Option<&str>) -> bool {
        let mut any = false;
        for running in &mut self.running {
            if running.cgroup.as_deref() == Some(from) {
                running.cgroup = to.map(str::to_owned);
                any = true;
            }
        }
        any
    }

    /// Kills the programs of an owner, and merges the results of all programs that have exited so far into `result`.
    pub fn tear_down(&mut self, owner: Owner, result: &mut AssertResult) {
        self.waiting.clear();
        if let Err(error) = self.end(PayloadHandle::kill, |r| r.owner == owner) {
            result.note(format!("teardown of a payload: {error:#}"));
        }
        result.merge(std::mem::take(&mut self.done));
    }

    fn end(
        &mut self,
        by: fn(PayloadHandle) -> Result<(AssertResult, PayloadMetrics)>,
        which: impl Fn(&Running) -> bool,
    ) -> Result<()> {
        let (over, kept) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|running| which(running));
        self.running = kept;
        let over: Vec<Running> = over;
        // If ending one program fails, the remaining programs are killed when their handles are dropped.
        for running in over {
            let left = by(running.handle)?;
            self.keep(left);
        }
        Ok(())
    }

    fn keep(&mut self, (result, _): (AssertResult, PayloadMetrics)) {
        self.done.merge(result);
    }

    fn take(&mut self, name: &str, cgroup: Option<&str>) -> Result<Running> {
        let found: Vec<usize> = (0..self.running.len())
            .filter(|at| self.running[*at].is(name, cgroup))
            .collect();
        let list = |all: &[Running]| match all.is_empty() {
            true => "none".to_owned(),
            false => all
                .iter()
                .map(Running::shown)
                .collect::<Vec<_>>()
                .join(", "),
        };
        match found.as_slice() {
            [at] => Ok(self.running.swap_remove(*at)),
            [] => {
                let place =
                    cgroup.map_or_else(String::new, |cgroup| format!(" in cgroup {cgroup:?}"));
                bail!(
                    "no payload {name:?}{place} is running or waiting to be collected (there are: {})",
                    list(&self.running)
                )
            }
            _ => bail!(
                "there are {} payloads {name:?} ({}): name the cgroup of the intended one",
                found.len(),
                list(&self.running)
            ),
        }
    }
}
