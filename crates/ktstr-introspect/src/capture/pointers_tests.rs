#![allow(clippy::unwrap_used)]
//! Tests of followed pointers in a hand-made kernel of a few pages.

use ktstr_snapshot::report::RenderedValue;
use ktstr_snapshot::snapshot::SnapshotField;
use proptest::prelude::*;

use super::*;
use crate::btf::testing::Builder;
use crate::kernel::testing::{BASE, Guest};
use crate::render::{RenderLimits, Way, render_along};

/// Where the tests put a value, a task with its mask, and a chain of nodes.
const VALUE: u64 = BASE + 0x8000;
const TASK: u64 = BASE + 0x9000;
const MASK: u64 = BASE + 0xa000;
const NODES: u64 = BASE + 0xb000;

/// Returns a guest with a task that has the pid 42 and may run on the CPUs 1 and 2.
fn guest() -> Guest {
    let mut b = Builder::new();
    let long = b.int("unsigned long", 8, 0);
    let int = b.int("int", 4, 1);
    let bits = b.array(long, 2);
    let mask = b.record("cpumask", 16, &[("bits", bits, 0)]);
    let to_mask = b.ptr(mask);
    let to_task = b.ptr(7);
    let members = [
        ("state", long, 0),
        ("pid", int, 64),
        ("cpus_ptr", to_mask, 128),
        ("parent", to_task, 192),
    ];
    assert_eq!(b.record("task_struct", 32, &members), 7);
    let mut guest = Guest::new(true, b, &[]);
    guest.put(TASK + 8, 42);
    guest.put(TASK + 16, MASK);
    guest.put(TASK + 24, TASK);
    guest.put(MASK, 0b110);
    // The kernel did not allocate this word, since the guest has four CPUs.
    guest.put(MASK + 8, u64::MAX);
    guest
}

/// Returns the types of a program, and the id of its `struct ctx`. The program declares only the pid of a task, since libbpf
/// adapts programs to the kernel's layout.
fn program() -> (Btf, u32) {
    let mut b = Builder::new();
    let long = b.int("unsigned long", 8, 0);
    let int = b.int("int", 4, 1);
    let char_ = b.int("char", 1, 1);
    let task = b.record("task_struct", 4, &[("pid", int, 0)]);
    let kptr = b.type_tag("kptr", task);
    let to_task = b.ptr(kptr);
    let to_node = b.ptr(8);
    assert_eq!(
        b.record("node", 16, &[("number", long, 0), ("next", to_node, 64)]),
        8
    );
    let flavour = b.forward("task_struct___old");
    let to_flavour = b.ptr(flavour);
    let unknown = b.forward("unknown");
    let to_unknown = b.ptr(unknown);
    let per_cpu = b.type_tag("percpu_kptr", long);
    let to_per_cpu = b.ptr(per_cpu);
    let to_char = b.ptr(char_);
    let to_void = b.ptr(0);
    let to_long = b.ptr(long);
    let big = b.array(long, 1 << 20);
    let to_big = b.ptr(big);
    let types = [
        ("task", to_task),
        ("node", to_node),
        ("flavour", to_flavour),
        ("unknown", to_unknown),
        ("per_cpu", to_per_cpu),
        ("text", to_char),
        ("void", to_void),
        ("count", to_long),
        ("big", to_big),
    ];
    let members: Vec<_> = (0..)
        .zip(types)
        .map(|(at, (name, ty))| (name, ty, 64 * at))
        .collect();
    let ctx = b.record("ctx", 8 * types.len() as u32, &members);
    (Btf::parse(b.finish()).unwrap(), ctx)
}

const ARENA: Arena = Arena {
    user_start: 0x1000_0000_b000,
    user_end: 0x1000_0000_c000,
    kernel_start: BASE,
};

fn arena(is_active: bool) -> KnownArena {
    KnownArena {
        place: ARENA,
        is_active,
    }
}

