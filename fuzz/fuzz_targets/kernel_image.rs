//! Kernel images: bzImage, ELF, the kernel's own symbol tables, and symbols as text.
#![no_main]

use std::sync::LazyLock;

use ktstr_fuzz::{Draw, bounded};
use ktstr_introspect::symbols::Symbols;
use ktstr_kernel::kallsyms;
use libfuzzer_sys::fuzz_target;

// These two modules are not public in their crate, so their files are compiled here again.
#[allow(dead_code)]
#[path = "../../crates/ktstr-kernel/src/image.rs"]
mod image;
#[allow(dead_code)]
#[path = "../../crates/ktstr-kernel/src/testing.rs"]
mod testing;

use testing::{Encoding, bzimage, bzimage_of, symbols, vmlinux};

static IMAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let encodings = [Encoding::AbsolutePercpu, Encoding::Base, Encoding::Place];
    let images: Vec<Vec<u8>> = encodings
        .iter()
        .map(|encoding| vmlinux(&symbols(300), *encoding))
        .collect();
    for image in &images {
        assert!(kallsyms::decode(image).is_ok());
    }
    images
});
/// A bzImage of a kernel with few symbols, because unpacking takes most of the time.
static PACKED: LazyLock<Vec<u8>> =
    LazyLock::new(|| bzimage(&vmlinux(&symbols(2), Encoding::Place)));

fn read(elf: &[u8]) {
    let _ = image::open(elf);
    let _ = (image::btf(elf), image::has_pvh(elf));
    let _ = image::embedded_config(elf);
    let Ok(found) = kallsyms::decode(elf) else {
        return;
    };
    let sorted = found.is_sorted_by_key(|symbol| symbol.address);
    assert!(sorted && found.iter().all(|symbol| !symbol.name.is_empty()));
    text(&kallsyms::to_text(&found));
}

fn text(text: &str) {
    let Ok(symbols) = Symbols::from_kallsyms(text) else {
        return;
    };
    for (address, name) in symbols.iter().take(50) {
        assert!(symbols.address(name).is_some(), "{name}");
        assert!(symbols.nearest(address).is_some(), "{address:#x}");
    }
    let _ = (symbols.nearest(0), symbols.nearest(u64::MAX));
    let entries: Vec<(u64, String)> = symbols
        .iter()
        .map(|(address, name)| (address, name.to_owned()))
        .collect();
    let again = Symbols::from_entries(entries).map(|again| again.len());
    assert_eq!(again, Ok(symbols.len()));
}

fn damage(bytes: &mut [u8], draw: &mut Draw<'_>) {
    while !draw.is_empty() && !bytes.is_empty() {
        let at = draw.index(bytes.len());
        match draw.u8() {
            0 => {
                let number = draw.number().to_le_bytes();
                let end = bytes.len().min(at + 8);
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            byte => bytes[at] = byte.wrapping_sub(1),
        }
    }
}

fn run(draw: &mut Draw<'_>) {
    match draw.u8() % 8 {
        0 => read(draw.rest()),
        1 => {
            let _ = image::open(&bzimage_of(draw.rest()));
        }
        2 => {
            let magic: &[u8] =
                [&b"\x28\xb5\x2f\xfd"[..], b"\x1f\x8b\x08", b"\x7fELF"][draw.index(3)];
            let _ = image::open(&bzimage_of(&[magic, draw.rest()].concat()));
        }
        3 => {
            let mut packed = PACKED.clone();
            damage(&mut packed, draw);
            let _ = image::open(&packed);
        }
        4 => text(&String::from_utf8_lossy(draw.rest())),
        _ => {
            let mut elf = IMAGES[draw.index(IMAGES.len())].clone();
            if draw.index(8) == 0 {
                elf.truncate(usize::from(draw.u16()));
            }
            // Only the headers and the tables are damaged, because they decide what is read; the names between them are
            // the longest part.
            let from = [0, 0x1200, elf.len().saturating_sub(0x1200)][draw.index(3)];
            let part = elf.get_mut(from..).unwrap_or_default();
            let len = part.len().min(0x1200);
            damage(&mut part[..len], draw);
            read(&elf);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    bounded(|| run(&mut Draw::new(data)));
});
