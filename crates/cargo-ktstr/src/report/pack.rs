//! Encodes the stretches to be drawn as bytes, which `assets/data.js` decodes.

use std::collections::BTreeMap;

use ktstr_schedule::query::{Did, Stretch, WaitCause, Waker};
use ktstr_schedule::{Cpu, Pid};

/// An element of the time line.
#[derive(Debug, Clone, Copy)]
pub enum Drawn<'a> {
    /// A stretch that is drawn by itself.
    One(&'a Stretch),
    /// Adjacent stretches on a CPU, of one or of several tasks.
    Several {
        /// The CPU of all of them.
        cpu: Cpu,
        /// The begin of the first one.
        from_ns: u64,
        /// The end of the last one.
        to_ns: u64,
        /// The number of stretches.
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

/// Returns the elements to draw for `stretches`, which are sorted by begin. Of stretches that are shorter than `shorter` or
/// belong to tasks without a row, those that are adjacent on a CPU are merged, and waits are left out.
pub fn drawn<'a>(
    stretches: &[&'a Stretch],
    shorter: u64,
    has_row: impl Fn(Pid) -> bool,
) -> Vec<Drawn<'a>> {
    /// The largest length of a merged element, in multiples of `shorter`.
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

/// Encodes the elements: times count from `zero`, and `index` has the row of each task.
pub fn pack(drawn: &[Drawn<'_>], index: &BTreeMap<Pid, u64>, zero: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(drawn.len() * 8);
    let mut last = zero;
    for drawn in drawn {
        let (from, to) = drawn.times();
        let from = from.max(last);
        put(&mut bytes, from - last);
        last = from;
        put(&mut bytes, to.saturating_sub(from));
        match drawn {
            Drawn::One(stretch) => one(&mut bytes, stretch, index),
            Drawn::Several { cpu, count, .. } => {
                put(&mut bytes, *count * 4 + 3);
                put(&mut bytes, u64::from(cpu.0));
            }
        }
    }
    bytes
}

fn one(bytes: &mut Vec<u8>, stretch: &Stretch, index: &BTreeMap<Pid, u64>) {
    let task = index.get(&stretch.task).copied().unwrap_or(0);
    match stretch.did {
        Did::Ran { cpu, class, then } => {
            put(bytes, task * 4);
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
        } => {
            put(bytes, task * 4 + 1);
            put(bytes, u64::from(cpu.0));
            put(bytes, code(cause) * 2 + u64::from(served));
            let by = |waker: Waker| match waker.interrupt {
                true => 1,
                false => index.get(&waker.task).map_or(0, |task| task + 2),
            };
            put(bytes, waker.map_or(0, by));
        }
        Did::Throttled | Did::Slept => put(bytes, task * 4 + 2),
    }
}

/// Returns the number of a cause in `assets/data.js`.
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

/// Appends a LEB128 number.
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
