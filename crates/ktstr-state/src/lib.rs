//! State that the processes of one user share on disk: folders that belong to this user alone ([`Folder`]), locks that name
//! their holder ([`Lock`]), and a queue for the host's resources ([`Queue`]). The crate also has what all code of the host
//! needs: the environment variables of the host ([`mod@env`]), and what depends on the architecture ([`arch`]).
//!
//! Every crate that keeps state on disk uses this one, so that the rules about owners and permissions are written down
//! once. The contents of the files are not the concern of this crate.

pub mod arch;
pub mod env;
mod error;
mod folder;
mod inherit;
mod lock;
mod queue;

pub use error::StateError;
pub use folder::{Folder, Place, create_file};
pub use lock::{Holder, Lock, PATIENCE};
pub use queue::{Limit, Queue, Turn, Weight};