/// Renders the `struct ctx` whose pointers are `words`, in the order of its members.
fn rendered(
    guest: &Guest,
    words: &[u64],
    limits: PointerLimits,
    arenas: &[KnownArena],
) -> RenderedValue {
    let (btf, ctx) = program();
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(btf.size_of(ctx).unwrap() as usize, 0);
    let view = guest.view();
    let mut pointers = Pointers::new(&view, limits, arenas.to_vec());
    pointers.start_map(false);
    let limits = RenderLimits {
        cpus: 4,
        ..RenderLimits::default()
    };
    let way = Way::from_value(&pointers, &btf, ctx, VALUE, false);
    render_along(&btf, ctx, &bytes, limits, way).0
}

/// Returns why the target of the pointer at `path` is not in the value.
fn reason(value: &RenderedValue, path: &str) -> String {
    match SnapshotField::new("ctx", value).get(path).raw() {
        Some(RenderedValue::Ptr {
            deref: None,
            not_followed: Some(reason),
            ..
        }) => reason.clone(),
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn a_kptr_leads_to_the_kernels_object_with_the_kernels_layout() {
    let value = rendered(&guest(), &[TASK], PointerLimits::default(), &[]);
    let ctx = SnapshotField::new("ctx", &value);
    assert_eq!(ctx.get("task").as_u64(), Ok(TASK), "the address is kept");
    // In the program's own type the pid is at offset 0.
    assert_eq!(ctx.get("task.pid").as_i64(), Ok(42));
    assert_eq!(
        ctx.get("task.cpus_ptr").as_str(),
        Ok("1-2"),
        "only the guest's CPUs are shown"
    );
    // Tasks refer to each other without end, so a pointer from task to task is never followed, and no reason is given.
    let parent = ctx.get("task.parent");
    assert!(
        matches!(
            parent.raw(),
            Some(RenderedValue::Ptr {
                value: TASK,
                deref: None,
                not_followed: None,
                ..
            })
        ),
        "{parent:?}"
    );
    // A struct that the program only declares, under a name with a suffix, also has the kernel's layout.
    let value = rendered(&guest(), &[0, 0, TASK], PointerLimits::default(), &[]);
    assert_eq!(
        SnapshotField::new("ctx", &value)
            .get("flavour.pid")
            .as_i64(),
        Ok(42)
    );
}

#[test]
fn a_chain_of_the_programs_own_objects_ends_after_two_pointers_or_where_it_closes() {
    let mut guest = guest();
    for index in 0..4 {
        let at = NODES + 16 * index;
        guest.put(at, 10 + index);
        guest.put(at + 8, at + 16);
    }
    let value = rendered(&guest, &[0, NODES], PointerLimits::default(), &[]);
    let ctx = SnapshotField::new("ctx", &value);
    assert_eq!(ctx.get("node.number").as_u64(), Ok(10));
    assert_eq!(ctx.get("node.next.number").as_u64(), Ok(11));
    assert_eq!(
        reason(&value, "node.next.next"),
        "a path has at most 2 pointers"
    );
    let limits = PointerLimits {
        hops: 100,
        ..PointerLimits::default()
    };
    guest.put(NODES + 16 + 8, NODES);
    let value = rendered(&guest, &[0, NODES], limits, &[]);
    assert_eq!(
        reason(&value, "node.next.next"),
        "it points back to an object on the way to it"
    );
    let none = PointerLimits { hops: 0, ..limits };
    assert_eq!(
        reason(&rendered(&guest, &[0, NODES], none, &[]), "node"),
        "a path has at most 0 pointers"
    );
}

#[test]
fn a_pointer_into_an_arena_is_an_address_of_a_process() {
    let mut guest = guest();
    guest.put(NODES, 7);
    guest.put(NODES + 8, 0x1000_0000_b000 + 16);
    guest.put(NODES + 16, 8);
    let at = |arenas: &[KnownArena]| {
        rendered(
            &guest,
            &[0, 0x1000_0000_b000],
            PointerLimits::default(),
            arenas,
        )
    };
    let value = at(&[arena(true)]);
    let ctx = SnapshotField::new("ctx", &value);
    assert_eq!(ctx.get("node").as_u64(), Ok(0x1000_0000_b000));
    assert_eq!(ctx.get("node.number").as_u64(), Ok(7));
    assert_eq!(ctx.get("node.next.number").as_u64(), Ok(8));
    // The second arena is used: like the map of the test, it does not belong to the attached scheduler.
    let value = at(&[arena(true), arena(false)]);
    assert_eq!(
        SnapshotField::new("ctx", &value)
            .get("node.number")
            .as_u64(),
        Ok(7)
    );
    assert_eq!(
        reason(&at(&[arena(false), arena(false)]), "node"),
        "it is in several arenas"
    );
    assert_eq!(
        reason(&at(&[]), "node"),
        "it is an address of a process, and in no arena"
    );
    let end = rendered(
        &guest,
        &[0, 0x1000_0000_c000],
        PointerLimits::default(),
        &[arena(true)],
    );
    assert_eq!(
        reason(&end, "node"),
        "it is an address of a process, and in no arena"
    );
}

#[test]
fn what_cannot_be_read_has_a_reason() {
    let words = [
        BASE + (1 << 29),
        u64::MAX - 7,
        0x1234 << 48,
        TASK,
        TASK,
        TASK,
        TASK,
        1 << 63,
        TASK,
    ];
    let value = rendered(&guest(), &words, PointerLimits::default(), &[]);
    let reasons = [
        "task", "node", "flavour", "unknown", "per_cpu", "count", "big",
    ]
    .map(|path| format!("{path}: {}", reason(&value, path)));
    insta::assert_snapshot!(reasons.join("\n"), @r"
    task: it cannot be read: read of 4096 bytes at guest-physical 0x20000000: outside of guest RAM (ends at 0x20000)
    node: it cannot be read: 16 bytes at 0xfffffffffffffff8 go over the end of the address space
    flavour: it is an address of a process, and in no arena
    unknown: the size of `unknown` is unknown
    per_cpu: it stands for an object on each CPU
    count: it cannot be read: 0x8000000000000000 is not a canonical address for 5-level paging
    big: the target has 8388608 bytes, and at most 16384 are read
    ");
    // NULL pointers, and pointers to `char` and to `void`, have neither a target nor a reason.
    for path in ["text", "void"] {
        let pointer = SnapshotField::new("ctx", &value).get(path);
        assert!(matches!(
            pointer.raw(),
            Some(RenderedValue::Ptr {
                deref: None,
                not_followed: None,
                ..
            })
        ));
    }
    let zeros = rendered(&guest(), &[], PointerLimits::default(), &[]);
    let text = serde_json::to_string(&zeros).unwrap();
    assert!(
        !text.contains("deref") && !text.contains("not_followed"),
        "{text}"
    );
}

#[test]
fn the_budget_of_a_capture_is_shared_and_ends_in_a_reason() {
    let plenty = PointerLimits::default();
    let words = [TASK, 0, TASK, 0, 0, 0, 0, TASK];
    let value = |limits| rendered(&guest(), &words, limits, &[]);
    // A map gets half of the limits. The task and its mask are the first two targets.
    let two = value(PointerLimits {
        targets: 4,
        ..plenty
    });
    assert_eq!(
        SnapshotField::new("ctx", &two)
            .get("task.cpus_ptr")
            .as_str(),
        Ok("1-2")
    );
    assert_eq!(reason(&two, "flavour"), SPENT);
    // The task has 32 bytes and its mask 16, and half of the limit is 47.
    let bytes = value(PointerLimits {
        bytes: 94,
        ..plenty
    });
    assert_eq!(
        SnapshotField::new("ctx", &bytes).get("task.pid").as_i64(),
        Ok(42)
    );
    assert_eq!(reason(&bytes, "task.cpus_ptr"), SPENT);
    assert_eq!(
        SnapshotField::new("ctx", &bytes)
            .get("count")
            .target()
            .as_u64(),
        Ok(0)
    );
    // The task and its mask have six values, so of the seven reserved ones, one is given back. Two tasks fit into half of 26.
    let nodes = value(PointerLimits {
        nodes: 26,
        target_nodes: 7,
        ..plenty
    });
    let ctx = SnapshotField::new("ctx", &nodes);
    assert_eq!(ctx.get("task.cpus_ptr").as_str(), Ok("1-2"));
    assert_eq!(ctx.get("flavour.cpus_ptr").as_str(), Ok("1-2"));
    // One value is left, which the number would use up. A target that uses up the rest is left out, as it could be
    // incomplete.
    assert_eq!(reason(&nodes, "count"), SPENT);
    // A target for which the rest of the budget is too small is left out, with everything in it.
    let rest = value(PointerLimits {
        nodes: 22,
        target_nodes: 7,
        ..plenty
    });
    assert!(
        SnapshotField::new("ctx", &rest)
            .get("task.parent")
            .is_present()
    );
    assert_eq!(reason(&rest, "flavour"), SPENT);
    // A target with more values than any target may have is shown in part.
    let part = value(PointerLimits {
        target_nodes: 3,
        ..plenty
    });
    let ctx = SnapshotField::new("ctx", &part);
    assert_eq!(ctx.get("task.pid").as_i64(), Ok(42));
    assert!(ctx.get("flavour.pid").is_present() && !ctx.get("task.parent").is_present());
    let large = value(PointerLimits {
        target_bytes: 31,
        ..plenty
    });
    assert_eq!(
        reason(&large, "task"),
        "`task_struct` has 32 bytes, and at most 31 are read"
    );
}

#[test]
fn reasons_count_towards_the_limit_on_values() {
    let guest = guest();
    let (btf, ctx) = program();
    let view = guest.view();
    let mut pointers = Pointers::new(&view, PointerLimits::default(), Vec::new());
    pointers.start_map(false);
    let bytes = vec![1; btf.size_of(ctx).unwrap() as usize];
    let way = || Way::from_value(&pointers, &btf, ctx, VALUE, false);
    let (_, used) = render_along(&btf, ctx, &bytes, RenderLimits::default(), way());
    // The struct and nine pointers are ten values, and all pointers except for those to `char` and to `void` have a reason.
    assert_eq!(used, 10 + 7);
}

#[test]
fn a_map_leaves_half_of_the_budget_to_the_next_ones() {
    let guest = guest();
    let view = guest.view();
    let limits = PointerLimits {
        targets: 8,
        ..PointerLimits::default()
    };
    let mut pointers = Pointers::new(&view, limits, Vec::new());
    let (btf, ctx) = program();
    let mut followed = || {
        pointers.start_map(false);
        let to_count = btf.get(ctx).unwrap().fields().nth(7).unwrap().type_id;
        let pointer = Pointer {
            btf: &btf,
            target: btf.get(to_count).unwrap().target().unwrap(),
            address: TASK,
            in_kernel: false,
            hops: 0,
        };
        let all = (0..100).map_while(|_| pointers.follow(&pointer).ok().flatten());
        all.count()
    };
    assert_eq!([(); 5].map(|()| followed()), [4, 2, 1, 1, 0]);
}

#[test]
fn a_long_path_of_pointers_survives_its_json() {
    let mut guest = guest();
    for index in 0..256 {
        guest.put(NODES + 16 * index + 8, NODES + 16 * index + 16);
    }
    let limits = PointerLimits {
        hops: 256,
        ..PointerLimits::default()
    };
    let value = rendered(&guest, &[0, NODES], limits, &[]);
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(serde_json::from_str::<RenderedValue>(&json).unwrap(), value);
}

proptest! {
    #[test]
    fn any_memory_ends_in_a_value_of_bounded_size(
        words in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..0x20000], 9),
        ram in prop::collection::vec((0u64..0x1000, 0u64..0x20000), 0..200),
    ) {
        let mut guest = guest();
        // Of eight words, seven become addresses in the guest's memory.
        let address = |word: u64| if word % 8 == 7 { word } else { BASE + word };
        for (at, word) in ram {
            guest.put(VALUE + 8 * at, address(word));
        }
        let words: Vec<u64> = words.into_iter().map(|word| if word < 0x20000 { address(word) } else { word }).collect();
        let limits = PointerLimits { hops: 8, nodes: 2000, ..PointerLimits::default() };
        let value = rendered(&guest, &words, limits, &[arena(true)]);
        let json = serde_json::to_string(&value).unwrap();
        prop_assert!(json.len() < 1 << 19, "{} bytes", json.len());
        prop_assert_eq!(serde_json::from_str::<RenderedValue>(&json).unwrap(), value);
    }
}
