//! Opens a kernel image, which is a bzImage or an ELF vmlinux, and extracts the ELF inside, its version, its BTF and its
//! configuration. This module works on bytes only and opens no files.
//!
//! The layout of a bzImage is described in the kernel's Documentation/arch/x86/boot.rst.
// The numbers come from a file: a cast must not change a number unnoticed.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use std::io::Read;
use std::ops::Range;

use ktstr_state::arch;
use memchr::memmem;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection};

/// Maximum size of a kernel image, compressed or not, as a guard against garbage.
pub(crate) const MAX_IMAGE: u64 = 512 << 20;

/// Offsets of the fields of the setup header, in bytes from the start of a bzImage.
mod header {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const KERNEL_VERSION: usize = 0x20e;
    pub(super) const PAYLOAD_OFFSET: usize = 0x248;
    pub(super) const PAYLOAD_LENGTH: usize = 0x24c;
}

/// Why an image could not be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ImageError {
    /// The file is not a kernel; the text says what it appears to be instead.
    NotAKernel(String),
    /// The file is a kernel, but its compression is not supported.
    Compression(&'static str),
}

/// An opened kernel image.
#[derive(Debug)]
pub(crate) struct Image {
    /// The uncompressed ELF; `None` if the image itself is that ELF.
    pub(crate) unpacked: Option<Vec<u8>>,
    /// The release, as `uname -r` prints it.
    pub(crate) release: String,
    /// The version line: release, builder, build number and date.
    pub(crate) version_text: String,
}

/// Opens a bzImage or an ELF vmlinux.
pub(crate) fn open(image: &[u8]) -> Result<Image, ImageError> {
    if image.starts_with(b"\x7fELF") {
        check_vmlinux(image)?;
        let version_text = banner(image)?;
        return Ok(Image {
            unpacked: None,
            release: first_word(&version_text)?,
            version_text,
        });
    }
    let payload = payload(image)?;
    let vmlinux = decompress(payload)?;
    if !vmlinux.starts_with(b"\x7fELF") {
        return Err(not("a bzImage whose payload is not an ELF file"));
    }
    let version_text = header_version(image).map_or_else(|| banner(&vmlinux), Ok)?;
    Ok(Image {
        release: first_word(&version_text)?,
        unpacked: Some(vmlinux),
        version_text,
    })
}

fn not(found: impl Into<String>) -> ImageError {
    ImageError::NotAKernel(found.into())
}

/// Returns `len` bytes from `start`, or `None` beyond the end.
fn at(bytes: &[u8], start: usize, len: usize) -> Option<&[u8]> {
    bytes.get(start..start.checked_add(len)?)
}

fn u32_at(bytes: &[u8], start: usize) -> Option<u32> {
    Some(u32::from_le_bytes(at(bytes, start, 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], start: usize) -> Option<u16> {
    Some(u16::from_le_bytes(at(bytes, start, 2)?.try_into().ok()?))
}

/// Returns the length of the real-mode part in bytes: the boot sector and `setup_sects` more sectors, where 0 stands for 4.
/// Returns `None` if the image ends before that field.
fn setup_len(image: &[u8]) -> Option<usize> {
    let sectors = match *image.get(header::SETUP_SECTS)? {
        0 => 4,
        n => usize::from(n),
    };
    Some((sectors + 1) * 512)
}

/// Returns the compressed kernel inside a bzImage.
fn payload(image: &[u8]) -> Result<&[u8], ImageError> {
    if image.is_empty() {
        return Err(not("an empty file"));
    }
    if u16_at(image, header::BOOT_FLAG) != Some(0xaa55)
        || at(image, header::MAGIC, 4) != Some(b"HdrS")
    {
        return Err(not(format!(
            "{} (no `HdrS` boot header, no ELF header)",
            describe(image)
        )));
    }
    let version = u16_at(image, header::VERSION).unwrap_or(0);
    if version < 0x208 {
        return Err(not(format!(
            "an x86 boot image of protocol {}.{:02}, older than 2.08, in which the kernel cannot be located",
            version >> 8,
            version & 0xff
        )));
    }
    let range = || -> Option<Range<usize>> {
        let start =
            setup_len(image)?.checked_add(u32_at(image, header::PAYLOAD_OFFSET)? as usize)?;
        let end = start.checked_add(u32_at(image, header::PAYLOAD_LENGTH)? as usize)?;
        (end <= image.len() && start < end).then_some(start..end)
    };
    range().and_then(|r| image.get(r)).ok_or_else(|| {
        not(format!(
            "a bzImage that is cut short after {} bytes",
            image.len()
        ))
    })
}

/// Describes briefly what a file that is not a kernel appears to be.
fn describe(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x1f, 0x8b, ..] => "a gzip file",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "a zstd file",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "an xz file",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "an ar archive",
        [b'M', b'Z', ..] => "a PE executable",
        [b'#', b'!', ..] => "a script",
        _ if std::str::from_utf8(bytes.get(..512).unwrap_or(bytes)).is_ok() => "a text file",
        _ => "a file of unknown format",
    }
}

