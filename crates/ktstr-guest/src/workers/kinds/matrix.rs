//! Three square matrices that fill a part of a cache: what benchmarks of requests compute with.

use super::super::ctx::WorkerCtx;
use super::super::{pure, sys};

/// Two factors and a product, of 64-bit numbers.
pub(super) struct Matrices {
    /// Rows, and numbers of a row.
    size: usize,
    left: &'static mut [u8],
    right: &'static mut [u8],
    product: &'static mut [u8],
}

impl Matrices {
    /// Maps three that have `kib` KiB together; `None` where the kernel has no memory for them.
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

    /// Multiplies once, a unit of work for each number of the product. `false` when told to stop.
    pub fn multiply(&mut self, ctx: &mut WorkerCtx<'_>) -> bool {
        let row_bytes = self.size.wrapping_mul(8);
        // The right one lies transposed, so that both are read along their rows.
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
