//! Numbers that the guest holds, in narrower types. Members of kernel structures are read as 64 bits, and the type information of
//! the kernel says how many of them there are: in a strange kernel, a member can have any number.

/// Returns a count or a size of 32 bits. A larger number is none that a kernel has; it stays too large for every limit.
pub(crate) fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Returns the lower 32 bits: flags, or an `int`, whose sign is in them.
pub(crate) fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// Returns an `int`, such as a process id or a priority.
pub(crate) fn int(value: u64) -> i32 {
    low_half(value).cast_signed()
}

/// Returns a length or an offset of this host. Where an address has 32 bits, a larger number lies beyond the end of everything.
pub(crate) fn length(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{count, int, low_half};

    #[test]
    fn what_fits_is_kept_and_what_does_not_is_no_small_number() {
        assert_eq!((count(7), count(1 << 32 | 7)), (7, u32::MAX));
        assert_eq!((low_half(7), low_half(1 << 32 | 7)), (7, 7));
        assert_eq!((int(7), int(0xffff_fff9), int(u64::MAX)), (7, -7, -1));
    }
}
