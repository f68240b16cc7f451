//! Tests of a host that has `/dev/kvm` but cannot boot a kernel under it. The harness remembers that KVM is unusable: the first
//! run finds and reports it, and each later run reports it only if the run fails.

#[macro_use]
mod common;

use common::{Case, Ended, lend_kernels, private_tempdir};
use ktstr::prelude::*;

const ONE_CPU: Topology = Topology::new(1, 1, 1, 1);
const LOST: &str = "/dev/kvm exists but is not used: kernel ";

case!(PASSES = "passes", |_| Ok(AssertResult::pass()), topology: ONE_CPU);
case!(FAILS = "fails", |_| Ok(AssertResult::fail_msg("wanted")), topology: ONE_CPU);

#[test]
fn an_unusable_kvm_is_reported_once_and_in_every_failure() {
    if std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return;
    }
    let cache = private_tempdir();
    lend_kernels(cache.path());
    let run = |name: &str| -> Ended {
        let mut case = Case::new(name).env("KTSTR_CACHE_DIR", cache.path());
        for variable in ["KTSTR_ACCEL", "KTSTR_CLOCK"] {
            case.command.env_remove(variable);
        }
        case.run()
    };
    let first = run("passes");
    first.says(0, &[]);
    let kept = std::fs::read_dir(cache.path().join("kvm"))
        .expect("the cache has what was found out about KVM");
    assert_eq!(kept.count(), 1);
    let lost = first.text.contains(LOST);
    let record = first.record.as_ref().expect("a record").record.clone();
    let kvm = record.accelerator == Some(ktstr_record::Accelerator::Kvm);
    assert_eq!(kvm, !lost, "{}", first.text);
    // A run that passes does not repeat the report; a run that fails does.
    let again = run("passes");
    assert!(!again.says(0, &[]).text.contains(LOST), "{}", again.text);
    let failed = run("fails");
    assert_eq!(
        failed.says(1, &[]).text.contains(LOST),
        lost,
        "{}",
        failed.text
    );
}
