//! Tests of the BTF reader with valid blobs, with corner cases of the format, and with arbitrary bytes.

use super::testing::Builder;
use super::*;
use proptest::prelude::*;

fn sample() -> Btf {
    let mut b = Builder::new();
    let int = b.int("int", 4, 1);
    let u64_ = b.int("unsigned long", 8, 0);
    let array = b.array(u64_, 3);
    let inner = b.record("", 8, &[("low", int, 0), ("high", int, 32)]);
    let dsq = b.record("dsq", 32, &[("nr", int, 0), ("slots", array, 64)]);
    b.record(
        "rq",
        48,
        &[("clock", u64_, 0), ("", inner, 64), ("dsq", dsq, 128)],
    );
    // Three typedefs that refer to each other in a circle: 7 to 9, 8 to 7, and 9 to 8.
    let looped = b.typedef("looped", 9);
    assert_eq!(b.typedef("back", looped), 8);
    b.typedef("looped2", 8);
    Btf::parse(b.finish()).expect("parses")
}

#[test]
fn members_are_found_through_anonymous_ones() {
    let btf = sample();
    let member = btf.member("rq", "dsq.nr").expect("nested");
    assert_eq!((member.offset(), member.size), (16, 4));
    assert_eq!(btf.member("rq", "high").expect("anonymous").offset(), 12);
    assert_eq!(btf.member("rq", "dsq.slots").expect("array").size, 24);
    assert_eq!(
        btf.member("rq", "dsq.nope")
            .expect_err("absent")
            .to_string(),
        "BTF: no member `nope` on the path `rq.dsq.nope`; there are: nr, slots"
    );
    assert!(matches!(
        btf.member("task", "pid"),
        Err(MemberError::NoStruct { .. })
    ));
}

#[test]
fn reference_loops_end() {
    let btf = sample();
    let id = btf.ids_by_name("looped")[0];
    assert!(btf.resolve(id).is_none());
    assert_eq!(btf.size_of(id), None);
}

#[test]
fn split_btf_continues_ids_and_strings() {
    let base = sample();
    let mut b = Builder::new();
    // The ids of a split blob continue those of the base, and its string offsets continue those of the base's strings.
    let first = base.next_id();
    b.record("module_thing", 4, &[("x", 1, 0)]);
    let mut blob = b.finish();
    let shift = base.next_string();
    // The builder counts from the start of the blob's own strings: shift the names of the struct and of its member.
    for at in [24, 24 + 12] {
        let name = u32::from_le_bytes(blob[at..at + 4].try_into().expect("word"));
        blob[at..at + 4].copy_from_slice(&(name + shift).to_le_bytes());
    }
    let split = Btf::parse_split(blob, &base).expect("parses");
    assert_eq!(split.ids_by_name("module_thing"), vec![first]);
    assert_eq!(
        split.member("module_thing", "x").expect("base type").size,
        4
    );
    assert_eq!(
        split.member("rq", "dsq.nr").expect("base struct").offset(),
        16
    );
}

#[test]
fn broken_headers_say_what_is_wrong() {
    let error = |bytes: &[u8]| Btf::parse(bytes).expect_err("refused").to_string();
    assert_eq!(error(&[]), "BTF of 0 bytes is shorter than its header");
    assert_eq!(
        error(&[0xeb, 0x9f, 1, 0]),
        "BTF magic is 0x9feb, expected 0xeb9f (only little-endian BTF is read)"
    );
    let mut blob = Builder::new().finish();
    blob[2] = 9;
    assert_eq!(error(&blob), "BTF version is 9, expected 1");
    blob[2] = 1;
    blob[12] = 0xff;
    assert!(error(&blob).starts_with("BTF type section at 0 of 255 bytes"));
    let mut b = Builder::new();
    b.raw("many", 4, false, 0xffff, 8, &[]);
    assert!(error(&b.finish()).contains("kind 4, 65535 elements"));
    let mut b = Builder::new();
    b.raw("odd", 31, false, 0, 8, &[]);
    assert!(error(&b.finish()).contains("unknown kind 31"));
}

/// Calls the accessors on up to 200 types: no call may panic on damaged input.
fn exercise(btf: &Btf) {
    for id in 0..btf.next_id().min(200) {
        let Some(ty) = btf.get(id) else { continue };
        let _ = (ty.name(), ty.target(), ty.array(), ty.int_encoding());
        let _ = (
            btf.resolve(id).is_some(),
            btf.size_of(id),
            btf.type_name(id),
        );
        let _ = ty.fields().count() + ty.section_vars().count() + ty.enumerators().count();
        for field in ty.fields().take(50) {
            let _ = btf.member(ty.name(), field.name);
        }
        let _ = btf.member(ty.name(), "a.b.c");
        assert!(ty.name().is_empty() || id == 0 || !btf.ids_by_name(ty.name()).is_empty());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(btf) = Btf::parse(bytes) {
            exercise(&btf);
        }
    }

    #[test]
    fn damaged_types_do_not_cause_a_panic(hits in prop::collection::vec((24usize..700, any::<u8>()), 1..12)) {
        let mut bytes = sample().bytes().to_vec();
        for (at, value) in hits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(btf) = Btf::parse(bytes) {
            exercise(&btf);
        }
    }
}

#[test]
fn a_parameter_is_found_by_its_name() {
    let mut builder = Builder::new();
    let int = builder.int("int", 4, 1);
    let [first, second] = ["cpu", "flags"].map(|name| builder.string(name));
    let prototype = builder.raw("", 13, false, 2, 0, &[first, int, second, int]);
    builder.raw("kick", 12, false, 0, prototype, &[]);
    let btf = Btf::parse(builder.finish()).expect("parses");
    assert_eq!(btf.parameter("kick", "flags"), Some(1));
    assert_eq!(btf.parameter("kick", "task"), None);
    assert_eq!(btf.parameter("no_such", "cpu"), None);
}

/// A struct with sixteen anonymous members, each of which has the type of the struct itself. A search along every path would
/// visit 16 to the power of 8 structs at the deepest level alone.
#[test]
fn anonymous_members_that_repeat_are_searched_once() {
    let mut builder = Builder::new();
    let int = builder.int("int", 4, 1);
    let own = int + 1;
    let mut members = vec![("", own, 0); 16];
    members.push(("last", int, 64));
    assert_eq!(builder.record("loops", 16, &members), own);
    let btf = Btf::parse(builder.finish()).expect("parses");
    let last = btf.member("loops", "last").expect("it is there");
    assert_eq!(last.offset(), 8);
    assert!(btf.member("loops", "nowhere").is_err());
}
