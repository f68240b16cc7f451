//! Renders the bytes of a value with a BTF type as a tree of [`RenderedValue`].
//!
//! The functions read nothing from the guest: a pointer is followed only if the caller passes a reader of its
//! target. The tree is limited in depth, in elements per array and in the total number of values. An array that is cut is marked
//! as truncated, and a value that is nested too deeply as unsupported; an anonymous member that is nested too deeply is left
//! out. Once the total number is reached, the next member of a struct is marked as unsupported, and the members after it are
//! left out.

mod pointer;

pub(crate) use pointer::{Follow, Pointer, Reserved, SPENT, Target, Way};

use std::fmt::Write as _;

use ktstr_snapshot::report::{RenderedMember, RenderedValue};

use crate::btf::{ArrayOf, Btf, Kind, Type};
use crate::narrow;

/// The limits of one rendered value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenderLimits {
    /// The largest depth of nested types.
    pub depth: usize,
    /// The largest number of elements of one array.
    pub elements: usize,
    /// The largest number of nodes in the whole tree, without those behind pointers.
    pub nodes: usize,
    /// The number of CPUs for which a CPU mask is rendered. Higher bits are ignored, because the kernel may allocate only as many
    /// bytes of a mask as the machine's CPUs need, and what follows belongs to something else.
    pub cpus: usize,
}

impl Default for RenderLimits {
    fn default() -> Self {
        Self {
            depth: 24,
            elements: 4096,
            nodes: 32 * 1024,
            cpus: MAX_CPUS,
        }
    }
}

/// The number of CPUs of the largest kernel configuration.
const MAX_CPUS: usize = 8192;
/// An array of bytes is rendered as a byte string if it has at least this number of elements; an array of `char` always is.
const BYTE_ARRAY: u32 = 64;
/// The largest number of bytes that are rendered of a byte string.
const MAX_HEX: usize = 64 * 1024;

/// Renders `bytes` as the type `type_id` of `btf`.
pub fn render(btf: &Btf, type_id: u32, bytes: &[u8], limits: RenderLimits) -> RenderedValue {
    render_along(btf, type_id, bytes, limits, Way::default()).0
}

/// Like [`render`], but follows pointers as `way` says, and also returns the number of rendered values, without those behind
/// pointers.
pub(crate) fn render_along(
    btf: &Btf,
    type_id: u32,
    bytes: &[u8],
    limits: RenderLimits,
    way: Way<'_>,
) -> (RenderedValue, usize) {
    let mut renderer = Renderer {
        btf,
        limits,
        nodes: limits.nodes,
        way,
    };
    let value = renderer.value(type_id, bytes, 0);
    (value, limits.nodes - renderer.nodes)
}

/// Renders bytes that have no type. Only the first 64 KiB are rendered, and a longer value is marked as truncated.
pub fn render_bytes(bytes: &[u8]) -> RenderedValue {
    let shown = bytes.get(..MAX_HEX).unwrap_or(bytes);
    let value = RenderedValue::Bytes {
        hex: hex(shown),
        text: None,
    };
    if shown.len() == bytes.len() {
        return value;
    }
    truncated(bytes.len() as u64, shown.len() as u64, Some(value))
}

/// Returns two lower-case hexadecimal digits per byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

struct Renderer<'a> {
    btf: &'a Btf,
    limits: RenderLimits,
    nodes: usize,
    way: Way<'a>,
}

