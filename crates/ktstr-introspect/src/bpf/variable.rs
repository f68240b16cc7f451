//! Where a variable of the attached scheduler lies, by the end of its map's name and its own.

use thiserror::Error;

use super::maps::BpfMap;
use crate::btf::{Btf, Kind, Type};
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// Bytes of a map's BTF at most: a large scheduler has some 200 KB.
pub(crate) const MAX_MAP_BTF: u64 = 8 << 20;
/// Names that a message lists at most.
const NAMES: usize = 16;

/// A variable of a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// The guest-physical address of its first byte.
    pub gpa: u64,
    /// How many bytes it has, by its type.
    pub size: u64,
}

/// Why there is no such variable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VariableError {
    /// The kernel could not be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Nobody's variables are there.
    #[error("no sched_ext scheduler is attached")]
    NoScheduler,
    /// No array of the scheduler's is named like that.
    #[error("the scheduler has no array map whose name ends with {map:?}; its arrays are: {known}")]
    NoMap {
        /// The end of a name that was asked for.
        map: String,
        /// The scheduler's arrays.
        known: String,
    },
    /// The verifier has taken the values for constants when the programs were loaded.
    #[error(
        "the map {map:?} is read-only: its values were made part of the programs, and a write has no effect"
    )]
    ReadOnly {
        /// The map's name.
        map: String,
    },
    /// The map says nothing of its types.
    #[error("the map {map:?} has no types")]
    NoTypes {
        /// The map's name.
        map: String,
    },
    /// The map has no such variable.
    #[error("the map {map:?} has no variable {field:?}; it has: {known}")]
    NoVariable {
        /// The map's name.
        map: String,
        /// The variable that was asked for.
        field: String,
        /// The variables that there are, some of them.
        known: String,
    },
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// The variable `field` in the attached scheduler's first array map whose name ends with `suffix`.
    ///
    /// # Errors
    /// [`VariableError`] names what was looked for and what there is.
    pub fn scx_variable(&self, suffix: &str, field: &str) -> Result<Variable, VariableError> {
        let (maps, _) = self.bpf_maps()?;
        let active = self.active_scheduler(&maps)?;
        let own = active.ok_or(VariableError::NoScheduler)?.map_kvas;
        let arrays: Vec<&BpfMap> = maps
            .iter()
            .filter(|map| map.type_name == "array" && own.contains(&map.kva))
            .collect();
        let Some(map) = arrays.iter().find(|map| map.name.ends_with(suffix)) else {
            return Err(VariableError::NoMap {
                map: suffix.to_owned(),
                known: list(arrays.iter().map(|map| map.name.as_str())),
            });
        };
        let name = || map.name.clone();
        if map.name.ends_with(".rodata") {
            return Err(VariableError::ReadOnly { map: name() });
        }
        if map.btf == 0 {
            return Err(VariableError::NoTypes { map: name() });
        }
        let (data, size, base) = self.btf_parts(map.btf)?;
        let btf = self.btf_at(data, size, base)?;
        let no_types = || VariableError::NoTypes { map: name() };
        let value = btf.resolve(map.btf_value_type_id).ok_or_else(no_types)?;
        let found = variables(&btf, &value).find(|(known, ..)| *known == field);
        let Some((_, offset, type_id)) = found else {
            return Err(VariableError::NoVariable {
                map: name(),
                field: field.to_owned(),
                known: list(variables(&btf, &value).map(|(known, ..)| known)),
            });
        };
        let (values, _) = self.bpf_array_values(map)?;
        Ok(Variable {
            gpa: self.translate(values.wrapping_add(u64::from(offset)))?,
            size: btf.size_of(type_id).unwrap_or(0),
        })
    }

    /// Where a `struct btf` (kernel/bpf/btf.c) has its bytes, how many, and its base.
    pub(crate) fn btf_parts(&self, kva: u64) -> Result<(u64, u64, u64), KernelError> {
        let field = |name| self.read_member(kva, &self.member("btf", name)?);
        Ok((field("data")?, field("data_size")?, field("base_btf")?))
    }

    /// Reads the types there, on top of the kernel's own if they are split: there is no other base in the kernel.
    pub(crate) fn btf_at(&self, data: u64, size: u64, base: u64) -> Result<Btf, KernelError> {
        let bytes = self.read_bytes(data, size, MAX_MAP_BTF)?;
        Ok(match base {
            0 => Btf::parse(bytes)?,
            _ => Btf::parse_split(bytes, self.btf())?,
        })
    }
}

/// Names of a section's variables or of a struct's members, with their offsets in bytes and their types.
fn variables<'a>(btf: &'a Btf, value: &Type<'a>) -> impl Iterator<Item = (&'a str, u32, u32)> {
    let of_section = value.section_vars().filter_map(|var| {
        let ty = btf.get(var.type_id)?;
        (ty.kind() == Kind::Var).then(|| (ty.name(), var.offset, var.type_id))
    });
    let of_struct = value
        .fields()
        .filter(|field| field.bitfield_bits.is_none() && field.offset_bits % 8 == 0)
        .map(|field| (field.name, field.offset_bits / 8, field.type_id));
    of_section.chain(of_struct)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}
