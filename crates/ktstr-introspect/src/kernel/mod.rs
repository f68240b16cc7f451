//! The running kernel: reads by kernel virtual address, symbol, per-CPU variable and member.
//!
//! A [`KernelView`] is a view of one moment: it caches the pages that it has read, so that a capture of a stopped guest seldom
//! reads a page twice. For a later state, create a new view, which is cheap.

mod cache;
mod error;
mod list;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod xarray;

pub use error::KernelError;
pub use xarray::IdrEntry;

use std::cell::RefCell;

use crate::btf::{Btf, Member};
use crate::memory::GuestMemory;
use crate::narrow;
use crate::paging::PageTable;
use crate::symbols::Symbols;
use cache::PageCache;

/// Where the kernel image is mapped (`__START_KERNEL_map`, `arch/x86/include/asm/page_64_types.h`).
pub(crate) const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// The largest number of CPUs that are read, whatever number the guest states.
pub const MAX_CPUS: u32 = 1024;

/// A view of one guest kernel at one moment.
pub struct KernelView<'a, M: GuestMemory + ?Sized> {
    memory: &'a M,
    symbols: &'a Symbols,
    btf: &'a Btf,
    table: PageTable,
    cache: RefCell<PageCache>,
}

impl<'a, M: GuestMemory + ?Sized> KernelView<'a, M> {
    /// Creates a view through the kernel's own page table, which is at `init_top_pgt`.
    ///
    /// The kernel image must be mapped at its link address (`nokaslr`). Five levels are tried first, then four. The view uses the
    /// first number of levels with which the table translates the address of `init_top_pgt` to the place of the table itself.
    ///
    /// # Errors
    /// If there is no such symbol, if it lies below the kernel image, or if the table does not translate its own address to
    /// where the table lies.
    pub fn new(memory: &'a M, symbols: &'a Symbols, btf: &'a Btf) -> Result<Self, KernelError> {
        let kva = address_of(symbols, "init_top_pgt")?;
        let gpa = kva
            .checked_sub(START_KERNEL_MAP)
            .ok_or(KernelError::NotInImage {
                symbol: "init_top_pgt".to_owned(),
                kva,
            })?;
        let five = PageTable {
            cr3: gpa,
            la57: true,
        };
        let four = PageTable {
            la57: false,
            ..five
        };
        let mut last = None;
        for table in [five, four] {
            match table.translate(memory, kva) {
                Ok(found) if found.gpa == gpa => {
                    return Ok(Self::with_page_table(memory, symbols, btf, table));
                }
                Ok(_) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(KernelError::NoPageTable {
            kva,
            reason: last.map_or_else(
                || {
                    "the table does not map its own address to itself: boot the guest with nokaslr"
                        .to_owned()
                },
                |error| error.to_string(),
            ),
        })
    }

    /// Creates a view through the given page table.
    pub fn with_page_table(
        memory: &'a M,
        symbols: &'a Symbols,
        btf: &'a Btf,
        table: PageTable,
    ) -> Self {
        Self {
            memory,
            symbols,
            btf,
            table,
            cache: RefCell::new(PageCache::default()),
        }
    }

    /// Returns the page table through which the view translates.
    pub fn page_table(&self) -> PageTable {
        self.table
    }

    /// Returns the BTF with which the view finds structs and members.
    pub fn btf(&self) -> &'a Btf {
        self.btf
    }

    /// Returns the symbol table with which the view finds the kernel's variables.
    pub fn symbols(&self) -> &'a Symbols {
        self.symbols
    }

    /// Returns the guest-physical address of a kernel virtual address.
    pub fn translate(&self, kva: u64) -> Result<u64, KernelError> {
        Ok(self.table.translate(self.memory, kva)?.gpa)
    }

    /// Fills `buf` with the bytes at the kernel virtual address `kva`; the range may cross pages.
    pub fn read(&self, kva: u64, buf: &mut [u8]) -> Result<(), KernelError> {
        if kva.checked_add(buf.len() as u64).is_none() {
            return Err(KernelError::Wraps {
                kva,
                len: buf.len() as u64,
            });
        }
        let mut cache = self.cache.borrow_mut();
        cache.read(self.memory, self.table, kva, buf)
    }