impl Renderer<'_> {
    fn value(&mut self, type_id: u32, bytes: &[u8], depth: usize) -> RenderedValue {
        let Some(left) = self.nodes.checked_sub(1) else {
            return unsupported("the value has too many parts");
        };
        self.nodes = left;
        if depth > self.limits.depth {
            return unsupported("the type is nested too deeply");
        }
        let Some(ty) = self.btf.resolve(type_id) else {
            return unsupported(format!("type {type_id} is unknown or refers to itself"));
        };
        if ty.kind() == Kind::Datasec {
            return self.section(&ty, bytes, depth);
        }
        let Some(size) = self.btf.size_of(ty.id()) else {
            return unsupported(format!("{:?} `{}` has no size", ty.kind(), ty.name()));
        };
        let Some(own) = usize::try_from(size)
            .ok()
            .and_then(|size| bytes.get(..size))
        else {
            return match ty.kind() {
                Kind::Struct | Kind::Union => {
                    let partial = self.record(type_id, &ty, bytes, depth);
                    truncated(size, bytes.len() as u64, Some(partial))
                }
                _ => truncated(size, bytes.len() as u64, None),
            };
        };
        match ty.kind() {
            Kind::Int => int(&ty, own),
            Kind::Enum | Kind::Enum64 => enumeration(&ty, own),
            Kind::Float => float(own),
            Kind::Ptr => self.pointer(&ty, own, depth),
            Kind::Struct | Kind::Union => self.record(type_id, &ty, own, depth),
            Kind::Array => self.array(&ty, own, depth),
            other => unsupported(format!("{other:?} `{}` has no value", ty.name())),
        }
    }

    fn section(&mut self, ty: &Type<'_>, bytes: &[u8], depth: usize) -> RenderedValue {
        let mut members = Vec::new();
        for var in ty.section_vars() {
            let name = self.btf.get(var.type_id).map(|var| var.name());
            if self.nodes == 0 {
                members.push(left_out(name.unwrap_or_default()));
                break;
            }
            let start = var.offset as usize;
            let end = start.saturating_add(var.size as usize);
            let value = match bytes.get(start..end) {
                Some(own) => self.value(var.type_id, own, depth + 1),
                None => {
                    let had = bytes.len().saturating_sub(start) as u64;
                    truncated(u64::from(var.size), had, None)
                }
            };
            members.push(RenderedMember {
                name: name.unwrap_or_default().to_owned(),
                value,
            });
        }
        RenderedValue::Struct {
            type_name: Some(ty.name().to_owned()),
            members,
        }
    }

    fn record(&mut self, id: u32, ty: &Type<'_>, bytes: &[u8], depth: usize) -> RenderedValue {
        if matches!(ty.name(), "cpumask" | "bpf_cpumask") && !bytes.is_empty() {
            return cpu_list(bytes, self.limits.cpus);
        }
        let mut members = Vec::new();
        self.members(ty, bytes, 0, depth, &mut members);
        RenderedValue::Struct {
            type_name: match ty.name() {
                "" => self.btf.type_name(id),
                name => Some(name.to_owned()),
            },
            members,
        }
    }

    /// Appends the members of `ty`, including those of its anonymous members.
    fn members(
        &mut self,
        ty: &Type<'_>,
        bytes: &[u8],
        base_bits: u64,
        depth: usize,
        members: &mut Vec<RenderedMember>,
    ) {
        for field in ty.fields() {
            if self.nodes == 0 {
                members.push(left_out(field.name));
                return;
            }
            let at_bits = base_bits + u64::from(field.offset_bits);
            if field.name.is_empty() {
                let inner = self.btf.resolve(field.type_id);
                if let Some(inner) = inner
                    && matches!(inner.kind(), Kind::Struct | Kind::Union)
                    && depth < self.limits.depth
                {
                    self.nodes -= 1;
                    self.members(&inner, bytes, at_bits, depth + 1, members);
                }
                continue;
            }
            let value = match field.bitfield_bits {
                Some(bits) => {
                    self.nodes -= 1;
                    self.bitfield(field.type_id, bytes, at_bits, bits)
                }
                None => match usize::try_from(at_bits / 8)
                    .ok()
                    .and_then(|at| bytes.get(at..))
                {
                    Some(rest) => self.value(field.type_id, rest, depth + 1),
                    None => truncated(self.btf.size_of(field.type_id).unwrap_or(0), 0, None),
                },
            };
            members.push(RenderedMember {
                name: field.name.to_owned(),
                value,
            });
        }
    }

    fn bitfield(&self, type_id: u32, bytes: &[u8], at_bits: u64, bits: u32) -> RenderedValue {
        let start = usize::try_from(at_bits / 8).unwrap_or(usize::MAX);
        let shift = (at_bits % 8) as u32;
        let len = (shift + bits).div_ceil(8) as usize;
        let own = start.checked_add(len).and_then(|end| bytes.get(start..end));
        let Some(own) = own.filter(|_| bits <= 64 && len <= 9) else {
            return truncated(u64::from(bits.div_ceil(8)), 0, None);
        };
        let mut wide = [0u8; 16];
        wide[..len].copy_from_slice(own);
        let mask = u128::MAX >> (128 - bits);
        // The mask leaves at most 64 bits.
        let value = u128::from_le_bytes(wide) >> shift & mask;
        let value = u64::try_from(value).unwrap_or(u64::MAX);
        let ty = self.btf.resolve(type_id);
        match ty.and_then(|ty| ty.int_encoding()) {
            Some(encoding) if encoding.bool => RenderedValue::Bool { value: value != 0 },
            Some(encoding) if encoding.signed => RenderedValue::Int {
                bits,
                value: sign_extend(value, bits),
            },
            _ => match ty.filter(|ty| matches!(ty.kind(), Kind::Enum | Kind::Enum64)) {
                Some(ty) => named_enum(&ty, value, bits),
                None => RenderedValue::Uint { bits, value },
            },
        }
    }

    fn array(&mut self, ty: &Type<'_>, bytes: &[u8], depth: usize) -> RenderedValue {
        let Some(ArrayOf { element, len }) = ty.array() else {
            return unsupported("array without an element type");
        };
        let size = self.btf.size_of(element).unwrap_or(0);
        let kind = self.btf.resolve(element);
        let encoding = kind.and_then(|kind| kind.int_encoding());
        let is_char = kind.is_some_and(|kind| kind.name() == "char")
            || encoding.is_some_and(|encoding| encoding.char);
        let is_byte = size == 1 && encoding.is_some_and(|encoding| !encoding.bool);
        if is_byte && (is_char || len >= BYTE_ARRAY) {
            let text = if is_char { printable(bytes) } else { None };
            return match render_bytes(bytes) {
                RenderedValue::Bytes { hex, .. } => RenderedValue::Bytes { hex, text },
                other => other,
            };
        }
        let Some(step) = usize::try_from(size).ok().filter(|size| *size > 0) else {
            return RenderedValue::Array {
                len: u64::from(len),
                elements: Vec::new(),
            };
        };
        let mut elements = Vec::new();
        for own in bytes.chunks_exact(step).take(self.limits.elements) {
            if self.nodes == 0 {
                break;
            }
            elements.push(self.value(element, own, depth + 1));
        }
        let had = elements.len() as u64;
        let value = RenderedValue::Array {
            len: u64::from(len),
            elements,
        };
        if had == u64::from(len) {
            return value;
        }
        truncated(bytes.len() as u64, had * size, Some(value))
    }
}

