//! The recorded images of guests that the tests of `ktstr-introspect` read, with the words that an input damages.

#[path = "../../crates/ktstr-introspect/tests/image/mod.rs"]
mod image;

use std::cell::RefCell;
use std::collections::BTreeSet;

pub use image::{Image, Recording};
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::memory::{GuestMemory, MemoryError};

use crate::Draw;

/// The lowest address of the kernel.
const KERNEL: u64 = 0xffff_8000_0000_0000;
/// Numbers that are wrong as counts, as sizes or as pointers.
const NUMBERS: [u64; 10] = [
    0,
    1,
    2,
    u64::MAX,
    0xffff_ffff,
    1 << 31,
    0x7fff_ffff_ffff_ffff,
    0xffff_8880_0000_0002,
    0xffff_ffff_ffff_f000,
    64 << 20,
];

/// A word of the image: the address of its page, its index in the page, and its value.
#[derive(Debug, Clone, Copy)]
struct Word {
    gpa: u64,
    at: usize,
    value: u64,
}

/// A recorded guest that is damaged for one input and made whole again.
pub struct Guest {
    /// The symbols and the types of the guest.
    pub recording: Recording,
    image: RefCell<Image>,
    /// All words that are not zero. `pointers` has only the words that are addresses of the kernel.
    words: Vec<Word>,
    pointers: Vec<Word>,
    pages: Vec<u64>,
    /// The start of the kernel's mapping of all memory.
    mapping: u64,
}

/// An image from which ranges that span several pages can be read, as from a machine.
pub struct Paged<'a>(pub &'a Image);

impl GuestMemory for Paged<'_> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let mut at = gpa;
        let mut rest = buf;
        while !rest.is_empty() {
            let here = rest.len().min(4096 - (at % 4096) as usize);
            let (now, later) = rest.split_at_mut(here);
            self.0.read(at, now)?;
            at = at.wrapping_add(here as u64);
            rest = later;
        }
        Ok(())
    }
}

/// An image that notes which words are read.
pub struct Noted<'a> {
    image: Paged<'a>,
    words: RefCell<BTreeSet<u64>>,
}

impl GuestMemory for Noted<'_> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let words = (gpa & !7..gpa + buf.len() as u64).step_by(8);
        self.words.borrow_mut().extend(words);
        self.image.read(gpa, buf)
    }
}

impl Guest {
    /// Returns the guest whose scheduler has queues and task storage, and whose tasks are in several cgroups.
    pub fn busy() -> Self {
        Self::of(Recording::unpack(
            include_bytes!("../../crates/ktstr-introspect/tests/data/busy-7.3.pages.z"),
            include_str!("../../crates/ktstr-introspect/tests/data/busy-7.3.kallsyms"),
            include_bytes!("../../crates/ktstr-introspect/tests/data/busy-7.3.btf.z"),
        ))
    }

    /// Returns the guest that has one map of each plain kind.
    pub fn with_maps() -> Self {
        Self::of(Recording::unpack(
            include_bytes!("../../crates/ktstr-introspect/tests/data/scx-ktstr-7.3.pages.z"),
            include_str!("../../crates/ktstr-introspect/tests/data/scx-ktstr-7.3.kallsyms"),
            include_bytes!("../../crates/ktstr-introspect/tests/data/scx-ktstr-7.3.btf.z"),
        ))
    }

    fn of(recording: Recording) -> Self {
        let mut pages: Vec<u64> = recording.image.0.keys().copied().collect();
        pages.sort_unstable();
        let words: Vec<Word> = pages
            .iter()
            .flat_map(|gpa| {
                let words = recording.image.0[gpa].chunks_exact(8).enumerate();
                words.map(|(at, word)| Word {
                    gpa: *gpa,
                    at,
                    value: word
                        .iter()
                        .rev()
                        .fold(0, |value, byte| value << 8 | u64::from(*byte)),
                })
            })
            .filter(|word| word.value != 0)
            .collect();
        let view = KernelView::new(&recording.image, &recording.symbols, &recording.btf);
        let mapping = match view.expect("a recording").page_table().la57 {
            true => 0xff11_0000_0000_0000,
            false => 0xffff_8880_0000_0000,
        };
        let is_pointer = |word: &&Word| word.value >= KERNEL && word.value != u64::MAX;
        Self {
            pointers: words.iter().filter(is_pointer).copied().collect(),
            image: RefCell::new(recording.image.clone()),
            mapping,
            recording,
            words,
            pages,
        }
    }

    /// Restricts the damage to the words that `read` reads, because only a few words of most pages are needed.
    #[must_use]
    pub fn only_what(mut self, read: impl FnOnce(&Noted<'_>, &Recording)) -> Self {
        let noted = Noted {
            image: Paged(&self.recording.image),
            words: RefCell::default(),
        };
        read(&noted, &self.recording);
        let read = noted.words.into_inner();
        let is_read = |word: &Word| read.contains(&(word.gpa + 8 * word.at as u64));
        self.words.retain(is_read);
        self.pointers.retain(is_read);
        assert!(!self.pointers.is_empty());
        self
    }

    /// Returns the address of a word in the kernel's mapping of all memory (`Documentation/arch/x86/x86_64/mm.rst`).
    fn mapped(&self, word: Word) -> u64 {
        self.mapping.wrapping_add(word.gpa + 8 * word.at as u64)
    }

    /// Damages the image as `draw` describes, calls `read` with it, and repairs it.
    pub fn damaged(&self, draw: &mut Draw<'_>, read: impl FnOnce(&Image)) {
        let mut touched = Vec::new();
        let mut image = self.image.borrow_mut();
        while !draw.is_empty() && touched.len() < 200 {
            let how = draw.u8();
            let list = if how & 0x80 == 0 {
                &self.pointers
            } else {
                &self.words
            };
            let word = list[draw.index(list.len())];
            let value = match how % 8 {
                // The pointer leads to itself, as in a list that is a cycle, or to a word of another list.
                0 if draw.flag() => self.mapped(word),
                0 => self.mapped(list[draw.index(list.len())]),
                1 => self.pointers[draw.index(self.pointers.len())].value,
                // A value close to the right one.
                2 => word
                    .value
                    .wrapping_add(u64::from(draw.u8()))
                    .wrapping_sub(128),
                3 => NUMBERS[draw.index(NUMBERS.len())],
                4 => word.value ^ 1 << (draw.u8() % 64),
                5 => word.value & !0xffff_ffff | u64::from(draw.u32()),
                6 => draw.number(),
                _ => {
                    let gpa = self.pages[draw.index(self.pages.len())];
                    if draw.index(8) == 0 {
                        image.0.remove(&gpa);
                        touched.push(gpa);
                        continue;
                    }
                    draw.u64()
                }
            };
            if let Some(page) = image.0.get_mut(&word.gpa) {
                page[8 * word.at..][..8].copy_from_slice(&value.to_le_bytes());
                touched.push(word.gpa);
            }
        }
        read(&image);
        for gpa in touched {
            let whole = &self.recording.image.0[&gpa];
            let page = image.0.entry(gpa).or_default();
            page.clone_from(whole);
        }
    }
}
