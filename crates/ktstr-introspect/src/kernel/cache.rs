//! A direct-mapped cache of pages, so that a capture seldom reads a page twice.

use super::KernelError;
use crate::memory::{GuestMemory, MemoryError};
use crate::narrow;
use crate::paging::{PAGE, PAGE_SIZE, PageTable};

/// The number of slots for data pages, which take 2 MiB when all are in use.
const DATA_SLOTS: usize = 512;
/// The number of slots for pages of page tables.
const TABLE_SLOTS: usize = 64;

/// The number of a page, and its contents.
type Slot = Option<(u64, Box<[u8; PAGE]>)>;

/// Data pages by virtual page number, and page-table pages by physical page number.
#[derive(Default)]
pub(super) struct PageCache {
    data: Vec<Slot>,
    tables: Vec<Slot>,
}

impl PageCache {
    pub fn read<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        table: PageTable,
        kva: u64,
        buf: &mut [u8],
    ) -> Result<(), KernelError> {
        let mut at = kva;
        let mut rest = buf;
        while !rest.is_empty() {
            let inside = (at % PAGE_SIZE) as usize;
            let len = rest.len().min(PAGE - inside);
            let (now, later) = rest.split_at_mut(len);
            let page = self.page(memory, table, at / PAGE_SIZE)?;
            if let Some(bytes) = page.get(inside..inside + len) {
                now.copy_from_slice(bytes);
            }
            at = at.wrapping_add(len as u64);
            rest = later;
        }
        Ok(())
    }

    fn page<M: GuestMemory + ?Sized>(
        &mut self,
        memory: &M,
        table: PageTable,
        number: u64,
    ) -> Result<&[u8; PAGE], KernelError> {
        self.data.resize_with(DATA_SLOTS, || None);
        self.tables.resize_with(TABLE_SLOTS, || None);
        let slot = &mut self.data[narrow::length(number % DATA_SLOTS as u64)];
        let hit = matches!(slot, Some((held, _)) if *held == number);
        if !hit {
            let tables = Tables {
                memory,
                slots: std::cell::RefCell::new(&mut self.tables),
            };
            let gpa = table
                .translate(&tables, number.wrapping_mul(PAGE_SIZE))?
                .gpa;
            fill(memory, slot, number, gpa)?;
        }
        match slot {
            Some((_, page)) => Ok(page),
            // `fill` leaves the slot filled or returns an error.
            None => Err(MemoryError::NotRecorded { gpa: 0, len: PAGE }.into()),
        }
    }
}

/// Reads a page into a slot, whose buffer is reused. After an error the slot is empty.
fn fill<M: GuestMemory + ?Sized>(
    memory: &M,
    slot: &mut Slot,
    number: u64,
    gpa: u64,
) -> Result<(), MemoryError> {
    let mut page = match slot.take() {
        Some((_, page)) => page,
        None => Box::new([0; PAGE]),
    };
    memory.read(gpa, page.as_mut_slice())?;
    *slot = Some((number, page));
    Ok(())
}

/// The guest memory that a page walk reads. The entries of page tables come from cached pages.
struct Tables<'c, 'm, M: GuestMemory + ?Sized> {
    memory: &'m M,
    slots: std::cell::RefCell<&'c mut Vec<Slot>>,
}

impl<M: GuestMemory + ?Sized> GuestMemory for Tables<'_, '_, M> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let number = gpa / PAGE_SIZE;
        let inside = (gpa % PAGE_SIZE) as usize;
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[number as usize % TABLE_SLOTS];
        let hit = matches!(slot, Some((held, _)) if *held == number);
        if !hit {
            fill(self.memory, slot, number, number * PAGE_SIZE)?;
        }
        let bytes = slot
            .as_ref()
            .and_then(|(_, page)| page.get(inside..inside + buf.len()));
        let missing = MemoryError::NotRecorded {
            gpa,
            len: buf.len(),
        };
        buf.copy_from_slice(bytes.ok_or(missing)?);
        Ok(())
    }
}