fn int(ty: &Type<'_>, bytes: &[u8]) -> RenderedValue {
    let Some(encoding) = ty.int_encoding() else {
        return unsupported("integer without an encoding");
    };
    if bytes.is_empty() || bytes.len() > 8 || encoding.bits == 0 || encoding.bits > 64 {
        return render_bytes(bytes);
    }
    let bits = encoding.bits;
    let value = uint(bytes).checked_shr(encoding.offset).unwrap_or(0) & (u64::MAX >> (64 - bits));
    if encoding.bool {
        RenderedValue::Bool { value: value != 0 }
    } else if encoding.char || (ty.name() == "char" && bits == 8) {
        RenderedValue::Char {
            value: (value & 0xff) as u8,
        }
    } else if encoding.signed {
        RenderedValue::Int {
            bits,
            value: sign_extend(value, bits),
        }
    } else {
        RenderedValue::Uint { bits, value }
    }
}

fn enumeration(ty: &Type<'_>, bytes: &[u8]) -> RenderedValue {
    if bytes.is_empty() || bytes.len() > 8 {
        return render_bytes(bytes);
    }
    named_enum(ty, uint(bytes), 8 * narrow::count(bytes.len() as u64))
}

fn named_enum(ty: &Type<'_>, raw: u64, bits: u32) -> RenderedValue {
    let signed = ty.enum_signed();
    let value = if signed {
        sign_extend(raw, bits)
    } else {
        raw.cast_signed()
    };
    let variant = ty.enumerators().find(|known| known.value == value);
    RenderedValue::Enum {
        bits,
        signed,
        value,
        variant: variant.map(|known| known.name.to_owned()),
    }
}

fn float(bytes: &[u8]) -> RenderedValue {
    if let Ok(bytes) = bytes.try_into() {
        return RenderedValue::Float {
            bits: 64,
            value: f64::from_le_bytes(bytes),
        };
    }
    match bytes.try_into() {
        Ok(bytes) => RenderedValue::Float {
            bits: 32,
            value: f64::from(f32::from_le_bytes(bytes)),
        },
        Err(_) => render_bytes(bytes),
    }
}

