//! Access to guest RAM from outside, through the memory of the QEMU process (`/proc/PID/mem`).
//!
//! The same code works for every machine: a machine that boots or becomes a template maps its RAM shared, and a fork that
//! runs a test maps it privately. In both cases the memory of the QEMU process is authoritative.
// The numbers come from a guest: a cast must not change a number unnoticed.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use ktstr_mailbox::{Layout, MailboxMemory};

use crate::MachineError;

/// The RAM size from which the machine type splits RAM around the PCI hole. The source is `pc_q35_init()` in
/// `hw/i386/pc_q35.c` of QEMU: RAM of 2.75 GiB and more is split at 2 GiB.
const SPLIT_FROM: u64 = 0xb000_0000;
const LOW_WHEN_SPLIT: u64 = 0x8000_0000;
const ABOVE_4G: u64 = 1 << 32;

const PAGE: usize = 4096;
/// The largest number of bytes that [`GuestRam::own_pages`] passes on at once.
const RUN: usize = 1 << 20;

/// Returns whether an entry of pagemap (Documentation/admin-guide/mm/pagemap.rst) refers to a page of this machine. In a
/// private mapping, a page of the file belongs to the template. The first write by the machine replaces it with a copy that
/// belongs to the machine, and not to the file.
fn is_own(entry: u64, private: bool) -> bool {
    let (present, swapped, of_file) = (entry >> 63 & 1, entry >> 62 & 1, entry >> 61 & 1);
    (present == 1 || swapped == 1) && !(private && of_file == 1)
}

/// A part of guest RAM that is a single mapping of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    gpa: u64,
    len: u64,
    host: u64,
}

/// The RAM of one machine.
#[derive(Debug)]
pub struct GuestRam {
    memory: File,
    pid: u32,
    /// Whether the files are mapped copy-on-write.
    private: bool,
    segments: Vec<Segment>,
    size: u64,
}

