//! Tests of the protocol by which `cargo nextest` drives a test binary, and of the same declarations under plain `cargo test`:
//! both run each test exactly once.

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use ktstr::prelude::*;

/// Runs on the host: the protocol is the same with and without a machine.
#[ktstr_test(host_only)]
fn passes(ctx: &Ctx) -> Result<AssertResult> {
    anyhow::ensure!(ctx.entry_name == Some("passes"));
    Ok(AssertResult::pass())
}

/// An ordinary test whose function has the name of a test of ktstr.
mod ordinary {
    #[test]
    fn passes() {}
}

#[ktstr_test(host_only)]
fn is_skipped(_: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::skip("nothing to see here"))
}

#[ktstr_test(host_only, expect_err)]
fn fails_as_expected(_: &Ctx) -> Result<AssertResult> {
    anyhow::bail!("wanted")
}

#[ktstr_test(host_only, allow_inconclusive)]
fn may_be_inconclusive(_: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::inconclusive_msg("cannot tell"))
}

/// An entry that is listed as ignored. No macro makes a `#[test]` of it, so plain `cargo test` has nothing to ignore.
#[ktstr::distributed_slice(KTSTR_TESTS)]
#[linkme(crate = ktstr::linkme)]
static IGNORED_TEST: KtstrTestEntry = KtstrTestEntry {
    name: "is_ignored",
    ignored: true,
    ..NOT_RUN
};

#[ktstr::distributed_slice(KTSTR_TESTS)]
#[linkme(crate = ktstr::linkme)]
static DEMONSTRATION: KtstrTestEntry = KtstrTestEntry {
    name: "demo_of_something",
    ..NOT_RUN
};

/// An entry whose variants are listed. A run of this file's tests includes none of them.
#[ktstr::distributed_slice(KTSTR_TESTS)]
#[linkme(crate = ktstr::linkme)]
static VARIED: KtstrTestEntry = KtstrTestEntry {
    name: "demo_varied",
    host_only: false,
    constraints: TopologyConstraints::DEFAULT
        .with_min_llcs(2)
        .with_max_cpus(8),
    topology: Topology::new(1, 2, 1, 1),
    ..NOT_RUN
};

const NOT_RUN: KtstrTestEntry = KtstrTestEntry {
    func: |_| Ok(AssertResult::fail_msg("was run though it is ignored")),
    host_only: true,
    ..KtstrTestEntry::DEFAULT
};

#[ktstr_test_entry]
static BY_HAND: KtstrTestEntry = KtstrTestEntry {
    name: "by_hand",
    func: |_| Ok(AssertResult::pass()),
    ..NOT_RUN
};

case!(FAILS = "fails", |_| Ok(AssertResult::fail_msg("planted")), host_only: true);
case!(PANICS = "panics", |_| panic!("planted"), host_only: true);
case!(UNSURE = "unsure", |_| Ok(AssertResult::inconclusive_msg("planted")), host_only: true);
case!(TWO_LLCS = "two_llcs", only_on_two_llcs, duration: Duration::from_millis(100));
case!(NO_ERROR = "no_error", |_| Ok(AssertResult::pass()), host_only: true, expect_err: true);
case!(NO_CGROUP2 = "no_cgroup2", |ctx| execute_defs(ctx, vec![CgroupDef::named("a").workers(1)]), host_only: true);

/// Fails unless the machine has two LLCs. Its entry declares one LLC, so it passes only as a variant on another shape. It looks
/// at what the guest's kernel shows, not at what the harness says.
fn only_on_two_llcs(_: &Ctx) -> Result<AssertResult> {
    let llcs = TestTopology::from_system()?.num_llcs();
    Ok(match llcs {
        2 => AssertResult::pass(),
        other => AssertResult::fail_msg(format!("the machine has {other} LLCs")),
    })
}

declare_scheduler!(CELLED, {
    name = "celled",
    binary = "scx-ktstr",
    kernels = ["7.0..=7.9"],
    verifier_exclude_topologies = ["252cpu-14llc-nosmt"],
    constraints = TopologyConstraints::DEFAULT.with_max_cpus(252).with_min_cpus(250),
});
declare_scheduler!(CELLED_AGAIN, { name = "celled", binary = "scx-ktstr" });
declare_scheduler!(REFUSED, { name = "refused", binary = "scx-ktstr", sched_args = ["--fail-verify"] });

