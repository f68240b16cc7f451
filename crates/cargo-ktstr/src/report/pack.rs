//! Prepares the time line of a run's HTML page. A stretch is a time in which a task did one thing, such as running or waiting.
//! Some stretches are too short to be drawn, or belong to a task that has no row. Those in which a task ran are merged, and the
//! others are left out. The result is encoded as bytes, which `assets/data.js` decodes.
//!
//! The encoding is a sequence of unsigned LEB128 numbers; times are in nanoseconds. Each element has:
//!
//! - its start, as the difference from the start of the element before it, or from the start of the schedule;
//! - its length;
//! - its head: `4 * value + kind`, where the value is the index of the task, or the number of merged stretches for [`SEVERAL`];
//! - for [`RAN`]: the CPU, then `8 * then + class`. `then` is 0 if the stretch has no reason why the task stopped, otherwise the
//!   reason's code plus 1. `class` is the code of the task's class;
//! - for [`WAITED`]: the CPU on whose runqueue the task was when the wait began; then `2 * cause + 1` if the task got a CPU, or
//!   `2 * cause` if not; then what woke the task: the index of the waking task plus 2, 1 for an interrupt, or 0 if the waker is
//!   unknown or has no row; then the number of moves to other runqueues, and for each of them the time since the start and
//!   the CPU;
//! - for [`THROTTLED`]: nothing more;
//! - for [`SEVERAL`]: the CPU.

use std::collections::BTreeMap;

use ktstr_schedule::query::{Did, Stretch, WaitCause, Waker};
use ktstr_schedule::{Cpu, Pid};

use crate::story::Story;

/// The kind of an element: a task ran. The four kinds have the same numbers in `assets/data.js`.
const RAN: u64 = 0;
/// The kind of an element: a task waited for a CPU.
const WAITED: u64 = 1;
/// The kind of an element: the quota of its cgroup kept a task from running.
const THROTTLED: u64 = 2;
/// The kind of an element: several short stretches on a CPU.
const SEVERAL: u64 = 3;

/// An element of the time line.
#[derive(Debug, Clone, Copy)]
pub enum Drawn<'a> {
    /// A stretch that is drawn individually.
    One(&'a Stretch),
    /// Short stretches of any tasks on one CPU that follow each other, merged; short idle times between them are included.
    Several {
        /// The CPU on which the tasks ran.
        cpu: Cpu,
        /// The start of the first stretch, in nanoseconds of the kernel's scheduler clock.
        from_ns: u64,
        /// The end of the last stretch, in nanoseconds of the kernel's scheduler clock.
        to_ns: u64,
        /// The number of merged stretches, which is at least 1.
        count: u64,
    },
}

impl Drawn<'_> {
    fn times(&self) -> (u64, u64) {
        match *self {
            Self::One(stretch) => (stretch.from_ns, stretch.to_ns),
            Self::Several { from_ns, to_ns, .. } => (from_ns, to_ns),
        }
    }
}

/// Returns the elements to draw for `stretches`, which are sorted by start. A stretch is short if it lasts less than `shorter`
/// nanoseconds, or if its task has no row. Short stretches on a CPU are merged if less than `shorter` lies between them. Short
/// waits and short throttled stretches are left out. The elements are sorted by start, too.
pub fn drawn<'a>(
    stretches: &[&'a Stretch],
    shorter: u64,
    has_row: impl Fn(Pid) -> bool,
) -> Vec<Drawn<'a>> {
    /// Stretches are merged only into an element that stays shorter than this multiple of `shorter`.
    const MOST: u64 = 16;
    let mut all = Vec::with_capacity(stretches.len());
    let mut open: BTreeMap<Cpu, (u64, u64, u64)> = BTreeMap::new();
    let several = |cpu, (from_ns, to_ns, count)| Drawn::Several {
        cpu,
        from_ns,
        to_ns,
        count,
    };
    for stretch in stretches {
        let short = stretch.len_ns() < shorter || !has_row(stretch.task);
        match (stretch.did, short) {
            (Did::Ran { cpu, .. }, true) => {
                let (from, to) = (stretch.from_ns, stretch.to_ns);
                match open.get_mut(&cpu) {
                    Some((begun, last, count))
                        if from.saturating_sub(*last) < shorter
                            && to.saturating_sub(*begun) < MOST * shorter =>
                    {
                        (*last, *count) = (to, *count + 1);
                    }
                    _ => {
                        let before = open.insert(cpu, (from, to, 1));
                        all.extend(before.map(|before| several(cpu, before)));
                    }
                }
            }
            (_, true) => {}
            (Did::Ran { cpu, .. }, false) => {
                all.extend(open.remove(&cpu).map(|before| several(cpu, before)));
                all.push(Drawn::One(stretch));
            }
            (_, false) => all.push(Drawn::One(stretch)),
        }
    }
    all.extend(open.into_iter().map(|(cpu, last)| several(cpu, last)));
    all.sort_by_key(Drawn::times);
    all
}

