//! Page walks over tables of any bytes.
#![no_main]

use std::cell::Cell;

use ktstr_fuzz::{Draw, bounded};
use ktstr_introspect::btf::Btf;
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::memory::{GuestMemory, MemoryError};
use ktstr_introspect::paging::PageTable;
use ktstr_introspect::symbols::Symbols;
use libfuzzer_sys::fuzz_target;

const RAM: usize = 8 << 12;

/// A guest with eight pages of RAM, which counts the reads of one walk.
struct Ram {
    bytes: Vec<u8>,
    reads: Cell<usize>,
}

impl GuestMemory for Ram {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.reads.set(self.reads.get() + 1);
        self.bytes.read(gpa, buf)
    }
}

fn run(draw: &mut Draw<'_>) {
    let mut ram = Ram {
        bytes: vec![0; RAM],
        reads: Cell::new(0),
    };
    let table = PageTable {
        la57: draw.flag(),
        cr3: u64::from(draw.u8() % 9) << 12 | u64::from(draw.u8()),
    };
    let kva = match draw.u8() % 4 {
        0 => draw.u64(),
        1 => u64::from(draw.u16()),
        2 => !u64::from(draw.u32()),
        _ => 0xffff_8880_0000_0000 | u64::from(draw.u16()) << 4,
    };
    while !draw.is_empty() {
        // The entry is one that the walk to `kva` may use, or any other.
        let page = usize::from(draw.u8() % 8) << 12;
        let level = u32::from(draw.u8() % 8);
        let index = match level {
            0..=4 => (kva >> (12 + 9 * level) & 0x1ff) as usize,
            _ => draw.index(512),
        };
        let entry = match draw.u8() % 4 {
            0 => draw.u64(),
            1 => u64::from(draw.u8() % 9) << 12 | 0xe3,
            _ => u64::from(draw.u8() % 9) << 12 | 0x63,
        };
        ram.bytes[page + 8 * index..][..8].copy_from_slice(&entry.to_le_bytes());
    }
    let found = table.translate(&ram, kva);
    assert!(ram.reads.get() <= 5, "{} reads", ram.reads.get());
    if let Ok(found) = found {
        assert!([1 << 12, 1 << 21, 1 << 30].contains(&found.page_size));
        assert_eq!(found.gpa % found.page_size, kva % found.page_size);
        assert!(found.gpa < 1 << 52);
    }
    // A view, which caches pages, must read what is in memory, too.
    let symbols = Symbols::from_kallsyms("ffffffff81000000 T _text\n").expect("a symbol");
    let btf = Btf::parse(&EMPTY[..]).expect("no types");
    let view = KernelView::with_page_table(&ram, &symbols, &btf, table);
    let _ = view.read_string(kva, draw.number());
    let mut buf = [0; 24];
    if view.read(kva, &mut buf).is_ok() {
        let translated = table.translate(&ram, kva).expect("it was read").gpa;
        let mut byte = [0];
        ram.read(translated, &mut byte).expect("it was read");
        assert_eq!(byte[0], buf[0]);
    }
    let _ = view.read_bytes(kva, 9000, 10_000);
    let _ = KernelView::new(&ram, &symbols, &btf);
}

/// BTF without types and with one empty string.
const EMPTY: [u8; 25] = {
    let mut bytes = [0; 25];
    (bytes[0], bytes[1], bytes[2], bytes[4]) = (0x9f, 0xeb, 1, 24);
    bytes[20] = 1;
    bytes
};

fuzz_target!(|data: &[u8]| {
    bounded(|| run(&mut Draw::new(data)));
});
