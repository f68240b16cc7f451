//! Scenarios as text: what a person writes by hand, and what [`Scenario::to_text`] prints, in TOML.
//!
//! A text is read into a tree of nodes that know their line and the path of their keys, and each type of the language
//! takes itself out of its node and puts itself into one, by the trait `Text`. The operations and the work types
//! get both from their tables (`ops/op.rs`, `workload/work_type/table.rs`); the other types list their variants or fields
//! once, in a macro of `macros.rs`, and one that is not listed there does not compile.
//!
//! | File | Holds |
//! |---|---|
//! | `node.rs` | the tree, and errors with their place |
//! | `read.rs`, `write.rs` | the tree from TOML, and as TOML |
//! | `macros.rs`, `fields.rs` | how structs and enums are read and written |
//! | `basic.rs`, `values.rs`, `work.rs`, `cgroup.rs`, `step.rs` | the types of the language |
//! | `scenario.rs`, `file.rs` | a scenario, and a file with one and with what it is to be run on |
//! | `valid/` | whether a scenario can be run on a machine, before it boots |

#[macro_use]
mod macros;

mod basic;
mod cgroup;
mod fields;
mod file;
mod names;
mod node;
mod read;
mod scenario;
mod step;
mod suggest;
mod valid;
mod values;
mod work;
mod write;

pub use file::{Bounds, ClaimDef, ScenarioFile, Setting, SettingValue};
pub use names::Names;
pub use node::{TextError, Unsayable};
pub use scenario::Scenario;
pub use suggest::nearest;
pub use valid::Invalid;

pub(crate) use fields::{Fields, Shape, needed, operation, put_operation, put_variant, variant};
pub(crate) use node::{Node, Value};

/// A type of the language that has a text.
pub(crate) trait Text: Sized {
    /// What an error says that was expected: "a number of at least 0", "a duration such as \"50ms\"".
    fn expected() -> String;

    /// The value as a node.
    ///
    /// # Errors
    /// [`Unsayable`] for what no text can say, such as a function.
    fn put(&self) -> Result<Node, Unsayable>;

    /// The value that a node says. `names` are the things that a text only names.
    ///
    /// # Errors
    /// [`TextError`] with the place, what was found and what is allowed.
    fn take(node: &Node, names: &Names) -> Result<Self, TextError>;
}
