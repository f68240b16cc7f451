//! Attributes findings about the NUMA nodes of pages. The kernel chooses the node of a page when the page is first touched: by
//! the memory policy, and unless that names other nodes, by the CPU on which the task runs. So a scheduler is at fault only if
//! it ran a task on a CPU outside the task's cpuset, which is a finding of its own.

use std::collections::BTreeMap;

use ktstr_assert::{AssertDetail, NoteValue};
use ktstr_guest::engine::memory_key;

use super::Fault;

/// Returns who is at fault for these findings about pages, the only ones of a run, and the evidence.
pub(super) fn fault(
    measurements: &BTreeMap<String, NoteValue>,
    findings: &[&AssertDetail],
) -> (Fault, String) {
    let asked = |detail: &&AssertDetail| {
        let key = memory_key(detail.cgroup.as_deref()?);
        match measurements.get(&key)? {
            NoteValue::Text(text) => Some(text.clone()),
            _ => None,
        }
    };
    let by_test: Option<Vec<String>> = findings.iter().map(asked).collect();
    match by_test.and_then(|texts| texts.into_iter().next()) {
        Some(text) => (Fault::Test, text),
        None => {
            let why = "the kernel chose the nodes of the pages when they were first touched, and nothing shows that a worker ran \
                       on a CPU outside its cpuset at that time";
            (Fault::Undetermined, why.to_owned())
        }
    }
}
