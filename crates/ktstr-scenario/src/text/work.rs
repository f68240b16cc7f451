//! The text form of a group of equal workers.

use super::fields::Keys;
use super::node::{Node, TextError, Unsayable};
use super::{Fields, Names, Text};
use crate::workload::WorkSpec;

/// The keys of a group of workers in its own table, an item of `works`.
const KEYS: &[&str] = &[
    "work_type",
    "workers",
    "workers_pct",
    "sched_policy",
    "affinity",
    "mem_policy",
    "mpol_flags",
    "nice",
    "comm",
    "pcomm",
    "uid",
    "gid",
    "numa_node",
];

/// The first seven of [`KEYS`]. A cgroup with a single group of workers can have these keys in its own table. If a cgroup's
/// table has one of the other keys, this key sets the default for all groups of the cgroup.
pub(super) const KEYS_OF_THE_ONLY_ONE: &[&str] = match KEYS.first_chunk::<7>() {
    Some(first) => first,
    None => KEYS,
};

/// Writes the keys of [`KEYS_OF_THE_ONLY_ONE`].
pub(super) fn put_work(keys: &mut Keys, work: &WorkSpec) -> Result<(), Unsayable> {
    let without = WorkSpec::default();
    keys.always("work_type", &work.work_type)?;
    keys.some("workers", &work.num_workers)?;
    keys.some("workers_pct", &work.workers_pct)?;
    keys.unless("sched_policy", &work.sched_policy, &without.sched_policy)?;
    keys.unless("affinity", &work.affinity, &without.affinity)?;
    keys.unless("mem_policy", &work.mem_policy, &without.mem_policy)?;
    keys.unless("mpol_flags", &work.mpol_flags, &without.mpol_flags)
}

/// Reads the keys of [`KEYS_OF_THE_ONLY_ONE`].
pub(super) fn take_work(fields: &Fields<'_>) -> Result<WorkSpec, TextError> {
    Ok(WorkSpec {
        work_type: fields.or("work_type", Default::default)?,
        num_workers: fields.optional("workers")?,
        workers_pct: fields.optional("workers_pct")?,
        sched_policy: fields.or("sched_policy", Default::default)?,
        affinity: fields.or("affinity", Default::default)?,
        mem_policy: fields.or("mem_policy", Default::default)?,
        mpol_flags: fields.or("mpol_flags", Default::default)?,
        ..WorkSpec::default()
    })
}

/// Returns whether the group can be written into the table of its cgroup, as the only group.
pub(super) fn is_plain(work: &WorkSpec) -> bool {
    // All fields are listed, so that a new field does not compile until it has a text form.
    let WorkSpec {
        work_type: _,
        sched_policy: _,
        num_workers: _,
        affinity: _,
        mem_policy: _,
        mpol_flags: _,
        workers_pct: _,
        nice,
        comm,
        pcomm,
        uid,
        gid,
        numa_node,
    } = work;
    nice.is_none()
        && comm.is_none()
        && pcomm.is_none()
        && uid.is_none()
        && gid.is_none()
        && numa_node.is_none()
}

impl Text for WorkSpec {
    fn expected() -> String {
        "a group of workers such as { work_type = \"spin_wait\", workers = 2 }".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let mut keys = Keys::default();
        put_work(&mut keys, self)?;
        keys.some("nice", &self.nice)?;
        keys.some("comm", &self.comm)?;
        keys.some("pcomm", &self.pcomm)?;
        keys.some("uid", &self.uid)?;
        keys.some("gid", &self.gid)?;
        keys.some("numa_node", &self.numa_node)?;
        Ok(keys.done())
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let fields = Fields::of(node, KEYS, names)?;
        let work = Self {
            nice: fields.optional("nice")?,
            comm: fields.optional("comm")?,
            pcomm: fields.optional("pcomm")?,
            uid: fields.optional("uid")?,
            gid: fields.optional("gid")?,
            numa_node: fields.optional("numa_node")?,
            ..take_work(&fields)?
        };
        work.validate()
            .map_err(|error| node.error(error.to_string()))?;
        Ok(work)
    }
}
