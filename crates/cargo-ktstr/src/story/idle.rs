//! The times in which each CPU is known to have been idle. A time for which the schedule shows no task on a CPU does not
//! count as idle: events can be missing, and the CPU can be offline.

use std::collections::{BTreeMap, BTreeSet};

use ktstr_schedule::{Cpu, Event, Gap, Pid, What};

/// The idle times of the CPUs. All times are in nanoseconds of the kernel's scheduler clock.
#[derive(Debug, Default)]
pub struct Idle {
    /// The idle times that have ended, by CPU and in order.
    spans: BTreeMap<Cpu, Vec<(u64, u64)>>,
    /// Since when each CPU that is idle now has been idle.
    since: BTreeMap<Cpu, u64>,
    /// The CPUs that have switched since [`Self::from_ns`].
    switched: BTreeSet<Cpu>,
    offline: BTreeSet<Cpu>,
    /// The time from which all switches are known: the start of the schedule, or the end of its last gap.
    from_ns: Option<u64>,
}

impl Idle {
    /// Takes the next event, or the gap before the next events. Call [`Idle::end`] after the last one.
    pub fn take(&mut self, event: Result<&Event, Gap>) {
        let event = match event {
            Ok(event) => event,
            Err(gap) => {
                self.since.clear();
                self.switched.clear();
                self.from_ns = Some(gap.to_ns);
                return;
            }
        };
        let now = event.time_ns;
        if now > 0 {
            self.from_ns.get_or_insert(now);
        }
        match event.what {
            What::Switch { prev, next, .. } => {
                // The task that the CPU's first switch leaves has run on the CPU since `from_ns`.
                if self.switched.insert(event.cpu) && prev == Pid::IDLE {
                    let from = self.from_ns.unwrap_or(now);
                    self.since.entry(event.cpu).or_insert(from);
                }
                self.busy(event.cpu, now);
                if next == Pid::IDLE && !self.offline.contains(&event.cpu) {
                    self.since.insert(event.cpu, now);
                }
            }
            What::Online { cpu, online: false } => {
                self.busy(cpu, now);
                self.offline.insert(cpu);
                // The next switch of an offline CPU says nothing about the time before that switch.
                self.switched.insert(cpu);
            }
            What::Online { cpu, online: true } => {
                self.offline.remove(&cpu);
            }
            _ => {}
        }
    }

    /// Ends the idle times that are still open, at the end of the schedule.
    pub fn end(&mut self, to_ns: u64) {
        for cpu in self.since.clone().into_keys() {
            self.busy(cpu, to_ns);
        }
    }

    /// Returns for how long `cpu` is known to have been idle between two times, in nanoseconds.
    pub fn ns(&self, cpu: Cpu, from: u64, to: u64) -> u64 {
        let spans = self.spans.get(&cpu).into_iter().flatten();
        let inside =
            spans.map(|(begun, ended)| (*ended).min(to).saturating_sub((*begun).max(from)));
        inside.sum()
    }

    fn busy(&mut self, cpu: Cpu, now: u64) {
        if let Some(from) = self.since.remove(&cpu) {
            self.spans.entry(cpu).or_default().push((from, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use ktstr_schedule::Reason;

    use super::*;

    fn switch(time_ns: u64, cpu: u16, prev: u32, next: u32) -> Event {
        Event {
            time_ns,
            cpu: Cpu(cpu),
            what: What::Switch {
                prev: Pid(prev),
                next: Pid(next),
                reason: Reason::Idle,
            },
        }
    }

    /// After the gap, CPU 0 is idle up to its first switch, CPU 1 runs a task up to its first switch, and CPU 2 never switches.
    #[test]
    fn a_cpu_is_idle_only_if_the_schedule_shows_it() {
        let mut idle = Idle::default();
        let gap = Gap {
            from_ns: 10,
            to_ns: 100,
            events: 5,
            switches: 3,
        };
        idle.take(Ok(&switch(5, 2, 7, 0)));
        idle.take(Err(gap));
        for event in [
            switch(130, 0, 0, 7),
            switch(150, 1, 8, 0),
            switch(170, 0, 7, 0),
        ] {
            idle.take(Ok(&event));
        }
        idle.end(200);
        let of = |cpu| idle.ns(Cpu(cpu), 0, 1_000);
        assert_eq!([of(0), of(1), of(2)], [30 + 30, 50, 0]);
        assert_eq!(idle.ns(Cpu(0), 120, 180), 10 + 10);
    }

    #[test]
    fn a_cpu_that_is_offline_is_not_idle() {
        let mut idle = Idle::default();
        let online = |time_ns, online| Event {
            time_ns,
            cpu: Cpu(0),
            what: What::Online {
                cpu: Cpu(1),
                online,
            },
        };
        idle.take(Ok(&switch(10, 1, 7, 0)));
        idle.take(Ok(&online(40, false)));
        idle.take(Ok(&switch(45, 1, 9, 0)));
        idle.take(Ok(&online(60, true)));
        idle.take(Ok(&switch(70, 1, 0, 7)));
        idle.end(100);
        assert_eq!(idle.ns(Cpu(1), 0, 100), 30);
    }
}
