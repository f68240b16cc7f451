//! Kernel images: found, fetched, unpacked, cached; their configuration, BTF and symbols.
//!
//! [`resolve`] turns what the user asked for, or nothing, into a [`Kernel`]. Everything ends up in the
//! [`cache`]: one folder a kernel image, named by its release and content. Nothing here boots a kernel.

mod apt;
mod build;
pub mod cache;
mod command;
mod error;
mod features;
mod image;
pub mod kallsyms;
mod kernel;
mod offers;
mod package;
pub mod progress;
mod resolve;
mod sources;
mod stamps;
pub mod version;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use build::build;
pub use error::KernelError;
pub use kernel::{Kernel, Source};
pub use offers::Candidate;
pub use progress::Progress;
pub use resolve::{Resolver, fetch, offered, resolve};
