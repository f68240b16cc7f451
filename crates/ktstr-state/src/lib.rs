//! What the processes of one user share on disk: folders that belong to this user alone ([`Folder`]), and locks that
//! name their holder ([`Lock`]).
//!
//! Every crate that keeps state goes through here, so that the rules of who may own and write it are written down once.
//! What the files hold is not this crate's business.

mod error;
mod folder;
mod inherit;
mod lock;
mod queue;

pub use error::StateError;
pub use folder::{Folder, Place, create_file};
pub use lock::{Holder, Lock, PATIENCE};
pub use queue::{Limit, Queue, Turn, Weight};
