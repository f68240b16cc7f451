//! Conversions of the guest's numbers to narrower types. Members of kernel structures are read as 64 bits, whatever size the
//! guest's type information gives them, so a hostile guest can put any number into them.

/// Returns a count or a size as 32 bits. A number that does not fit becomes `u32::MAX`: no kernel has so many of anything, and
/// the result still exceeds every limit.
pub fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Returns the lower 32 bits, for flags, and for 32-bit arguments in a register, whose upper bits have no meaning. The bits
/// of an `int` are kept, including its sign.
pub fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// Returns the lowest byte, for values that the guest passes as one byte. The bits above it have no meaning.
pub fn low_byte(value: u64) -> u8 {
    (value & 0xff) as u8
}

/// Returns the `int` in the lower 32 bits, such as a thread id or a priority.
pub fn int(value: u64) -> i32 {
    low_half(value).cast_signed()
}

/// Returns a length or an offset as a `usize`. On a host with 32-bit addresses, a number that does not fit becomes `usize::MAX`,
/// which lies beyond the end of every buffer.
pub fn length(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{count, int, low_byte, low_half};

    #[test]
    fn a_number_that_does_not_fit_is_capped_or_cut_to_its_lower_half() {
        assert_eq!((count(7), count(1 << 32 | 7)), (7, u32::MAX));
        assert_eq!((low_half(7), low_half(1 << 32 | 7)), (7, 7));
        assert_eq!((low_byte(7), low_byte(0xfff9)), (7, 0xf9));
        assert_eq!((int(7), int(0xffff_fff9), int(u64::MAX)), (7, -7, -1));
    }
}
