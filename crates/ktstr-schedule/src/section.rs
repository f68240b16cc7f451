//! The structure of the file: a header, followed by sections with their kind, length and checksum.

use crate::ReadError;

pub(crate) const MAGIC: [u8; 8] = *b"KTSTRSCH";
/// The version of the format. It must be increased if a reader of the previous version would misread the file.
pub(crate) const VERSION: u16 = 2;
/// The length of the header in bytes.
pub(crate) const HEADER: usize = MAGIC.len() + 2;
/// The length of a section's header in bytes: kind, length, and CRC-32 of the payload.
pub(crate) const SECTION: usize = 9;

/// The contents of a section. The file ends with [`Kind::Tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chunk = 1,
    Tables = 2,
}

pub(crate) fn header() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes
}

pub(crate) fn append(to: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    to.push(kind as u8);
    let len = u32::try_from(payload.len()).expect("a section is a part of a file of 64 MiB");
    to.extend_from_slice(&len.to_le_bytes());
    to.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    to.extend_from_slice(payload);
}

/// A section: its kind, its offset and its payload.
pub(crate) type Section<'a> = (Kind, usize, &'a [u8]);

/// Splits a file into sections, and checks the checksum of each. The payloads are not decoded.
pub(crate) fn split(file: &[u8]) -> Result<Vec<Section<'_>>, ReadError> {
    let cut_off = || ReadError::CutOff { len: file.len() };
    let rest = file.strip_prefix(&MAGIC).ok_or(ReadError::NotASchedule)?;
    let version = rest.first_chunk::<2>().ok_or_else(cut_off)?;
    let found = u16::from_le_bytes(*version);
    if found != VERSION {
        return Err(ReadError::Version {
            found,
            known: VERSION,
        });
    }
    let mut sections = Vec::new();
    let mut at = HEADER;
    while at < file.len() {
        let head = file.get(at..at + SECTION).ok_or_else(cut_off)?;
        let word = |from: usize| {
            let bytes = head[from..].first_chunk::<4>().copied().unwrap_or_default();
            u32::from_le_bytes(bytes)
        };
        let kind = match head[0] {
            1 => Kind::Chunk,
            2 => Kind::Tables,
            _ => {
                return Err(ReadError::Malformed {
                    what: "the kind of the section",
                    at,
                });
            }
        };
        let start = at + SECTION;
        let payload = start
            .checked_add(word(1) as usize)
            .and_then(|end| file.get(start..end))
            .ok_or_else(cut_off)?;
        if crc32fast::hash(payload) != word(5) {
            return Err(ReadError::Checksum { at });
        }
        sections.push((kind, at, payload));
        at = start + payload.len();
    }
    Ok(sections)
}
