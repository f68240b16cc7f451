//! Captures storage maps: the value of each owner, with a readable name of the owner as the key.

use ktstr_snapshot::report::{FailureDumpEntry, FailureDumpMap, RenderedMember, RenderedValue};

use super::maps::{MapReader, Types};
use crate::bpf::hash::MAX_BUCKETS;
use crate::bpf::maps::BpfMap;
use crate::kernel::KernelError;
use crate::memory::GuestMemory;
use crate::narrow;
use crate::render::hex;

/// The kind of object that owns the values of a storage map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A thread, which is shown by its pid and name.
    Task,
    /// A cgroup, which is shown by its id and path.
    Cgroup,
    /// An inode, which is shown by its number (`i_ino`).
    Inode,
    /// A socket, which is shown by its address alone.
    Socket,
}

impl Owner {
    /// Returns the kind of owner for the name of a map type; `None` if it is not the type of a storage map.
    pub(super) fn of(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "task_storage" => Self::Task,
            "cgrp_storage" => Self::Cgroup,
            "inode_storage" => Self::Inode,
            "sk_storage" => Self::Socket,
            _ => return None,
        })
    }
}

impl<M: GuestMemory + ?Sized> MapReader<'_, '_, M> {
    pub(super) fn storage(
        &self,
        map: &BpfMap,
        owner: Owner,
        types: &Types,
        dump: &mut FailureDumpMap,
    ) -> Result<(), KernelError> {
        // `max_entries` is 0: the map grows with the number of owners.
        let room = self.room(u64::MAX, u64::from(map.value_size));
        self.charge(map.kva, 8 * MAX_BUCKETS.min(room))?;
        let found = self.view.bpf_storage_entries(map, narrow::length(room))?;
        dump.truncated = found.truncated;
        for entry in found.entries {
            let (key, bytes) = self.key_of(owner, entry.owner);
            let value = self.read(entry.value, u64::from(map.value_size));
            dump.entries.push(FailureDumpEntry {
                key: Some(key),
                key_hex: hex(&bytes),
                value: value
                    .ok()
                    .map(|value| self.value(map, types, entry.value, &value)),
            });
        }
        Ok(())
    }

    /// Returns the owner at `at` as a key: the members that identify it, and the bytes of the first member. For an owner
    /// that cannot be read, the result is a placeholder with the reason, and the bytes of the owner's address.
    fn key_of(&self, owner: Owner, at: u64) -> (RenderedValue, Vec<u8>) {
        let named = match owner {
            Owner::Task => self.task(at),
            Owner::Cgroup => self.cgroup(at),
            Owner::Inode => self.inode(at),
            Owner::Socket => Ok(("sock", Vec::new(), at.to_le_bytes().to_vec())),
        };
        let Ok((type_name, mut members, bytes)) = named else {
            let reason = format!("the owner at {at:#x} could not be read");
            return (
                RenderedValue::Unsupported { reason },
                at.to_le_bytes().to_vec(),
            );
        };
        let address = RenderedValue::Ptr {
            value: at,
            deref: None,
            not_followed: None,
            target_type: Some(type_name.to_owned()),
        };
        members.push(member("address", address));
        let key = RenderedValue::Struct {
            type_name: Some(type_name.to_owned()),
            members,
        };
        (key, bytes)
    }

    fn task(&self, at: u64) -> Result<Named, KernelError> {
        let field = |name| self.view.member("task_struct", name);
        let pid = narrow::int(self.view.read_member(at, &field("pid")?)?);
        let comm = field("comm")?;
        let comm = self
            .view
            .read_string(at.wrapping_add(comm.offset()), comm.size)?;
        let pid_value = RenderedValue::Int {
            bits: 32,
            value: pid.into(),
        };
        let members = vec![member("pid", pid_value), member("comm", text(comm))];
        Ok(("task_struct", members, pid.to_le_bytes().to_vec()))
    }

    fn cgroup(&self, at: u64) -> Result<Named, KernelError> {
        let node = self
            .view
            .read_member(at, &self.view.member("cgroup", "kn")?)?;
        let (id, path) = self.view.cgroup_at(node)?;
        let members = vec![member("id", number(id)), member("path", text(path))];
        Ok(("cgroup", members, id.to_le_bytes().to_vec()))
    }

    fn inode(&self, at: u64) -> Result<Named, KernelError> {
        let number_of = self.view.member("inode", "i_ino")?;
        let ino = self.view.read_member(at, &number_of)?;
        let members = vec![member("i_ino", number(ino))];
        Ok(("inode", members, ino.to_le_bytes().to_vec()))
    }
}

/// The C type of an owner, the members that identify it, and the bytes of its key.
type Named = (&'static str, Vec<RenderedMember>, Vec<u8>);

fn member(name: &str, value: RenderedValue) -> RenderedMember {
    RenderedMember {
        name: name.to_owned(),
        value,
    }
}

fn number(value: u64) -> RenderedValue {
    RenderedValue::Uint { bits: 64, value }
}

fn text(text: String) -> RenderedValue {
    RenderedValue::Bytes {
        hex: hex(text.as_bytes()),
        text: Some(text),
    }
}
