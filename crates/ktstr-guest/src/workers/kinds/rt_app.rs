//! Executes the phases of an rt-app thread (`WorkType::RtApp`).

use std::time::Duration;

use ktstr_assert::{BenchRole, SampleKind};
use ktstr_scenario::workload::{RtAction, RtPhase, WorkType};

use super::super::attrs::SchedAttr;
use super::super::ctx::WorkerCtx;
use super::super::objects::{self, Kind, Object};
use super::super::sys;
use super::super::unable::Unable;
use super::{futex_group, ns};

/// The largest number of units of work between two reads of the CPU time.
const PIECE: u64 = 64;
/// The largest number of locks that a worker can hold at once.
const MAX_HELD: usize = 16;

/// Why a worker does not go on: it was told to stop, or it lacks something that it needs (with the errno).
enum End {
    Stopped,
    Unable(Unable, i32),
}

type Done = Result<(), End>;

/// The state of a worker.
struct Thread<'a> {
    /// The monotonic time in ns at which the first period of a timer begins.
    first_ns: u64,
    /// Whether the holder of a lock inherits the priority of its waiters.
    inherits: bool,
    /// The slice that the worker asked for, in ns; 0 for none.
    slice: u64,
    /// Whether the worker uses a timer. If so, it records latencies only after timers.
    timed: bool,
    /// The locks that the worker holds.
    held: [Option<&'a Object>; MAX_HELD],
}

/// Executes the phases, and then waits to be stopped.
pub(super) fn rt_app(ctx: &mut WorkerCtx<'_>) {
    let WorkType::RtApp {
        phases,
        repeat,
        delay,
        inherits_priority,
    } = ctx.work_type
    else {
        return;
    };
    super::timed::exact_timers();
    let mut thread = Thread {
        first_ns: ctx.released_ns().saturating_add(ns(*delay)),
        inherits: *inherits_priority,
        slice: 0,
        timed: phases.iter().any(has_timer),
        held: [None; MAX_HELD],
    };
    if thread.timed {
        ctx.samples_are(SampleKind::Timer);
        ctx.plays(BenchRole::RtAppThread);
    }
    let end = all(ctx, &mut thread, phases, *repeat, *delay);
    thread.release_all();
    match end {
        Ok(()) => ctx.park(),
        Err(End::Stopped) => {}
        Err(End::Unable(why, errno)) => ctx.unable(why, errno),
    }
}

/// Executes all phases `repeat` times; 0 means without end.
fn all<'a>(
    ctx: &mut WorkerCtx<'a>,
    thread: &mut Thread<'a>,
    phases: &'a [RtPhase],
    repeat: u64,
    delay: Duration,
) -> Done {
    // This unit shows that the worker ran, even if it then waits for something that never comes.
    ctx.count_units(1);
    if !delay.is_zero() {
        sleep_until(ctx, thread.first_ns)?;
    }
    let mut passed = 0;
    while repeat == 0 || passed < repeat {
        for phase in phases {
            let mut times = 0;
            while phase.repeat == 0 || times < phase.repeat {
                for action in &phase.actions {
                    if ctx.stopped() {
                        return Err(End::Stopped);
                    }
                    thread.act(ctx, action)?;
                    ctx.count_units(1);
                }
                ctx.iteration();
                times += 1;
            }
        }
        passed += 1;
    }
    Ok(())
}

