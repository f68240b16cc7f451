//! The kernel's trace buffer, as it lies in memory: the pages of each CPU with the events of the tracepoints that are on
//! (`kernel/trace/ring_buffer.c`). Nothing in the guest has to read it, and the guest is not disturbed by a reading.

use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The size of a page of the buffer. The kernel can use larger ones since 6.8, but only if a user asks for them
/// (`buffer_subbuf_size_kb`).
const PAGE: usize = 4096;
/// The size of the header of a page: the time of its first event, and the number of bytes of data (`struct buffer_data_page`).
const HEADER: usize = 16;
/// The bits of the header's second word that hold the number of bytes (`RB_WRITE_MASK`). The bits above are flags.
const WRITTEN: u64 = 0xf_ffff;
/// The lowest bits of a `next` pointer in the list of pages are flags (`RB_FLAG_MASK`).
const FLAGS: u64 = 3;
/// The largest number of pages of a CPU that are read: 4 MiB, and a few pages by which the kernel rounds up.
const MAX_PAGES: usize = (1 << 10) + 8;

/// The values of `type_len` in the header of an event (`include/linux/ring_buffer.h`); smaller values are lengths in words.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
/// The number of bits of the time in the header of an event.
const DELTA_BITS: u32 = 27;
/// The bits of a time that an absolute time stamp leaves out (`TS_MSB` in `kernel/trace/ring_buffer.c`).
const TOP_BITS: u64 = 0xf8 << 56;

/// The trace buffer of one CPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceBuffer {
    /// The pages that hold events, the oldest first.
    pages: Vec<Vec<u8>>,
    /// The number of events that were overwritten because the buffer was full.
    pub overrun: u64,
}

impl TraceBuffer {
    /// Calls `visit` with the time of each event, in nanoseconds of the clock that the trace uses, and with its data: a
    /// `struct trace_event_raw_*`. The rest of a malformed page is left out.
    pub fn for_each(&self, mut visit: impl FnMut(u64, &[u8])) {
        for page in &self.pages {
            events_of(page, &mut visit);
        }
    }
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Reads the buffer of a CPU that belongs to the global trace (`/sys/kernel/tracing/trace`).
    ///
    /// The machine must be stopped, because the kernel reuses pages while it runs.
    ///
    /// # Errors
    /// If the kernel was built without tracing, if its types lack a member, or if the memory cannot be read.
    pub fn trace_buffer(&self, cpu: u32) -> Result<TraceBuffer, KernelError> {
        let member = |of, path| Ok::<u64, KernelError>(self.member(of, path)?.offset());
        let pointer = |at: u64, of, path| self.read_u64(at.wrapping_add(member(of, path)?));
        let trace = self.symbol("global_trace")?;
        let buffer = pointer(trace, "trace_array", "array_buffer.buffer")?;
        let of_cpus = pointer(buffer, "trace_buffer", "buffers")?;
        let of_cpu = self.read_u64(of_cpus.wrapping_add(8 * u64::from(cpu)))?;
        let overrun = pointer(of_cpu, "ring_buffer_per_cpu", "overrun")?;
        let first = pointer(of_cpu, "ring_buffer_per_cpu", "pages")?;
        let (list, data) = (
            member("buffer_page", "list")?,
            member("buffer_page", "page")?,
        );
        let mut pages: Vec<Vec<u8>> = Vec::new();
        let mut node = first;
        for _ in 0..MAX_PAGES {
            let page = self.read_u64(node.wrapping_sub(list).wrapping_add(data))?;
            let mut bytes = vec![0; PAGE];
            self.read(page, &mut bytes)?;
            if written(&bytes) > 0 {
                pages.push(bytes);
            }
            node = self.read_u64(node)? & !FLAGS;
            if node == first || node == 0 {
                break;
            }
        }
        // The ring has no fixed start. The time of its first event shows where a page belongs.
        pages.sort_by_key(|page| word(page, 0));
        Ok(TraceBuffer { pages, overrun })
    }
}