    /// Reads `len` bytes at `kva`; more than `max` is an error.
    pub fn read_bytes(&self, kva: u64, len: u64, max: u64) -> Result<Vec<u8>, KernelError> {
        if len > max {
            return Err(KernelError::TooLarge { kva, len, max });
        }
        let len = usize::try_from(len).map_err(|_| KernelError::TooLarge { kva, len, max })?;
        let mut bytes = vec![0; len];
        self.read(kva, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads an unsigned integer of 1, 2, 4 or 8 bytes; any other size is an error.
    pub fn read_uint(&self, kva: u64, size: u64) -> Result<u64, KernelError> {
        let mut bytes = [0; 8];
        let part = match size {
            1 | 2 | 4 | 8 => &mut bytes[..narrow::length(size)],
            _ => {
                return Err(KernelError::NoInteger { kva, size });
            }
        };
        self.read(kva, part)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a `u32` at the kernel virtual address `kva`.
    pub fn read_u32(&self, kva: u64) -> Result<u32, KernelError> {
        let mut bytes = [0; 4];
        self.read(kva, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a `u64` or a pointer at the kernel virtual address `kva`.
    pub fn read_u64(&self, kva: u64) -> Result<u64, KernelError> {
        let mut bytes = [0; 8];
        self.read(kva, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Returns the string in a field of `size` bytes, up to its NUL or the end of the field; at most 256 bytes are read.
    /// Bytes that are not UTF-8 are replaced.
    pub fn read_string(&self, kva: u64, size: u64) -> Result<String, KernelError> {
        let bytes = self.read_bytes(kva, size.min(256), 256)?;
        let end = bytes.iter().position(|byte| *byte == 0);
        let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Returns the address of a kernel symbol.
    pub fn symbol(&self, name: &str) -> Result<u64, KernelError> {
        address_of(self.symbols, name)
    }

    /// Reads the `u64` at a kernel symbol.
    pub fn read_symbol_u64(&self, name: &str) -> Result<u64, KernelError> {
        self.read_u64(self.symbol(name)?)
    }

    /// Returns the kernel's tick counter (`jiffies_64`, or `jiffies` if the symbol table has no `jiffies_64`).
    pub fn jiffies(&self) -> Result<u64, KernelError> {
        match self.symbol("jiffies_64") {
            Ok(kva) => self.read_u64(kva),
            Err(_) => self.read_symbol_u64("jiffies"),
        }
    }

    /// Returns the number of possible CPU ids (`nr_cpu_ids`), at most [`MAX_CPUS`].
    pub fn cpu_count(&self) -> Result<u32, KernelError> {
        let count = self.read_u32(self.symbol("nr_cpu_ids")?)?;
        Ok(count.min(MAX_CPUS))
    }

    /// Returns the offset to add to a per-CPU address for CPU `cpu` (`__per_cpu_offset`).
    pub fn per_cpu_offset(&self, cpu: u32) -> Result<u64, KernelError> {
        let table = self.symbol("__per_cpu_offset")?;
        self.read_u64(table.wrapping_add(8 * u64::from(cpu)))
    }

    /// Returns the address of CPU `cpu`'s copy of the per-CPU variable at `address`.
    pub fn per_cpu(&self, address: u64, cpu: u32) -> Result<u64, KernelError> {
        Ok(address.wrapping_add(self.per_cpu_offset(cpu)?))
    }

    /// Returns the position of a member of a kernel struct, at a dotted path.
    pub fn member(&self, name: &str, path: &str) -> Result<Member, KernelError> {
        Ok(self.btf.member(name, path)?)
    }

    /// Reads a member of 1, 2, 4 or 8 bytes of the struct at `kva`.
    pub fn read_member(&self, kva: u64, member: &Member) -> Result<u64, KernelError> {
        self.read_uint(kva.wrapping_add(member.offset()), member.size)
    }
}

fn address_of(symbols: &Symbols, name: &str) -> Result<u64, KernelError> {
    symbols.address(name).ok_or_else(|| KernelError::NoSymbol {
        name: name.to_owned(),
    })
}
