//! Hand-written schedules for tests.

use crate::event::{Class, Cpu, CpuMask, DequeueReason, Event, Pid, Reason, What};
use crate::query::Answers;
use crate::{Schedule, Tables, Topology, Writer};

/// Collects events. Each event has the time that the last call of [`Script::at`] set.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) events: Vec<Event>,
    pub(crate) tables: Tables,
    now: u64,
}

impl Script {
    pub(crate) fn at(&mut self, ns: u64) -> &mut Self {
        self.now = ns;
        self
    }

    pub(crate) fn push(&mut self, cpu: u16, what: What) -> &mut Self {
        self.events.push(Event {
            time_ns: self.now,
            cpu: Cpu(cpu),
            what,
        });
        self
    }

    pub(crate) fn switch(&mut self, cpu: u16, prev: u32, next: u32, reason: Reason) -> &mut Self {
        let (prev, next) = (Pid(prev), Pid(next));
        self.push(cpu, What::Switch { prev, next, reason })
    }

    pub(crate) fn wake(&mut self, cpu: u16, task: u32, on: u16) -> &mut Self {
        let what = What::Enqueue {
            task: Pid(task),
            on: Cpu(on),
            class: Class::Ext,
            wakeup: true,
        };
        self.push(cpu, what)
    }

    pub(crate) fn dequeue(&mut self, cpu: u16, task: u32, reason: DequeueReason) -> &mut Self {
        let what = What::Dequeue {
            task: Pid(task),
            on: Cpu(cpu),
            class: Class::Ext,
            reason,
        };
        self.push(cpu, what)
    }

    pub(crate) fn affinity(&mut self, task: u32, bits: u64) -> &mut Self {
        let mask = CpuMask([bits, 0]);
        let task = Pid(task);
        self.push(0, What::Affinity { task, mask })
    }

    pub(crate) fn phase(&mut self, number: u16) -> &mut Self {
        self.push(0, What::Phase { number })
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.events.iter().for_each(|event| writer.push(*event));
        let topology = Topology {
            llc: vec![0, 0, 1, 1],
            node: vec![0, 0, 0, 1],
        };
        writer.finish(&Tables {
            topology,
            ..self.tables.clone()
        })
    }

    #[track_caller]
    pub(crate) fn answers(&self) -> Answers {
        let file = self.file();
        let schedule = Schedule::read(&file).expect("a writer's file can be read");
        Answers::of(&schedule).expect("a writer's events can be read")
    }
}
