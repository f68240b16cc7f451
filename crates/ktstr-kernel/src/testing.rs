//! Fake kernels for tests: small, but with every part that the readers examine.

use std::io::Write;

/// Link address of the only loaded segment of a fake kernel.
pub(crate) const TEXT: u64 = 0xffff_ffff_8100_0000;

/// The version magic of a fake kernel, which its modules have too.
pub(crate) const VERSION_MAGIC: &str = "9.9.1+made-cloud-amd64 SMP mod_unload ";

/// The encoding of the symbol offsets of a fake kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Linux 6.4 to 6.14.
    AbsolutePercpu,
    /// Linux 6.15 to 6.19.
    Base,
    /// Linux 7.0 and later.
    Place,
}

/// Creates kallsyms tables with the layout of scripts/kallsyms.c, to be loaded at the address `at`.
pub(crate) fn tables(symbols: &[(u64, String)], encoding: Encoding, at: u64) -> Vec<u8> {
    let align = if encoding == Encoding::Place { 4 } else { 8 };
    let mut out = Vec::new();
    let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(align), 0);
    out.extend((symbols.len() as u32).to_le_bytes());
    pad(&mut out);
    let (names, mut markers) = (out.len(), Vec::new());
    for (i, (_, text)) in symbols.iter().enumerate() {
        if i % 256 == 0 {
            markers.push((out.len() - names) as u32);
        }
        // Of the tokens that the names use, only the one for `scx_` has a text of more than one character.
        let codes = text.replace("scx_", "\u{1}").into_bytes();
        if codes.len() > 127 {
            out.extend([codes.len() as u8 & 0x7f | 0x80, (codes.len() >> 7) as u8]);
        } else {
            out.push(codes.len() as u8);
        }
        out.extend(codes);
    }
    pad(&mut out);
    out.extend(markers.iter().flat_map(|m| m.to_le_bytes()));
    pad(&mut out);
    let (table, mut index) = (out.len(), Vec::new());
    for code in 0..=255_u8 {
        index.push((out.len() - table) as u16);
        match code {
            1 => out.extend(b"scx_"),
            b'!'..=b'~' => out.push(code),
            _ => out.extend(b"unused"),
        }
        out.push(0);
    }
    pad(&mut out);
    out.extend(index.iter().flat_map(|i| i.to_le_bytes()));
    pad(&mut out);
    for (address, _) in symbols {
        let place = at + out.len() as u64;
        let offset = match encoding {
            Encoding::Place => address.wrapping_sub(place),
            Encoding::Base => address.wrapping_sub(TEXT),
            Encoding::AbsolutePercpu if *address < TEXT => *address,
            Encoding::AbsolutePercpu => TEXT.wrapping_sub(1).wrapping_sub(*address),
        };
        out.extend((offset as u32).to_le_bytes());
    }
    pad(&mut out);
    if encoding != Encoding::Place {
        out.extend(TEXT.to_le_bytes());
    }
    // Data that is no part of the tables follows them.
    out.extend([0x5a; 64]);
    out
}

/// Creates a list of `more` + 4 symbols, sorted by address, one of which is `_text`. The first character of a text is
/// the symbol's type.
pub(crate) fn symbols(more: usize) -> Vec<(u64, String)> {
    let mut symbols = vec![
        (TEXT, "T_text".to_owned()),
        (TEXT + 16, "tscx_enable".to_owned()),
    ];
    symbols.extend((0..more).map(|i| (TEXT + 32 + i as u64 * 8, format!("dscx_made_{i}"))));
    symbols.push((TEXT + 0x10_0000, "bscx_root".to_owned()));
    symbols.push((TEXT + 0x10_0010, format!("B{}", "long_".repeat(40))));
    symbols
}

/// Creates an ELF vmlinux with a PVH note, kallsyms tables and a `.BTF` section.
pub(crate) fn vmlinux(symbols: &[(u64, String)], encoding: Encoding) -> Vec<u8> {
    const DATA: u64 = 0x1000;
    let mut data = b"Linux version 9.9.1+made-cloud-amd64 (made@example) #1 SMP\n\0".to_vec();
    data.extend(VERSION_MAGIC.as_bytes());
    data.resize(0x100, 0);
    let note = data.len() as u64;
    // The header of the PVH note: the lengths of its name and of its value, and its type.
    for word in [4_u32, 8, 18] {
        data.extend(word.to_le_bytes());
    }
    data.extend(b"Xen\0");
    data.extend(0x0100_0000_u64.to_le_bytes());
    let note_len = data.len() as u64 - note;
    data.resize(0x200, 0);
    data.extend(tables(symbols, encoding, TEXT + 0x200));
    data.resize(data.len().next_multiple_of(16), 0);
    let btf = data.len() as u64;
    data.extend(b"made BTF");
    let names = data.len() as u64;
    data.extend(b"\0.BTF\0.shstrtab\0");
    data.resize(data.len().next_multiple_of(8), 0);
    let sections = DATA + data.len() as u64;

    // The ELF header: 64-bit, little-endian; then `e_type` (ET_EXEC), `e_machine` (EM_X86_64) and `e_version`.
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend(2_u16.to_le_bytes());
    elf.extend(62_u16.to_le_bytes());
    elf.extend(1_u32.to_le_bytes());
    // `e_entry`, `e_phoff` and `e_shoff`; then `e_flags`.
    for word in [0x100_0000, 64, sections] {
        elf.extend(u64::to_le_bytes(word));
    }
    elf.extend(0_u32.to_le_bytes());
    // `e_ehsize`, then size and number of the program headers and of the section headers, and `e_shstrndx`.
    for half in [64_u16, 56, 2, 64, 3, 2] {
        elf.extend(half.to_le_bytes());
    }
    let mut segment = |kind: u32, offset: u64, len: u64| {
        elf.extend(kind.to_le_bytes());
        elf.extend(5_u32.to_le_bytes());
        for word in [
            DATA + offset,
            TEXT + offset,
            0x100_0000 + offset,
            len,
            len,
            4,
        ] {
            elf.extend(word.to_le_bytes());
        }
    };
    // PT_LOAD and PT_NOTE.
    segment(1, 0, data.len() as u64);
    segment(4, note, note_len);
    elf.resize(DATA as usize, 0);
    elf.extend(data);
    // The empty section, `.BTF` (SHT_PROGBITS), and the sections' names (SHT_STRTAB).
    for (name, kind, offset, len) in [
        (0_u32, 0_u32, 0, 0),
        (1, 1, DATA + btf, 8),
        (6, 3, DATA + names, 16),
    ] {
        elf.extend(name.to_le_bytes());
        elf.extend(kind.to_le_bytes());
        for word in [0, 0, offset, len, 0, 1, 0] {
            elf.extend(u64::to_le_bytes(word));
        }
        // `sh_link` and `sh_info`, of 32 bits each, share the fifth word above.
    }
    elf
}

/// Creates a bzImage whose payload is a gzip-compressed ELF.
pub(crate) fn bzimage(vmlinux: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(vmlinux).expect("a Vec takes everything");
    let payload = packer.finish().expect("a Vec takes everything");
    bzimage_of(&payload)
}

/// Creates a bzImage with the given payload.
pub(crate) fn bzimage_of(payload: &[u8]) -> Vec<u8> {
    // The fields of the setup header that `image::header` names, with the version line at 0x200 + 0x100.
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let text = b"9.9.1+made-cloud-amd64 (made@example) #1 SMP\0";
    image[0x300..0x300 + text.len()].copy_from_slice(text);
    image.extend([0; 16]);
    image.extend(payload);
    image
}
