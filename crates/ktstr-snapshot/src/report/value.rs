//! A value of the guest, rendered through its BTF type.

use serde::{Deserialize, Deserializer, Serialize};

/// A typed value. In JSON the variant is the field `kind` (snake case).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RenderedValue {
    /// A signed integer of `bits` bits.
    Int {
        /// The width in bits. For a bit-field it is the width of the field, and not that of its type.
        bits: u32,
        /// The value, sign-extended from `bits` to 64 bits.
        value: i64,
    },
    /// An unsigned integer of `bits` bits.
    Uint {
        /// The width in bits. For a bit-field it is the width of the field, and not that of its type.
        bits: u32,
        /// The value, extended with zeros.
        value: u64,
    },
    /// A C `bool`: any non-zero byte is true.
    Bool {
        /// Whether the byte is not zero.
        value: bool,
    },
    /// A C `char` of 8 bits, signed or not.
    Char {
        /// The byte in memory.
        value: u8,
    },
    /// An IEEE float of 32 or 64 bits.
    Float {
        /// The width in bits, 32 or 64; `value` has 64 in either case.
        bits: u32,
        /// The value. JSON has no NaN and no infinities: they are written as `null` and read back as NaN.
        #[serde(deserialize_with = "null_is_nan")]
        value: f64,
    },
    /// A C enum, of 32 or 64 bits unless it is packed or a bit-field.
    Enum {
        /// The width of the enum's storage in bits. For a bit-field it is the width of the field, and not that of its type.
        bits: u32,
        /// Whether the enum is signed. If not, `value` has the bits of the unsigned value, so it is negative for a value of
        /// 2^63 or more.
        signed: bool,
        /// The value as a number, whether or not an enumerator has it.
        value: i64,
        /// The name of the enumerator with that value, if there is one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        variant: Option<String>,
    },
    /// A struct, a union, or a global section (`.bss`, …) with its variables as members.
    Struct {
        /// The name of the C type; `None` for an anonymous type.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        type_name: Option<String>,
        /// The members in memory order. Those of anonymous inner types are lifted to this level.
        members: Vec<RenderedMember>,
    },
    /// An array, whose elements are all of one type.
    Array {
        /// The length that the type declares; `elements` may be shorter (see [`RenderedValue::Truncated`]).
        len: u64,
        /// The elements from index 0.
        elements: Vec<RenderedValue>,
    },
    /// A CPU mask as a list of ranges.
    CpuList {
        /// The list in the format of `/sys/devices/system/cpu/online`, such as `0-3,8`; empty if it has no CPU.
        cpus: String,
    },
    /// A pointer, with its target if it was followed.
    Ptr {
        /// The address that it holds.
        value: u64,
        /// The target of the pointer, if it was read while the guest was stopped. A capture follows pointers to structs,
        /// numbers and arrays, within limits on their number and size.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        deref: Option<Box<RenderedValue>>,
        /// Why the target was not read, as a clause. It is `None` for a NULL pointer, and for pointers that are never
        /// followed: those to functions, to `void` and to characters, and those from one object of the kernel to another,
        /// except to CPU masks and to the `kernfs_node` of a cgroup.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        not_followed: Option<String>,
        /// The C name of the type that it points to, if the type has one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        target_type: Option<String>,
    },
    /// Raw bytes: values without a type, byte strings, and numbers of a size that no other variant has.
    Bytes {
        /// Two lower-case hexadecimal digits per byte.
        hex: String,
        /// For `char` arrays: the text up to the first NUL, if it is printable.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        text: Option<String>,
    },
    /// A cap or the end of the bytes was reached; `partial` is what could be rendered before that.
    Truncated {
        /// The number of bytes of the whole value.
        needed: u64,
        /// The number of those bytes that were available; for an array or raw bytes that were cut, the number of bytes
        /// that were rendered.
        had: u64,
        /// The part that could be rendered.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        partial: Option<Box<RenderedValue>>,
    },
    /// The value was not rendered: its type cannot be rendered, a limit was reached, or it could not be read.
    Unsupported {
        /// Why the value was not rendered, as a clause.
        reason: String,
    },
}

impl Default for RenderedValue {
    fn default() -> Self {
        Self::Unsupported {
            reason: "nothing was rendered".to_owned(),
        }
    }
}

impl RenderedValue {
    /// Returns a short description of the kind, for messages: `struct task_ctx`, `u64`, `array[4]`.
    pub fn describe(&self) -> String {
        match self {
            Self::Int { bits, .. } => format!("i{bits}"),
            Self::Uint { bits, .. } => format!("u{bits}"),
            Self::Bool { .. } => "bool".to_owned(),
            Self::Char { .. } => "char".to_owned(),
            Self::Float { bits, .. } => format!("f{bits}"),
            Self::Enum { bits, .. } => format!("enum of {bits} bits"),
            Self::Struct { type_name, .. } => match type_name {
                Some(name) => format!("struct {name}"),
                None => "anonymous struct".to_owned(),
            },
            Self::Array { len, .. } => format!("array[{len}]"),
            Self::CpuList { .. } => "cpu list".to_owned(),
            Self::Ptr {
                not_followed: Some(reason),
                ..
            } => format!("a pointer that was not followed ({reason})"),
            Self::Ptr { value: 0, .. } => "a NULL pointer".to_owned(),
            Self::Ptr { deref: None, .. } => "a pointer that was not followed".to_owned(),
            Self::Ptr { .. } => "a pointer".to_owned(),
            Self::Bytes { hex, .. } => format!("{} bytes", hex.len() / 2),
            Self::Truncated { needed, had, .. } => format!("truncated value ({had} of {needed})"),
            Self::Unsupported { reason } => format!("unsupported ({reason})"),
        }
    }
}

/// A named member of a [`RenderedValue::Struct`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RenderedMember {
    /// The name of the member or variable.
    pub name: String,
    /// The value of the member, rendered by its type.
    pub value: RenderedValue,
}

/// Reads a number, or NaN from the `null` that JSON has in its place.
fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
