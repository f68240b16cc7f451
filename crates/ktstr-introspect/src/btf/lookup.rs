//! Look-ups of types by name, of members by path, and of the sizes and names of types.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{Btf, Kind, MAX_DEPTH, Type};

/// The position of a member in its struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The offset from the start of the outer struct, in bits.
    pub offset_bits: u64,
    /// The size of its type in bytes; 0 for a flexible array, and for a type that has no size.
    pub size: u64,
    /// The id of its type in this BTF, before typedefs and qualifiers are resolved.
    pub type_id: u32,
    /// The width of a bit-field in bits; `None` for any other member.
    pub bitfield_bits: Option<u32>,
}

impl Member {
    /// Returns the offset in bytes; for a bit-field, the offset of the byte that holds its first bit.
    pub fn offset(&self) -> u64 {
        self.offset_bits / 8
    }
}

/// Why a member could not be found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemberError {
    /// There is no such struct or union, or the type of a member on the path is malformed.
    #[error("BTF has no struct or union `{name}` (looking for `{name}.{path}`)")]
    NoStruct {
        /// The name of the struct or union that was requested.
        name: String,
        /// The dotted path that was requested in it.
        path: String,
    },
    /// The member does not exist.
    #[error("BTF: no member `{component}` on the path `{name}.{path}`; there are: {available}")]
    NoMember {
        /// The name of the struct or union that was requested.
        name: String,
        /// The dotted path that was requested in it.
        path: String,
        /// The component that was not found.
        component: String,
        /// The members of the struct that was searched, separated by commas, at most 64.
        available: String,
    },
}