fn word(page: &[u8], at: usize) -> u64 {
    let bytes = page.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// Returns the number of bytes of events in a page.
fn written(page: &[u8]) -> usize {
    usize::try_from(word(page, 8) & WRITTEN).unwrap_or(usize::MAX)
}

/// Calls `visit` with the time and the data of each event of a page. Ends at the first thing that no kernel writes.
pub fn events_of(page: &[u8], visit: &mut impl FnMut(u64, &[u8])) {
    let Some(data) = page.get(HEADER..) else {
        return;
    };
    let mut left = data.get(..written(page)).unwrap_or(data);
    let mut time_ns = word(page, 0);
    while let Some((header, rest)) = split_u32(left) {
        let (kind, delta) = (header & 31, u64::from(header >> 5));
        let array = split_u32(rest).map(|(word, _)| word);
        // The length of the event behind its header, and how many of these bytes precede the data.
        let (length, before) = match (kind, array) {
            // The page ends here.
            (PADDING, _) if delta == 0 => return,
            (PADDING, Some(length)) => (length as usize, 0),
            (TIME_EXTEND, Some(high)) => {
                time_ns = time_ns.wrapping_add(delta | u64::from(high) << DELTA_BITS);
                (4, 0)
            }
            (TIME_STAMP, Some(high)) => {
                let low = delta | u64::from(high) << DELTA_BITS;
                time_ns = time_ns & TOP_BITS | low & !TOP_BITS;
                (4, 0)
            }
            (0, Some(length)) => (length as usize, 4),
            (words, _) => (4 * words as usize, 0),
        };
        let Some((event, next)) = rest.split_at_checked(length) else {
            return;
        };
        if kind < PADDING {
            time_ns = time_ns.wrapping_add(delta);
            if let Some(data) = event.get(before..) {
                visit(time_ns, data);
            }
        }
        left = next;
    }
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns a page whose first event has the time 1000, with this data.
    fn page(words: &[u32]) -> Vec<u8> {
        let mut page = 1000u64.to_le_bytes().to_vec();
        page.extend(((4 * words.len() as u64) | (1 << 31)).to_le_bytes());
        page.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        page.resize(PAGE, 0xff);
        page
    }

    fn header(kind: u32, delta: u32) -> u32 {
        kind | delta << 5
    }

    fn events(page: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut seen = Vec::new();
        events_of(page, &mut |time, data| seen.push((time, data.to_vec())));
        seen
    }

    #[test]
    fn each_kind_of_event_moves_the_time_and_the_position() {
        let words = [
            header(1, 0),
            7,
            header(TIME_EXTEND, 5),
            2,
            header(2, 10),
            8,
            9,
            // Discarded, with one word behind its length.
            header(PADDING, 1),
            8,
            0,
            // The length is in the first word, which it includes.
            header(0, 3),
            8,
            10,
            header(TIME_STAMP, 4),
            1,
            header(1, 1),
            11,
        ];
        let data = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let later = 1000 + 5 + (2 << 27) + 10;
        let expected: Vec<(u64, Vec<u8>)> = vec![
            (1000, data(&[7])),
            (later, data(&[8, 9])),
            (later + 3, data(&[10])),
            ((1 << 27) + 4 + 1, data(&[11])),
        ];
        assert_eq!(events(&page(&words)), expected);
    }

    #[test]
    fn a_page_ends_where_its_data_end() {
        let end = [header(1, 0), 7, header(PADDING, 0), header(1, 0), 8];
        assert_eq!(events(&page(&end)).len(), 1);
        let too_long = [header(1, 0), 7, header(28, 0), 8];
        assert_eq!(events(&page(&too_long)).len(), 1);
        assert!(events(&[]).is_empty() && events(&[0; 20]).is_empty());
    }

    proptest! {
        #[test]
        fn any_page_is_read_to_an_end(words in prop::collection::vec(any::<u32>(), 0..1100)) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let read: usize = events(&bytes).iter().map(|(_, data)| data.len()).sum();
            prop_assert!(read <= bytes.len());
        }
    }
}