/// Encodes the elements, which are stretches of `story`. `index` has the index of each task with a row.
pub fn pack(drawn: &[Drawn<'_>], index: &BTreeMap<Pid, u64>, story: &Story) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(drawn.len() * 8);
    let mut last = story.from_ns;
    for drawn in drawn {
        let (from, to) = drawn.times();
        let from = from.max(last);
        put(&mut bytes, from - last);
        last = from;
        put(&mut bytes, to.saturating_sub(from));
        match drawn {
            Drawn::One(stretch) => one(&mut bytes, stretch, index, story),
            Drawn::Several { cpu, count, .. } => {
                put(&mut bytes, head(*count, SEVERAL));
                put(&mut bytes, u64::from(cpu.0));
            }
        }
    }
    bytes
}

/// Returns the head of an element.
fn head(value: u64, kind: u64) -> u64 {
    value * 4 + kind
}

fn one(bytes: &mut Vec<u8>, stretch: &Stretch, index: &BTreeMap<Pid, u64>, story: &Story) {
    // A task without a row has no stretch that is drawn individually, so the 0 is never used.
    let task = index.get(&stretch.task).copied().unwrap_or(0);
    match stretch.did {
        Did::Ran { cpu, class, then } => {
            put(bytes, head(task, RAN));
            put(bytes, u64::from(cpu.0));
            put(
                bytes,
                then.map_or(0, |reason| reason as u64 + 1) * 8 + class as u64,
            );
        }
        Did::Waited {
            cpu,
            cause,
            waker,
            served,
            dsq: _,
            left_dsq_ns: _,
        } => {
            let queues = story.queues(stretch);
            let first = queues.first().map_or(cpu, |(_, cpu)| *cpu);
            put(bytes, head(task, WAITED));
            put(bytes, u64::from(first.0));
            put(bytes, code(cause) * 2 + u64::from(served));
            let by = |waker: Waker| match waker.interrupt {
                true => 1,
                false => index.get(&waker.task).map_or(0, |task| task + 2),
            };
            put(bytes, waker.map_or(0, by));
            let moves = queues.get(1..).unwrap_or_default();
            put(bytes, moves.len() as u64);
            for (at, cpu) in moves {
                put(bytes, at.saturating_sub(stretch.from_ns));
                put(bytes, u64::from(cpu.0));
            }
        }
        // `Slept` never gets here, because [`Story`](crate::story::Story) leaves out stretches of sleep.
        Did::Throttled | Did::Slept => put(bytes, head(task, THROTTLED)),
    }
}

/// Returns the index of a cause in the list `CAUSE` of `assets/data.js`.
fn code(cause: WaitCause) -> u64 {
    match cause {
        WaitCause::Unknown => 0,
        WaitCause::Woken => 1,
        WaitCause::Forked => 2,
        WaitCause::Preempted => 3,
        WaitCause::Yielded => 4,
        WaitCause::Unthrottled => 5,
    }
}

/// Appends a number in unsigned LEB128.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Encodes bytes in Base64 (RFC 4648, section 4).
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let word = part
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - part.len()));
        for digit in 0..4 {
            out.push(match digit <= part.len() {
                true => char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize]),
                false => '=',
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task waits for 30 ns, on the runqueue of CPU 1 for the first 20 ns and then on that of CPU 0.
    #[test]
    fn a_wait_has_its_moves() {
        let wait = Stretch {
            task: Pid(7),
            cgroup: None,
            did: Did::Waited {
                cpu: Cpu(1),
                cause: WaitCause::Woken,
                waker: None,
                dsq: None,
                left_dsq_ns: None,
                served: true,
            },
            from_ns: 10,
            to_ns: 40,
        };
        let index = BTreeMap::from([(Pid(7), 2)]);
        let mut story = Story::default();
        let packed = |story: &Story| pack(&[Drawn::One(&wait)], &index, story);
        // The start, the length, the head, the CPU, the cause, no waker, and no moves.
        let unmoved = vec![10, 30, 4 * 2 + 1, 1, 3, 0, 0];
        assert_eq!(packed(&story), unmoved);
        let queues = vec![(10, Cpu(1)), (30, Cpu(0))];
        story.answers.queues.insert((Pid(7), 10), queues);
        let mut moved = unmoved;
        moved[6] = 1;
        moved.extend([20, 0]);
        assert_eq!(packed(&story), moved);
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        let all = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|s| base64(s.as_bytes()));
        assert_eq!(
            all,
            [
                "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"
            ]
        );
    }
}
