//! The rules of `#[ktstr_test]` that involve several keys, the text of a value, or the function's signature. A value that the
//! test inherits from the scheduler is not known when the macro runs, so the `const` code that `expand` generates checks it.

use syn::parse::{Parse, ParseStream};
use syn::{FnArg, ItemFn, Result, ReturnType, Type};

use crate::attrs::{Attrs, error};
use crate::keys::{Group, KEYS};

/// Maximum number of captures of a test.
const MAX_SNAPSHOTS: u64 = 64;
/// Minimum time between two captures in milliseconds.
const MIN_INTERVAL_MS: u64 = 100;
/// Default of the workload window in seconds.
pub(crate) const DEFAULT_DURATION_S: u64 = 12;

/// The arguments of one test, checked against each other as far as their values are known.
pub(crate) struct TestArgs(pub(crate) Attrs);

impl Parse for TestArgs {
    fn parse(input: ParseStream) -> Result<Self> {
        let attrs = input.parse()?;
        check_topology(&attrs)?;
        check_snapshots(&attrs)?;
        check_host_only(&attrs)?;
        check_constraints(&attrs)?;
        check_texts(&attrs)?;
        check_expected_error(&attrs)?;
        Ok(Self(attrs))
    }
}

fn check_topology(attrs: &Attrs) -> Result<()> {
    if let (Some(llcs), Some(nodes)) = (attrs.integer("llcs"), attrs.integer("numa_nodes"))
        && !llcs.is_multiple_of(nodes)
    {
        return Err(error(
            attrs.span("llcs"),
            format!(
                "llcs = {llcs} cannot be divided by numa_nodes = {nodes}; llcs is the total over \
                 all nodes"
            ),
        ));
    }
    Ok(())
}

fn check_snapshots(attrs: &Attrs) -> Result<()> {
    let count = attrs.integer("num_snapshots").unwrap_or(0);
    if count == 0 {
        return Ok(());
    }
    let at = attrs.span("num_snapshots");
    if count > MAX_SNAPSHOTS {
        return Err(error(
            at,
            format!("num_snapshots = {count} is more than {MAX_SNAPSHOTS}"),
        ));
    }
    let duration = attrs.integer("duration_s").unwrap_or(DEFAULT_DURATION_S);
    // The captures are spread over 80 % of the window: 800 ms for each second of the window.
    let interval = duration.saturating_mul(800) / (count + 1);
    if interval < MIN_INTERVAL_MS {
        return Err(error(
            at,
            format!(
                "num_snapshots = {count} in duration_s = {duration} puts captures {interval} ms \
                 apart; the minimum is {MIN_INTERVAL_MS} ms"
            ),
        ));
    }
    Ok(())
}

fn check_host_only(attrs: &Attrs) -> Result<()> {
    if attrs.bool("host_only") != Some(true) {
        return Ok(());
    }
    let given = |name: &'static str| attrs.get(name).map(|_| name);
    // Only a VM has a monitor and an exact schedule.
    let watched = KEYS.iter().find(|key| {
        let of_schedule = key.field.is_some_and(|field| field.part == "schedule");
        (key.group == Group::MonitorBound || of_schedule) && attrs.get(key.name).is_some()
    });
    let excluded = given("scheduler")
        .or(watched.map(|key| key.name))
        .or(given("fresh_attach"))
        .or((attrs.integer("num_snapshots").unwrap_or(0) > 0).then_some("num_snapshots"))
        .or(given("post_vm"))
        .or(given("post_vm_unconditional"))
        .or(given("clock"))
        .or(given("cpu_budget"))
        .or(given("perf_delta_assertions"))
        .or(given("cleanup_budget_ms"))
        .or((attrs.bool("auto_repro") == Some(true)).then_some("auto_repro"));
    match excluded {
        None => Ok(()),
        Some(name) => Err(error(
            attrs.span(name),
            format!("`{name}` needs a VM, but `host_only` runs without one"),
        )),
    }
}