fn cpu_list(bytes: &[u8], count: usize) -> RenderedValue {
    let mut cpus = String::new();
    let mut run: Option<(usize, usize)> = None;
    let bits = bytes
        .iter()
        .take(MAX_CPUS / 8)
        .enumerate()
        .flat_map(|(index, byte)| {
            (0..8)
                .filter(move |bit| byte >> bit & 1 == 1)
                .map(move |bit| 8 * index + bit)
        })
        .take_while(|cpu| *cpu < count);
    // `usize::MAX` is not a CPU: it ends the last range.
    for cpu in bits.chain(std::iter::once(usize::MAX)) {
        match &mut run {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => {
                if let Some((first, last)) = run {
                    let comma = if cpus.is_empty() { "" } else { "," };
                    // Writing to a String cannot fail.
                    let _ = if first == last {
                        write!(cpus, "{comma}{first}")
                    } else {
                        write!(cpus, "{comma}{first}-{last}")
                    };
                }
                run = Some((cpu, cpu)).filter(|_| cpu != usize::MAX);
            }
        }
    }
    RenderedValue::CpuList { cpus }
}

fn printable(bytes: &[u8]) -> Option<String> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let plain = text
        .chars()
        .all(|c| !c.is_control() || c == '\n' || c == '\t');
    plain.then(|| text.to_owned())
}

