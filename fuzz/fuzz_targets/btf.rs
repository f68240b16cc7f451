//! BTF: any bytes, and blobs of a valid form whose contents come from the input, alone and on top of a kernel's BTF. Each
//! type is looked up, and values are rendered by it. The BTF of a kernel is not damaged itself, because it takes a thousand
//! times as long to parse as a blob.
#![no_main]

use std::sync::LazyLock;

use ktstr_fuzz::{Draw, bounded};
use ktstr_introspect::btf::{Btf, Kind};
use ktstr_introspect::render::{RenderLimits, render};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, clippy::missing_docs_in_private_items)]
#[path = "../../crates/ktstr-introspect/src/btf/testing.rs"]
mod testing;

use testing::Builder;

/// The types of a recorded kernel, as far as a capture needs them.
static BASE: LazyLock<Btf> = LazyLock::new(|| {
    let packed = include_bytes!("../../crates/ktstr-introspect/tests/data/busy-7.3.btf.z");
    let bytes = miniz_oxide::inflate::decompress_to_vec_zlib(packed).expect("a recording");
    Btf::parse(bytes).expect("a recording")
});

/// The names of types and members. There are few, so that a name that is looked up is often found, and three of them are empty.
const NAMES: [&str; 8] = ["", "a", "", "b", "", "cpumask", "bits", "char"];

/// Draws a blob of types. References lead anywhere: to types that come later, to none, and back.
fn blob(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut builder = Builder::new();
    let mut types = 0;
    while !draw.is_empty() && types < 200 {
        types += 1;
        let kind = draw.u8();
        let name = NAMES[usize::from(kind / 32)];
        let id = |draw: &mut Draw<'_>| match draw.u8() {
            255 => u32::MAX,
            254 => draw.u32(),
            near => u32::from(near),
        };
        let (one, other) = (id(draw), draw.number() as u32);
        let members = usize::from(draw.u8() % 16);
        let fields: Vec<(&str, u32, u32, u32)> = match kind % 8 {
            0..=3 => (0..members)
                .map(|_| {
                    let name = NAMES[draw.index(NAMES.len())];
                    (name, id(draw), draw.number() as u32 >> 8, draw.u32() % 80)
                })
                .collect(),
            _ => Vec::new(),
        };
        let plain: Vec<_> = fields
            .iter()
            .map(|field| (field.0, field.1, field.2))
            .collect();
        match kind % 32 {
            0 | 8 | 16 | 24 => builder.record(name, other, &plain),
            1 | 9 => builder.bitfields(name, other, &fields),
            2 => {
                let values: Vec<_> = plain.iter().map(|one| (one.0, one.2)).collect();
                builder.enumeration(name, &values)
            }
            3 => {
                let vars: Vec<_> = fields.iter().map(|one| (one.1, one.2, one.3)).collect();
                builder.datasec(name, other, &vars)
            }
            4 | 12 => builder.raw(name, 1, false, 0, other, &[draw.u32()]),
            20 => builder.int(name, 1 << (draw.u8() % 4), u32::from(draw.u8() % 5)),
            5 | 13 => builder.array(one, other),
            6 | 14 => builder.typedef(name, one),
            7 => builder.ptr(one),
            15 => builder.var(name, one),
            17 => builder.enumeration64(name, &[("a", draw.number())]),
            other_kind => {
                let rest: Vec<u32> = (0..draw.u8() % 8).map(|_| draw.u32()).collect();
                let flag = draw.flag();
                builder.raw(name, other_kind.into(), flag, members as u32, one, &rest)
            }
        };
    }
    builder.finish()
}

/// Looks up and renders up to 200 types, from `first` on.
fn exercise(btf: &Btf, first: u32, bytes: &[u8]) {
    let limits = RenderLimits {
        nodes: 500,
        ..RenderLimits::default()
    };
    for id in (first..btf.next_id()).take(200) {
        let Some(ty) = btf.get(id) else { continue };
        let _ = (ty.name(), ty.target(), ty.array(), ty.int_encoding());
        let _ = (
            btf.resolve(id).is_some(),
            btf.size_of(id),
            btf.type_name(id),
        );
        let _ = ty.fields().count() + ty.section_vars().count() + ty.enumerators().count();
        let _ = ty.parameters().count();
        let _ = btf.enumerator(ty.name(), 1);
        let _ = btf.enumerator_value(ty.name(), "a");
        let _ = btf.parameter(ty.name(), "a");
        if matches!(ty.kind(), Kind::Struct | Kind::Union) {
            for path in ["a", "a.b", "bits", "nowhere", "a.a.a.a.a.a.a.a", ""] {
                let _ = btf.member(ty.name(), path);
            }
        }
        let value = render(btf, id, bytes, limits);
        let json = serde_json::to_string(&value).expect("plain data");
        assert!(json.len() < 16 << 20, "{} bytes", json.len());
    }
}

fn run(draw: &mut Draw<'_>) {
    let mode = draw.u8() % 8;
    let len = usize::from(draw.u8());
    let bytes = draw.bytes(len).repeat(3);
    let (parsed, first) = match mode {
        0 => (Btf::parse(draw.rest()), 0),
        1 => (Btf::parse_split(draw.rest(), &BASE), BASE.next_id()),
        2 => {
            let damage = draw.bytes(9);
            let mut blob = blob(draw);
            for hit in damage.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([hit[0], hit[1]])) % blob.len();
                blob[at] = hit[2];
            }
            (Btf::parse(blob), 0)
        }
        3 => (Btf::parse_split(blob(draw), &BASE), BASE.next_id()),
        _ => (Btf::parse(blob(draw)), 0),
    };
    if let Ok(btf) = parsed {
        exercise(&btf, first, &bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    bounded(|| run(&mut Draw::new(data)));
});
