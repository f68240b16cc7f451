//! BPF Type Format: types of the kernel and of BPF objects, read in place.
//!
//! The format is <https://docs.kernel.org/bpf/btf.html>. Parsing checks the header, and that every record has a known kind
//! and lies inside the type section. Names, references and sizes are checked when they are used, so a malformed part of a
//! hostile BTF causes an error only where it is used. The module does not write BTF.

mod lookup;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod types;

pub use lookup::{Member, MemberError};
pub use types::{ArrayOf, Enumerator, FieldRef, IntEncoding, Kind, SectionVar, Type};

use std::sync::Arc;

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
/// The largest BTF blob that is parsed, in bytes; that of a distribution kernel has about 5 MB.
pub const MAX_BTF_BYTES: usize = 64 << 20;
/// The depth of references between types at which a search is given up.
pub(crate) const MAX_DEPTH: usize = 32;

/// A parsed BTF blob. It stands alone, or it is split: then its ids and strings continue those of a base. A clone is cheap.
#[derive(Debug, Clone)]
pub struct Btf {
    own: Arc<Blob>,
    base: Option<Arc<Btf>>,
    first_id: u32,
    first_string: u32,
}

#[derive(Debug)]
struct Blob {
    bytes: Arc<[u8]>,
    /// Range of the string section.
    strings: std::ops::Range<usize>,
    /// Offset in `bytes` of the record of each own type (without `void`).
    records: Vec<u32>,
    /// (hash of the name, type id) of each own type that has a name, sorted.
    names: Vec<(u32, u32)>,
}

impl Btf {
    /// Parses a blob that stands alone, such as `/sys/kernel/btf/vmlinux`.
    pub fn parse(bytes: impl Into<Arc<[u8]>>) -> Result<Self, BtfError> {
        Self::build(bytes.into(), None)
    }

    /// Parses a blob whose ids and strings continue those of `base`, as those of a kernel module continue the kernel's.
    pub fn parse_split(bytes: impl Into<Arc<[u8]>>, base: &Btf) -> Result<Self, BtfError> {
        Self::build(bytes.into(), Some(Arc::new(base.clone())))
    }

    fn build(bytes: Arc<[u8]>, base: Option<Arc<Btf>>) -> Result<Self, BtfError> {
        let header = Header::parse(&bytes)?;
        // `void` has id 0 and no record, so a blob that stands alone starts with id 1.
        let (first_id, first_string) = match &base {
            Some(base) => (base.next_id(), base.next_string()),
            None => (1, 0),
        };
        let mut records = Vec::new();
        let mut at = header.types.start;
        while at < header.types.end {
            let record = types::Record::parse(&bytes, at, header.types.end)?;
            let offset = u32::try_from(at).map_err(|_| BtfError::TooLarge { len: bytes.len() })?;
            records.push(offset);
            at = record.end;
        }
        let mut btf = Self {
            own: Arc::new(Blob {
                bytes,
                strings: header.strings,
                records,
                names: Vec::new(),
            }),
            base,
            first_id,
            first_string,
        };
        let names = btf.index_names();
        if let Some(blob) = Arc::get_mut(&mut btf.own) {
            blob.names = names;
        }
        Ok(btf)
    }

    fn index_names(&self) -> Vec<(u32, u32)> {
        let mut names: Vec<(u32, u32)> = (self.first_id..self.next_id())
            .filter_map(|id| {
                let name = self.name_bytes(self.record(id)?.name_offset)?;
                (!name.is_empty()).then(|| (hash(name), id))
            })
            .collect();
        names.sort_unstable();
        names
    }

    /// Returns the id after that of the last type, which is the first id of a blob that continues this one.
    pub fn next_id(&self) -> u32 {
        self.first_id
            .saturating_add(u32::try_from(self.own.records.len()).unwrap_or(u32::MAX))
    }

    fn next_string(&self) -> u32 {
        let len = u32::try_from(self.own.strings.len()).unwrap_or(u32::MAX);
        self.first_string.saturating_add(len)
    }

    /// Returns the ids of the types of that name, of any kind: those of the base first, then the blob's own.
    pub fn ids_by_name(&self, name: &str) -> Vec<u32> {
        let mut ids = match &self.base {
            Some(base) => base.ids_by_name(name),
            None => Vec::new(),
        };
        let wanted = hash(name.as_bytes());
        let start = self.own.names.partition_point(|(hash, _)| *hash < wanted);
        let same_hash = self.own.names.iter().skip(start);
        ids.extend(
            same_hash
                .take_while(|(hash, _)| *hash == wanted)
                .map(|(_, id)| *id)
                .filter(|id| {
                    self.record(*id)
                        .and_then(|record| self.name_bytes(record.name_offset))
                        .is_some_and(|found| found == name.as_bytes())
                }),
        );
        ids
    }

