//! A hand-made kernel of a few pages, for tests.

use super::{KernelView, START_KERNEL_MAP};
use crate::btf::Btf;
use crate::btf::testing::Builder;
use crate::symbols::Symbols;

/// The kernel address of the first byte of RAM.
pub(crate) const BASE: u64 = START_KERNEL_MAP;
/// The size of RAM in bytes. The first 0x4000 bytes hold the page tables.
pub(crate) const RAM: usize = 0x20000;

/// A guest whose page tables map its RAM at [`BASE`], with one page of 1 GiB.
pub(crate) struct Guest {
    pub(crate) ram: Vec<u8>,
    pub(crate) symbols: Symbols,
    pub(crate) btf: Btf,
}

impl Guest {
    /// Creates a guest with the kernel types of `btf`, and with `symbols` in addition to `init_top_pgt`, the symbol of the
    /// page table.
    pub(crate) fn new(la57: bool, btf: Builder, symbols: &[(&str, u64)]) -> Self {
        let mut ram = vec![0; RAM];
        // The top table is at 0x1000. Entry 511 of the upper levels points to the next table, with the lower bits 0x63
        // (present, writable, accessed, dirty). Entry 510 of level 3 is the large page, with the lower bits 0xe3 (bit 7
        // marks a large page).
        let top = 0x1000;
        let next = if la57 {
            put(&mut ram, top + 8 * 511, 0x3063);
            0x3000
        } else {
            top
        };
        put(&mut ram, next + 8 * 511, 0x2063);
        put(&mut ram, 0x2000 + 8 * 510, 0xe3);
        let table = ("init_top_pgt", BASE + 0x1000);
        let symbols = symbols.iter().chain([&table]);
        let symbols = symbols.map(|(name, address)| (*address, (*name).to_owned()));
        Self {
            ram,
            symbols: Symbols::from_entries(symbols.collect()).expect("valid symbols"),
            btf: Btf::parse(btf.finish()).expect("valid types"),
        }
    }

    /// Writes a word at a kernel address.
    pub(crate) fn put(&mut self, kva: u64, value: u64) {
        put(&mut self.ram, (kva - BASE) as usize, value);
    }

    pub(crate) fn view(&self) -> KernelView<'_, Vec<u8>> {
        KernelView::new(&self.ram, &self.symbols, &self.btf).expect("a page table")
    }
}

fn put(ram: &mut [u8], at: usize, value: u64) {
    ram[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
