//! Numbers as bytes, and the columns into which a chunk's events are taken apart: numbers of one
//! kind compress better next to each other.

use std::collections::HashMap;

use crate::event::{Cpu, CpuMask, Pid, What};

/// Appends `value`, seven bits a byte, the lowest first (LEB128).
pub(crate) fn put(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Reads what [`put`] wrote.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn slice(&mut self, len: u64) -> Option<&'a [u8]> {
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= self.0.len())?;
        let (slice, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(slice)
    }

    /// A text of at most `max` bytes.
    pub(crate) fn text(&mut self, max: u64) -> Option<String> {
        let len = self.number().filter(|len| *len <= max)?;
        String::from_utf8(self.slice(len)?.to_vec()).ok()
    }
}

/// What is foreseen of an event, so that what comes as foreseen takes next to nothing: it is about
/// its own CPU, and about the task that runs there or the one that the event before was about.
#[derive(Debug, Default)]
pub(crate) struct Foreseen {
    /// The CPU on which the event happened.
    cpu: u16,
    /// The task that each CPU runs, and the last task that came up.
    current: HashMap<u16, u32>,
    last: u32,
}

impl Foreseen {
    /// An event on `cpu` follows.
    pub(crate) fn begin(&mut self, cpu: Cpu) {
        self.cpu = cpu.0;
    }

    /// The event that began has come to its end.
    pub(crate) fn end(&mut self, what: &What) {
        if let What::Switch { next, .. } = what {
            self.current.insert(self.cpu, next.0);
        }
    }

    fn current(&self) -> Option<u32> {
        self.current.get(&self.cpu).copied()
    }
}

/// Codes of a foreseen task, before those of the others.
const CURRENT: u64 = 0;
const LAST: u64 = 1;
const OTHERS: u64 = 2;

/// The columns of a chunk that is being written.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) tags: Vec<u8>,
    pub(crate) times: Vec<u8>,
    pub(crate) cpus: Vec<u8>,
    pub(crate) tasks: Vec<u8>,
    pub(crate) rest: Vec<u8>,
    /// Task ids in the order in which they first came up; the column has their places.
    pub(crate) pids: Vec<u32>,
    pub(crate) foreseen: Foreseen,
    places: HashMap<u32, u64>,
}

impl Columns {
    fn place(&mut self, pid: u32) -> u64 {
        let next = self.pids.len() as u64;
        *self.places.entry(pid).or_insert_with(|| {
            self.pids.push(pid);
            next
        })
    }
}

/// The columns of a chunk that is being read.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) tags: Bytes<'a>,
    pub(crate) times: Bytes<'a>,
    pub(crate) cpus: Bytes<'a>,
    pub(crate) tasks: Bytes<'a>,
    pub(crate) rest: Bytes<'a>,
    pub(crate) pids: Vec<u32>,
    pub(crate) foreseen: Foreseen,
}

/// A part of an event that knows its column.
pub(crate) trait Field: Sized {
    fn write(self, to: &mut Columns);
    fn read(from: &mut Cursor<'_>) -> Option<Self>;
}

impl Field for Pid {
    fn write(self, to: &mut Columns) {
        let code = if to.foreseen.current() == Some(self.0) {
            CURRENT
        } else if to.foreseen.last == self.0 {
            LAST
        } else {
            to.place(self.0) + OTHERS
        };
        put(&mut to.tasks, code);
        to.foreseen.last = self.0;
    }
    fn read(from: &mut Cursor<'_>) -> Option<Self> {
        let pid = match from.tasks.number()? {
            CURRENT => from.foreseen.current()?,
            LAST => from.foreseen.last,
            other => *from.pids.get(usize::try_from(other - OTHERS).ok()?)?,
        };
        from.foreseen.last = pid;
        Some(Self(pid))
    }
}

impl Field for Cpu {
    fn write(self, to: &mut Columns) {
        let own = self.0 == to.foreseen.cpu;
        let code = if own { 0 } else { u64::from(self.0) + 1 };
        put(&mut to.cpus, code);
    }
    fn read(from: &mut Cursor<'_>) -> Option<Self> {
        let own = from.foreseen.cpu;
        let code = from.cpus.number()?;
        let other = code.checked_sub(1).map(u16::try_from);
        Some(Self(other.transpose().ok()?.unwrap_or(own)))
    }
}

impl Field for CpuMask {
    fn write(self, to: &mut Columns) {
        for word in self.0 {
            to.rest.extend_from_slice(&word.to_le_bytes());
        }
    }
    fn read(from: &mut Cursor<'_>) -> Option<Self> {
        let mut word = || Some(u64::from_le_bytes(from.rest.slice(8)?.try_into().ok()?));
        Some(Self([word()?, word()?]))
    }
}

impl Field for bool {
    fn write(self, to: &mut Columns) {
        to.rest.push(u8::from(self));
    }
    fn read(from: &mut Cursor<'_>) -> Option<Self> {
        match from.rest.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Field for i8 {
    fn write(self, to: &mut Columns) {
        to.rest.push(self.cast_unsigned());
    }
    fn read(from: &mut Cursor<'_>) -> Option<Self> {
        from.rest.byte().map(u8::cast_signed)
    }
}

macro_rules! numbers {
    ($($type:ty),*) => { $(
        impl Field for $type {
            fn write(self, to: &mut Columns) {
                put(&mut to.rest, u64::from(self));
            }
            fn read(from: &mut Cursor<'_>) -> Option<Self> {
                Self::try_from(from.rest.number()?).ok()
            }
        }
    )* };
}

numbers!(u8, u16, u32, u64);
