//! Tests of public paths of the crate's root that the tests of users name, and that no other test here uses.

use std::process::id;

use ktstr::cache::{Cache, Damaged, Kernel, KernelError, Source};
use ktstr::fetch::{Candidate, Listener, Offers, Progress};
use ktstr::flock::{Holder, Lock, Place, StateError};
use ktstr::gauntlet::{PRESETS, Preset, TopologyConstraints};
use ktstr::host_context::HostContext;
use ktstr::kernel_path::{Resolver, Spec};
use ktstr::prelude::{SchedulerSpec, VmResult};
use ktstr::scheduler_artifact::{ResolveSource, resolve_scheduler};
use ktstr::verifier::ProgVerifierStats;

#[test]
fn kernels_are_found_and_fetched() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::at(folder.path());
    let scanned: (Vec<Kernel>, Vec<Damaged>) = cache.scan().expect("an empty cache");
    assert_eq!((scanned.0.len(), scanned.1.len()), (0, 0));
    let offline = Resolver {
        cache,
        offline: true,
        host: folder.path().to_owned(),
    };
    let found = offline.resolve(None, &mut |_: &Progress| {});
    assert!(
        matches!(found, Err(KernelError::Offline { .. })),
        "{found:?}"
    );
    let missing = ktstr::kernel_path::resolve(Some("/no/such/kernel"), &mut |_| {});
    assert!(missing.is_err(), "{missing:?}");
    assert!(ktstr::cache::remove("no-such-kernel").is_err());

    let spec = Spec::parse("7.3+cloud").expect("a version and a flavour");
    assert!(spec.matches("7.3.4+deb13-cloud-amd64"));
    assert!(!spec.matches("7.2.9+deb13-cloud-amd64"));

    // The kernel of this run, by each of the paths that name it.
    let boot = ktstr::kernel_path::resolve_test_kernel().expect("a kernel");
    let found = ktstr::kernel_path::find_kernel().expect("a kernel");
    assert_eq!(found.as_ref(), Some(&boot));
    let cached = ktstr::cache::list().expect("the cache");
    let used = cached.iter().find(|kernel| kernel.boot == boot);
    let source: &Source = &used.expect("a kernel that is used is in the cache").source;
    assert!(!source.to_string().is_empty());
    let asked: Option<String> = ktstr::kernel_path::requested().expect("text");
    let variables = [ktstr::KTSTR_TEST_KERNEL_ENV, ktstr::KTSTR_KERNEL_ENV];
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    assert_eq!(asked.is_some(), variables.iter().any(set), "{asked:?}");

    // These two use the network, so they are only named.
    let _: fn(&str, &mut Listener<'_>) -> Result<Kernel, KernelError> = ktstr::fetch::fetch;
    let _: fn(&mut Listener<'_>) -> Result<Offers, KernelError> = ktstr::fetch::offered;
    let _: fn(Offers) -> Vec<Candidate> = |offers| offers.kernels;
    let mut tell = ktstr::fetch::on_stderr();
    tell(&Progress {
        what: "a note".to_owned(),
        percent: None,
        done: true,
    });
}

#[test]
fn a_lock_names_its_holder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lock");
    let lock: Result<Lock, StateError> = Lock::take(&path, Place::RUNS, "a test");
    let lock = lock.expect("nobody else has it");
    let holders = Holder::of(lock.file()).expect("the list of locks");
    assert!(holders.iter().any(|h| h.pid == id()), "{holders:?}");
}

#[test]
fn the_gauntlet_takes_the_presets_that_the_constraints_accept() {
    let accepted = |preset: &&Preset| {
        TopologyConstraints::DEFAULT
            .with_min_llcs(2)
            .accepts_no_perf_mode(&preset.topology, 8)
    };
    let names: Vec<&str> = PRESETS.iter().filter(accepted).map(|p| p.name).collect();
    assert_eq!(names, ["4cpu-2llc-nosmt", "8cpu-2llc-smt"]);
}

#[test]
fn a_scheduler_without_a_binary_has_no_source() {
    let found = resolve_scheduler(&SchedulerSpec::Eevdf, "").expect("nothing to find");
    let (path, source): (_, Option<ResolveSource>) = found;
    assert_eq!((path, source), (None, None));
    assert!(resolve_scheduler(&SchedulerSpec::Path("/no/such/scheduler"), "").is_err());
}

#[test]
fn hosts_programs_and_kernel_logs_have_their_types() {
    assert!(HostContext::detect().cores > 0);
    assert_eq!(ProgVerifierStats::default().verified_insns, 0);
    let _: fn(&VmResult) -> Option<ktstr::WatchdogObservation> = VmResult::watchdog_observation;
    let _: fn(&[u8]) = ktstr::send_kmsg;
    let text: &str = ktstr::json!({ "threads": 2 });
    assert_eq!(text.replace(char::is_whitespace, ""), r#"{"threads":2}"#);
}

#[test]
fn variables_have_constants_with_their_names() {
    for (constant, name) in [
        (ktstr::KTSTR_KERNEL_ENV, "KTSTR_KERNEL"),
        (ktstr::KTSTR_TEST_KERNEL_ENV, "KTSTR_TEST_KERNEL"),
        (ktstr::KTSTR_SCHEDULER_ENV, "KTSTR_SCHEDULER"),
        (ktstr::KTSTR_SIDECAR_DIR_ENV, "KTSTR_SIDECAR_DIR"),
        (ktstr::KTSTR_SEED_ENV, "KTSTR_SEED"),
    ] {
        assert_eq!(constant, name);
    }
}
