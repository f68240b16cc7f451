//! Finds the targets of the pointers in the values of maps, and reads them within a budget.
//!
//! How a program declares an object of the kernel says nothing about its layout, because libbpf adapts the program to the
//! running kernel. So a struct whose name the kernel knows is rendered by the kernel's own type, as the verifier does for the
//! targets of kptrs. All other targets, and everything in an arena, are rendered by the types of the program.

use std::cell::Cell;

use super::PointerLimits;
use crate::bpf::arena::Arena;
use crate::btf::{Btf, Kind, MAX_DEPTH, Type};
use crate::kernel::KernelView;
use crate::memory::GuestMemory;
use crate::render::{Follow, Pointer, Reserved, SPENT, Target};

/// The types of kernel objects to which a pointer in another kernel object is followed: CPU masks, and the kernfs node that
/// has the id of a cgroup. Other such pointers are not followed, because a task alone has about a hundred, and most of them
/// lead to its bookkeeping.
const PARTS: [&str; 3] = ["cpumask", "bpf_cpumask", "kernfs_node"];

/// The bit that is set in all addresses of the kernel.
const KERNEL_HALF: u64 = 1 << 63;

/// An arena, and whether it belongs to the attached scheduler.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownArena {
    pub(super) place: Arena,
    pub(super) is_active: bool,
}

/// The numbers of targets, bytes and values that may still be read.
#[derive(Debug, Clone, Copy)]
struct Budget {
    targets: usize,
    bytes: u64,
    nodes: usize,
}

/// What is needed to find targets, and the budget for them.
pub(super) struct Pointers<'v, 'a, M: GuestMemory + ?Sized> {
    view: &'v KernelView<'a, M>,
    limits: PointerLimits,
    arenas: Vec<KnownArena>,
    /// Whether the map that is being read belongs to the attached scheduler.
    map_is_active: bool,
    /// What the maps after the current one may read in addition to what the current one leaves.
    later: Budget,
    left: Cell<Budget>,
}

impl<'v, 'a, M: GuestMemory + ?Sized> Pointers<'v, 'a, M> {
    pub(super) fn new(
        view: &'v KernelView<'a, M>,
        limits: PointerLimits,
        arenas: Vec<KnownArena>,
    ) -> Self {
        let none = Budget {
            targets: 0,
            bytes: 0,
            nodes: 0,
        };
        Self {
            view,
            limits,
            arenas,
            map_is_active: false,
            later: Budget {
                targets: limits.targets,
                bytes: limits.bytes,
                nodes: limits.nodes,
            },
            left: Cell::new(none),
        }
    }

    /// Gives the next map half of the remaining budget.
    pub(super) fn start_map(&mut self, is_active: bool) {
        let (unused, later) = (self.left.get(), self.later);
        let all = Budget {
            targets: unused.targets.saturating_add(later.targets),
            bytes: unused.bytes.saturating_add(later.bytes),
            nodes: unused.nodes.saturating_add(later.nodes),
        };
        let half = Budget {
            targets: all.targets.div_ceil(2),
            bytes: all.bytes.div_ceil(2),
            nodes: all.nodes.div_ceil(2),
        };
        self.later = Budget {
            targets: all.targets - half.targets,
            bytes: all.bytes - half.bytes,
            nodes: all.nodes - half.nodes,
        };
        self.left.set(half);
        self.map_is_active = is_active;
    }

    /// Returns the kernel address of a target, and whether it is in an arena.
    fn locate(&self, address: u64) -> Result<(u64, bool), String> {
        if address & KERNEL_HALF != 0 {
            return Ok((address, false));
        }
        let all = self.arenas.iter().filter_map(|arena| {
            let place = arena.place.kernel_address(address)?;
            Some((place, arena.is_active))
        });
        let all: Vec<_> = all.collect();
        // Two processes may use the same address for their arenas, as an old scheduler and its successor do.
        let own: Vec<_> = all
            .iter()
            .filter(|(_, is_active)| *is_active == self.map_is_active)
            .collect();
        match (all.as_slice(), own.as_slice()) {
            ([], _) => Err("it is an address of a process, and in no arena".to_owned()),
            ([(place, _)], _) | (_, [(place, _)]) => Ok((*place, true)),
            _ => Err("it is in several arenas".to_owned()),
        }
    }

