//! Reads a kernel's symbols from its uncompressed image: from the ELF symbol table if there is one, else from the tables
//! behind `/proc/kallsyms`. Debian's images contain only these tables.
//!
//! The tables follow each other in the order that scripts/kallsyms.c has used since Linux 6.4. Each is aligned to
//! eight bytes, and since 7.0 to four:
//!
//! ```text
//! num_syms       u32
//! names          per symbol: length (one byte, or two from 128 on), then that many token numbers;
//!                the first character of the expanded text is the symbol's type
//! markers        u32 per 256 symbols: where in `names` the symbol 256*i starts
//! token_table    256 strings, NUL after each
//! token_index    u16 per token: where in `token_table` the token starts
//! offsets        u32 per symbol
//! relative_base  u64, until Linux 6.19
//! ```
//!
//! x86-64 has used three encodings of `offsets`. They are distinguished by their result: symbols are sorted, so the
//! addresses must ascend, and `_text` must be at the start of a segment.
//! - until 6.14 (`CONFIG_KALLSYMS_ABSOLUTE_PERCPU`): as i32, an absolute address if not negative, else
//!   `relative_base - 1 - offset`;
//! - 6.15 to 6.19: `relative_base + offset`, as u32;
//! - 7.0 and later: as i32, relative to the address of the offset itself; there is no base.
//!
//! Nothing is executed or trusted: the tables are located by their shape, and every access is checked.
// The numbers come from a file: a cast must not change a number unnoticed.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use memchr::memmem;
use object::Endianness;
use object::read::elf::{ElfFile64, ProgramHeader};

/// A symbol of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// The link address, which is the actual address when the kernel runs with `nokaslr`.
    pub address: u64,
    /// The type, as in `nm`: `T` and `t` for code, `D`, `d`, `B`, `b`, `R`, `r` for data, and so on. For an ELF symbol it
    /// is `T` or `t` for code, and `D` or `d` for anything else.
    pub kind: char,
    /// The name, which is never empty.
    pub name: String,
}

/// Why an image has no readable symbols.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KallsymsError {
    /// The file is not a readable ELF file.
    #[error("it is not a readable 64-bit ELF file ({0})")]
    Elf(String),
    /// There is no token table: the kernel was built without `CONFIG_KALLSYMS`, or is damaged.
    #[error("it has no symbol table, and no kallsyms tables were found (CONFIG_KALLSYMS)")]
    NotFound,
    /// Tables were found, but they are inconsistent.
    #[error("kallsyms tables were found, but {0}")]
    Damaged(&'static str),
}

/// Maximum number of symbols of a kernel; Debian's kernels have some 200,000.
const MAX_SYMBOLS: usize = 4 << 20;
/// Maximum length of a name: `KSYM_NAME_LEN` is 512, plus one character for the type.
const MAX_NAME: usize = 513;
const TOKENS: usize = 256;
/// Alignment of the tables in bytes: since Linux 7.0, and before.
const ALIGNMENTS: [usize; 2] = [4, 8];
const SYMBOLS_PER_MARKER: usize = 256;

/// Reads the symbols of an uncompressed vmlinux, in ascending order of their addresses. The kallsyms tables are read only if
/// there are no ELF symbols.
pub fn decode(vmlinux: &[u8]) -> Result<Vec<Symbol>, KallsymsError> {
    let elf =
        ElfFile64::<Endianness>::parse(vmlinux).map_err(|e| KallsymsError::Elf(e.to_string()))?;
    let from_symtab = symtab(&elf);
    if !from_symtab.is_empty() {
        return Ok(from_symtab);
    }
    // Digits occur in names, so each digit has its own entry in the token table.
    const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
    let mut verdict = KallsymsError::NotFound;
    // A kernel contains these bytes once. The limit bounds the work on a hostile file, which may contain them often.
    for digits in memmem::find_iter(vmlinux, DIGITS).take(64) {
        let Some(tokens) = Tokens::around(vmlinux, digits) else {
            continue;
        };
        match Tables::before(vmlinux, &tokens)
            .and_then(|tables| tables.symbols(vmlinux, &elf, &tokens))
        {
            Ok(symbols) => return Ok(symbols),
            Err(e) => verdict = e,
        }
    }
    Err(verdict)
}