impl<'a> Thread<'a> {
    fn act(&mut self, ctx: &mut WorkerCtx<'a>, action: &'a RtAction) -> Done {
        let [first, second] = names(action, self.inherits, sys::tid);
        match action {
            RtAction::Run(time) => compute(ctx, ns(*time)),
            RtAction::Runtime(time) => {
                ctx.work_until(sys::now_ns().saturating_add(ns(*time)));
                // `work_until` also returns early, when the worker is told to stop.
                match ctx.stopped() {
                    true => Err(End::Stopped),
                    false => Ok(()),
                }
            }
            RtAction::Sleep(time) => {
                let late = sleep_until(ctx, sys::now_ns().saturating_add(ns(*time)))?;
                self.woken(ctx, late);
                Ok(())
            }
            RtAction::Timer {
                period, absolute, ..
            } => {
                let timer = object(ctx, first)?;
                self.period(ctx, timer, ns(*period), *absolute)
            }
            RtAction::Lock(_) => {
                let lock = object(ctx, first)?;
                self.lock(ctx, lock)
            }
            RtAction::Unlock(_) => {
                self.unlock(object(ctx, first)?);
                Ok(())
            }
            RtAction::Wait { .. } => {
                let (queue, lock) = (object(ctx, first)?, object(ctx, second)?);
                // The worker enters the queue of the condition while it still holds the lock. If another worker then takes the
                // lock and signals the condition, the signal finds this worker in the queue.
                let place = queue.queue();
                self.unlock(lock);
                self.wait(ctx, queue, place)?;
                self.lock(ctx, lock)
            }
            RtAction::Signal(_) => {
                object(ctx, first)?.let_one_go();
                Ok(())
            }
            RtAction::Broadcast(_) | RtAction::Resume(_) => {
                object(ctx, first)?.let_all_go();
                Ok(())
            }
            RtAction::Suspend(_) => {
                let queue = object(ctx, first)?;
                self.wait(ctx, queue, queue.queue())
            }
            RtAction::Barrier { threads, .. } => {
                let queue = object(ctx, first)?;
                let place = queue.queue();
                let end = place.wrapping_add(1);
                match end.checked_rem(*threads) {
                    Some(0) => {
                        queue.let_go_before(end);
                        Ok(())
                    }
                    _ => self.wait(ctx, queue, place),
                }
            }
            RtAction::SemPost(_) => {
                object(ctx, first)?.post();
                Ok(())
            }
            RtAction::SemWait(_) => {
                let semaphore = object(ctx, first)?;
                let taken = semaphore.take(|| ctx.stopped());
                let waited = taken.ok_or_else(|| stopped(ctx))?;
                if waited {
                    self.called(ctx, semaphore.released_ns());
                }
                Ok(())
            }
            RtAction::Yield => {
                super::cpu::sched_yield();
                Ok(())
            }
            RtAction::Cpus(cpus) => {
                let mask = match cpus.is_empty() {
                    true => ctx.allowed,
                    false => sys::mask_of_all(cpus),
                };
                if sys::affinity(0) == mask {
                    return Ok(());
                }
                let set = sys::set_affinity(0, &mask);
                set.map_err(|errno| End::Unable(Unable::Affinity, errno))
            }
            RtAction::Policy(policy) => {
                let wanted = SchedAttr::of_policy(policy);
                if !SchedAttr::own().is_some_and(|own| own.is_same_policy(&wanted)) {
                    self.slice = 0;
                    ctx.become_policy(wanted);
                }
                Ok(())
            }
            RtAction::Priority(priority) => {
                let wanted = SchedAttr::own().map(|own| (own, own.with_priority(*priority)));
                if let Some((own, wanted)) = wanted
                    && own != wanted
                {
                    ctx.become_attr(&wanted.with_slice(self.slice));
                }
                Ok(())
            }
            RtAction::Slice(time) => {
                if self.slice != ns(*time)
                    && let Some(own) = SchedAttr::own()
                {
                    self.slice = ns(*time);
                    ctx.become_attr(&own.with_slice(self.slice));
                }
                Ok(())
            }
        }
    }

    /// Records how much of the timer's period is left, and sleeps until the period is over. A period that is over already counts
    /// as missed, and a timer that is not absolute then starts its next period at once.
    fn period(&self, ctx: &mut WorkerCtx<'a>, timer: &Object, period: u64, absolute: bool) -> Done {
        let next = timer.next_period(self.first_ns, period);
        let now = sys::now_ns();
        ctx.bench_sample(next.saturating_sub(now));
        if now >= next {
            ctx.hit();
            if !absolute {
                timer
                    .next_ns
                    .store(now, std::sync::atomic::Ordering::Relaxed);
            }
            return Ok(());
        }
        let late = sleep_until(ctx, next)?;
        ctx.sample(late);
        ctx.checkpoint();
        Ok(())
    }

    /// Waits until the queue releases the waiter at `place`, and records the latency of the wake-up.
    fn wait(&self, ctx: &mut WorkerCtx<'a>, queue: &Object, place: u32) -> Done {
        let let_go = queue.wait(place, || ctx.stopped());
        let let_go = let_go.ok_or_else(|| stopped(ctx))?;
        self.called(ctx, let_go);
        Ok(())
    }

    /// Records that the worker waited for another worker, which woke it at this monotonic time.
    fn called(&self, ctx: &mut WorkerCtx<'a>, at_ns: u64) {
        ctx.idle_until(at_ns);
        self.woken(ctx, sys::now_ns().saturating_sub(at_ns));
    }

    /// Records how late the worker woke up after anything but a timer.
    fn woken(&self, ctx: &mut WorkerCtx<'a>, late: u64) {
        if !self.timed {
            ctx.sample(late);
        }
        ctx.checkpoint();
    }

    fn lock(&mut self, ctx: &mut WorkerCtx<'a>, lock: &'a Object) -> Done {
        // A worker that takes a lock which it already holds deadlocks, as with a normal mutex. If the lock inherits priorities,
        // the kernel detects the deadlock (`EDEADLK`), and the worker gives up.
        let asked = sys::now_ns();
        let taken = match self.inherits {
            false => futex_group::take(ctx, &lock.word).is_some(),
            true => match sys::lock_pi(&lock.word, || ctx.stopped()) {
                Ok(taken) => taken,
                Err(errno) => return Err(End::Unable(Unable::PiLock, errno)),
            },
        };
        if !taken {
            return Err(stopped(ctx));
        }
        let free = self.held.iter_mut().find(|place| place.is_none());
        let Some(place) = free else {
            self.give(lock);
            return Err(End::Unable(Unable::Locks, 0));
        };
        *place = Some(lock);
        // If the lock was released after the worker had asked for it, the worker waited for that release.
        let released = lock.released_ns();
        if released > asked {
            self.called(ctx, released);
        }
        Ok(())
    }

