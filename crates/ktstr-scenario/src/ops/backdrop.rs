//! The backdrop: what exists during a whole scenario, in addition to its steps.

use super::cgroup_def::CgroupDef;
use super::op::Op;
use crate::payload::Payload;

/// The cgroups, operations and programs that are set up before the first step and last until the end of the scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backdrop {
    /// The cgroups that exist during all steps.
    pub cgroups: Vec<CgroupDef>,
    /// The operations that run after the cgroups are set up.
    pub ops: Vec<Op>,
    /// Programs of the host that run in the harness's own cgroup. They are started after the operations.
    pub payloads: Vec<&'static Payload>,
}

impl Backdrop {
    /// An empty backdrop: no cgroups, operations or programs.
    pub const fn new() -> Self {
        Self {
            cgroups: Vec::new(),
            ops: Vec::new(),
            payloads: Vec::new(),
        }
    }

    /// A backdrop of these cgroups, without operations and programs.
    pub fn from_cgroups(cgroups: impl IntoIterator<Item = CgroupDef>) -> Self {
        cgroups.into_iter().collect()
    }

    /// Adds a cgroup, which exists during all steps.
    pub fn push_cgroup(mut self, def: CgroupDef) -> Self {
        self.cgroups.push(def);
        self
    }

    /// Appends cgroups, which are set up in this order.
    pub fn extend_cgroups(mut self, defs: impl IntoIterator<Item = CgroupDef>) -> Self {
        self.cgroups.extend(defs);
        self
    }

    /// Adds an operation, which runs once, after the cgroups are set up.
    pub fn push_op(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Appends operations, which run once, in this order.
    pub fn extend_ops(mut self, ops: impl IntoIterator<Item = Op>) -> Self {
        self.ops.extend(ops);
        self
    }

    /// Adds a program of the host, which is started in the harness's own cgroup after the operations.
    pub fn push_payload(mut self, payload: &'static Payload) -> Self {
        self.payloads.push(payload);
        self
    }

    /// Appends programs of the host, which are started in this order.
    pub fn extend_payloads(mut self, payloads: impl IntoIterator<Item = &'static Payload>) -> Self {
        self.payloads.extend(payloads);
        self
    }

    /// Returns whether the backdrop is empty.
    pub fn is_empty(&self) -> bool {
        self.cgroups.is_empty() && self.ops.is_empty() && self.payloads.is_empty()
    }
}

impl FromIterator<CgroupDef> for Backdrop {
    fn from_iter<I: IntoIterator<Item = CgroupDef>>(defs: I) -> Self {
        Self {
            cgroups: defs.into_iter().collect(),
            ops: Vec::new(),
            payloads: Vec::new(),
        }
    }
}
