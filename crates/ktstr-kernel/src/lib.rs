//! Finds, fetches, builds, unpacks and caches kernel images, and reads their configuration, BTF and symbols.
//!
//! [`resolve`] turns a user's request, or the lack of one, into a [`Kernel`]. Every kernel ends up in the [`cache`],
//! which has one folder for each kernel image, named after its release and content. This crate does not boot kernels.

mod apt;
mod build;
pub mod cache;
mod command;
mod error;
mod features;
mod image;
pub mod kallsyms;
mod kernel;
pub mod modules;
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
pub use offers::{Candidate, Offers};
pub use progress::Progress;
pub use resolve::{Resolver, fetch, offered, requested, resolve};
