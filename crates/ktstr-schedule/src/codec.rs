//! Converts events into numbers. Each part of an event is encoded relative to a prediction, so that an event that was predicted
//! takes almost no space. The predicted CPU of an event is the CPU of the previous event, or the target CPU of the latest
//! enqueue, migration or kick. The predicted task is the task that runs on the event's CPU, or one of the recent tasks. The
//! predicted time is the largest time so far, a time slightly after it, or the time of the previous event of the same runqueue.

use std::collections::{HashMap, VecDeque};

use crate::event::{Cpu, CpuMask, Event, Pid, What};
use crate::numbers::Numbers;

/// The number of recent tasks that are encoded by their index, the latest first.
const RECENT: usize = 64;
/// The codes for tasks: `CURRENT` for the task that runs on the CPU, `UNKNOWN` for a task that is not recent, and `LATELY`
/// plus its index for a recent one.
const CURRENT: u64 = 0;
const UNKNOWN: u64 = 1;
const LATELY: u64 = 2;
/// The codes for CPUs: `FIRST` and `SECOND` for the two that are predicted, and `NUMBERED` plus its number for any other
/// CPU.
const FIRST: u64 = 0;
const SECOND: u64 = 1;
const NUMBERED: u64 = 2;
/// The codes for times: `LATEST` for the largest time so far, `SAME` for the time of the previous event of the same runqueue,
/// `LATER` for a time after the largest one, and `EARLIER` for a time before it.
const LATEST: u64 = 0;
const SAME: u64 = 1;
const LATER: u64 = 2;
const EARLIER: u64 = 3;
/// The largest number of values that [`What::detail`] has for one tag.
const DETAILS: u32 = 5;

/// What a number stands for. Numbers that stand for different things are predicted separately.
#[derive(Debug, Clone, Copy)]
enum Of {
    Tag,
    Cpu,
    Task,
    Pid,
    Place,
    Plain,
    Time,
    Later,
    Earlier,
}

/// Writes events to bytes, or reads them from bytes. The same functions do both, so the two directions cannot diverge.
#[derive(Debug)]
pub(crate) struct Codec<'a> {
    numbers: Numbers<'a>,
    reads: bool,
    /// The event's tag, the index of its next part, and its CPU.
    tag: u64,
    part: u32,
    cpu: u16,
    /// The task that the event is about, once it is known.
    task: Option<u32>,
    /// The kinds (tag and detail) of the two previous events, the latest first.
    before: [u32; 2],
    /// The CPU of the previous event, and the target CPU of the latest enqueue, migration or kick.
    last_cpu: u16,
    last_queue: u16,
    /// The task that runs on each CPU, and the runqueue of each task.
    current: HashMap<u16, u32>,
    queues: HashMap<u32, u16>,
    recent: VecDeque<u32>,
    /// The time of the previous event of each runqueue, and the largest time so far.
    clocks: HashMap<u16, u64>,
    latest: u64,
}

/// A part of an event.
pub(crate) trait Field: Sized {
    /// A placeholder for reading.
    const BLANK: Self;
    /// Writes the field, or reads it, in which case the value of `self` is ignored. Returns `None` if the bytes that are read
    /// are malformed, that is, if no writer produces them. A writer never gets `None`.
    fn code(self, codec: &mut Codec<'_>) -> Option<Self>;
}

impl<'a> Codec<'a> {
    /// Creates a codec that writes events to its own buffer.
    pub(crate) fn writer() -> Self {
        Self::by(Numbers::writer(), false)
    }

    /// Creates a codec that reads from `bytes`.
    pub(crate) fn reader(bytes: &'a [u8]) -> Self {
        Self::by(Numbers::reader(bytes), true)
    }

    fn by(numbers: Numbers<'a>, reads: bool) -> Self {
        Self {
            numbers,
            reads,
            tag: 0,
            part: 0,
            cpu: 0,
            task: None,
            before: [0; 2],
            last_cpu: 0,
            last_queue: 0,
            current: HashMap::new(),
            queues: HashMap::new(),
            recent: VecDeque::new(),
            clocks: HashMap::new(),
            latest: 0,
        }
    }