impl Btf {
    /// Returns the type of that name and kind, the one with the lowest id if there are several; `None` if there is none.
    pub fn find(&self, name: &str, kind: Kind) -> Option<Type<'_>> {
        let ids = self.ids_by_name(name).into_iter();
        ids.filter_map(|id| self.get(id))
            .find(|ty| ty.kind() == kind)
    }

    /// Returns the struct or union `name`; if there are several, the first that has members, or the first of all if none
    /// has. `None` if the name is unknown.
    pub fn find_struct(&self, name: &str) -> Option<Type<'_>> {
        let ids = self.ids_by_name(name).into_iter();
        let mut all = ids
            .filter_map(|id| self.get(id))
            .filter(|ty| matches!(ty.kind(), Kind::Struct | Kind::Union));
        let first = all.next()?;
        if first.fields().next().is_some() {
            return Some(first);
        }
        all.find(|ty| ty.fields().next().is_some()).or(Some(first))
    }

    /// Returns the type behind typedefs, qualifiers, type tags and variables; `None` if an id is unknown, or if the chain of
    /// references has 32 links or more, which every circular chain has.
    pub fn resolve(&self, mut id: u32) -> Option<Type<'_>> {
        for _ in 0..MAX_DEPTH {
            let ty = self.get(id)?;
            match ty.kind() {
                Kind::Typedef
                | Kind::Volatile
                | Kind::Const
                | Kind::Restrict
                | Kind::TypeTag
                | Kind::Var => id = ty.target()?,
                _ => return Some(ty),
            }
        }
        None
    }

    /// Returns the size of a type in bytes; `None` if the id is unknown, if the type has no size (a function or a forward
    /// declaration, for instance), if types refer to each other in a circle, or if the size does not fit 64 bits.
    pub fn size_of(&self, id: u32) -> Option<u64> {
        let mut id = id;
        let mut factor = 1u64;
        for _ in 0..MAX_DEPTH {
            let ty = self.resolve(id)?;
            let Some(array) = ty.array() else {
                return ty.own_size()?.checked_mul(factor);
            };
            factor = factor.checked_mul(u64::from(array.len))?;
            id = array.element;
        }
        None
    }

    /// Returns the member of the struct or union `name` at a dotted path. Members of anonymous members are found too.
    ///
    /// # Errors
    /// [`MemberError`] names the struct, or the component of the path, that does not exist.
    pub fn member(&self, name: &str, path: &str) -> Result<Member, MemberError> {
        let no_struct = || MemberError::NoStruct {
            name: name.to_owned(),
            path: path.to_owned(),
        };
        let mut ty = self.find_struct(name).ok_or_else(no_struct)?;
        let mut offset_bits = 0u64;
        let mut found = None;
        for component in path.split('.').take(MAX_DEPTH) {
            let member = self.direct_member(&ty, component, 0, &mut BTreeSet::new());
            let member = member.ok_or_else(|| MemberError::NoMember {
                name: name.to_owned(),
                path: path.to_owned(),
                component: component.to_owned(),
                available: names_of(&ty),
            })?;
            offset_bits = offset_bits.saturating_add(member.offset_bits);
            ty = self.resolve(member.type_id).ok_or_else(no_struct)?;
            found = Some(member);
        }
        let member = found.ok_or_else(no_struct)?;
        Ok(Member {
            offset_bits,
            ..member
        })
    }

    /// Returns the member `name` of `ty` itself or of its anonymous members, which are searched up to eight levels deep,
    /// except for the types in `searched`.
    ///
    /// Each type is searched once. In a hostile BTF a struct can have itself as an anonymous member many times, and then the
    /// number of paths through it grows exponentially with the depth.
    fn direct_member(
        &self,
        ty: &Type<'_>,
        name: &str,
        depth: usize,
        searched: &mut BTreeSet<u32>,
    ) -> Option<Member> {
        if depth > 8 || !searched.insert(ty.id()) {
            return None;
        }
        for field in ty.fields() {
            if field.name == name && !name.is_empty() {
                return Some(Member {
                    offset_bits: u64::from(field.offset_bits),
                    size: self.size_of(field.type_id).unwrap_or(0),
                    type_id: field.type_id,
                    bitfield_bits: field.bitfield_bits,
                });
            }
            if field.name.is_empty() {
                let inner = self.resolve(field.type_id)?;
                if let Some(member) = self.direct_member(&inner, name, depth + 1, searched) {
                    return Some(Member {
                        offset_bits: member.offset_bits + u64::from(field.offset_bits),
                        ..member
                    });
                }
            }
        }
        None
    }

    /// Returns the index of the parameter `name` of the function `function`, counted from 0; `None` if there is no such function
    /// or parameter. Between kernel versions, the position of a parameter changes more often than its name.
    pub fn parameter(&self, function: &str, name: &str) -> Option<u32> {
        let prototype = self.get(self.find(function, Kind::Func)?.target()?)?;
        let place = prototype.parameters().position(|found| found == name)?;
        u32::try_from(place).ok()
    }

    /// Returns the name of the first enumerator of the enum `name` with that value; `None` if there is no such
    /// enum or enumerator.
    pub fn enumerator(&self, name: &str, value: i64) -> Option<&str> {
        let ty = self
            .find(name, Kind::Enum)
            .or_else(|| self.find(name, Kind::Enum64))?;
        let mut all = ty.enumerators();
        all.find(|e| e.value == value).map(|e| e.name)
    }

    /// Returns the value of an enumerator of the enum `name`; `None` if there is no such enum or enumerator.
    pub fn enumerator_value(&self, name: &str, enumerator: &str) -> Option<i64> {
        let ty = self
            .find(name, Kind::Enum)
            .or_else(|| self.find(name, Kind::Enum64))?;
        let mut all = ty.enumerators();
        all.find(|e| e.name == enumerator).map(|e| e.value)
    }

    /// Returns the name of a type, for messages and for [`target_type`](ktstr_snapshot::report::RenderedValue::Ptr): the
    /// first name behind qualifiers, type tags and variables. `None` if there is no such name (for a pointer or an anonymous
    /// struct, for instance), or if an id on the way is unknown.
    pub fn type_name(&self, id: u32) -> Option<String> {
        let mut ty = self.get(id)?;
        for _ in 0..MAX_DEPTH {
            if !matches!(ty.kind(), Kind::TypeTag | Kind::Var) && !ty.name().is_empty() {
                return Some(ty.name().to_owned());
            }
            match ty.kind() {
                Kind::TypeTag | Kind::Var | Kind::Const | Kind::Volatile | Kind::Restrict => {
                    ty = self.get(ty.target()?)?;
                }
                _ => return None,
            }
        }
        None
    }
}

fn names_of(ty: &Type<'_>) -> String {
    let names: Vec<&str> = ty.fields().map(|field| field.name).take(64).collect();
    if names.is_empty() {
        return "(none)".to_owned();
    }
    names.join(", ")
}
