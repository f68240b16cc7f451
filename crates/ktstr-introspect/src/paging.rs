//! x86-64 address translation: four and five levels, pages of 4 KiB, 2 MiB and 1 GiB.
//!
//! The format is described in the Intel SDM, volume 3, chapter "Paging". A walk reads at most five entries, whatever the
//! tables hold.

use thiserror::Error;

use crate::memory::{GuestMemory, MemoryError};

/// Bytes of the smallest page.
pub const PAGE_SIZE: u64 = PAGE as u64;
/// [`PAGE_SIZE`] as a `usize`.
pub(crate) const PAGE: usize = 4096;
/// Bits 12 to 51 of an entry: the physical address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The bit that is set in every valid entry.
const PRESENT: u64 = 1;
/// If this bit of an entry of level 2 or 3 is set, the entry maps a large page. Otherwise it points to a table.
const LARGE: u64 = 1 << 7;

/// Root of a set of page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageTable {
    /// CR3, or the guest-physical address of the top-level table; the low 12 bits are ignored.
    pub cr3: u64,
    /// Whether the table has five levels (CR4.LA57) and not four.
    pub la57: bool,
}

/// The result of translating a virtual address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// The guest-physical address of the same byte.
    pub gpa: u64,
    /// The size of the page that the byte lies in, in bytes: 4 KiB, 2 MiB or 1 GiB.
    pub page_size: u64,
}

impl PageTable {
    /// Translates the virtual address `kva`.
    ///
    /// # Errors
    /// If the address is not canonical or not mapped, or if a table cannot be read.
    pub fn translate<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        kva: u64,
    ) -> Result<Translation, PagingError> {
        let levels = if self.la57 { 5 } else { 4 };
        let sign_bits = if self.la57 { 7 } else { 16 };
        if (kva << sign_bits).cast_signed() >> sign_bits != kva.cast_signed() {
            return Err(PagingError::NotCanonical { kva, levels });
        }
        let mut table = self.cr3 & ADDRESS;
        for level in (1..=levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let index = kva >> shift & 0x1ff;
            let mut entry = [0; 8];
            memory
                .read(table + 8 * index, &mut entry)
                .map_err(|cause| PagingError::Table { kva, level, cause })?;
            let entry = u64::from_le_bytes(entry);
            if entry & PRESENT == 0 {
                return Err(PagingError::NotPresent { kva, level, entry });
            }
            let is_leaf = level == 1 || (level <= 3 && entry & LARGE != 0);
            if is_leaf {
                let page_size = 1u64 << shift;
                let inside = page_size - 1;
                return Ok(Translation {
                    gpa: (entry & ADDRESS & !inside) | (kva & inside),
                    page_size,
                });
            }
            table = entry & ADDRESS;
        }
        // The loop returns at level 1 at the latest.
        Err(PagingError::NotPresent {
            kva,
            level: 0,
            entry: 0,
        })
    }
}