fn uint(bytes: &[u8]) -> u64 {
    let last_first = bytes.iter().take(8).rev();
    last_first.fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn sign_extend(value: u64, bits: u32) -> i64 {
    let unused = 64u32.saturating_sub(bits).min(63);
    (value << unused).cast_signed() >> unused
}

fn truncated(needed: u64, had: u64, partial: Option<RenderedValue>) -> RenderedValue {
    RenderedValue::Truncated {
        needed,
        had,
        partial: partial.map(Box::new),
    }
}

/// Returns the mark for the member at which the total number of values was reached.
fn left_out(name: &str) -> RenderedMember {
    RenderedMember {
        name: name.to_owned(),
        value: unsupported(
            "the value has too many parts: this member and the next ones are left out",
        ),
    }
}

fn unsupported(reason: impl Into<String>) -> RenderedValue {
    RenderedValue::Unsupported {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::testing::Builder;
    use proptest::prelude::*;

    fn sample() -> (Btf, u32) {
        let mut b = Builder::new();
        let u64_ = b.int("unsigned long", 8, 0);
        let int = b.int("int", 4, 1);
        let char_ = b.int("char", 1, 1);
        let bool_ = b.int("_Bool", 1, 4);
        let text = b.array(char_, 8);
        let state = b.enumeration("state", &[("IDLE", 0), ("BUSY", 2)]);
        let dsq = b.enumeration64("dsq", &[("LOCAL", 1 << 63 | 2)]);
        let inner = b.record("", 8, &[("low", int, 0), ("high", int, 32)]);
        let flags = b.bitfields("flags", 4, &[("a", int, 0, 3), ("b", int, 3, 13)]);
        let mask = b.record("cpumask", 8, &[("bits", u64_, 0)]);
        let ptr = b.ptr(flags);
        let ctx = b.record(
            "ctx",
            56,
            &[
                ("", inner, 0),
                ("state", state, 64),
                ("flags", flags, 96),
                ("dsq", dsq, 128),
                ("name", text, 192),
                ("mask", mask, 256),
                ("next", ptr, 320),
                ("on", bool_, 384),
            ],
        );
        let name = b.typedef("ctx_t", ctx);
        let counter = b.var("nr_dispatched", u64_);
        let context = b.var("context", name);
        let section = b.datasec(".bss", 64, &[(counter, 0, 8), (context, 8, 56)]);
        (Btf::parse(b.finish()).expect("parses"), section)
    }

    #[test]
    fn a_section_with_every_kind_of_value() {
        let (btf, section) = sample();
        let mut bytes = 42u64.to_le_bytes().to_vec();
        bytes.extend((-7i32).to_le_bytes());
        bytes.extend(8i32.to_le_bytes());
        bytes.extend(2u32.to_le_bytes());
        bytes.extend((0b101u32 | 0x1fff << 3).to_le_bytes());
        bytes.extend((1u64 << 63 | 2).to_le_bytes());
        bytes.extend(b"abc\0\0\0\0\0");
        bytes.extend(0b1_0000_1110u64.to_le_bytes());
        bytes.extend(0xffff_8880_0000_1000u64.to_le_bytes());
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        let value = render(&btf, section, &bytes, RenderLimits::default());
        let json = serde_json::to_string_pretty(&value).expect("serialises");
        let compact: String = json.split_whitespace().collect::<Vec<_>>().join(" ");
        insta::assert_snapshot!(compact.replace("}, {", "},\n{"), @r#"
        { "kind": "struct", "type_name": ".bss", "members": [ { "name": "nr_dispatched", "value": { "kind": "uint", "bits": 64, "value": 42 } },
        { "name": "context", "value": { "kind": "struct", "type_name": "ctx", "members": [ { "name": "low", "value": { "kind": "int", "bits": 32, "value": -7 } },
        { "name": "high", "value": { "kind": "int", "bits": 32, "value": 8 } },
        { "name": "state", "value": { "kind": "enum", "bits": 32, "signed": false, "value": 2, "variant": "BUSY" } },
        { "name": "flags", "value": { "kind": "struct", "type_name": "flags", "members": [ { "name": "a", "value": { "kind": "int", "bits": 3, "value": -3 } },
        { "name": "b", "value": { "kind": "int", "bits": 13, "value": -1 } } ] } },
        { "name": "dsq", "value": { "kind": "enum", "bits": 64, "signed": false, "value": -9223372036854775806, "variant": "LOCAL" } },
        { "name": "name", "value": { "kind": "bytes", "hex": "6162630000000000", "text": "abc" } },
        { "name": "mask", "value": { "kind": "cpu_list", "cpus": "1-3,8" } },
        { "name": "next", "value": { "kind": "ptr", "value": 18446612682070036480, "target_type": "flags" } },
        { "name": "on", "value": { "kind": "bool", "value": true } } ] } } ] }
        "#);
    }

    #[test]
    fn a_value_beyond_the_end_of_the_bytes_is_marked_as_truncated() {
        let (btf, section) = sample();
        let value = render(&btf, section, &42u64.to_le_bytes(), RenderLimits::default());
        let RenderedValue::Struct { members, .. } = value else {
            panic!("a section is a struct")
        };
        assert_eq!(
            members[0].value,
            RenderedValue::Uint {
                bits: 64,
                value: 42
            }
        );
        assert_eq!(
            members[1].value,
            RenderedValue::Truncated {
                needed: 56,
                had: 0,
                partial: None
            }
        );
    }

    #[test]
    fn huge_arrays_are_cut() {
        let mut b = Builder::new();
        let long = b.int("unsigned long", 8, 0);
        let row = b.array(long, 1000);
        let table = b.array(row, 1000);
        let endless = b.array(long, u32::MAX);
        let btf = Btf::parse(b.finish()).expect("parses");
        let limits = RenderLimits {
            nodes: 2500,
            ..RenderLimits::default()
        };
        let value = render(&btf, table, &vec![0; 8_000_000], limits);
        let text = serde_json::to_string(&value).expect("serialises");
        assert!(
            text.contains("truncated") && text.len() < 200_000,
            "{}",
            text.len()
        );
        let value = render(&btf, endless, &[0; 64], RenderLimits::default());
        assert!(matches!(
            value,
            RenderedValue::Truncated {
                had: 64,
                partial: None,
                ..
            }
        ));
    }

    #[test]
    fn members_beyond_the_limit_leave_a_mark() {
        let mut b = Builder::new();
        let long = b.int("unsigned long", 8, 0);
        let members = [
            ("a", long, 0),
            ("b", long, 64),
            ("c", long, 128),
            ("d", long, 192),
        ];
        let wide = b.record("wide", 32, &members);
        let btf = Btf::parse(b.finish()).expect("parses");
        let limits = RenderLimits {
            nodes: 3,
            ..RenderLimits::default()
        };
        let RenderedValue::Struct { members, .. } = render(&btf, wide, &[0; 32], limits) else {
            panic!("a struct");
        };
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(matches!(members[1].value, RenderedValue::Uint { .. }));
        assert!(matches!(
            members[2].value,
            RenderedValue::Unsupported { .. }
        ));
    }

    proptest! {
        #[test]
        fn any_btf_and_bytes_are_rendered(
            hits in prop::collection::vec((24usize..900, any::<u8>()), 0..20),
            bytes in prop::collection::vec(any::<u8>(), 0..100), id in 0u32..24,
        ) {
            let (btf, _) = sample();
            let mut blob = btf.bytes().to_vec();
            for (at, value) in hits {
                let at = at % blob.len();
                blob[at] = value;
            }
            if let Ok(btf) = Btf::parse(blob) {
                let limits = RenderLimits { nodes: 500, ..RenderLimits::default() };
                let value = render(&btf, id, &bytes, limits);
                prop_assert!(serde_json::to_string(&value).is_ok());
            }
        }
    }
}