    /// Returns the type with that id; `None` if the id is unknown. Id 0 is [`Kind::Void`].
    pub fn get(&self, id: u32) -> Option<Type<'_>> {
        if id == 0 {
            return Some(Type::void(self));
        }
        if id < self.first_id {
            // A type of the base refers only to strings and types of the base.
            return self.base.as_deref()?.get(id);
        }
        Some(Type::new(self, id, self.record(id)?))
    }

    fn record(&self, id: u32) -> Option<types::Record> {
        let index = id.checked_sub(self.first_id)?;
        let offset = *self.own.records.get(index as usize)?;
        let end = self.own.bytes.len();
        types::Record::parse(&self.own.bytes, offset as usize, end).ok()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.own.bytes
    }

    /// Returns the NUL-terminated string at `offset`, which counts through the string sections of the base and of this blob;
    /// empty if there is none, or if it is not UTF-8.
    pub(crate) fn string(&self, offset: u32) -> &str {
        self.name_bytes(offset)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    fn name_bytes(&self, offset: u32) -> Option<&[u8]> {
        if offset < self.first_string {
            return self.base.as_deref()?.name_bytes(offset);
        }
        let strings = self.own.bytes.get(self.own.strings.clone())?;
        let tail = strings.get((offset - self.first_string) as usize..)?;
        let end = tail.iter().position(|byte| *byte == 0)?;
        tail.get(..end)
    }
}

struct Header {
    types: std::ops::Range<usize>,
    strings: std::ops::Range<usize>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        if bytes.len() > MAX_BTF_BYTES {
            return Err(BtfError::TooLarge { len: bytes.len() });
        }
        let short = || BtfError::TooShort { len: bytes.len() };
        let magic = types::u16_at(bytes, 0).ok_or_else(short)?;
        if magic != MAGIC {
            return Err(BtfError::BadMagic { found: magic });
        }
        let version = *bytes.get(2).ok_or_else(short)?;
        if version != 1 {
            return Err(BtfError::BadVersion { found: version });
        }
        let word = |at| types::u32_at(bytes, at).ok_or_else(short);
        let header_len = word(4)? as usize;
        if header_len < 24 {
            return Err(short());
        }
        let section = |name: &'static str, offset: u32, len: u32| {
            let start = header_len.checked_add(offset as usize);
            let end = start.and_then(|start| start.checked_add(len as usize));
            match (start, end) {
                (Some(start), Some(end)) if end <= bytes.len() => Ok(start..end),
                _ => Err(BtfError::BadSection {
                    name,
                    offset,
                    len,
                    total: bytes.len(),
                }),
            }
        };
        Ok(Self {
            types: section("type", word(8)?, word(12)?)?,
            strings: section("string", word(16)?, word(20)?)?,
        })
    }
}

/// Returns the FNV-1a hash, which suits short names; a collision only costs one more comparison.
pub(crate) fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Why a blob is not valid BTF.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The blob ends inside its header, or states a header of less than 24 bytes.
    #[error("BTF of {len} bytes is shorter than its header")]
    TooShort {
        /// The size of the blob in bytes.
        len: usize,
    },
    /// The blob is larger than [`MAX_BTF_BYTES`].
    #[error("BTF of {len} bytes is larger than {MAX_BTF_BYTES}")]
    TooLarge {
        /// The size of the blob in bytes.
        len: usize,
    },
    /// The blob does not start with the magic number.
    #[error("BTF magic is {found:#06x}, expected 0xeb9f (only little-endian BTF is read)")]
    BadMagic {
        /// The value at its start.
        found: u16,
    },
    /// The header has a version that this reader does not know.
    #[error("BTF version is {found}, expected 1")]
    BadVersion {
        /// The version in the header.
        found: u8,
    },
    /// A section is outside of the blob.
    #[error(
        "BTF {name} section at {offset} of {len} bytes does not fit the {total} bytes there are"
    )]
    BadSection {
        /// The section's name: `type` or `string`.
        name: &'static str,
        /// Offset from the header's end.
        offset: u32,
        /// Bytes of the section.
        len: u32,
        /// Bytes of the blob.
        total: usize,
    },
    /// A type record is outside of the type section.
    #[error(
        "BTF type record at byte {at} (kind {kind}, {vlen} elements) ends outside the type section"
    )]
    BadRecord {
        /// Offset of the record in the blob.
        at: usize,
        /// The number of its kind (`BTF_KIND_*`, include/uapi/linux/btf.h); 0 if its header is incomplete.
        kind: u32,
        /// The number of elements that its header announces; 0 if the header is incomplete.
        vlen: u32,
    },
    /// A record of an unknown kind, whose length is therefore unknown too.
    #[error("BTF type record at byte {at} has the unknown kind {kind}")]
    UnknownKind {
        /// Offset of the record in the blob.
        at: usize,
        /// The number in the record, which no known kind has (`BTF_KIND_*`, include/uapi/linux/btf.h).
        kind: u32,
    },
}
