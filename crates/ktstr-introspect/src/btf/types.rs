//! Decodes type records in place, when they are used.

use super::{Btf, BtfError};

/// Kinds of types (include/uapi/linux/btf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the kernel's names, one for one
pub enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::Datasec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    /// Returns the number of bytes that follow the common header of 12 bytes in a record with `vlen` elements.
    fn payload(self, vlen: u32) -> usize {
        let vlen = vlen as usize;
        match self {
            Self::Int | Self::Var | Self::DeclTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::Datasec | Self::Enum64 => 12 * vlen,
            Self::Enum | Self::FuncProto => 8 * vlen,
            _ => 0,
        }
    }
}

/// The common header of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub name_offset: u32,
    pub kind: Kind,
    pub kind_flag: bool,
    pub vlen: u32,
    pub size_or_type: u32,
    /// The offset in the blob of the data after the header.
    pub payload: usize,
    /// The offset in the blob of the first byte after the record.
    pub end: usize,
}

impl Record {
    pub fn parse(bytes: &[u8], at: usize, section_end: usize) -> Result<Self, BtfError> {
        let bad = |kind, vlen| BtfError::BadRecord { at, kind, vlen };
        let word = |index: usize| u32_at(bytes, at + 4 * index).ok_or_else(|| bad(0, 0));
        let (name_offset, info, size_or_type) = (word(0)?, word(1)?, word(2)?);
        let (number, vlen) = (info >> 24 & 0x1f, info & 0x00ff_ffff);
        let kind = Kind::from_number(number).ok_or(BtfError::UnknownKind { at, kind: number })?;
        let payload = at + 12;
        let end = payload + kind.payload(vlen);
        if end > section_end {
            return Err(bad(number, vlen));
        }
        Ok(Self {
            name_offset,
            kind,
            kind_flag: info >> 31 == 1,
            vlen,
            size_or_type,
            payload,
            end,
        })
    }
}

/// How an integer is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntEncoding {
    /// Whether the highest bit is a sign.
    pub signed: bool,
    /// Whether the integer is a character (`BTF_INT_CHAR`, include/uapi/linux/btf.h).
    pub char: bool,
    /// Whether the integer is a truth value (`BTF_INT_BOOL`, include/uapi/linux/btf.h).
    pub bool: bool,
    /// The number of bits of the value, which can be fewer than its storage has.
    pub bits: u32,
    /// The offset of the first bit in the storage, in bits.
    pub offset: u32,
}

/// A member of a struct or union, as in its record.
#[derive(Debug, Clone, Copy)]
pub struct FieldRef<'a> {
    /// The member's name; empty for an anonymous member.
    pub name: &'a str,
    /// The id of the member's type.
    pub type_id: u32,
    /// The offset from the start of the struct, in bits.
    pub offset_bits: u32,
    /// The width of a bit-field in bits; `None` for any other member.
    pub bitfield_bits: Option<u32>,
}

/// The elements of a [`Kind::Array`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayOf {
    /// Id of the elements' type.
    pub element: u32,
    /// The number of elements.
    pub len: u32,
}

/// A variable of a [`Kind::Datasec`].
#[derive(Debug, Clone, Copy)]
pub struct SectionVar {
    /// Id of the [`Kind::Var`].
    pub type_id: u32,
    /// The offset in the section, in bytes.
    pub offset: u32,
    /// The size of the variable in bytes, as the section's record gives it.
    pub size: u32,
}

/// A named value of an enum.
#[derive(Debug, Clone, Copy)]
pub struct Enumerator<'a> {
    /// The name that the source gave the value.
    pub name: &'a str,
    /// The value. The bits of a value of an unsigned 64-bit enum are kept, so a large value is negative here.
    pub value: i64,
}

/// One type of a [`Btf`].
#[derive(Debug, Clone, Copy)]
pub struct Type<'a> {
    btf: &'a Btf,
    id: u32,
    record: Record,
}

impl<'a> Type<'a> {
    pub(super) fn new(btf: &'a Btf, id: u32, record: Record) -> Self {
        Self { btf, id, record }
    }

    pub(super) fn void(btf: &'a Btf) -> Self {
        let record = Record {
            name_offset: 0,
            kind: Kind::Void,
            kind_flag: false,
            vlen: 0,
            size_or_type: 0,
            payload: 0,
            end: 0,
        };
        Self { btf, id: 0, record }
    }

    /// Returns the id by which other types refer to this one.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the kind of type, as in `BTF_KIND_*`.
    pub fn kind(&self) -> Kind {
        self.record.kind
    }

