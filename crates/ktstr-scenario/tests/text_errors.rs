//! Tests of the error messages for a text that is not a scenario, or for a scenario that cannot be run. A message has the line,
//! the key, what was found, what is allowed, and a suggestion.
#![allow(clippy::unwrap_used)]

use ktstr_scenario::text::{Scenario, ScenarioFile};
use ktstr_scenario::topology::{TestTopology, Topology};

/// Returns the error for a step with these lines, on a machine of two LLCs with two CPUs each.
fn refused(lines: &str) -> String {
    let cgroups = "[[cgroup]]\nname = \"a\"\n\n[[cgroup]]\nname = \"b\"\ncpuset = \"0-1\"\n";
    let text = format!("{cgroups}\n[[step]]\n{lines}\n");
    let machine = TestTopology::from_vm_topology(&Topology::new(1, 2, 2, 1));
    let read = ScenarioFile::from_text(&text).and_then(|file| file.validate(&machine));
    read.expect_err(lines).to_string()
}

#[test]
fn keys_and_words() {
    insta::assert_snapshot!(refused("holds = 1"), @"line 9, `step[0].holds`: unknown key `holds`: did you mean `hold`? The known ones are: hold, ops, cgroup");
    insta::assert_snapshot!(refused("ops = [{ set_cpuset = { cgroup = \"a\", cpu = \"1\" } }]"), @"line 9, `step[0].ops[0].set_cpuset.cpu`: unknown key `cpu`: did you mean `cpus`? The known ones are: cgroup, cpus");
    insta::assert_snapshot!(refused("ops = [{ set_cpuset = { cgroup = \"a\", cpus = { lcc = 7 } } }]"), @r#"line 9, `step[0].ops[0].set_cpuset.cpus.lcc`: "lcc" is not a cpuset: did you mean `llc`? The known ones are: llc, numa, range, disjoint, overlap"#);
    insta::assert_snapshot!(refused("[[stepp]]\nname = \"x\""), @"line 9, `stepp`: unknown key `stepp`: did you mean `step`? The known ones are: cgroup, ops, payloads, step, payload, staged_scheduler, claim");
    insta::assert_snapshot!(refused("ops = [{ detach_scheduler = 1 }]"), @r#"line 9, `step[0].ops[0].detach_scheduler`: `detach_scheduler` takes no value: write "detach_scheduler" alone"#);
    insta::assert_snapshot!(refused("[[step.cgroup]]\nname = \"x\"\nwork_type = { pipe_io = { burst = 5 } }"), @"line 11, `step[0].cgroup[0].work_type.pipe_io.burst`: unknown key `burst`: did you mean `burst_iters`? The known ones are: burst_iters");
    for (lines, begins) in [
        (
            "ops = [{ freze_cgroup = \"a\" }]",
            r#"line 9, `step[0].ops[0].freze_cgroup`: "freze_cgroup" is not an operation: did you mean `freeze_cgroup`? The known ones are: add_cgroup, "#,
        ),
        (
            "[[step.cgroup]]\nname = \"x\"\nwork_type = \"SpinWait\"",
            r#"line 11, `step[0].cgroup[0].work_type`: "SpinWait" is not a work type: did you mean `spin_wait`? The known ones are: sequence, "#,
        ),
    ] {
        let printed = refused(lines);
        assert!(printed.starts_with(begins), "{printed}");
    }
}

#[test]
fn values() {
    insta::assert_snapshot!(refused("hold = \"5\""), @r#"line 9, `step[0].hold`: found "5", expected a fraction of the duration such as 0.5, a time such as "50ms", or "every 50ms", which repeats the operations to the end"#);
    insta::assert_snapshot!(refused("hold = 0"), @"line 9, `step[0].hold`: HoldSpec::frac(0) must be finite and more than 0");
    insta::assert_snapshot!(refused("ops = [{ freeze_cgroup = 5 }]"), @"line 9, `step[0].ops[0].freeze_cgroup`: found the number 5, expected a text in quotes");
    insta::assert_snapshot!(refused("ops = [{ set_cpuset = { cgroup = \"a\" } }]"), @r#"line 9, `step[0].ops[0]`: the key `cpus` is missing: give it a list of CPUs such as "0-3,8", or a cpuset: { llc = … }, { numa = … }, { range = … }, { disjoint = … }, { overlap = … }"#);
    insta::assert_snapshot!(refused("[[step.cgroup]]\nname = \"x\"\ncpu_max = \"1/5\""), @r#"line 11, `step[0].cgroup[0].cpu_max`: found "1/5", expected CPU time in every period such as "20ms/100ms", or "max""#);
    insta::assert_snapshot!(refused("[[step.cgroup]]\nname = \"x\"\naffinity = { exact = 2 }"), @r#"line 11, `step[0].cgroup[0].affinity.exact`: found the number 2, expected a list of CPUs or nodes such as "0-3,8""#);
    insta::assert_snapshot!(refused("[[step.cgroup]]\nname = \"x\"\nsched_policy = { fifo = 100 }"), @r#"line 9, `step[0].cgroup[0]`: cgroup "x": real-time priority 100 is not in 1..=99"#);
    insta::assert_snapshot!(refused("[[step.cgroup]]\nname = \"x\"\nworkers = 2\nworks = [{ workers = 2 }]"), @"line 11, `step[0].cgroup[0].workers`: `workers` is for a cgroup with a single group of workers, but `works` lists the groups here: move `workers` into one of them");
    insta::assert_snapshot!(refused("[[claim]]\nstep = 4\nmetric = \"x\"\nat_least = 1"), @"line 10, `claim[0].step`: there is no step 4: steps are counted from 0, and the last one is 0");
    insta::assert_snapshot!(refused("[[claim]]\nstep = 0\nmetric = \"x\""), @"line 9, `claim[0]`: a claim without a bound is always true: give it `at_least` or `at_most`");
    for (bounds, why) in [
        (
            "at_least = 10\nat_most = 5",
            "no value is at least 10 and at most 5",
        ),
        ("at_least = nan", "the bound NaN is not a finite number"),
        ("at_most = inf", "the bound inf is not a finite number"),
    ] {
        let error = refused(&format!("[[claim]]\nstep = 0\nmetric = \"x\"\n{bounds}"));
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_cannot_be_run() {
    insta::assert_snapshot!(refused("ops = [\"detach_scheduler\", { freeze_cgroup = \"c\" }]"), @r#"line 9, `step[0].ops[1]`: there is no cgroup "c" at this point (there are: a, b): add it first"#);
    insta::assert_snapshot!(refused("ops = [{ set_cpuset = { cgroup = \"a\", cpus = { llc = 7 } } }]"), @"line 9, `step[0].ops[0]`: CpusetSpec: LLC 7 does not exist, there are 2");
    insta::assert_snapshot!(refused("ops = [{ cpu_offline = 9 }]"), @"line 9, `step[0].ops[0]`: the machine has no CPU 9: its CPUs are 0-3");
    insta::assert_snapshot!(refused("hold = \"every 5ms\"\nops = [{ add_cgroup = \"x\" }]"), @r#"line 10, `step[0].ops[0]`: there is a cgroup "x" already: use another name, or remove it first"#);
    insta::assert_snapshot!(refused("hold = \"every 5ms\"\nops = [{ capture_snapshot = \"x\" }]"), @"line 10, `step[0].ops[0]`: CaptureSnapshot cannot be in a step that repeats its operations: its result would be stored under the same tag in each repetition. Put the operation into a separate step");
    insta::assert_snapshot!(refused("ops = [{ run_payload = { payload = \"x\" } }]"), @r#"line 9, `step[0].ops[0].run_payload.payload`: there is no program "x": declare it, with [[payload]]"#);
    insta::assert_snapshot!(refused("[[step.cgroup]]\nname = \"x\"\nwork_type = \"pipe_io\"\nworkers = 3"), @r#"line 9, `step[0].cgroup[0]`: workers of cgroup "x": work type PipeIo: 3 workers cannot be divided into groups of 2; take a multiple of 2"#);
    insta::assert_snapshot!(refused("[[step.cgroup]]\nname = \"x\"\naffinity = { exact = \"7\" }"), @r#"line 9, `step[0].cgroup[0]`: workers of cgroup "x": affinity Exact: none of 7 is available (CPUs available: 0-3)"#);
    insta::assert_snapshot!(refused("ops = [{ add_cgroup = \"b/x\" }]"), @r#"line 9, `step[0].ops[0]`: cgroup "b" has workers or a program, and "b/x" is below it: with a controller turned on, the kernel lets only the lowest cgroups have tasks. Put the tasks into a cgroup of their own below "b""#);
    insta::assert_snapshot!(refused("ops = [{ cpu_online = 1 }]\n[[step.cgroup]]\nname = \"x\"\n[[step]]\nops = [{ stop_cgroup = \"x\" }]"), @r#"line 13, `step[1].ops[0]`: there is no cgroup "x" at this point (there are: a, b): add it first"#);
}

#[test]
fn a_partition_keeps_cpus_of_its_own() {
    let make = |cgroup: &str, to: &str| {
        format!("{{ set_cpuset_partition = {{ cgroup = \"{cgroup}\", partition = \"{to}\" }} }}")
    };
    let (root, swap) = (
        make("b", "root"),
        "{ swap_cpusets = { a = \"a\", b = \"b\" } }",
    );
    insta::assert_snapshot!(refused(&format!("ops = [{}]", make("a", "isolated"))), @r#"line 9, `step[0].ops[0]`: cgroup "a" would be a partition without CPUs of its own: give it CPUs with Op::set_cpuset first, or make it a member with Op::set_cpuset_partition before its CPUs are cleared"#);
    for lost in ["{ clear_cpuset = \"b\" }", swap] {
        let error = refused(&format!("ops = [{root}, {lost}]"));
        let wanted = "`step[0].ops[1]`: cgroup \"b\" would be a partition without CPUs of its own";
        assert!(error.contains(wanted), "{error}");
    }
    // While `b` is a partition, `a` cannot be pinned to a CPU of `b`. When `b` is a member again, this is possible.
    let pin = "{ set_affinity = { cgroup = \"a\", affinity = { exact = \"0\" } } }";
    let error = refused(&format!("ops = [{root}, {pin}]"));
    assert!(
        error.contains("none of 0 is available (CPUs available: 2-3)"),
        "{error}"
    );
    let (member, clear) = (make("b", "member"), "{ clear_cpuset = \"b\" }");
    let error = refused(&format!(
        "ops = [{root}, {member}, {pin}, {clear}, {{ cpu_offline = 9 }}]"
    ));
    assert!(error.contains("step[0].ops[4]"), "{error}");
}

#[test]
fn workers_of_the_backdrop_cannot_be_moved_to_a_place_that_ends_with_the_step() {
    let spawn = "{ spawn = { placement = \"runner_cgroup\", work = {} } }";
    let step = "{ add_cgroup = \"s\" }";
    let to = |from: &str, to: &str| {
        format!("{{ move_all_tasks = {{ from = \"{from}\", to = \"{to}\" }} }}")
    };
    insta::assert_snapshot!(refused(&format!("ops = [{step}, {}]", to("a", "s"))), @r#"line 9, `step[0].ops[1]`: cgroup "s" ends with the step, but the workers of "a" live on: move them to a cgroup of the backdrop"#);
    insta::assert_snapshot!(refused(&format!("ops = [{spawn}, {}]", to("a", ""))), @r#"line 9, `step[0].ops[1]`: the harness's own cgroup already has workers of this step, which are stopped with it, but the workers of "a" live on: move them to a cgroup of the backdrop"#);
    // The workers that were moved out of the backdrop's cgroup live on in the harness's own.
    let error = refused(&format!("ops = [{}, {step}, {}]", to("a", ""), to("", "s")));
    assert!(
        error.contains("`step[0].ops[2]`: cgroup \"s\" ends with the step"),
        "{error}"
    );
    // Workers of the step can be moved between its places.
    let end = "{ cpu_offline = 9 }";
    let error = refused(&format!("ops = [{spawn}, {step}, {}, {end}]", to("", "s")));
    assert!(error.contains("`step[0].ops[3]`"), "{error}");
}

/// The scenario has a controller, so a cgroup with tasks cannot have child cgroups.
#[test]
fn a_program_is_where_it_was_moved_until_it_ends() {
    let of = |ops: &[&str]| {
        let payload = "[[payload]]\nname = \"p\"\nbinary = \"/bin/true\"";
        refused(&format!("ops = [{}]\n\n{payload}", ops.join(", ")))
    };
    let run = "{ run_payload = { payload = \"p\", cgroup = \"s\" } }";
    let [add_s, add_t] = ["s", "t"].map(|name| format!("{{ add_cgroup = \"{name}\" }}"));
    let moved = "{ move_all_tasks = { from = \"s\", to = \"t\" } }";
    let below = |name: &str| format!("{{ add_cgroup = \"{name}/x\" }}");
    let wait = "{ wait_payload = { name = \"p\" } }";
    let end = "{ cpu_offline = 9 }";
    let error = of(&[&add_s, &add_t, run, moved, &below("s"), &below("t")]);
    let wanted = "`step[0].ops[5]`: cgroup \"t\" has workers or a program";
    assert!(error.contains(wanted), "{error}");
    let error = of(&[&add_s, &add_t, run, moved, wait, &below("t"), end]);
    assert!(error.contains("`step[0].ops[6]`"), "{error}");
    let error = of(&[&add_s, run, "{ stop_cgroup = \"s\" }", &below("s")]);
    let wanted = "`step[0].ops[3]`: cgroup \"s\" has workers or a program";
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn a_cpuset_survives_a_swap_with_itself() {
    let swap = "{ swap_cpusets = { a = \"b\", b = \"b\" } }";
    insta::assert_snapshot!(refused(&format!("ops = [{swap}, {{ set_affinity = {{ cgroup = \"b\", affinity = {{ exact = \"2\" }} }} }}]")), @"line 9, `step[0].ops[1]`: affinity Exact: none of 2 is available (CPUs available: 0-1)");
}

#[test]
fn a_test_s_own_text_has_no_settings_and_has_steps() {
    let refused = |text| Scenario::from_text(text).unwrap_err().to_string();
    insta::assert_snapshot!(refused("llcs = 2\n[[step]]\n"), @"line 1, `llcs`: unknown key `llcs`: the known ones are: cgroup, ops, payloads, step. The test's attribute sets the machine and the checks");
    insta::assert_snapshot!(refused("[[cgroup]]\nname = \"a\""), @"line 1, `step`: there is no step, so the scenario would end at once: add `[[step]]`, which lasts for the whole duration by default");
}