struct Answer {
    code: Option<i32>,
    lines: BTreeMap<String, usize>,
    text: String,
    record: Option<ktstr_record::RunRecord>,
}

/// Runs this binary with a separate folder for records. `NEXTEST` is set only if `nextest` is true.
fn ask(nextest: bool, arguments: &[&str]) -> Answer {
    ask_with_kernels(nextest, arguments, "")
}

fn ask_with_kernels(nextest: bool, arguments: &[&str], kernels: &str) -> Answer {
    ask_with(nextest, arguments, kernels, "")
}

fn ask_with(nextest: bool, arguments: &[&str], kernels: &str, seeds: &str) -> Answer {
    let runs = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(std::env::current_exe().expect("our binary"));
    command
        .args(arguments)
        .env("KTSTR_RUNS_ROOT", runs.path())
        // No cgroup2 file system is there, as on a host that has only cgroup v1.
        .env("KTSTR_HOST_CGROUP_PARENT", runs.path().join("cgroups"))
        .env("KTSTR_KERNEL_LIST", kernels)
        .env("KTSTR_SEED_LIST", seeds)
        .env_remove("KTSTR_SEED")
        .env_remove("KTSTR_TOPOLOGY")
        .env("CARGO_PKG_NAME", "ktstr")
        .env_remove("NEXTEST")
        .env_remove("RUST_BACKTRACE");
    if nextest {
        command.env("NEXTEST", "1");
    }
    let output = command.output().expect("our binary runs");
    let mut lines = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        *lines.entry(line.to_owned()).or_insert(0) += 1;
    }
    let mut records = ktstr_record::list(runs.path(), None)
        .expect("records")
        .records;
    Answer {
        code: output.status.code(),
        record: records.pop().map(|listed| listed.record),
        lines,
        text: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The entries that a run without `--ignored` includes.
const RUN: [&str; 4] = [
    "passes",
    "is_skipped",
    "fails_as_expected",
    "may_be_inconclusive",
];
/// The entries that are listed as ignored: one by its declaration, one by its name, which starts with `demo_`.
const IGNORED: [&str; 2] = ["is_ignored", "demo_of_something"];

#[test]
fn both_listings_name_each_test_once() {
    let all = ask(true, &["--list", "--format", "terse"]);
    let ignored = ask(true, &["--list", "--format", "terse", "--ignored"]);
    assert_eq!((all.code, ignored.code), (Some(0), Some(0)));
    assert!(
        all.lines.values().all(|count| *count == 1),
        "{:?}",
        all.lines
    );
    let has = |answer: &Answer, name: &str| answer.lines.contains_key(&format!("{name}: test"));
    for name in RUN {
        let ours = format!("ktstr/{name}");
        assert!(has(&all, &ours) && !has(&ignored, &ours), "{name}");
    }
    for name in IGNORED {
        let ours = format!("ktstr/{name}");
        assert!(has(&all, &ours) && has(&ignored, &ours), "{name}");
    }
    // For a hand-written entry the macro generates a function for libtest, which must not count as a second test.
    assert!(has(&all, "ktstr/by_hand"));
    assert!(!all.lines.keys().any(|line| line.contains("__ktstr_entry_")));
    // The `#[test]` functions of this file are listed too. Entries are listed only under the names with a prefix, and entries
    // that only other tests run are not listed at all.
    assert!(has(&all, "both_listings_name_each_test_once"));
    assert!(!has(&ignored, "both_listings_name_each_test_once"));
    assert!(has(&all, "ordinary::passes") && has(&all, "ktstr/passes"));
    for line in all.lines.keys().chain(ignored.lines.keys()) {
        assert!(line.ends_with(": test"), "{line}");
        assert!(!line.contains("__unit_test_"), "{line}");
        assert!(
            RUN.iter()
                .chain(&IGNORED)
                .all(|name| line != &format!("{name}: test")),
            "{line}"
        );
    }
}

#[test]
fn one_test_is_run_and_its_exit_code_is_its_verdict() {
    let run = |name: &str| ask(true, &["--exact", &format!("ktstr/{name}"), "--nocapture"]);
    for name in ["passes", "fails_as_expected", "may_be_inconclusive"] {
        let answer = run(name);
        assert_eq!((answer.code, answer.text.as_str()), (Some(0), ""), "{name}");
    }
    let skipped = run("is_skipped");
    assert_eq!(skipped.code, Some(0));
    assert_eq!(skipped.text, "ktstr: SKIP: nothing to see here\n");
    for (name, code, says) in [
        (
            "fails",
            1,
            "[sched=eevdf] [topo=1n1l2c1t] failed: planted — the test's fault.\n  fault: the test's (it ran on the host: no guest, no scheduler)\n",
        ),
        ("panics", 1, "the test function panicked: planted"),
        ("no_error", 1, "expect_err is set, and the run did not fail"),
        (
            "no_cgroup2",
            1,
            "the folder is in no cgroup2 file system, which tests that run on the host need for cgroups",
        ),
        (
            "unsure",
            2,
            "came to no verdict: planted — the test's fault.\n",
        ),
    ] {
        let answer = run(&format!("__unit_test_{name}__"));
        assert_eq!(answer.code, Some(code), "{name}: {}", answer.text);
        assert!(answer.text.contains(says), "{name}: {}", answer.text);
    }
    // An entry that is listed as ignored still runs if it is requested by its name.
    assert_eq!(run("is_ignored").code, Some(1));
    let nobody = run("nobody");
    assert_eq!(nobody.code, Some(1));
    assert!(
        nobody.text.contains("no test `ktstr/nobody`"),
        "{}",
        nobody.text
    );
}

#[test]
fn the_gauntlet_is_listed_as_ignored() {
    let list = ["--list", "--format", "terse"];
    let varied = |answer: &Answer| -> Vec<String> {
        assert_eq!(answer.code, Some(0), "{}", answer.text);
        let lines = answer
            .lines
            .keys()
            .filter(|line| line.contains("demo_varied"));
        lines.cloned().collect()
    };
    let names = [
        "gauntlet/demo_varied/4cpu-2llc-nosmt: test",
        "gauntlet/demo_varied/8cpu-2llc-smt: test",
        "ktstr/demo_varied: test",
    ];
    assert_eq!(varied(&ask(true, &list)), names);
    let ignored = ask(true, &[&list[..], &["--ignored"]].concat());
    assert_eq!(varied(&ignored), names);
    assert!(
        !ignored.lines.keys().any(|line| line.contains("/passes")),
        "a test on the host has no variants"
    );
    let matrix = varied(&ask_with(true, &list, "a=/a;b=/b", "7,8"));
    assert_eq!(matrix.len(), 2 * 2 * 2 + 2, "{matrix:?}");
    assert!(matrix.contains(&"gauntlet/demo_varied/8cpu-2llc-smt/b/seed_8: test".to_owned()));
    assert!(matrix.contains(&"ktstr/demo_varied/a: test".to_owned()));
    let wrong = ask_with(true, &list, "", "7,x");
    assert_eq!(wrong.code, Some(1));
    assert!(
        wrong.text.contains("KTSTR_SEED_LIST has \"x\""),
        "{}",
        wrong.text
    );
}

#[test]
fn a_variant_runs_on_its_shape_with_its_kernel_and_seed() {
    let kernel = ktstr::find_kernel().expect("a cache").expect("a kernel");
    let run =
        |name: &str, kernels: &str| ask_with(true, &["--exact", name, "--nocapture"], kernels, "");
    let two = format!("mine={};other=/nowhere", kernel.display());
    let name = "gauntlet/__unit_test_two_llcs__/4cpu-2llc-nosmt/mine/seed_7";
    let passed = run(name, &two);
    assert_eq!(passed.code, Some(0), "{}", passed.text);
    let record = passed.record.expect("a record");
    assert_eq!(record.variant.as_deref(), Some(name));
    assert_eq!(record.seed, Some(7));
    assert_eq!(record.topology.as_deref(), Some("1n2l2c1t"));
    // A variant that is run by its name may have any shape that the constraints admit.
    let name = "gauntlet/__unit_test_two_llcs__/1n1l3c1t";
    let failed = run(name, "");
    assert_eq!(failed.code, Some(1), "{}", failed.text);
    assert!(
        failed.text.contains("the machine has 1 LLCs"),
        "{}",
        failed.text
    );
    // nextest does not list a variant on this shape, so the command that repeats the run is a replay.
    assert!(
        failed.text.contains("again: cargo ktstr replay "),
        "{}",
        failed.text
    );
    let name = "gauntlet/__unit_test_two_llcs__/4cpu-1llc-nosmt";
    let failed = run(name, "");
    let again = format!("cargo nextest run -p ktstr --run-ignored all -E 'test(={name})'");
    assert!(failed.text.contains(&again), "{}", failed.text);
    for (name, why) in [
        (
            "ktstr/__unit_test_two_llcs__",
            "append one of /mine, /other",
        ),
        (
            "ktstr/__unit_test_two_llcs__/none",
            "KTSTR_KERNEL_LIST has no \"none\": it has mine, other",
        ),
        (
            "gauntlet/__unit_test_two_llcs__/5cpu-1llc/mine",
            "5cpu-1llc",
        ),
        (
            "gauntlet/__unit_test_two_llcs__/4cpu-2llc-nosmt/mine/seed_x",
            "\"seed_x\": the seed is not a number",
        ),
        (
            "gauntlet/nobody/4cpu-2llc-nosmt/mine",
            "no test `ktstr/nobody`",
        ),
        ("gauntlet/passes/4cpu-2llc-nosmt", "has no variants"),
    ] {
        let wrong = run(name, &two);
        assert_eq!(wrong.code, Some(1), "{name}: {}", wrong.text);
        assert!(wrong.text.contains(why), "{name}: {}", wrong.text);
    }
    assert_eq!(run("host/passes", &two).code, Some(0));
}

#[test]
fn plain_cargo_test_runs_the_same() {
    let run = |name: &str| ask(false, &["--exact", name]);
    for name in RUN {
        let answer = run(name);
        let ran = answer.lines.keys().any(|line| line.contains("1 passed"));
        assert!(answer.code == Some(0) && ran, "{name}: {}", answer.text);
    }
    // Plain `cargo test` does not know this entry, which is not a `#[test]`.
    let none = run("demo_of_something");
    assert!(
        none.lines
            .keys()
            .any(|line| line.contains("0 passed; 0 failed; 0 ignored"))
    );
}

/// A scheduler is listed on the kernels and shapes that it declares.
#[test]
fn schedulers_are_listed_on_their_kernels_and_shapes() {
    let list = ["--list", "--format", "terse"];
    let cells = |answer: &Answer| -> Vec<String> {
        let lines = answer.lines.keys();
        let cells = lines.filter(|line| line.starts_with("verifier/"));
        cells.cloned().collect()
    };
    assert_eq!(cells(&ask(true, &list)), [""; 0], "no kernels, no cells");
    let all = ask_with_kernels(true, &list, "kernel_6_16=/a;kernel_7_3_4=/b");
    let celled: Vec<_> = cells(&all)
        .into_iter()
        .filter(|cell| cell.starts_with("verifier/celled/"))
        .collect();
    assert_eq!(
        celled,
        ["verifier/celled/kernel_7_3_4/252cpu-14llc-smt: test"]
    );
    let refused = cells(&all).len() - celled.len();
    assert_eq!(refused, 2 * ktstr::topology::PRESETS.len());
    assert_eq!(all.code, Some(0), "{}", all.text);
    let wrong = ask_with_kernels(true, &list, "/b");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.text.contains("expected LABEL=PATH"), "{}", wrong.text);
}

#[test]
fn a_cell_passes_if_the_scheduler_loads() {
    let kernel = ktstr::find_kernel().expect("a cache").expect("a kernel");
    let kernels = format!("mine={}", kernel.display());
    let run = |cell: &str| ask_with_kernels(true, &["--exact", cell, "--nocapture"], &kernels);
    let sound = run("verifier/celled/mine/1n1l2c1t");
    assert_eq!(sound.code, Some(0), "{}", sound.text);
    let refused = run("verifier/refused/mine/1n1l2c1t");
    assert_eq!(refused.code, Some(1), "{}", refused.text);
    assert!(refused.text.contains("verifier"), "{}", refused.text);
    for (cell, why) in [
        (
            "verifier/nobody/mine/1n1l2c1t",
            "declares no scheduler \"nobody\"",
        ),
        (
            "verifier/celled/other/1n1l2c1t",
            "KTSTR_KERNEL_LIST has no \"other\"",
        ),
        ("verifier/celled/mine/5cpu-1llc", "5cpu-1llc"),
    ] {
        let none = run(cell);
        assert_eq!(none.code, Some(1), "{cell}");
        assert!(none.text.contains(why), "{cell}: {}", none.text);
    }
}
