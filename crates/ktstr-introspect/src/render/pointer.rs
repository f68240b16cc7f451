//! Pointers in rendered values: which targets become a part of the tree.
//!
//! This file decides where a path of pointers ends. Where a target is, and whether it may be read, is decided by the
//! implementation of [`Follow`], because rendering itself reads nothing from the guest.

use ktstr_snapshot::report::RenderedValue;

use super::{Renderer, uint};
use crate::btf::{Btf, Type};

/// A pointer other than NULL that is being rendered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pointer<'a> {
    /// The types of the object that the pointer lies in.
    pub(crate) btf: &'a Btf,
    /// The id of the target's type in these types, before typedefs, qualifiers and type tags are resolved.
    pub(crate) target: u32,
    /// The address that the pointer holds.
    pub(crate) address: u64,
    /// Whether the pointer lies in an object of the kernel, and not in a value of a BPF program.
    pub(crate) in_kernel: bool,
    /// The number of pointers that led from the value to this one.
    pub(crate) hops: usize,
}

/// The target of a pointer, as it was read from the guest.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The types by which the target is rendered.
    pub(crate) btf: Btf,
    /// The id of its type in these types.
    pub(crate) type_id: u32,
    /// The bytes of the target.
    pub(crate) bytes: Vec<u8>,
    /// Whether the target is an object of the kernel.
    pub(crate) is_kernel: bool,
}

/// Why a target is left out once the budget of its capture or of its map is used up.
pub(crate) const SPENT: &str = "the limit on what is read behind pointers is reached";

/// Finds the targets of pointers, within a budget.
pub(crate) trait Follow {
    /// Returns the target of `pointer`; `None` for a pointer of a kind that is never followed.
    ///
    /// # Errors
    /// The reason why the target is not available, as a clause.
    fn follow(&self, pointer: &Pointer<'_>) -> Result<Option<Target>, String>;

    /// Reserves a part of the budget for the target of a pointer in a value, and for what is behind the pointers in the target.
    fn reserve(&self) -> Reserved;

    /// Gives back reserved values that were not needed.
    fn unused(&self, nodes: usize);
}

/// A part of the budget for values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved {
    /// The number of values.
    pub(crate) nodes: usize,
    /// Whether these values are the rest of the budget. A target that does not fit into the rest is left out instead of
    /// being shown in part.
    pub(crate) is_rest: bool,
}

/// The way by which the renderer came to an object.
#[derive(Clone, Default)]
pub(crate) struct Way<'a> {
    /// Finds the targets of pointers; `None` if no pointer is followed.
    pub(crate) follow: Option<&'a dyn Follow>,
    /// Whether the object that is rendered belongs to the kernel.
    pub(crate) in_kernel: bool,
    /// The address and the type of each object on the way, from the value to the object that is rendered.
    objects: Vec<(u64, u32)>,
}

impl<'a> Way<'a> {
    /// Starts at the value at `address`, which has the type `type_id` of `btf`.
    pub(crate) fn from_value(
        follow: &'a dyn Follow,
        btf: &Btf,
        type_id: u32,
        address: u64,
        in_kernel: bool,
    ) -> Self {
        Self {
            follow: Some(follow),
            in_kernel,
            objects: vec![(address, resolved(btf, type_id))],
        }
    }
}

impl Renderer<'_> {
    /// Renders the pointer in `bytes`, with its target if that is available.
    pub(super) fn pointer(&mut self, ty: &Type<'_>, bytes: &[u8], depth: usize) -> RenderedValue {
        let address = uint(bytes);
        let (deref, not_followed) = match self.target(ty, address, depth) {
            Ok(target) => (target.map(Box::new), None),
            Err(reason) => {
                // A reason takes as much space in the report as a value.
                self.nodes = self.nodes.saturating_sub(1);
                (None, Some(reason))
            }
        };
        RenderedValue::Ptr {
            value: address,
            deref,
            not_followed,
            target_type: ty.target().and_then(|id| self.btf.type_name(id)),
        }
    }

    fn target(
        &mut self,
        ty: &Type<'_>,
        address: u64,
        depth: usize,
    ) -> Result<Option<RenderedValue>, String> {
        let (Some(follow), Some(target)) = (self.way.follow, ty.target()) else {
            return Ok(None);
        };
        if address == 0 {
            return Ok(None);
        }
        // The value itself is the first object on the way, and no pointer led to it.
        let hops = self.way.objects.len().saturating_sub(1);
        let pointer = Pointer {
            btf: self.btf,
            target,
            address,
            in_kernel: self.way.in_kernel,
            hops,
        };
        let Some(found) = follow.follow(&pointer)? else {
            return Ok(None);
        };
        let object = (address, resolved(&found.btf, found.type_id));
        if self.way.objects.contains(&object) {
            return Err("it points back to an object on the way to it".to_owned());
        }
        let mut way = self.way.clone();
        way.in_kernel = found.is_kernel;
        way.objects.push(object);
        // All targets on a path share the part of the budget that is reserved for the first of them.
        let budget = match hops {
            0 => follow.reserve(),
            _ => Reserved {
                nodes: self.nodes,
                is_rest: false,
            },
        };
        if budget.nodes == 0 {
            return Err(SPENT.to_owned());
        }
        let mut inner = Renderer {
            btf: &found.btf,
            limits: self.limits,
            nodes: budget.nodes,
            way,
        };
        // The depth continues from that of the pointer, since readers of the report limit the depth of its JSON.
        let value = inner.value(found.type_id, &found.bytes, depth + 1);
        match hops {
            0 if budget.is_rest && inner.nodes == 0 => return Err(SPENT.to_owned()),
            0 => follow.unused(inner.nodes),
            _ => self.nodes = inner.nodes,
        }
        Ok(Some(value))
    }
}

/// Returns the id of the type behind typedefs, qualifiers and type tags; the id itself if there is none.
fn resolved(btf: &Btf, type_id: u32) -> u32 {
    btf.resolve(type_id).map_or(type_id, |ty| ty.id())
}
