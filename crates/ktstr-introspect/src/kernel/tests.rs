#![allow(clippy::unwrap_used)]
//! Tests with a hand-made kernel of a few pages.

use super::testing::{BASE, Guest, RAM};
use super::*;
use crate::btf::testing::Builder;

fn guest(la57: bool) -> Guest {
    let mut b = Builder::new();
    let u64_ = b.int("unsigned long", 8, 0);
    let u8_ = b.int("unsigned char", 1, 0);
    let xarray = b.record("xarray", 16, &[("xa_head", u64_, 64)]);
    b.record("idr", 24, &[("idr_rt", xarray, 0)]);
    let slots = b.array(u64_, 64);
    b.record("xa_node", 576, &[("shift", u8_, 0), ("slots", slots, 320)]);
    Guest::new(la57, b, &[("jiffies_64", BASE + 0x5000)])
}

#[test]
fn the_number_of_levels_is_detected_and_reads_cross_pages() {
    for la57 in [false, true] {
        let mut guest = guest(la57);
        // `INITIAL_JIFFIES` at 250 Hz: five minutes before the lower 32 bits wrap.
        guest.put(BASE + 0x5000, 4_294_892_296);
        guest.put(BASE + 0x6ffc, 0x0123_4567_89ab_cdef);
        let view = guest.view();
        assert_eq!(view.page_table(), PageTable { cr3: 0x1000, la57 });
        assert_eq!(view.jiffies(), Ok(4_294_892_296));
        assert_eq!(view.read_u64(BASE + 0x6ffc), Ok(0x0123_4567_89ab_cdef));
        assert_eq!(view.translate(BASE + 0x6ffc), Ok(0x6ffc));
    }
}

#[test]
fn errors_name_what_could_not_be_read() {
    let guest = guest(true);
    let view = guest.view();
    let text = |error: KernelError| error.to_string();
    insta::assert_snapshot!(
        [
            text(view.read_symbol_u64("nope").unwrap_err()),
            text(view.read_u64(0x1000).unwrap_err()),
            text(view.read_u64(BASE + RAM as u64).unwrap_err()),
            text(view.read_u64(u64::MAX - 3).unwrap_err()),
            text(view.read_bytes(BASE, 1 << 40, 1 << 20).unwrap_err()),
            text(view.member("idr", "idr_rt.xa_tail").unwrap_err()),
        ]
        .join("\n"),
        @r"
    kernel symbol `nope` is not in the symbol table
    0x1000 is not mapped: entry 0x0 at level 5 is not present
    read of 4096 bytes at guest-physical 0x20000: outside of guest RAM (ends at 0x20000)
    8 bytes at 0xfffffffffffffffc go over the end of the address space
    1099511627776 bytes at 0xffffffff80000000 exceed the limit of 1048576 bytes
    BTF: no member `xa_tail` on the path `idr.idr_rt.xa_tail`; there are: xa_head
    "
    );
    let empty = vec![0; RAM];
    let error = KernelView::new(&empty, &guest.symbols, &guest.btf).err();
    assert!(matches!(error, Some(KernelError::NoPageTable { .. })));
}

#[test]
fn lists_end_at_their_head_or_at_the_cap() {
    let mut guest = guest(true);
    let (head, a, b) = (BASE + 0x7000, BASE + 0x7100, BASE + 0x7200);
    for (node, next) in [(head, a), (a, b), (b, head)] {
        guest.put(node, next);
    }
    let mut seen = Vec::new();
    let walk = guest.view().walk_list("list", head, 10, |node| {
        seen.push(node);
        true
    });
    assert_eq!((walk, seen), (Ok(()), vec![a, b]));
    // A circle that never returns to the head.
    guest.put(b, a);
    let mut steps = 0;
    let walk = guest.view().walk_list("list", head, 1000, |_| {
        steps += 1;
        true
    });
    assert!(matches!(walk, Err(KernelError::TooLong { max: 1000, .. })));
    assert_eq!(steps, 1000);
    let mut steps = 0;
    let view = guest.view();
    assert!(view.walk_nulls("chain", a, 50, |_| steps += 1).is_err());
    assert_eq!(steps, 50);
    assert_eq!(view.walk_nulls("chain", 3, 0, |_| ()), Ok(()));
}

#[test]
fn an_idr_gives_its_pointers_by_id() {
    let mut guest = guest(true);
    let entries = |all: &[(u64, u64)]| {
        let entry = |&(id, pointer): &(u64, u64)| IdrEntry { id, pointer };
        Ok(all.iter().map(entry).collect::<Vec<_>>())
    };
    let (idr, node, leaf) = (BASE + 0x8000, BASE + 0x9000, BASE + 0xa000);
    // A single pointer is stored in the head itself.
    guest.put(idr + 8, 0xffff_8880_0000_1000);
    assert_eq!(
        guest.view().walk_idr(idr, 10),
        entries(&[(0, 0xffff_8880_0000_1000)])
    );
    // Two levels: ids 3 and 64 * 2 + 5.
    guest.put(idr + 8, node | 2);
    guest.put(node, 6);
    guest.put(node + 40, leaf | 2);
    guest.put(node + 40 + 8 * 2, (leaf + 0x400) | 2);
    guest.put(leaf + 40 + 8 * 3, 0x1000);
    guest.put(leaf + 0x400 + 40 + 8 * 5, 0x2000);
    assert_eq!(
        guest.view().walk_idr(idr, 10),
        entries(&[(3, 0x1000), (133, 0x2000)])
    );
    assert_eq!(guest.view().walk_idr(idr, 1), entries(&[(3, 0x1000)]));
    // A node that is its own child.
    guest.put(node + 40, node | 2);
    assert!(matches!(
        guest.view().walk_idr(idr, 10),
        Err(KernelError::TooLong { what: "xarray", .. })
    ));
}