/// Decompresses the payload of a bzImage, which must be compressed with zstd or gzip, or not at all.
fn decompress(payload: &[u8]) -> Result<Vec<u8>, ImageError> {
    let compression = match payload {
        [0x7f, b'E', b'L', b'F', ..] => return Ok(payload.to_vec()),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let reader = ruzstd::decoding::StreamingDecoder::new(payload)
                .map_err(|e| not(format!("a bzImage with a damaged zstd payload ({e})")))?;
            return read_all(reader, payload, "zstd", MAX_IMAGE);
        }
        [0x1f, 0x8b, ..] => {
            return read_all(
                flate2::read::GzDecoder::new(payload),
                payload,
                "gzip",
                MAX_IMAGE,
            );
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [0x5d, 0, 0, ..] => "lzma",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        [0x89, b'L', b'Z', b'O', ..] => "lzo",
        _ => return Err(not("a bzImage with a payload of unknown format")),
    };
    Err(ImageError::Compression(compression))
}

/// Decompresses everything, which must be at most `limit` bytes. The last four bytes of `payload` are the uncompressed
/// length, which the kernel's build appends or which the format contains. It is trusted only as a first guess.
pub(crate) fn read_all(
    reader: impl Read,
    payload: &[u8],
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, ImageError> {
    let announced = payload
        .len()
        .checked_sub(4)
        .and_then(|end| u32_at(payload, end))
        .map_or(0, u64::from);
    // A compressed kernel is some four times smaller than its ELF, so reserve at most sixteen times the size of the payload,
    // whatever length is announced.
    let guess = announced.min(payload.len() as u64 * 16).min(limit);
    let mut out = Vec::with_capacity(usize::try_from(guess).unwrap_or(0));
    reader
        .take(limit + 1)
        .read_to_end(&mut out)
        .map_err(|e| not(format!("a bzImage with a damaged {name} payload ({e})")))?;
    if out.len() as u64 > limit {
        return Err(not(format!(
            "a bzImage that unpacks to more than {} MiB",
            limit >> 20
        )));
    }
    Ok(out)
}

/// Returns the version line that the setup header points to; `None` if there is no printable one.
fn header_version(image: &[u8]) -> Option<String> {
    let start = usize::from(u16_at(image, header::KERNEL_VERSION)?).checked_add(0x200)?;
    let text = image.get(start..setup_len(image)?.min(image.len()))?;
    printable_line(text)
}

/// Returns the text up to a NUL or the end of the line, without white space around it; `None` if it is empty, has 512 bytes
/// or more, or is not printable ASCII.
fn printable_line(bytes: &[u8]) -> Option<String> {
    let end = bytes
        .iter()
        .take(512)
        .position(|b| *b == 0 || *b == b'\n')?;
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?.trim();
    (!text.is_empty() && text.chars().all(|c| c == ' ' || c.is_ascii_graphic()))
        .then(|| text.to_owned())
}

/// Returns the version line in `linux_banner`, without the words `Linux version`.
fn banner(vmlinux: &[u8]) -> Result<String, ImageError> {
    const INTRO: &[u8] = b"Linux version ";
    memmem::find_iter(vmlinux, INTRO)
        .take(64)
        .filter_map(|at| printable_line(vmlinux.get(at + INTRO.len()..)?))
        .find(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .ok_or_else(|| not("an ELF file without a `Linux version` line"))
}

/// Returns the release, which is the first word of the version line and becomes a part of a folder's name.
fn first_word(version_text: &str) -> Result<String, ImageError> {
    let word = version_text.split(' ').next().unwrap_or("");
    let legal = |c: char| c.is_ascii_alphanumeric() || "+-._~".contains(c);
    if word.is_empty() || word.len() > 128 || word.starts_with('.') || !word.chars().all(legal) {
        return Err(not(format!(
            "a kernel with the unusable release name {word:?}"
        )));
    }
    Ok(word.to_owned())
}

/// Checks that the machine can boot this ELF file: x86-64, executable, with a PVH entry point.
fn check_vmlinux(bytes: &[u8]) -> Result<(), ImageError> {
    let elf = ElfFile64::<Endianness>::parse(bytes)
        .map_err(|e| not(format!("an ELF file that cannot be read as 64-bit ({e})")))?;
    let endian = elf.endian();
    let head = elf.elf_header();
    if head.e_machine(endian) != object::elf::Machine(arch::ELF_MACHINE) {
        return Err(not(format!(
            "an ELF file for a machine other than {}",
            arch::NAME
        )));
    }
    if head.e_type(endian) != object::elf::ET_EXEC {
        return Err(not(
            "an ELF file, but not a vmlinux: it is not a fixed-address executable",
        ));
    }
    if !has_pvh(bytes) {
        return Err(not(
            "an ELF file without a PVH entry note: a vmlinux needs CONFIG_PVH=y to be booted directly",
        ));
    }
    Ok(())
}

/// Returns whether an ELF file has the entry point that QEMU needs to boot it without a boot loader (`CONFIG_PVH`).
pub(crate) fn has_pvh(vmlinux: &[u8]) -> bool {
    let Ok(elf) = ElfFile64::<Endianness>::parse(vmlinux) else {
        return false;
    };
    let endian = elf.endian();
    elf.elf_program_headers().iter().any(|segment| {
        let Ok(Some(mut notes)) = segment.notes(endian, vmlinux) else {
            return false;
        };
        // Each note has at least a header, so the loop is bounded by the file's length.
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"Xen" && note.n_type(endian) == XEN_ELFNOTE_PHYS32_ENTRY {
                return true;
            }
        }
        false
    })
}

/// The type of the PVH note, from include/xen/interface/elfnote.h.
const XEN_ELFNOTE_PHYS32_ENTRY: object::elf::NoteType = object::elf::NoteType(18);

/// Returns the kernel's type information, which is the `.BTF` section; `None` if it is missing, empty or unreadable.
pub(crate) fn btf(vmlinux: &[u8]) -> Option<&[u8]> {
    let elf = ElfFile64::<Endianness>::parse(vmlinux).ok()?;
    let data = elf.section_by_name(".BTF")?.data().ok()?;
    (!data.is_empty()).then_some(data)
}

/// Extracts the configuration that `CONFIG_IKCONFIG` embeds in an image: gzip data between two marks (`kernel/configs.c`).
/// Returns `None` if there is none, or if it is damaged.
pub(crate) fn embedded_config(vmlinux: &[u8]) -> Option<String> {
    const START: &[u8] = b"IKCFG_ST\x1f\x8b";
    const MAX_CONFIG: u64 = 4 << 20;
    let start = memmem::find(vmlinux, START)? + START.len() - 2;
    let mut text = String::new();
    flate2::read::GzDecoder::new(vmlinux.get(start..)?)
        .take(MAX_CONFIG)
        .read_to_string(&mut text)
        .ok()?;
    text.contains("CONFIG_").then_some(text)
}