    fn unlock(&mut self, lock: &Object) {
        let same = |held: &&mut Option<&Object>| held.is_some_and(|held| std::ptr::eq(held, lock));
        if let Some(place) = self.held.iter_mut().find(same) {
            *place = None;
            self.give(lock);
        }
    }

    fn give(&self, lock: &Object) {
        lock.stamp_release();
        match self.inherits {
            false => futex_group::give(&lock.word),
            true => sys::unlock_pi(&lock.word),
        }
    }

    /// Releases all locks at the end of the worker, because other workers of the scenario may wait for them.
    fn release_all(&mut self) {
        for at in 0..MAX_HELD {
            if let Some(lock) = self.held.get_mut(at).and_then(Option::take) {
                self.give(lock);
            }
        }
    }
}

/// The kind and the name of an object; `None` if an action has no object, or no second one.
type Named<'a> = Option<(Kind, &'a str)>;

/// Returns the objects of an action: a condition and a lock for a wait, one object or none otherwise. `tid` returns the thread id
/// of the worker.
fn names<'a>(action: &'a RtAction, inherits: bool, tid: impl FnOnce() -> i32) -> [Named<'a>; 2] {
    let lock = match inherits {
        false => Kind::Lock,
        true => Kind::PiLock,
    };
    let one = |kind, name: &'a String| [Some((kind, name.as_str())), None];
    match action {
        RtAction::Timer {
            name, shared: true, ..
        } => one(Kind::Timer, name),
        RtAction::Timer { name, .. } => one(Kind::OwnTimer(tid()), name),
        RtAction::Lock(name) | RtAction::Unlock(name) => one(lock, name),
        RtAction::Wait { condition, mutex } => {
            [Some((Kind::Condition, condition)), Some((lock, mutex))]
        }
        RtAction::Signal(name)
        | RtAction::Broadcast(name)
        | RtAction::Resume(name)
        | RtAction::Suspend(name) => one(Kind::Condition, name),
        RtAction::Barrier { name, .. } => one(Kind::Barrier, name),
        RtAction::SemPost(name) | RtAction::SemWait(name) => one(Kind::Semaphore, name),
        RtAction::Run(_)
        | RtAction::Runtime(_)
        | RtAction::Sleep(_)
        | RtAction::Yield
        | RtAction::Cpus(_)
        | RtAction::Policy(_)
        | RtAction::Priority(_)
        | RtAction::Slice(_) => [None, None],
    }
}

/// Returns the keys of all objects of these phases, for a worker with this thread id.
pub(super) fn keys(phases: &[RtPhase], inherits: bool, tid: i32) -> Vec<u64> {
    let actions = phases.iter().flat_map(|phase| &phase.actions);
    let named = actions.flat_map(|action| names(action, inherits, || tid));
    let mut keys: Vec<u64> = named
        .flatten()
        .map(|(kind, name)| objects::key(kind, name))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Returns an object of an action.
fn object<'a>(ctx: &WorkerCtx<'a>, named: Named<'_>) -> Result<&'a Object, End> {
    named
        .and_then(|(kind, name)| objects::find(ctx.objects(), kind, name))
        .ok_or(End::Unable(Unable::Objects, 0))
}

/// Computes for `time` ns of CPU time. The pieces of work get smaller towards the end, so that the worker exceeds the time by
/// only a few units.
fn compute(ctx: &mut WorkerCtx<'_>, time: u64) -> Done {
    let began = sys::thread_cpu_ns();
    let (mut had, mut units) = (0, 0);
    while had < time {
        if ctx.stopped() {
            return Err(End::Stopped);
        }
        // Estimate how many units are left from the average time of the units so far.
        let left = match had {
            0 => 1,
            had => u128::from(time - had) * u128::from(units) / u128::from(had),
        };
        let piece = u64::try_from(left).unwrap_or(PIECE).clamp(1, PIECE);
        ctx.work(piece);
        units += piece;
        had = sys::thread_cpu_ns().saturating_sub(began);
    }
    Ok(())
}

/// Sleeps until a monotonic time in ns, and returns how late the worker woke up.
fn sleep_until(ctx: &mut WorkerCtx<'_>, ns: u64) -> Result<u64, End> {
    let time = ns.saturating_sub(sys::now_ns());
    ctx.nap(time).ok_or_else(|| stopped(ctx))
}

/// Ends a worker that is told to stop while it waits. The wait does not count as a gap in its work.
fn stopped(ctx: &mut WorkerCtx<'_>) -> End {
    ctx.idle_until(u64::MAX);
    End::Stopped
}

fn has_timer(phase: &RtPhase) -> bool {
    let is_timer = |action: &RtAction| matches!(action, RtAction::Timer { .. });
    phase.actions.iter().any(is_timer)
}