/// Formats symbols as `/proc/kallsyms` does.
pub fn to_text(symbols: &[Symbol]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(symbols.len() * 44);
    for s in symbols {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:016x} {} {}", s.address, s.kind, s.name);
    }
    text
}

fn symtab(elf: &ElfFile64<'_, Endianness>) -> Vec<Symbol> {
    use object::{Object, ObjectSymbol, SymbolKind};
    let mut symbols: Vec<Symbol> = elf
        .symbols()
        .take(MAX_SYMBOLS)
        .filter(|s| s.is_definition() || s.kind() == SymbolKind::Label)
        .filter_map(|s| {
            let name = s
                .name()
                .ok()
                .filter(|n| !n.is_empty() && n.len() < MAX_NAME)?;
            let kind = match s.kind() {
                SymbolKind::Text => 't',
                _ => 'd',
            };
            Some(Symbol {
                address: s.address(),
                kind: if s.is_global() {
                    kind.to_ascii_uppercase()
                } else {
                    kind
                },
                name: name.to_owned(),
            })
        })
        .collect();
    symbols.sort_by_key(|s| s.address);
    symbols
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

/// The tables `token_table` and `token_index`.
struct Tokens<'a> {
    /// The text of each token.
    text: Vec<&'a [u8]>,
    /// Offset of the start of the table in the file.
    start: usize,
    /// Offset of the end of the index in the file.
    end: usize,
}

impl<'a> Tokens<'a> {
    /// Finds the table whose entry for the character `0` is at `digits`. Returns `None` unless the index after it matches.
    fn around(file: &'a [u8], digits: usize) -> Option<Self> {
        let mut start = digits;
        for _ in 0..b'0' {
            // Skip the NUL that ends the previous token, and go back to the NUL before it.
            let end = start.checked_sub(1)?;
            let window = file.get(end.saturating_sub(MAX_NAME)..end)?;
            start = end - window.iter().rev().position(|b| *b == 0)?;
        }
        // Padding before the first token can look like a part of the table, so let the index decide where the table starts.
        (0..8)
            .find_map(|padding| Self::at(file, start + padding))
            .filter(|t| t.start <= digits)
    }

    fn at(file: &'a [u8], start: usize) -> Option<Self> {
        if !start.is_multiple_of(4) {
            return None;
        }
        let mut text = Vec::with_capacity(TOKENS);
        let mut begins = Vec::with_capacity(TOKENS);
        let mut at = start;
        for _ in 0..TOKENS {
            let rest = file.get(at..)?;
            let len = memchr::memchr(0, rest.get(..MAX_NAME.min(rest.len()))?)?;
            begins.push(at - start);
            text.push(rest.get(..len)?);
            at += len + 1;
        }
        let agrees = |index: usize| {
            begins
                .iter()
                .enumerate()
                .all(|(i, begin)| u16_at(file, index + 2 * i).map(usize::from) == Some(*begin))
        };
        let index = ALIGNMENTS
            .iter()
            .map(|align| at.next_multiple_of(*align))
            .find(|index| agrees(*index))?;
        Some(Self {
            text,
            start,
            end: index + 2 * TOKENS,
        })
    }
}

/// The offset of `names` in the file, and the number of symbols.
struct Tables {
    names: usize,
    count: usize,
}

impl Tables {
    /// Finds `markers`, `names` and `num_syms`, searching backwards from the token table.
    fn before(file: &[u8], tokens: &Tokens<'_>) -> Result<Self, KallsymsError> {
        // The last word before the tokens is a marker, or padding after one.
        [4, 8]
            .iter()
            .filter_map(|back| find_markers(file, tokens.start.checked_sub(*back)?))
            .find_map(|markers| Self::before_markers(file, markers))
            .ok_or(KallsymsError::Damaged(
                "no names and markers precede the tokens",
            ))
    }

