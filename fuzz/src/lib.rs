//! What the fuzz targets share: a bound on the memory that an input takes, numbers drawn from an input, damage to JSON, and
//! recorded images of guests, whose words an input damages.
//!
//! A target exercises one family of readers. It builds data for the readers from the bytes of an input, calls them, and
//! asserts what must hold for any bytes: each reader returns within the memory that [`bounded`] allows and the time that
//! `scripts/fuzz.sh` allows, and it reads back what an encoder wrote. A bug that is found is fixed in the reader, with a
//! test in the reader's crate.

mod damage;
mod draw;
mod memory;
mod recorded;

pub use damage::damaged;
pub use draw::Draw;
pub use memory::bounded;
pub use recorded::{Guest, Image, Noted, Paged, Recording};
