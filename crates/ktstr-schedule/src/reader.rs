//! Reads a schedule, one chunk at a time. The functions are total: any bytes give a result or an error.

use std::ops::ControlFlow;

use crate::ReadError;
use crate::bytes::Bytes;
use crate::chunk::decode;
use crate::event::Event;
use crate::section::{Kind, split};
use crate::tables::Tables;

/// A period whose frequent events were dropped to keep the file small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The start of the gap, in nanoseconds of the kernel's scheduler clock.
    pub from_ns: u64,
    /// The end of the gap, in nanoseconds of the kernel's scheduler clock.
    pub to_ns: u64,
    /// The number of events that are missing.
    pub events: u64,
    /// The number of switches among them.
    pub switches: u64,
}

#[derive(Debug)]
struct Chunk<'a> {
    at: usize,
    gap: Option<Gap>,
    packed: &'a [u8],
}

/// A schedule's file whose sections and tables have been read. The events are decoded when they are asked for.
#[derive(Debug)]
pub struct Schedule<'a> {
    tables: Tables,
    chunks: Vec<Chunk<'a>>,
}

impl<'a> Schedule<'a> {
    /// Reads the sections of the file, checks their checksums, and reads the tables.
    ///
    /// # Errors
    /// If the file is not a schedule of this version, or is cut off or damaged.
    pub fn read(file: &'a [u8]) -> Result<Self, ReadError> {
        let mut chunks = Vec::new();
        let mut tables = None;
        for (kind, at, payload) in split(file)? {
            if tables.is_some() {
                let what = "a section after the last one";
                return Err(ReadError::Malformed { what, at });
            }
            match kind {
                Kind::Chunk => chunks.push(chunk(at, payload)?),
                Kind::Tables => {
                    let what = "the tables";
                    let read = Tables::unpack(payload);
                    tables = Some(read.ok_or(ReadError::Malformed { what, at })?);
                }
            }
        }
        let tables = tables.ok_or(ReadError::CutOff { len: file.len() })?;
        Ok(Self { tables, chunks })
    }

    /// Returns the tables to which the events refer.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Returns the gaps, in order; none for a complete schedule.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> + '_ {
        self.chunks.iter().filter_map(|chunk| chunk.gap)
    }

    /// Returns the time from which no event is missing, in nanoseconds of the kernel's scheduler clock: the end of the last
    /// gap. `None` if the schedule is complete from its start.
    pub fn complete_from_ns(&self) -> Option<u64> {
        self.gaps().map(|gap| gap.to_ns).max()
    }

    /// Calls `each` with every event as `Ok` and every gap as `Err`. A gap comes before the rare events that remain in it.
    ///
    /// # Errors
    /// If a chunk cannot be decoded. Then `each` has been called with everything before the events of this chunk.
    pub fn for_each(&self, mut each: impl FnMut(Result<&Event, Gap>)) -> Result<(), ReadError> {
        self.until(|event| {
            each(event);
            ControlFlow::Continue(())
        })
    }

    /// Calls `each` with every event and gap, in the same order as [`Self::for_each`], until it returns [`ControlFlow::Break`].
    ///
    /// # Errors
    /// If a chunk cannot be decoded before that.
    pub fn until(
        &self,
        mut each: impl FnMut(Result<&Event, Gap>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        for chunk in &self.chunks {
            if let Some(gap) = chunk.gap
                && each(Err(gap)).is_break()
            {
                return Ok(());
            }
            let what = "a chunk of events";
            let events = decode(chunk.packed).ok_or(ReadError::Malformed { what, at: chunk.at })?;
            for event in &events {
                if each(Ok(event)).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Returns all events at once, without the gaps.
    ///
    /// # Errors
    /// If a chunk cannot be decoded.
    pub fn events(&self) -> Result<Vec<Event>, ReadError> {
        let mut events = Vec::new();
        self.for_each(|event| events.extend(event.ok().copied()))?;
        Ok(events)
    }
}

fn chunk(at: usize, payload: &[u8]) -> Result<Chunk<'_>, ReadError> {
    let mut bytes = Bytes(payload);
    let mut number = || {
        let what = "the head of a chunk";
        bytes.number().ok_or(ReadError::Malformed { what, at })
    };
    let gap = Gap {
        from_ns: number()?,
        to_ns: number()?,
        events: number()?,
        switches: number()?,
    };
    Ok(Chunk {
        at,
        gap: (gap.events != 0).then_some(gap),
        packed: bytes.0,
    })
}