    fn before_markers(
        file: &[u8],
        (markers, last, marker_count): (usize, u32, usize),
    ) -> Option<Self> {
        let most = marker_count * SYMBOLS_PER_MARKER;
        let least = most - SYMBOLS_PER_MARKER + 1;
        // `names` ends at the markers, except for up to seven bytes of padding. At most 256 symbols follow the place
        // of the last marker.
        let longest_rest = SYMBOLS_PER_MARKER * (MAX_NAME + 2) + 8;
        let mut names = markers.checked_sub(last as usize).map_or(0, |n| n & !3);
        let lowest = names.saturating_sub(longest_rest).max(8);
        while names > lowest {
            // The count is right before the names, or there is padding to eight bytes between them.
            let count = match u32_at(file, names - 4) {
                Some(0) => u32_at(file, names - 8),
                count => count,
            };
            let count = count.map_or(0, |n| n as usize);
            if (least..=most).contains(&count) && names_fit(file, names, count, markers) {
                return Some(Self { names, count });
            }
            names -= 4;
        }
        None
    }

    /// Expands the names and assigns an address to each.
    fn symbols(
        &self,
        file: &[u8],
        elf: &ElfFile64<'_, Endianness>,
        tokens: &Tokens<'_>,
    ) -> Result<Vec<Symbol>, KallsymsError> {
        let names = self.unfold(file, tokens)?;
        let text = names
            .iter()
            .position(|(_, name)| name == "_text")
            .ok_or(KallsymsError::Damaged("none of the names is `_text`"))?;
        let addresses = ALIGNMENTS
            .iter()
            .map(|align| tokens.end.next_multiple_of(*align))
            .find_map(|offsets| addresses(file, elf, offsets, self.count, text))
            .ok_or(KallsymsError::Damaged(
                "their addresses follow no known encoding",
            ))?;
        Ok(names
            .into_iter()
            .zip(addresses)
            .map(|((kind, name), address)| Symbol {
                address,
                kind,
                name,
            })
            .collect())
    }

    /// Returns the type and the name of each symbol.
    fn unfold(
        &self,
        file: &[u8],
        tokens: &Tokens<'_>,
    ) -> Result<Vec<(char, String)>, KallsymsError> {
        let mut names = Vec::with_capacity(self.count);
        let mut at = self.names;
        let mut unfolded = Vec::with_capacity(MAX_NAME);
        for _ in 0..self.count {
            let (codes, next) =
                entry(file, at).ok_or(KallsymsError::Damaged("a name runs out of the file"))?;
            at = next;
            unfolded.clear();
            for code in codes {
                unfolded.extend_from_slice(tokens.text[usize::from(*code)]);
                if unfolded.len() > MAX_NAME {
                    return Err(KallsymsError::Damaged("a name is too long"));
                }
            }
            let text = std::str::from_utf8(&unfolded)
                .ok()
                .filter(|text| text.len() > 1 && text.bytes().all(|b| b.is_ascii_graphic()))
                .ok_or(KallsymsError::Damaged("a name is not text"))?;
            names.push((char::from(unfolded[0]), text[1..].to_owned()));
        }
        Ok(names)
    }
}

/// Finds the markers, of which the last one is at `at`. Returns the offset of the first one, the value of the last one, and
/// their number; `None` if the words before `at` do not descend to 0.
fn find_markers(file: &[u8], mut at: usize) -> Option<(usize, u32, usize)> {
    let last = u32_at(file, at)?;
    let (mut next, mut count) = (last, 1);
    while next != 0 {
        at = at.checked_sub(4)?;
        let marker = u32_at(file, at)?;
        if marker >= next || count > MAX_SYMBOLS / SYMBOLS_PER_MARKER {
            return None;
        }
        next = marker;
        count += 1;
    }
    Some((at, last, count))
}

