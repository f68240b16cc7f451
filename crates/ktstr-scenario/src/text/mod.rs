//! Scenarios as TOML text, as people write them and as [`Scenario::to_text`] prints them.
//!
//! A text is parsed into a tree of nodes. Each node has its line, and the path of keys that leads to it. Each type of the
//! language converts itself from and to a node with the trait `Text`. Operations and work types get these conversions from their
//! tables (`ops/table.rs`, `workload/work_type/table.rs`). Most other types list their variants or fields once, in a macro of
//! `macros.rs`. The code does not compile if a variant or a field is missing in the list.
//!
//! | File | Holds |
//! |---|---|
//! | `node.rs` | the tree, and errors with their place |
//! | `names.rs` | the programs, schedulers and work types to which a text refers by name |
//! | `suggest.rs` | suggestions for unknown words |
//! | `read.rs`, `write.rs` | the parser from TOML to the tree, and the writer from the tree to TOML |
//! | `macros.rs`, `fields.rs` | how structs and enums are read and written |
//! | `basic.rs`, `values.rs`, `work.rs`, `cgroup.rs`, `step.rs` | the types of the language |
//! | `scenario.rs`, `file.rs` | a scenario, and a file with a scenario and its settings |
//! | `valid/` | the check, before a machine boots, whether a scenario can be run on it |

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

/// A type of the language that has a text form.
pub(crate) trait Text: Sized {
    /// Returns the words that follow "expected" in an error, such as "a number of at least 0" or "a duration such as \"50ms\"".
    fn expected() -> String;

    /// Converts the value to a node.
    ///
    /// # Errors
    /// [`Unsayable`] for a value without a text form, such as a function.
    fn put(&self) -> Result<Node, Unsayable>;

    /// Parses a node. `names` resolves names of programs, schedulers and custom work types.
    ///
    /// # Errors
    /// [`TextError`] with the place, what was found and what is allowed.
    fn take(node: &Node, names: &Names) -> Result<Self, TextError>;
}