    /// Returns the type's name: `void` for id 0, and empty if the type has none.
    pub fn name(&self) -> &'a str {
        if self.kind() == Kind::Void {
            return "void";
        }
        self.btf.string(self.record.name_offset)
    }

    /// Returns the id of the type that a pointer, typedef, qualifier, variable or tag refers to, of a function's prototype, or
    /// of a prototype's return type; `None` for the other kinds.
    pub fn target(&self) -> Option<u32> {
        matches!(
            self.kind(),
            Kind::Ptr
                | Kind::Typedef
                | Kind::Volatile
                | Kind::Const
                | Kind::Restrict
                | Kind::Func
                | Kind::FuncProto
                | Kind::Var
                | Kind::DeclTag
                | Kind::TypeTag
        )
        .then_some(self.record.size_or_type)
    }

    /// Returns the type's size in bytes; `None` if the type has no size, or if the size depends on other types.
    pub(super) fn own_size(&self) -> Option<u64> {
        match self.kind() {
            Kind::Int
            | Kind::Enum
            | Kind::Enum64
            | Kind::Float
            | Kind::Struct
            | Kind::Union
            | Kind::Datasec => Some(u64::from(self.record.size_or_type)),
            Kind::Ptr => Some(8),
            _ => None,
        }
    }

    /// Returns how a [`Kind::Int`] is encoded; `None` for other kinds.
    pub fn int_encoding(&self) -> Option<IntEncoding> {
        if self.kind() != Kind::Int {
            return None;
        }
        let data = self.payload_word(0)?;
        let encoding = data >> 24 & 0x0f;
        Some(IntEncoding {
            signed: encoding & 1 != 0,
            char: encoding & 2 != 0,
            bool: encoding & 4 != 0,
            bits: data & 0xff,
            offset: data >> 16 & 0xff,
        })
    }

    /// Returns the element type and the length of a [`Kind::Array`]; `None` for other kinds.
    pub fn array(&self) -> Option<ArrayOf> {
        if self.kind() != Kind::Array {
            return None;
        }
        Some(ArrayOf {
            element: self.payload_word(0)?,
            len: self.payload_word(2)?,
        })
    }

    /// Returns the members of a struct or union; none for other kinds.
    pub fn fields(&self) -> impl Iterator<Item = FieldRef<'a>> + use<'a> {
        let this = *self;
        let count = match this.kind() {
            Kind::Struct | Kind::Union => this.record.vlen,
            _ => 0,
        };
        (0..count as usize).map_while(move |index| {
            let (name, type_id, offset) = this.triple(index)?;
            let (offset_bits, bits) = if this.record.kind_flag {
                (offset & 0x00ff_ffff, offset >> 24)
            } else {
                (offset, 0)
            };
            Some(FieldRef {
                name: this.btf.string(name),
                type_id,
                offset_bits,
                bitfield_bits: (bits != 0).then_some(bits),
            })
        })
    }

    /// Returns the variables of a [`Kind::Datasec`]; none for other kinds.
    pub fn section_vars(&self) -> impl Iterator<Item = SectionVar> + use<'a> {
        let this = *self;
        let count = match this.kind() {
            Kind::Datasec => this.record.vlen,
            _ => 0,
        };
        (0..count as usize).map_while(move |index| {
            let (type_id, offset, size) = this.triple(index)?;
            Some(SectionVar {
                type_id,
                offset,
                size,
            })
        })
    }

    /// Returns whether an enum is signed. The result has no meaning for other kinds.
    pub fn enum_signed(&self) -> bool {
        self.record.kind_flag
    }

    /// Returns the enumerators of an enum; none for other kinds.
    pub fn enumerators(&self) -> impl Iterator<Item = Enumerator<'a>> + use<'a> {
        let this = *self;
        let count = match this.kind() {
            Kind::Enum | Kind::Enum64 => this.record.vlen,
            _ => 0,
        };
        (0..count as usize).map_while(move |index| {
            let (name, value) = if this.kind() == Kind::Enum64 {
                let (name, low, high) = this.triple(index)?;
                (name, (u64::from(high) << 32 | u64::from(low)).cast_signed())
            } else {
                let word = this.payload_word(2 * index + 1)?;
                let value = if this.enum_signed() {
                    i64::from(word.cast_signed())
                } else {
                    i64::from(word)
                };
                (this.payload_word(2 * index)?, value)
            };
            Some(Enumerator {
                name: this.btf.string(name),
                value,
            })
        })
    }

    /// Returns the names of the parameters of a [`Kind::FuncProto`]; none for other kinds.
    pub fn parameters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let this = *self;
        let count = match this.kind() {
            Kind::FuncProto => this.record.vlen,
            _ => 0,
        };
        (0..count as usize).map_while(move |index| {
            let name = this.payload_word(2 * index)?;
            Some(this.btf.string(name))
        })
    }

    fn triple(&self, index: usize) -> Option<(u32, u32, u32)> {
        let at = 3 * index;
        Some((
            self.payload_word(at)?,
            self.payload_word(at + 1)?,
            self.payload_word(at + 2)?,
        ))
    }

    fn payload_word(&self, index: usize) -> Option<u32> {
        u32_at(self.btf.bytes(), self.record.payload + 4 * index)
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let slice = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(slice.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let slice = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(slice.try_into().ok()?))
}