/// Returns the token numbers of the name at `at`, and the offset of the next name; `None` if the name extends beyond the end
/// of the file.
fn entry(file: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let first = usize::from(*file.get(at)?);
    let (len, codes) = if first & 0x80 == 0 {
        (first, at + 1)
    } else {
        let second = usize::from(*file.get(at + 1)?);
        (first & 0x7f | second << 7, at + 2)
    };
    let end = codes.checked_add(len)?;
    Some((file.get(codes..end)?, end))
}

/// Returns whether `count` names from `names` on agree with every marker and end where the markers begin.
fn names_fit(file: &[u8], names: usize, count: usize, markers: usize) -> bool {
    let mut at = names;
    for i in 0..count {
        if i % SYMBOLS_PER_MARKER == 0
            && u32_at(file, markers + i / SYMBOLS_PER_MARKER * 4).map(|m| m as usize)
                != Some(at - names)
        {
            return false;
        }
        match entry(file, at) {
            Some((codes, next)) if !codes.is_empty() && next <= markers => at = next,
            _ => return false,
        }
    }
    ALIGNMENTS
        .iter()
        .any(|align| at.next_multiple_of(*align) == markers)
}

/// Decodes `count` offsets. The correct encoding is the one whose addresses are sorted and in which `_text`, the symbol with
/// the index `text`, is at the start of a segment of the image. Returns `None` if no encoding fits.
fn addresses(
    file: &[u8],
    elf: &ElfFile64<'_, Endianness>,
    offsets: usize,
    count: usize,
    text: usize,
) -> Option<Vec<u64>> {
    let table = file.get(offsets..offsets.checked_add(count.checked_mul(4)?)?)?;
    let raw = || {
        table
            .chunks_exact(4)
            .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]))
    };
    let endian = elf.endian();
    let is_right = |addresses: &Vec<u64>| {
        addresses.get(text).is_some_and(|address| {
            let mut segments = elf.elf_program_headers().iter();
            segments
                .any(|s| s.p_type(endian) == object::elf::PT_LOAD && s.p_vaddr(endian) == *address)
        })
    };
    let place = virtual_address(elf, offsets as u64)?;
    let by_place = raw().zip((0..).step_by(4)).map(|(o, i)| {
        place
            .wrapping_add(i)
            .wrapping_add_signed(i64::from(o.cast_signed()))
    });
    if let Some(found) = sorted(by_place, count).filter(is_right) {
        return Some(found);
    }
    let after = offsets + 4 * count;
    ALIGNMENTS.iter().find_map(|align| {
        let base =
            u64_at(file, after.next_multiple_of(*align)).filter(|base| *base >= KERNEL_HALF)?;
        let by_base = raw().map(|o| base.wrapping_add(u64::from(o)));
        let with_percpu = raw().map(|o| match i64::from(o.cast_signed()) {
            absolute @ 0.. => absolute.cast_unsigned(),
            negative => base.wrapping_sub(1).wrapping_add_signed(-negative),
        });
        sorted(by_base, count)
            .filter(is_right)
            .or_else(|| sorted(with_percpu, count).filter(is_right))
    })
}

/// The lowest kernel address on x86-64 with page tables of four levels. A `relative_base` below it is rejected.
const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;

/// Collects the addresses, or returns `None` if they are not in ascending order.
fn sorted(addresses: impl Iterator<Item = u64>, count: usize) -> Option<Vec<u64>> {
    let mut out = Vec::with_capacity(count);
    let mut last = 0;
    for address in addresses {
        if address < last {
            return None;
        }
        last = address;
        out.push(address);
    }
    Some(out)
}

/// Returns the link address of an offset in the file; `None` if no loaded segment contains it.
fn virtual_address(elf: &ElfFile64<'_, Endianness>, offset: u64) -> Option<u64> {
    let endian = elf.endian();
    elf.elf_program_headers().iter().find_map(|segment| {
        if segment.p_type(endian) != object::elf::PT_LOAD {
            return None;
        }
        let within = offset.checked_sub(segment.p_offset(endian))?;
        (within < segment.p_filesz(endian)).then(|| segment.p_vaddr(endian).wrapping_add(within))
    })
}