/// Why an address has no translation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PagingError {
    /// The upper bits of the address are not copies of its highest translated bit.
    #[error("{kva:#x} is not a canonical address for {levels}-level paging")]
    NotCanonical {
        /// The virtual address that was to be translated.
        kva: u64,
        /// Levels of the page table.
        levels: u32,
    },
    /// An entry on the way to the page is not present.
    #[error("{kva:#x} is not mapped: entry {entry:#x} at level {level} is not present")]
    NotPresent {
        /// The virtual address that was to be translated.
        kva: u64,
        /// Level of the entry; an entry of level 1 maps a page of 4 KiB.
        level: u32,
        /// The entry of the page table that is not present.
        entry: u64,
    },
    /// A page table could not be read.
    #[error("{kva:#x} cannot be translated at level {level}: {cause}")]
    Table {
        /// The virtual address that was to be translated.
        kva: u64,
        /// Level of the table.
        level: u32,
        /// Why the table could not be read.
        cause: MemoryError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(ram: &mut [u8], at: u64, value: u64) {
        let at = at as usize;
        ram[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Returns RAM with a table of each level: level 5 at 0x5000, level 4 at 0x4000, and so on down to level 1 at 0x1000. An
    /// entry's lower bits are 0x63 (present, writable, accessed, dirty), or 0xe3 for a large page.
    fn ram() -> Vec<u8> {
        let mut ram = vec![0; 0x8000];
        put(&mut ram, 0x5000 + 8 * 256, 0x4000 | 0x63); // level 5
        put(&mut ram, 0x4000 + 8, 0x3000 | 0x63); // level 4
        put(&mut ram, 0x3000 + 8 * 2, 0x2000 | 0x63); // level 3
        put(&mut ram, 0x3000 + 8 * 3, 0x8_4000_0000 | 0xe3); // level 3, 1 GiB page
        put(&mut ram, 0x2000 + 8 * 3, 0x1000 | 0x63); // level 2
        put(&mut ram, 0x2000 + 8 * 4, 0x8000_0000_1220_0000 | 0xe3); // level 2, 2 MiB page, NX
        put(&mut ram, 0x1000 + 8 * 5, 0x6000 | 0x63); // level 1
        ram
    }

    /// The address whose indices are 256, 1, 2, 3 and 5, from level 5 to level 1.
    const KVA: u64 = 0xff00_0000_0000_0000 | 1 << 39 | 2 << 30 | 3 << 21 | 5 << 12 | 0xabc;

    #[test]
    fn five_levels_and_every_page_size() {
        let (ram, table) = (
            ram(),
            PageTable {
                cr3: 0x5000,
                la57: true,
            },
        );
        let to = |kva| table.translate(&ram, kva).map(|t| (t.gpa, t.page_size));
        assert_eq!(to(KVA), Ok((0x6abc, 4096)));
        let large = 0xff00_0000_0000_0000 | 1 << 39 | 2 << 30 | 4 << 21 | 0x1_2345;
        assert_eq!(to(large), Ok((0x1220_0000 + 0x1_2345, 2 << 20)));
        let huge = 0xff00_0000_0000_0000 | 1 << 39 | 3 << 30 | 0x123_4567;
        assert_eq!(to(huge), Ok((0x8_4000_0000 + 0x123_4567, 1 << 30)));
        assert_eq!(
            to(KVA + 0x1000).expect_err("next page").to_string(),
            "0xff00008080606abc is not mapped: entry 0x0 at level 1 is not present"
        );
        assert!(matches!(
            to(1 << 60),
            Err(PagingError::NotCanonical { levels: 5, .. })
        ));
    }

    #[test]
    fn four_levels_start_one_table_lower() {
        let (ram, table) = (
            ram(),
            PageTable {
                // The low 12 bits are flags.
                cr3: 0x4fff,
                la57: false,
            },
        );
        let kva = 1 << 39 | 2 << 30 | 3 << 21 | 5 << 12 | 0xabc;
        assert_eq!(table.translate(&ram, kva).map(|t| t.gpa), Ok(0x6abc));
        assert!(matches!(
            table.translate(&ram, KVA),
            Err(PagingError::NotCanonical { levels: 4, .. })
        ));
    }

    #[test]
    fn a_walk_of_a_table_that_is_its_own_child_ends() {
        let mut ram = vec![0; 0x2000];
        for index in 0..512 {
            put(&mut ram, 0x1000 + 8 * index, 0x1063);
        }
        let table = PageTable {
            cr3: 0x1000,
            la57: true,
        };
        let translation = table.translate(&ram, 0x1234).expect("five steps");
        assert_eq!(translation.gpa, 0x1234);
    }

    proptest! {
        #[test]
        fn a_walk_of_any_tables_ends(
            words in prop::collection::vec(any::<u64>(), 1024),
            cr3 in any::<u64>(), la57 in any::<bool>(), kva in any::<u64>(),
        ) {
            let ram: Vec<u8> = words.iter().flat_map(|w| (w & 0x1fff | w << 56).to_le_bytes()).collect();
            let _ = PageTable { cr3: cr3 & 0x1fff, la57 }.translate(&ram, kva);
            let _ = PageTable { cr3, la57 }.translate(&ram, kva);
        }
    }
}