impl GuestRam {
    /// Finds the mappings of `backends` (in node order, with their sizes) in process `pid`.
    pub(crate) fn of_process(
        pid: u32,
        backends: &[(&File, u64)],
        private: bool,
    ) -> Result<Self, MachineError> {
        let maps_path = format!("/proc/{pid}/maps");
        let maps = std::fs::read_to_string(&maps_path)
            .map_err(|e| MachineError::system(format!("reading {maps_path}"), e))?;
        let mut pieces = Vec::new();
        for (file, len) in backends {
            let inode = file
                .metadata()
                .map_err(|e| MachineError::system("asking for the inode of guest RAM", e))?
                .ino();
            let host = mapping_of(&maps, inode, *len).ok_or_else(|| {
                MachineError::system(
                    format!(
                        "looking for the {len:#x} bytes of guest RAM (inode {inode}) in {maps_path}"
                    ),
                    std::io::Error::from(std::io::ErrorKind::NotFound),
                )
            })?;
            pieces.push(Piece { host, len: *len });
        }
        let path = format!("/proc/{pid}/mem");
        let memory = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| MachineError::system(format!("opening {path} to read guest RAM"), e))?;
        Ok(Self {
            memory,
            pid,
            private,
            segments: lay_out(&pieces),
            size: pieces.iter().map(|piece| piece.len).sum(),
        })
    }

    /// Returns the size of RAM in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Calls `see` for every page, or run of pages, that belongs to this machine: in a machine with private RAM the pages
    /// that were written since the restore, otherwise all pages that were ever touched. They are passed in ascending order
    /// with their guest-physical address, at most 1 MiB at a time.
    pub fn own_pages(&self, mut see: impl FnMut(u64, &[u8])) -> Result<(), MachineError> {
        let path = format!("/proc/{}/pagemap", self.pid);
        let wrap = |e| MachineError::system(format!("reading {path}"), e);
        let pagemap = File::open(&path).map_err(wrap)?;
        let mut buffer = vec![0u8; RUN];
        for segment in &self.segments {
            let pages = usize::try_from(segment.len).unwrap_or(usize::MAX) / PAGE;
            let mut entries = vec![0u8; pages * 8];
            pagemap
                .read_exact_at(&mut entries, segment.host / PAGE as u64 * 8)
                .map_err(wrap)?;
            let own = |page: usize| {
                let entry = entries[page * 8..]
                    .first_chunk()
                    .map(|e| u64::from_le_bytes(*e));
                entry.is_some_and(|entry| is_own(entry, self.private))
            };
            let mut page = 0;
            while page < pages {
                if !own(page) {
                    page += 1;
                    continue;
                }
                let first = page;
                while page < pages && own(page) && page - first < RUN / PAGE {
                    page += 1;
                }
                let run = &mut buffer[..(page - first) * PAGE];
                let gpa = segment.gpa + (first * PAGE) as u64;
                self.read(gpa, run)?;
                see(gpa, run);
            }
        }
        Ok(())
    }

    /// Fills `buf` with the bytes at the guest-physical address `gpa`. A range that is not completely in RAM is an error.
    pub fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MachineError> {
        let mut done = 0;
        while done < buf.len() {
            let (host, here) = self.place(gpa, done, buf.len())?;
            self.memory
                .read_exact_at(&mut buf[done..done + here], host)
                .map_err(|e| MachineError::system(format!("reading guest RAM at {gpa:#x}"), e))?;
            done += here;
        }
        Ok(())
    }

    /// Writes `bytes` to the guest-physical address `gpa`. It is an error if the range is not completely in RAM. The part
    /// before the first byte outside of RAM has been written then.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), MachineError> {
        let mut done = 0;
        while done < bytes.len() {
            let (host, here) = self.place(gpa, done, bytes.len())?;
            self.memory
                .write_all_at(&bytes[done..done + here], host)
                .map_err(|e| MachineError::system(format!("writing guest RAM at {gpa:#x}"), e))?;
            done += here;
        }
        Ok(())
    }

    /// Returns the address in QEMU of byte `done` of a range of `len` bytes at `gpa`, and how many bytes of the range follow
    /// contiguously from there on.
    fn place(&self, gpa: u64, done: usize, len: usize) -> Result<(u64, usize), MachineError> {
        let missing = || MachineError::NoSuchMemory {
            gpa,
            len,
            size: self.size,
        };
        let at = gpa.checked_add(done as u64).ok_or_else(missing)?;
        let segment = self
            .segments
            .iter()
            .find(|s| at >= s.gpa && at - s.gpa < s.len)
            .ok_or_else(missing)?;
        let within = at - segment.gpa;
        let left = len - done;
        let here = usize::try_from(segment.len - within).map_or(left, |here| here.min(left));
        Ok((segment.host + within, here))
    }
}

/// The mailbox in guest RAM.
#[derive(Debug, Clone, Copy)]
pub struct MailboxRam<'a>(pub &'a GuestRam);

impl MailboxMemory for MailboxRam<'_> {
    type Error = MachineError;

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), MachineError> {
        self.0.read(Layout::BASE + offset, buf)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), MachineError> {
        self.0.write(Layout::BASE + offset, bytes)
    }

    fn load(&self, offset: u64) -> Result<u64, MachineError> {
        // A copy from another process may be torn, so the word is read until two successive reads agree, or until it has
        // been read 17 times.
        let mut last = self.word(offset)?;
        for _ in 0..16 {
            let again = self.word(offset)?;
            if again == last {
                break;
            }
            last = again;
        }
        Ok(last)
    }

    fn store(&self, offset: u64, value: u64) -> Result<(), MachineError> {
        self.write(offset, &value.to_le_bytes())
    }
}