    /// Returns the type of the target in the kernel's BTF, if the kernel has one of its name.
    fn kernel_type(&self, ty: &Type<'_>) -> Option<u32> {
        if !matches!(ty.kind(), Kind::Struct | Kind::Union | Kind::Fwd) {
            return None;
        }
        // A program may declare several variants of one type, whose names differ in a suffix after three underscores; libbpf
        // ignores the suffix.
        let name = ty.name().split("___").next().unwrap_or_default();
        if name.is_empty() {
            return None;
        }
        let found = self.view.btf().find_struct(name)?;
        (found.fields().next().is_some()).then_some(found.id())
    }

    /// Subtracts a target of `size` bytes from the budget; false if not enough is left.
    fn charge(&self, size: u64) -> bool {
        let left = self.left.get();
        let targets = left.targets.checked_sub(1);
        let (Some(targets), Some(bytes)) = (targets, left.bytes.checked_sub(size)) else {
            return false;
        };
        self.left.set(Budget {
            targets,
            bytes,
            ..left
        });
        true
    }
}

impl<M: GuestMemory + ?Sized> Follow for Pointers<'_, '_, M> {
    fn follow(&self, pointer: &Pointer<'_>) -> Result<Option<Target>, String> {
        let Some(declared) = pointer.btf.resolve(pointer.target) else {
            return Ok(None);
        };
        let is_object = matches!(declared.kind(), Kind::Struct | Kind::Union | Kind::Fwd);
        let is_kind = match pointer.in_kernel {
            true => is_object && PARTS.contains(&declared.name()),
            false => is_object || is_plain(&declared),
        };
        if !is_kind {
            return Ok(None);
        }
        for_one_object(pointer.btf, pointer.target)?;
        if pointer.hops >= self.limits.hops {
            let most = self.limits.hops;
            return Err(format!("a path has at most {most} pointers"));
        }
        let (place, in_arena) = self.locate(pointer.address)?;
        let kernel_type = if pointer.in_kernel {
            Some(declared.id())
        } else if in_arena {
            None
        } else {
            self.kernel_type(&declared)
        };
        let (btf, type_id) = match kernel_type {
            Some(id) => (self.view.btf(), id),
            None => (pointer.btf, declared.id()),
        };
        let name = || {
            let name = btf.type_name(type_id);
            name.map_or_else(|| "the target".to_owned(), |name| format!("`{name}`"))
        };
        let size = match btf.size_of(type_id) {
            None => return Err(format!("the size of {} is unknown", name())),
            Some(0) => return Ok(None),
            Some(size) => size,
        };
        let most = self.limits.target_bytes;
        if size > most {
            let name = name();
            return Err(format!(
                "{name} has {size} bytes, and at most {most} are read"
            ));
        }
        if !self.charge(size) {
            return Err(SPENT.to_owned());
        }
        let bytes = self.view.read_bytes(place, size, most);
        Ok(Some(Target {
            btf: btf.clone(),
            type_id,
            bytes: bytes.map_err(|error| format!("it cannot be read: {error}"))?,
            is_kernel: kernel_type.is_some(),
        }))
    }

    fn reserve(&self) -> Reserved {
        let left = self.left.get();
        let nodes = left.nodes.min(self.limits.target_nodes);
        self.left.set(Budget {
            nodes: left.nodes - nodes,
            ..left
        });
        Reserved {
            nodes,
            is_rest: nodes < self.limits.target_nodes,
        }
    }

    fn unused(&self, nodes: usize) {
        let left = self.left.get();
        self.left.set(Budget {
            nodes: left.nodes.saturating_add(nodes),
            ..left
        });
    }
}

/// Returns whether a target that is not a struct is shown: a number, an enum, an array or another pointer. A character is not
/// shown, because it is the start of a text whose length is unknown.
fn is_plain(ty: &Type<'_>) -> bool {
    match ty.kind() {
        Kind::Int => ty.name() != "char" && ty.int_encoding().is_some_and(|int| !int.char),
        Kind::Enum | Kind::Enum64 | Kind::Float | Kind::Array | Kind::Ptr => true,
        _ => false,
    }
}

/// Checks the type tags of a target. Some of them mean that the pointer is not the address of a single kernel object. The error
/// then says what the pointer is.
fn for_one_object(btf: &Btf, mut id: u32) -> Result<(), String> {
    for _ in 0..MAX_DEPTH {
        let Some(ty) = btf.get(id) else {
            return Ok(());
        };
        match ty.kind() {
            Kind::TypeTag => match ty.name() {
                "percpu" | "percpu_kptr" => {
                    return Err("it stands for an object on each CPU".to_owned());
                }
                "user" => return Err("it is an address of a process".to_owned()),
                _ => {}
            },
            Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict => {}
            _ => return Ok(()),
        }
        match ty.target() {
            Some(target) => id = target,
            None => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "pointers_tests.rs"]
mod tests;