fn check_constraints(attrs: &Attrs) -> Result<()> {
    for what in ["llcs", "numa_nodes", "cpus"] {
        let (min, max) = (format!("min_{what}"), format!("max_{what}"));
        if let (Some(low), Some(high)) = (attrs.integer(&min), attrs.integer(&max))
            && low > high
        {
            return Err(error(
                attrs.span(&min),
                format!("{min} = {low} is more than {max} = {high}"),
            ));
        }
    }
    Ok(())
}

fn check_texts(attrs: &Attrs) -> Result<()> {
    let args = attrs.texts("extra_sched_args");
    if let Some(arg) = args.iter().find(|arg| arg.value().contains(['\n', '\0'])) {
        return Err(error(
            arg.span(),
            "an argument of `extra_sched_args` must not contain newlines or NUL",
        ));
    }
    if !args.is_empty() && attrs.get("scheduler").is_none() {
        return Err(error(
            attrs.span("extra_sched_args"),
            "`extra_sched_args` needs `scheduler`",
        ));
    }
    if attrs.get("config").is_some() && attrs.get("scheduler").is_none() {
        return Err(error(
            attrs.span("config"),
            "`config` needs `scheduler`: it is the scheduler's configuration",
        ));
    }
    if attrs.bool("survives_storm") == Some(true) {
        let at = attrs.span("survives_storm");
        if attrs.get("scheduler").is_none() {
            let what = "`survives_storm` needs `scheduler`: the scheduler must outlive the test";
            return Err(error(at, what));
        }
        if attrs.bool("expect_err") == Some(true) {
            let what = "`survives_storm` and `expect_err` exclude each other";
            return Err(error(at, what));
        }
    }
    if attrs.bool("performance_mode") == Some(true) && attrs.bool("no_perf_mode") == Some(true) {
        return Err(error(
            attrs.span("no_perf_mode"),
            "`performance_mode` and `no_perf_mode` exclude each other",
        ));
    }
    if attrs.get("cpu_budget").is_some() && attrs.bool("no_perf_mode") != Some(true) {
        return Err(error(
            attrs.span("cpu_budget"),
            "`cpu_budget` needs `no_perf_mode`: a test that shares CPUs cannot have pinned ones",
        ));
    }
    for name in ["bpf_map_write", "watch_bpf_maps"] {
        if attrs.get(name).is_some() && attrs.get("scheduler").is_none() {
            return Err(error(
                attrs.span(name),
                format!(
                    "`{name}` needs `scheduler`, because it accesses variables of the scheduler"
                ),
            ));
        }
    }
    if let Some(file) = attrs
        .texts("extra_include_files")
        .iter()
        .find(|file| file.value().is_empty())
    {
        return Err(error(
            file.span(),
            "a path of `extra_include_files` is empty",
        ));
    }
    let mut names: Vec<(String, &syn::LitStr)> = Vec::new();
    for file in attrs.texts("extra_include_files") {
        let path = file.value();
        let whole = path.trim_end_matches('/');
        let name = whole.rsplit('/').next().unwrap_or_default().to_owned();
        if let Some((_, first)) = names.iter().find(|(known, _)| *known == name) {
            return Err(error(
                file.span(),
                format!(
                    "`extra_include_files` has {:?} and {path:?}, and both would be /include-files/{name} \
                     in the guest: rename one",
                    first.value()
                ),
            ));
        }
        names.push((name, file));
    }
    if let Some(root) = attrs.text("workload_root_cgroup") {
        let path = root.value();
        let parts_ok = path.split('/').skip(1).all(|p| !p.is_empty() && p != "..");
        if !path.starts_with('/') || !parts_ok {
            return Err(error(
                root.span(),
                "`workload_root_cgroup` must be absolute, not the root, and without `..`",
            ));
        }
    }
    if let Some(monitor) = attrs.text("monitor")
        && !["enforce", "report"].contains(&monitor.value().as_str())
    {
        return Err(error(
            monitor.span(),
            format!(
                "`monitor = \"{}\"`: expected \"enforce\" or \"report\"",
                monitor.value()
            ),
        ));
    }
    if let Some(clock) = attrs.text("clock")
        && !["auto", "real", "virtual"].contains(&clock.value().as_str())
    {
        return Err(error(
            clock.span(),
            format!(
                "`clock = \"{}\"`: expected \"auto\", \"real\" or \"virtual\"",
                clock.value()
            ),
        ));
    }
    Ok(())
}

