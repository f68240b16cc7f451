//! A capture of a recorded guest, for the unit tests of sections.

#[allow(clippy::unwrap_used)]
#[path = "../../tests/image/mod.rs"]
mod image;

use std::sync::LazyLock;

use crate::report::FailureDumpReport;

/// The capture of the busy guest that `tests/busy.rs` describes: two CPUs, two cgroups, eight workers under `scx-ktstr`.
pub(super) static BUSY: LazyLock<FailureDumpReport> = LazyLock::new(|| {
    let recording = image::Recording::unpack(
        include_bytes!("../../tests/data/busy-7.3.pages.z"),
        include_str!("../../tests/data/busy-7.3.kallsyms"),
        include_bytes!("../../tests/data/busy-7.3.btf.z"),
    );
    recording.capture(&recording.image)
});
