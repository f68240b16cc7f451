//! The reasons why a file is not a schedule.

/// Why the bytes of a schedule could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The first bytes are not those of a schedule.
    #[error("this is not a schedule: it does not begin with `KTSTRSCH`")]
    NotASchedule,
    /// The file has another version of the format.
    #[error(
        "the schedule has format version {found}, and this ktstr reads version {known}: read it \
         with the ktstr that wrote it"
    )]
    Version {
        /// The version in the file.
        found: u16,
        /// The version that this ktstr supports.
        known: u16,
    },
    /// The file ends inside its header or a section, or before the tables, which are its last section.
    #[error("the schedule is cut off after {len} bytes")]
    CutOff {
        /// The number of bytes in the file.
        len: usize,
    },
    /// The bytes of a section differ from those that were written.
    #[error("the schedule is damaged: the checksum of the section at byte {at} does not match")]
    Checksum {
        /// The offset of the section in the file, in bytes.
        at: usize,
    },
    /// A section has a kind, a position in the file or contents that no writer produces.
    #[error("the schedule is damaged: {what} at byte {at} is invalid")]
    Malformed {
        /// The part of the file.
        what: &'static str,
        /// The offset of the section in the file, in bytes.
        at: usize,
    },
}