fn check_expected_error(attrs: &Attrs) -> Result<()> {
    for name in [
        "expect_scx_bpf_error_contains",
        "expect_scx_bpf_error_matches",
    ] {
        if attrs.get(name).is_some() && attrs.bool("expect_err") != Some(true) {
            return Err(error(
                attrs.span(name),
                format!("`{name}` needs `expect_err`, because a run that passes reports no error"),
            ));
        }
        if attrs.get(name).is_some() && attrs.get("scheduler").is_none() {
            return Err(error(
                attrs.span(name),
                format!("`{name}` needs `scheduler`, because it is about the scheduler's error"),
            ));
        }
        if let Some(text) = attrs.text(name)
            && text.value().is_empty()
        {
            return Err(error(
                text.span(),
                format!("`{name}` is empty, so every error would match"),
            ));
        }
    }
    Ok(())
}

/// Checks that the signature and the attributes of a function allow it to be a test.
pub(crate) fn check_signature(function: &ItemFn) -> Result<()> {
    const EXPECTED: &str =
        "a #[ktstr_test] function must be `fn(&Ctx) -> anyhow::Result<AssertResult>`";
    let sig = &function.sig;
    let what = if sig.asyncness.is_some() {
        Some("it must not be async")
    } else if sig.unsafety.is_some() {
        Some("it must not be unsafe")
    } else if !sig.generics.params.is_empty() {
        Some("it must not be generic")
    } else if sig.inputs.len() != 1 {
        Some("it must take one argument")
    } else if !matches!(sig.inputs.first(), Some(FnArg::Typed(arg)) if matches!(*arg.ty, Type::Reference(_)))
    {
        Some("its argument must be a reference")
    } else if matches!(sig.output, ReturnType::Default) {
        Some("it must return a result")
    } else {
        None
    };
    if let Some(what) = what {
        return Err(syn::Error::new_spanned(sig, format!("{EXPECTED}: {what}")));
    }
    for attr in &function.attrs {
        for (name, instead) in [
            ("test", "#[ktstr_test] already makes it a test"),
            ("ignore", "write #[ktstr_test(ignore)]"),
            ("should_panic", "write #[ktstr_test(expect_err)]"),
        ] {
            if attr.path().is_ident(name) {
                return Err(syn::Error::new_spanned(
                    attr,
                    format!("#[{name}] cannot be combined with #[ktstr_test]: {instead}"),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(args: &str) -> String {
        syn::parse_str::<TestArgs>(args)
            .err()
            .expect("must be refused")
            .to_string()
    }

    #[test]
    fn a_test_with_many_keys() {
        let args = syn::parse_str::<TestArgs>(
            "scheduler = my::SCHED, numa_nodes = 2, llcs = 4, cores = 2, threads = 1, \
             duration_s = 10, watchdog_timeout_s = 20, num_snapshots = 4, auto_repro = false, \
             post_vm = check, not_stuck, max_spread_pct = 20.0, max_gap_ms = 1_500, \
             extra_sched_args = [\"-v\"], ignore, kaslr = false, wprof = false, \
             workload_root_cgroup = \"/a/b\", clock = \"virtual\", seed = 0, fresh_attach,",
        )
        .expect("all of it is fine")
        .0;
        assert_eq!(args.integer("max_gap_ms"), Some(1500));
        assert_eq!(args.bool("not_stuck"), Some(true));
        assert_eq!(args.bool("auto_repro"), Some(false));
        assert_eq!(args.path("scheduler").map(|p| p.segments.len()), Some(2));
        assert_eq!(args.texts("extra_sched_args").len(), 1);
    }

    #[test]
    fn keys() {
        let names: Vec<&str> = crate::keys::KEYS.iter().map(|key| key.name).collect();
        let names = names.join(", ");
        assert!(
            names.starts_with("scheduler, numa_nodes, llcs, "),
            "{names}"
        );
        assert_eq!(
            message("duration = 3"),
            format!("unknown key `duration`, did you mean `duration_s`? Valid keys: {names}")
        );
        assert_eq!(
            message("frobnicate"),
            format!("unknown key `frobnicate`. Valid keys: {names}")
        );
        insta::assert_snapshot!(message("llcs = 1, llcs = 1"), @"`llcs` is given twice");
        insta::assert_snapshot!(message("workers_per_cgroup = 3"), @"`workers_per_cgroup` is not an attribute of the test: set it for each cgroup with `CgroupDef::named(..).workers(n)`");
        insta::assert_snapshot!(message("kaslr"), @"`kaslr` is not available yet: randomised kernel addresses, which the guest never has");
        insta::assert_snapshot!(message("performance_mode, no_perf_mode"), @"`performance_mode` and `no_perf_mode` exclude each other");
        insta::assert_snapshot!(message("cpu_budget = 1"), @"`cpu_budget` needs `no_perf_mode`: a test that shares CPUs cannot have pinned ones");
        insta::assert_snapshot!(message("cpu_budget = 0, no_perf_mode"), @"`cpu_budget` must be at least 1");
        insta::assert_snapshot!(message("survives_storm"), @"`survives_storm` needs `scheduler`: the scheduler must outlive the test");
        insta::assert_snapshot!(message("survives_storm, scheduler = S, expect_err"), @"`survives_storm` and `expect_err` exclude each other");
        insta::assert_snapshot!(message("config = \"x\""), @"`config` needs `scheduler`: it is the scheduler's configuration");
        insta::assert_snapshot!(message("networks = [N]"), @"`networks` is not available yet: network devices");
        insta::assert_snapshot!(message("wprof"), @"`wprof` is not available yet: tracing with wprof");
        insta::assert_snapshot!(message("kaslr = true"), @"`kaslr = true` is not available yet: randomised kernel addresses, which the guest never has");
    }

    #[test]
    fn expected_errors() {
        insta::assert_snapshot!(message("expect_scx_bpf_error_contains = \"x\""), @"`expect_scx_bpf_error_contains` needs `expect_err`, because a run that passes reports no error");
        insta::assert_snapshot!(message("expect_scx_bpf_error_matches = X, expect_err = false"), @"`expect_scx_bpf_error_matches` needs `expect_err`, because a run that passes reports no error");
        insta::assert_snapshot!(message("scheduler = S, expect_err, expect_scx_bpf_error_matches = \"\""), @"`expect_scx_bpf_error_matches` is empty, so every error would match");
        insta::assert_snapshot!(message("expect_err, expect_scx_bpf_error_matches = X"), @"`expect_scx_bpf_error_matches` needs `scheduler`, because it is about the scheduler's error");
        insta::assert_snapshot!(message("expect_err, expect_scx_bpf_error_matches = 5"), @"`expect_scx_bpf_error_matches` takes a string literal or the path of a constant");
    }

    /// A macro by example passes `$x:literal` on in an invisible group.
    #[test]
    fn a_literal_that_a_macro_passes_on_is_a_literal() {
        let seconds: proc_macro2::TokenStream = "5".parse().expect("a literal");
        let group = proc_macro2::Group::new(proc_macro2::Delimiter::None, seconds);
        let args = quote::quote! { duration_s = #group };
        assert!(syn::parse2::<TestArgs>(args).is_ok());
    }

    #[test]
    fn values() {
        insta::assert_snapshot!(message("llcs"), @"`llcs` needs a value: `llcs = …`");
        insta::assert_snapshot!(message("llcs = 0"), @"`llcs` must be at least 1");
        insta::assert_snapshot!(message("llcs = -1"), @"`llcs` takes an integer literal");
        insta::assert_snapshot!(message("llcs = 4294967296"), @"`llcs` is at most 4294967295");
        insta::assert_snapshot!(message("duration_s = 1.5"), @"`duration_s` takes an integer literal");
        insta::assert_snapshot!(message("host_only = 1"), @"`host_only` takes `true` or `false`");
        insta::assert_snapshot!(message("max_spread_pct = 5"), @"`max_spread_pct` takes a float literal of 0 or more, such as `5.0`");
        insta::assert_snapshot!(message("post_vm = 3"), @"`post_vm` takes the path of an item");
        insta::assert_snapshot!(message("extra_sched_args = \"-v\""), @r#"`extra_sched_args` takes a list of string literals: `["…", "…"]`"#);
        insta::assert_snapshot!(message("monitor = \"off\""), @r#"`monitor = "off"`: expected "enforce" or "report""#);
        insta::assert_snapshot!(message("clock = \"fast\""), @r#"`clock = "fast"`: expected "auto", "real" or "virtual""#);
        insta::assert_snapshot!(message("workload_root_cgroup = \"/\""), @"`workload_root_cgroup` must be absolute, not the root, and without `..`");
    }

    #[test]
    fn keys_together() {
        insta::assert_snapshot!(message("numa_nodes = 2, llcs = 3"), @"llcs = 3 cannot be divided by numa_nodes = 2; llcs is the total over all nodes");
        insta::assert_snapshot!(message("num_snapshots = 65"), @"num_snapshots = 65 is more than 64");
        insta::assert_snapshot!(message("num_snapshots = 8, duration_s = 1"), @"num_snapshots = 8 in duration_s = 1 puts captures 88 ms apart; the minimum is 100 ms");
        insta::assert_snapshot!(message("min_cpus = 3, max_cpus = 2"), @"min_cpus = 3 is more than max_cpus = 2");
        insta::assert_snapshot!(message("extra_include_files = [\"a/x\", \"b/x\"]"), @r#"`extra_include_files` has "a/x" and "b/x", and both would be /include-files/x in the guest: rename one"#);
        insta::assert_snapshot!(message("extra_sched_args = [\"-v\"]"), @"`extra_sched_args` needs `scheduler`");
        insta::assert_snapshot!(message("bpf_map_write = W"), @"`bpf_map_write` needs `scheduler`, because it accesses variables of the scheduler");
        insta::assert_snapshot!(message("bpf_map_write = 3, scheduler = S"), @"`bpf_map_write` takes the path of an item, or a list of them: `[A, B]`");
        insta::assert_snapshot!(message("extra_sched_args = [\"a\\nb\"], scheduler = S"), @"an argument of `extra_sched_args` must not contain newlines or NUL");
        for other in [
            "scheduler = S",
            "num_snapshots = 1",
            "cleanup_budget_ms = 1",
            "cpu_budget = 1",
            "perf_delta_assertions = P",
            "post_vm = f",
            "auto_repro = true",
            "max_local_dsq_depth = 3",
            "work_conservation = true",
            "max_owed_ms = 5",
            "fresh_attach = true",
        ] {
            let name = other.split(' ').next().unwrap_or_default();
            assert_eq!(
                message(&format!("host_only, {other}")),
                format!("`{name}` needs a VM, but `host_only` runs without one")
            );
        }
        for fine in [
            "num_snapshots = 7, duration_s = 1",
            "host_only, auto_repro = false, num_snapshots = 0",
        ] {
            assert!(syn::parse_str::<TestArgs>(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn signatures() {
        let message = |text: &str| {
            let function = syn::parse_str::<ItemFn>(text).expect("a function");
            check_signature(&function)
                .err()
                .map_or("fine".to_owned(), |error| error.to_string())
        };
        assert_eq!(
            message("fn f(ctx: &Ctx) -> Result<AssertResult> { x }"),
            "fine"
        );
        insta::assert_snapshot!(message("fn f() -> R { x }"), @"a #[ktstr_test] function must be `fn(&Ctx) -> anyhow::Result<AssertResult>`: it must take one argument");
        insta::assert_snapshot!(message("fn f(ctx: Ctx) -> R { x }"), @"a #[ktstr_test] function must be `fn(&Ctx) -> anyhow::Result<AssertResult>`: its argument must be a reference");
        insta::assert_snapshot!(message("fn f(ctx: &Ctx) {}"), @"a #[ktstr_test] function must be `fn(&Ctx) -> anyhow::Result<AssertResult>`: it must return a result");
        insta::assert_snapshot!(message("async fn f(ctx: &Ctx) -> R {}"), @"a #[ktstr_test] function must be `fn(&Ctx) -> anyhow::Result<AssertResult>`: it must not be async");
        insta::assert_snapshot!(message("#[ignore] fn f(ctx: &Ctx) -> R {}"), @"#[ignore] cannot be combined with #[ktstr_test]: write #[ktstr_test(ignore)]");
    }
}