    /// Encodes an event after those that were written before.
    pub(crate) fn write(&mut self, event: &Event) {
        // A writer codes any event, so the result is `event` itself.
        self.code(event);
    }

    /// Reads an event; `None` if a writer cannot have written it.
    pub(crate) fn read(&mut self) -> Option<Event> {
        let blank = Event {
            time_ns: 0,
            cpu: Cpu(0),
            what: What::End {},
        };
        self.code(&blank).filter(|_| self.numbers.is_whole())
    }

    /// For a reader that has read the last event: whether the bytes are well-formed, and end after that event.
    pub(crate) fn is_sound(&self) -> bool {
        self.numbers.is_sound()
    }

    /// Returns the bytes that were written.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.numbers.finish()
    }

    fn code(&mut self, event: &Event) -> Option<Event> {
        let [last, before] = self.before;
        let tag = self.coded(Of::Tag, last << 8 | before, u64::from(event.what.tag()));
        let what = match self.reads {
            true => What::blank(tag)?,
            false => event.what,
        };
        (self.tag, self.part, self.task) = (tag, 0, None);
        let foreseen = [Some(self.last_cpu), Some(self.last_queue)];
        self.cpu = self.one_of(Of::Cpu, foreseen, event.cpu.0)?;
        let what = what.code(self)?;
        let kind = u32::from(what.tag()) * DETAILS + what.detail();
        let time_ns = self.time(kind, queue(&what).unwrap_or(self.cpu), event.time_ns);
        self.learn(&what);
        self.before = [kind, last];
        self.last_cpu = self.cpu;
        let cpu = Cpu(self.cpu);
        Some(Event { time_ns, cpu, what })
    }

    /// Updates the predictions for the next events.
    fn learn(&mut self, what: &What) {
        match *what {
            What::Switch { next, .. } => {
                self.current.insert(self.cpu, next.0);
                self.queues.insert(next.0, self.cpu);
            }
            What::Enqueue { task, on, .. } | What::Migrate { task, to: on } => {
                self.queues.insert(task.0, on.0);
                self.last_queue = on.0;
            }
            What::Kick { cpu, .. } => self.last_queue = cpu.0,
            _ => {}
        }
    }

    /// Codes the time of an event of this `kind`. The time was read from the clock of the runqueue `queue`.
    fn time(&mut self, kind: u32, queue: u16, time_ns: u64) -> u64 {
        let here = u32::from(self.cpu == self.last_cpu);
        let context = kind << 9 | self.before[0] << 1 | here;
        let same = self.clocks.get(&queue).copied();
        let how = match time_ns {
            time if time == self.latest => LATEST,
            time if Some(time) == same => SAME,
            time if time > self.latest => LATER,
            _ => EARLIER,
        };
        let latest = self.latest;
        let time_ns = match self.coded(Of::Time, context, how) {
            LATEST => latest,
            SAME => same.unwrap_or(latest),
            LATER => {
                let passed = time_ns.wrapping_sub(latest);
                latest.wrapping_add(self.coded(Of::Later, context, passed))
            }
            _ => {
                let back = latest.wrapping_sub(time_ns);
                latest.wrapping_sub(self.coded(Of::Earlier, 0, back))
            }
        };
        self.clocks.insert(queue, time_ns);
        self.latest = latest.max(time_ns);
        time_ns
    }

    /// Codes a number of the event for which there is no prediction.
    pub(crate) fn number(&mut self, value: u64) -> u64 {
        let context = self.context();
        self.coded(Of::Plain, context, value)
    }

