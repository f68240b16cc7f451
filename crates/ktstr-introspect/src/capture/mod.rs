//! One capture: everything that a [`FailureDumpReport`] holds, read from a stopped guest.
//!
//! A capture never fails as a whole: each part is read separately, and if a part cannot be read, the report has the reason.

mod kinds;
mod maps;
mod pointers;
mod storage;

use std::fmt::Display;

use ktstr_snapshot::read_sections;
use ktstr_snapshot::report::{FailureDumpReport, MAX_TASK_ENRICHMENTS};

use crate::kernel::KernelView;
use crate::memory::GuestMemory;
use crate::render::RenderLimits;

/// The parts that a capture reads, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Whether the BPF maps are read, with their types and values.
    pub maps: bool,
    /// Whether the list of tasks is read.
    pub tasks: bool,
    /// The largest number of tasks; more than [`MAX_TASK_ENRICHMENTS`] are never read.
    pub max_tasks: usize,
    /// The largest number of entries of one map.
    pub max_entries: usize,
    /// The largest number of bytes of one map's keys and values that are read.
    pub max_map_bytes: u64,
    /// The largest number of bytes that are read for all maps and their types together.
    pub max_total_bytes: u64,
    /// The largest number of nodes that are rendered for all maps together.
    pub max_total_nodes: usize,
    /// The limits of each rendered value.
    pub limits: RenderLimits,
    /// The limits on what is read behind pointers.
    pub pointers: PointerLimits,
    /// Milliseconds since the start of the run, for the event counters.
    pub elapsed_ms: Option<u64>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            maps: true,
            tasks: true,
            max_tasks: MAX_TASK_ENRICHMENTS,
            max_entries: 1024,
            max_map_bytes: 1 << 20,
            max_total_bytes: 32 << 20,
            max_total_nodes: 1 << 20,
            limits: RenderLimits::default(),
            pointers: PointerLimits::default(),
            elapsed_ms: None,
        }
    }
}

/// The limits on what is read behind the pointers in the values of maps. These are separate from the limits on the values
/// themselves, so that what is read behind the pointers of one value never causes another value to be cut short.
///
/// A map may use up to half of the budget that the maps before it left, so that a map with many pointers leaves some for the
/// others. To put `nodes` into proportion: a task is rendered as some 900 nodes, and a CPU mask as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointerLimits {
    /// The largest number of pointers on a path from a value; 0 follows none.
    pub hops: usize,
    /// The largest number of pointers that are followed in one capture.
    pub targets: usize,
    /// The largest number of bytes that are read behind pointers in one capture.
    pub bytes: u64,
    /// The largest number of nodes that are rendered behind pointers in one capture.
    pub nodes: usize,
    /// The largest size of one target in bytes. A larger target is not read at all.
    pub target_bytes: u64,
    /// The largest number of nodes that are rendered for one pointer in the value of a map, including the nodes for the pointers
    /// in its target.
    pub target_nodes: usize,
}

impl Default for PointerLimits {
    fn default() -> Self {
        Self {
            hops: 2,
            targets: 4096,
            bytes: 4 << 20,
            nodes: 16 * 1024,
            target_bytes: 16 * 1024,
            target_nodes: 4096,
        }
    }
}

/// The input for reading a section: the stopped guest, and the options of the capture. [`ReadSection`] is implemented for this
/// type once for each section, in the module that reads the kernel structures of that section.
///
/// [`ReadSection`]: ktstr_snapshot::ReadSection
pub(crate) struct Reading<'r, 'g, M: GuestMemory + ?Sized> {
    pub(crate) view: &'r KernelView<'g, M>,
    pub(crate) options: &'r CaptureOptions,
}

/// Captures the guest behind `view`.
pub fn capture<M: GuestMemory + ?Sized>(
    view: &KernelView<'_, M>,
    options: &CaptureOptions,
) -> FailureDumpReport {
    let mut report = FailureDumpReport::default();
    if options.maps {
        maps::capture(view, options, &mut report);
    } else {
        report.maps_unavailable = Some("not asked for".to_owned());
        report.active_unavailable = Some("maps were not asked for".to_owned());
    }
    read_sections(&Reading { view, options }, &mut report);
    report
}

/// Returns the value, or puts the text of the error into `unavailable`.
fn part<T, E: Display>(result: Result<T, E>, unavailable: &mut Option<String>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            *unavailable = Some(error.to_string());
            None
        }
    }
}
