//! `host_only` tests: the test function runs in this process, without a machine.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ktstr_assert::{AssertDetail, AssertResult, DetailKind};
use ktstr_guest::cgroup::CgroupManager;
use ktstr_scenario::Ctx;
use ktstr_scenario::topology::TestTopology;
use ktstr_state::env;

use crate::entry::KtstrTestEntry;
use crate::run::{Fault, panic_text};

/// Calls the test function on the host, and judges its result.
pub(crate) fn call(entry: &'static KtstrTestEntry, seed: u64) -> crate::run::Judgement {
    let parent = env::HOST_CGROUP_PARENT
        .get()
        .unwrap_or_else(|| "/sys/fs/cgroup/ktstr".into());
    let cgroups = CgroupManager::new(parent);
    let (result, fault) = match TestTopology::from_system() {
        Err(error) => (
            AssertResult::inconclusive_msg(format!("the host's topology: {error}")),
            Some(Fault::Host),
        ),
        Ok(topology) => {
            let ctx = Ctx::builder(&cgroups, &topology)
                .duration(entry.duration)
                .assert(entry.assert)
                .seed(seed)
                .entry_name(entry.name)
                .variant_hash(crate::variant::hash(entry))
                .build();
            match catch_unwind(AssertUnwindSafe(|| (entry.func)(&ctx))) {
                Ok(Ok(result)) => {
                    let fault = (!result.is_pass() && !result.is_skip()).then_some(Fault::Test);
                    (result, fault)
                }
                Ok(Err(error)) => (failed(format!("{error:#}")), Some(Fault::Test)),
                Err(panic) => (
                    failed(format!(
                        "the test function panicked: {}",
                        panic_text(&*panic)
                    )),
                    Some(Fault::Test),
                ),
            }
        }
    };
    crate::run::Judgement {
        guest: Ok(result.clone()),
        result,
        fault,
        evidence: fault.map(|_| "it ran on the host: no guest, no scheduler".to_owned()),
        crash: None,
    }
}

fn failed(message: String) -> AssertResult {
    AssertResult::fail(AssertDetail::new(DetailKind::Other, message))
}
