//! Three square matrices of a given total size, with which request-based benchmarks compute.

use super::super::ctx::WorkerCtx;
use super::super::{pure, sys};

/// Two factors and their product, with elements of 64 bits.
pub(super) struct Matrices {
    /// Number of rows, and of elements in a row.
    size: usize,
    left: &'static mut [u8],
    right: &'static mut [u8],
    product: &'static mut [u8],
}

impl Matrices {
    /// Maps three matrices of `kib` KiB in total. Returns `None` if the kernel has not enough
    /// memory.
    pub fn map(kib: u64) -> Option<Self> {
        let numbers = kib.clamp(1, 1 << 20).wrapping_mul(1024) / 24;
        let size = numbers.isqrt().max(1) as usize;
        let bytes = size.wrapping_mul(size).wrapping_mul(8);
        let all = sys::map(bytes.wrapping_mul(3))?;
        let (left, rest) = all.split_at_mut_checked(bytes)?;
        let (right, product) = rest.split_at_mut_checked(bytes)?;
        Some(Self {
            size,
            left,
            right,
            product,
        })
    }

    /// Multiplies the factors once; each element of the product counts as a unit of work. Returns
    /// `false` when the worker is told to stop.
    pub fn multiply(&mut self, ctx: &mut WorkerCtx<'_>) -> bool {
        let row_bytes = self.size.wrapping_mul(8);
        // The right factor is stored transposed, so that both factors are read along their rows.
        for (row, out) in self
            .left
            .chunks_exact(row_bytes)
            .zip(self.product.chunks_exact_mut(row_bytes))
        {
            for (column, out) in self
                .right
                .chunks_exact(row_bytes)
                .zip(out.chunks_exact_mut(8))
            {
                out.copy_from_slice(&pure::dot(row, column).to_ne_bytes());
            }
            ctx.count_units(self.size as u64);
            if ctx.stopped() {
                return false;
            }
        }
        true
    }
}