impl MailboxRam<'_> {
    fn word(&self, offset: u64) -> Result<u64, MachineError> {
        let mut bytes = [0u8; 8];
        self.read(offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// The RAM of one backend, as QEMU maps it.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// The address in QEMU's address space.
    host: u64,
    /// The length in bytes.
    len: u64,
}

/// Places the backends one after the other, around the PCI hole.
fn lay_out(pieces: &[Piece]) -> Vec<Segment> {
    let total: u64 = pieces.iter().map(|piece| piece.len).sum();
    let low = if total >= SPLIT_FROM {
        LOW_WHEN_SPLIT
    } else {
        total
    };
    let mut segments = Vec::new();
    let mut offset = 0;
    for &Piece { host, len } in pieces {
        let below = len.min(low.saturating_sub(offset));
        if below > 0 {
            segments.push(Segment {
                gpa: offset,
                len: below,
                host,
            });
        }
        if below < len {
            segments.push(Segment {
                gpa: ABOVE_4G + (offset + below - low),
                len: len - below,
                host: host + below,
            });
        }
        offset += len;
    }
    segments
}

/// Returns the address of the mapping of the file with the inode number `inode` that starts at the file's first byte and has
/// at least `len` bytes, according to the text of `/proc/PID/maps`; `None` if there is none. Lines that continue each other
/// are one mapping.
fn mapping_of(maps: &str, inode: u64, len: u64) -> Option<u64> {
    let mut run: Option<(u64, u64)> = None;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        let file_offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        if fields.nth(1)?.parse() != Ok(inode) {
            continue;
        }
        run = match run {
            Some((first, last)) if last == start && file_offset == start - first => {
                Some((first, end))
            }
            _ if file_offset == 0 => Some((start, end)),
            other => other,
        };
        if let Some((first, last)) = run
            && last - first >= len
        {
            return Some(first);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn small_ram_is_one_piece() {
        assert_eq!(
            lay_out(&[Piece {
                host: 0x7000_0000,
                len: 512 * MIB
            }]),
            [Segment {
                gpa: 0,
                len: 512 * MIB,
                host: 0x7000_0000
            }]
        );
    }

    #[test]
    fn large_ram_goes_around_the_hole() {
        let gib = 1024 * MIB;
        let piece = |host, len| Piece { host, len };
        let pieces = [piece(0x10_0000_0000, 3 * gib), piece(0x20_0000_0000, gib)];
        let segments = lay_out(&pieces);
        assert_eq!(
            segments,
            [
                Segment {
                    gpa: 0,
                    len: 2 * gib,
                    host: 0x10_0000_0000
                },
                Segment {
                    gpa: 4 * gib,
                    len: gib,
                    host: 0x10_0000_0000 + 2 * gib
                },
                Segment {
                    gpa: 5 * gib,
                    len: gib,
                    host: 0x20_0000_0000
                },
            ]
        );
    }

    #[test]
    fn a_mapping_in_two_lines_is_one() {
        let maps = "\
7f0000000000-7f0000100000 rw-p 00000000 00:01 77 /memfd:other (deleted)
7f1000000000-7f1000100000 rw-s 00000000 00:01 42 /memfd:ram (deleted)
7f1000100000-7f1000200000 rw-s 00100000 00:01 42 /memfd:ram (deleted)
7f2000000000-7f2000001000 r--p 00000000 00:00 0 [vdso]
";
        assert_eq!(mapping_of(maps, 42, 2 * MIB), Some(0x7f10_0000_0000));
        assert_eq!(mapping_of(maps, 42, 3 * MIB), None);
        assert_eq!(mapping_of(maps, 43, 1), None);
    }

    #[test]
    fn a_file_that_is_not_mapped_is_an_error() {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(MIB).expect("sparse");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        assert!(std::path::Path::new(&path).exists());
        let error = GuestRam::of_process(std::process::id(), &[(&file, MIB)], false)
            .expect_err("the file is not mapped");
        assert!(error.to_string().contains("inode"), "{error}");
    }
}
