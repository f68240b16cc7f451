//! Reads by kernel address, with a cache of the translations of pages.
//!
//! The cache is for memory whose mapping does not change: the kernel's image, its per-CPU areas, and the direct map, which
//! contains most of the kernel's objects. After other memory has been unmapped, the cache must be cleared.

use std::collections::HashMap;

use crate::kernel::KernelError;
use crate::memory::GuestMemory;
use crate::paging::{PAGE, PAGE_SIZE, PageTable};

/// The largest number of cached pages; beyond it the cache is cleared.
const MAX_PAGES: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct TranslationCache {
    table: PageTable,
    pages: HashMap<u64, u64>,
}

impl TranslationCache {
    pub fn new(table: PageTable) -> Self {
        Self {
            table,
            pages: HashMap::new(),
        }
    }

    /// Removes all translations. Call this when mappings of the guest may have changed.
    pub fn forget(&mut self) {
        self.pages.clear();
    }

    /// Fills `buf` from the kernel address `kva` on, with one read per contiguous piece of physical memory.
    pub fn read<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        kva: u64,
        buf: &mut [u8],
    ) -> Result<(), KernelError> {
        let wraps = KernelError::Wraps {
            kva,
            len: buf.len() as u64,
        };
        if kva.checked_add(buf.len() as u64).is_none() {
            return Err(wraps);
        }
        let (mut start, mut end) = (0, 0);
        let mut from = 0;
        while end < buf.len() {
            let at = kva + end as u64;
            let gpa = self.translate(memory, at)?;
            if end == start {
                from = gpa;
            } else if gpa != from.wrapping_add((end - start) as u64) {
                memory.read(from, &mut buf[start..end])?;
                (start, from) = (end, gpa);
            }
            let here = PAGE - (at % PAGE_SIZE) as usize;
            end += here.min(buf.len() - end);
        }
        if start < end {
            memory.read(from, &mut buf[start..end])?;
        }
        Ok(())
    }

    pub fn u64<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        kva: u64,
    ) -> Result<u64, KernelError> {
        let mut bytes = [0; 8];
        self.read(memory, kva, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn u32<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        kva: u64,
    ) -> Result<u32, KernelError> {
        let mut bytes = [0; 4];
        self.read(memory, kva, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Returns the NUL-terminated string at `kva`, at most `max` bytes of it. It ends before a page that cannot be read, and is
    /// empty at NULL.
    pub fn string<M: GuestMemory + ?Sized>(&mut self, memory: &M, kva: u64, max: usize) -> String {
        let mut text = Vec::new();
        let mut at = kva;
        while text.len() < max && kva != 0 {
            let here = PAGE - (at % PAGE_SIZE) as usize;
            let mut piece = vec![0; here.min(max - text.len())];
            if self.read(memory, at, &mut piece).is_err() {
                break;
            }
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                break;
            }
            at = at.wrapping_add(piece.len() as u64);
            text.append(&mut piece);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn translate<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        kva: u64,
    ) -> Result<u64, KernelError> {
        let (page, inside) = (kva / PAGE_SIZE, kva % PAGE_SIZE);
        if let Some(gpa) = self.pages.get(&page) {
            return Ok(gpa + inside);
        }
        let gpa = self.table.translate(memory, page * PAGE_SIZE)?.gpa;
        if self.pages.len() >= MAX_PAGES {
            self.forget();
        }
        self.pages.insert(page, gpa);
        Ok(gpa + inside)
    }
}
