//! Finds a variable of the attached scheduler by the variable's name and by the suffix of the name of its map, such as `.bss`.

use thiserror::Error;

use super::maps::BpfMap;
use crate::btf::{Btf, Kind, Type};
use crate::kernel::{KernelError, KernelView};
use crate::memory::GuestMemory;

/// The largest size, in bytes, of a BTF that is read for a map; the BTF of a large scheduler has about 200 KB.
pub(crate) const MAX_MAP_BTF: u64 = 8 << 20;
/// The largest number of names in a message.
const NAMES: usize = 16;

/// Where the host can write a variable of a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// The guest-physical address of its first byte.
    pub gpa: u64,
    /// Its size in bytes, from its type; 0 if the type has none.
    pub size: u64,
}

/// Where the host can read a variable of a scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedVariable {
    /// The guest-physical addresses of its values: a single one, or one for each CPU.
    pub gpas: Vec<u64>,
    /// The size of each value in bytes, from its type; 0 if the type has none.
    pub size: u64,
    /// The name of its map.
    pub map: String,
}

/// A variable in the value of a map.
struct Found {
    map: BpfMap,
    offset: u64,
    size: u64,
}

/// Why a variable could not be found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VariableError {
    /// The kernel could not be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No scheduler is attached.
    #[error("no sched_ext scheduler is attached")]
    NoScheduler,
    /// The scheduler has no map of the requested type and name.
    #[error(
        "the scheduler has no {kind} map whose name ends with {map:?}; its {kind} maps are: {known}"
    )]
    NoMap {
        /// The requested type of map: `array` or `percpu_array`.
        kind: &'static str,
        /// The requested suffix of the name.
        map: String,
        /// The names of up to 16 of its maps of that type, or `none`.
        known: String,
    },
    /// The verifier treated the values as constants when the programs were loaded.
    #[error(
        "the map {map:?} is read-only: its values were made part of the programs, and a write has no effect"
    )]
    ReadOnly {
        /// The name of the map that was found, which ends with `.rodata`.
        map: String,
    },
    /// The map has no type information.
    #[error("the map {map:?} has no types")]
    NoTypes {
        /// The name of the map that was found.
        map: String,
    },
    /// The map has no such variable.
    #[error("the map {map:?} has no variable {field:?}; it has: {known}")]
    NoVariable {
        /// The name of the map that was searched.
        map: String,
        /// The name of the variable that was requested.
        field: String,
        /// The names of up to 16 variables of the map, or `none`.
        known: String,
    },
}

impl<M: GuestMemory + ?Sized> KernelView<'_, M> {
    /// Finds the variable `field` for writing, in the attached scheduler's first array map whose name ends with `suffix`.
    ///
    /// # Errors
    /// [`VariableError`] names what was requested and what exists.
    pub fn scx_variable(&self, suffix: &str, field: &str) -> Result<Variable, VariableError> {
        let found = self.find(suffix, field, "array")?;
        if found.map.name.ends_with(".rodata") {
            return Err(VariableError::ReadOnly {
                map: found.map.name,
            });
        }
        let values = self.bpf_array_values(&found.map)?;
        Ok(Variable {
            gpa: self.translate(values.first.wrapping_add(found.offset))?,
            size: found.size,
        })
    }

    /// Finds the variable `field` for reading; a constant of a `.rodata` map is found too. With `per_cpu` the variable is
    /// looked up in the first per-CPU array map whose name ends with `suffix`, and its values are those in the map's first
    /// entry.
    ///
    /// # Errors
    /// As for [`Self::scx_variable`], except that a read-only map is no error. The variable may have any type: the caller
    /// checks the size.
    pub fn scx_watched(
        &self,
        suffix: &str,
        field: &str,
        per_cpu: bool,
    ) -> Result<WatchedVariable, VariableError> {
        let kind = if per_cpu { "percpu_array" } else { "array" };
        let Found { map, offset, size } = self.find(suffix, field, kind)?;
        let values = match per_cpu {
            true => (0..self.cpu_count()?)
                .map(|cpu| self.bpf_percpu_array_value(&map, 0, cpu))
                .collect::<Result<_, _>>()?,
            false => vec![self.bpf_array_values(&map)?.first],
        };
        let gpas = values
            .into_iter()
            .map(|value| self.translate(value.wrapping_add(offset)));
        Ok(WatchedVariable {
            gpas: gpas.collect::<Result<_, _>>()?,
            size,
            map: map.name,
        })
    }

    fn find(&self, suffix: &str, field: &str, kind: &'static str) -> Result<Found, VariableError> {
        let (maps, _) = self.bpf_maps()?;
        let active = self.active_scheduler(&maps)?;
        let own = active.ok_or(VariableError::NoScheduler)?.map_kvas;
        let arrays: Vec<&BpfMap> = maps
            .iter()
            .filter(|map| map.type_name == kind && own.contains(&map.kva))
            .collect();
        let Some(map) = arrays.iter().find(|map| map.name.ends_with(suffix)) else {
            return Err(VariableError::NoMap {
                kind,
                map: suffix.to_owned(),
                known: list(arrays.iter().map(|map| map.name.as_str())),
            });
        };
        let no_types = || VariableError::NoTypes {
            map: map.name.clone(),
        };
        if map.btf == 0 {
            return Err(no_types());
        }
        let btf = self.btf_at(self.btf_parts(map.btf)?)?;
        let value = btf.resolve(map.btf_value_type_id).ok_or_else(no_types)?;
        let found = variables(&btf, &value).find(|(known, ..)| *known == field);
        let Some((_, offset, type_id)) = found else {
            return Err(VariableError::NoVariable {
                map: map.name.clone(),
                field: field.to_owned(),
                known: list(variables(&btf, &value).map(|(known, ..)| known)),
            });
        };
        Ok(Found {
            offset: u64::from(offset),
            size: btf.size_of(type_id).unwrap_or(0),
            map: (*map).clone(),
        })
    }

    /// Returns where the bytes of the `struct btf` at `kva` are.
    pub(crate) fn btf_parts(&self, kva: u64) -> Result<BtfParts, KernelError> {
        let field = |name| self.read_member(kva, &self.member("btf", name)?);
        Ok(BtfParts {
            data: field("data")?,
            size: field("data_size")?,
            base: field("base_btf")?,
        })
    }

    /// Reads the BTF of a `struct btf`. A blob with a base continues the kernel's own BTF, which is the only
    /// base that the kernel uses.
    pub(crate) fn btf_at(&self, parts: BtfParts) -> Result<Btf, KernelError> {
        let bytes = self.read_bytes(parts.data, parts.size, MAX_MAP_BTF)?;
        Ok(match parts.base {
            0 => Btf::parse(bytes)?,
            _ => Btf::parse_split(bytes, self.btf())?,
        })
    }
}

/// The members of a `struct btf` (kernel/bpf/btf.c) that say where its bytes are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BtfParts {
    /// The address of the bytes.
    pub(crate) data: u64,
    /// The number of the bytes.
    pub(crate) size: u64,
    /// The address of the `struct btf` that the bytes continue; 0 if there is none.
    pub(crate) base: u64,
}

/// Returns the variables of a section or the members of a struct as (name, offset in bytes, type id). Bit-fields, and
/// members that do not start at a byte boundary, are left out.
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
