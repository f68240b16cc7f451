//! Three square matrices of a given total size, with which request-based benchmarks compute.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::super::ctx::WorkerCtx;
use super::super::{arch, sys};

/// Two factors and their product, with elements of 64 bits. The factors never change, and the elements of the product are
/// atomics, so several workers may multiply the same matrices at once.
pub(super) struct Matrices {
    /// Number of rows, and of elements in a row.
    size: usize,
    left: &'static [u8],
    right: &'static [u8],
    product: &'static [AtomicU64],
}

/// Returns the number of rows of three square matrices of `kib` KiB in total, with elements of 8 bytes.
fn size(kib: u64) -> usize {
    let numbers = kib.clamp(1, 1 << 20).wrapping_mul(1024) / 24;
    numbers.isqrt().max(1) as usize
}

impl Matrices {
    /// Returns the bytes that three matrices of `kib` KiB in total take.
    pub fn bytes(kib: u64) -> usize {
        let size = size(kib);
        size.wrapping_mul(size).wrapping_mul(24)
    }

    /// Maps three matrices of `kib` KiB in total. Returns `None` if the kernel does not have enough memory.
    pub fn map(kib: u64) -> Option<Self> {
        let all = sys::map(Self::bytes(kib))?;
        // SAFETY: the mapping lives as long as the process, and only these matrices use it.
        unsafe { Self::at((all.as_mut_ptr(), all.len()), kib) }
    }

    /// Puts three matrices of `kib` KiB in total into the `len` bytes at `place`. Returns `None` if `len` is too small.
    ///
    /// # Safety
    /// The memory must be readable and writable as long as the process lives, be aligned to 8 bytes, and be used for
    /// nothing but such matrices of the same size.
    pub unsafe fn at((place, len): (*mut u8, usize), kib: u64) -> Option<Self> {
        if len < Self::bytes(kib) {
            return None;
        }
        let (size, bytes) = (size(kib), Self::bytes(kib) / 3);
        // SAFETY: three ranges of the memory that do not overlap, inside it by the check above. The first two are only
        // read, and the third is only written through atomics.
        unsafe {
            Some(Self {
                size,
                left: std::slice::from_raw_parts(place, bytes),
                right: std::slice::from_raw_parts(place.add(bytes), bytes),
                product: std::slice::from_raw_parts(place.add(2 * bytes).cast(), bytes / 8),
            })
        }
    }

    /// Multiplies the factors once; each element of the product counts as a unit of work. Returns
    /// `false` when the worker is told to stop.
    pub fn multiply(&self, ctx: &mut WorkerCtx<'_>) -> bool {
        let row_bytes = self.size.wrapping_mul(8);
        // The right factor is stored transposed, so that both factors are read along their rows.
        for (row, out) in self
            .left
            .chunks_exact(row_bytes)
            .zip(self.product.chunks_exact(self.size))
        {
            for (column, out) in self.right.chunks_exact(row_bytes).zip(out) {
                out.store(arch::dot(row, column), Relaxed);
            }
            ctx.count_units(self.size as u64);
            if ctx.stopped() {
                return false;
            }
        }
        true
    }
}