    /// Codes the pid of a task, by its index if it is a recent one. Returns `None` if a writer cannot have written it.
    fn task(&mut self, pid: u32) -> Option<u32> {
        let context = self.context();
        let current = self.current.get(&self.cpu).copied();
        let place = self.recent.iter().position(|known| *known == pid);
        let code = match place {
            _ if current == Some(pid) => CURRENT,
            Some(place) => place as u64 + LATELY,
            None => UNKNOWN,
        };
        let pid = match self.coded(Of::Task, context, code) {
            CURRENT => current?,
            UNKNOWN => u32::try_from(self.coded(Of::Pid, 0, u64::from(pid))).ok()?,
            lately => *self.recent.get(usize::try_from(lately - LATELY).ok()?)?,
        };
        if let Some(place) = self.recent.iter().position(|known| *known == pid) {
            self.recent.remove(place);
        }
        self.recent.push_front(pid);
        self.recent.truncate(RECENT);
        self.task.get_or_insert(pid);
        Some(pid)
    }

    /// Codes a CPU that the event is about. The predictions are the CPU whose runqueue the task is on, and the event's
    /// own CPU.
    fn place(&mut self, cpu: u16) -> Option<u16> {
        let queue = self.task.and_then(|task| self.queues.get(&task).copied());
        let own = Some(self.cpu);
        self.one_of(Of::Place, [queue, own], cpu)
    }

    /// Codes a CPU, for which there are up to two predictions. Returns `None` if a writer cannot have written it.
    fn one_of(&mut self, of: Of, [first, second]: [Option<u16>; 2], cpu: u16) -> Option<u16> {
        let context = self.context();
        let code = match Some(cpu) {
            cpu if cpu == first => FIRST,
            cpu if cpu == second => SECOND,
            _ => u64::from(cpu) + NUMBERED,
        };
        match self.coded(of, context, code) {
            FIRST => first,
            SECOND => second,
            numbered => u16::try_from(numbered - NUMBERED).ok(),
        }
    }

    /// Returns the context of the event's next part: the event's tag, the index of the part, and the kind of the previous event,
    /// which takes eight bits.
    fn context(&mut self) -> u32 {
        let part = self.part;
        self.part += 1;
        // A tag has eight bits, so the context has 19 bits; `coded` puts the meaning above them, from bit 24 up. The mask never
        // changes a tag: it only shows Clippy that the conversion to 32 bits and the shift lose no bits.
        ((self.tag & 0x1f_ffff) as u32) << 11 | part << 8 | self.before[0]
    }

    fn coded(&mut self, of: Of, context: u32, value: u64) -> u64 {
        self.numbers.code((of as u32) << 24 | context, value)
    }
}

/// Returns the runqueue whose clock gives the time of the event; `None` if that is the runqueue of the event's own CPU.
fn queue(what: &What) -> Option<u16> {
    match what {
        What::Enqueue { on, .. } | What::Dequeue { on, .. } => Some(on.0),
        _ => None,
    }
}

impl Field for Pid {
    const BLANK: Self = Self(0);
    fn code(self, codec: &mut Codec<'_>) -> Option<Self> {
        codec.task(self.0).map(Self)
    }
}

impl Field for Cpu {
    const BLANK: Self = Self(0);
    fn code(self, codec: &mut Codec<'_>) -> Option<Self> {
        codec.place(self.0).map(Self)
    }
}

impl Field for CpuMask {
    const BLANK: Self = Self([0; 2]);
    fn code(self, codec: &mut Codec<'_>) -> Option<Self> {
        Some(Self(self.0.map(|word| codec.number(word))))
    }
}

impl Field for bool {
    const BLANK: Self = false;
    fn code(self, codec: &mut Codec<'_>) -> Option<Self> {
        match codec.number(u64::from(self)) {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Field for i8 {
    const BLANK: Self = 0;
    fn code(self, codec: &mut Codec<'_>) -> Option<Self> {
        let number = codec.number(u64::from(self.cast_unsigned()));
        u8::try_from(number).ok().map(u8::cast_signed)
    }
}

macro_rules! numbers {
    ($($type:ty),*) => { $(
        impl Field for $type {
            const BLANK: Self = 0;
            fn code(self, codec: &mut Codec<'_>) -> Option<Self> {
                Self::try_from(codec.number(u64::from(self))).ok()
            }
        }
    )* };
}

numbers!(u8, u16, u32, u64);
