//! Generates the code of `#[ktstr_test]` and `#[ktstr_test_entry]`, and of `__keys!` and `__checks!`, which hand the table
//! of keys to other crates.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Attribute, ItemFn, ItemStatic, Result};

use crate::attrs::{Attrs, Value, error};
use crate::keys::{Group, KEYS, Kind, Status};
use crate::test_args::{DEFAULT_DURATION_S, TestArgs, check_signature};

/// Expands `#[ktstr_test(...)] fn …`.
pub(crate) fn test(args: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let TestArgs(attrs) = syn::parse2(args)?;
    let mut function: ItemFn = syn::parse2(item)?;
    check_signature(&function)?;

    let name = function.sig.ident.clone();
    let text = name.to_string();
    // The span makes the compiler report a body of the wrong type at the function's name.
    let body = format_ident!("__ktstr_body_{}", text, span = name.span());
    let entry = format_ident!("__KTSTR_ENTRY_{}", text.to_uppercase());
    let listed = format_ident!("__KTSTR_LISTED_{}", text.to_uppercase());
    let cfgs = of(&function.attrs, &["cfg"]);
    let on_test = of(&function.attrs, &["cfg", "doc", "allow", "expect"]);
    let visibility = std::mem::replace(&mut function.vis, syn::Visibility::Inherited);
    let ignored = attrs.bool("ignore") == Some(true);
    // Demonstrations, whose names start with `demo_`, are marked as ignored in the list of tests for nextest. Plain
    // `cargo test` must ignore them, too.
    let ignore = (ignored || text.starts_with("demo_")).then(|| quote!(#[ignore]));
    function.sig.ident = body.clone();
    // `ctx.payload(…)` is a method of a trait. With this import, a test can call it without an import of its own.
    function.block.stmts.insert(
        0,
        syn::parse_quote! {
            #[allow(unused_imports)]
            use ::ktstr::__private::RunsPayloads as _;
        },
    );
    let fields = fields(&attrs);

    Ok(quote! {
        #[doc(hidden)]
        #function

        #(#cfgs)*
        #[doc(hidden)]
        #[::ktstr::__private::linkme::distributed_slice(::ktstr::test_support::KTSTR_TESTS)]
        #[linkme(crate = ::ktstr::__private::linkme)]
        static #entry: ::ktstr::test_support::KtstrTestEntry = {
            #[allow(unused_imports)]
            use ::core::option::Option::Some;
            ::ktstr::test_support::KtstrTestEntry {
                name: #text,
                func: #body,
                #fields
                ..::ktstr::test_support::KtstrTestEntry::DEFAULT
            }
        };

        #(#cfgs)*
        #[doc(hidden)]
        #[::ktstr::__private::linkme::distributed_slice(::ktstr::__private::LIBTEST_NAMES)]
        #[linkme(crate = ::ktstr::__private::linkme)]
        static #listed: &str = ::core::concat!(::core::module_path!(), "::", #text);

        #(#on_test)*
        #[test]
        #ignore
        #visibility fn #name() {
            ::ktstr::__private::run_under_libtest(&#entry)
        }
    })
}

/// Expands `#[ktstr_test_entry] static …`.
pub(crate) fn entry(args: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !args.is_empty() {
        return Err(syn::Error::new_spanned(
            args,
            "#[ktstr_test_entry] takes no arguments: set the fields of the entry instead",
        ));
    }
    let item: ItemStatic = syn::parse2(item)?;
    if let syn::StaticMutability::Mut(token) = &item.mutability {
        return Err(error(token.span, "an entry must not be mutable"));
    }
    let entry = &item.ident;
    let cfgs = of(&item.attrs, &["cfg"]);
    let test = format_ident!("__ktstr_entry_{}", entry.to_string().to_lowercase());
    Ok(quote! {
        #[::ktstr::__private::linkme::distributed_slice(::ktstr::test_support::KTSTR_TESTS)]
        #[linkme(crate = ::ktstr::__private::linkme)]
        #item

        #(#cfgs)*
        #[test]
        fn #test() {
            ::ktstr::__private::run_under_libtest(&#entry)
        }
    })
}

/// Generates a call of the macro `callback` with the table of available keys.
pub(crate) fn keys(callback: TokenStream) -> TokenStream {
    let built = KEYS.iter().filter(|key| key.status() == Status::Available);
    let lines = built.map(|key| {
        let (name, default, doc) = (format_ident!("{}", key.name), key.default, key.doc);
        let group = format_ident!("{}", format!("{:?}", key.group));
        let kind = match key.kind {
            Kind::Bool => quote!(Bool(0, 0)),
            Kind::Positive { max } => quote!(Number(1, #max)),
            Kind::Integer { max } => quote!(Number(0, #max)),
            Kind::Float => quote!(Float(0, 0)),
            Kind::Limit => quote!(Limit(0, 0)),
            Kind::Text | Kind::TextOrPath => quote!(Text(0, 0)),
            Kind::Texts => quote!(Texts(0, 0)),
            Kind::Path | Kind::Paths | Kind::PathOrPaths | Kind::Any => quote!(Item(0, 0)),
        };
        quote!(#name #kind #group #default #doc;)
    });
    quote!(#callback! { #(#lines)* })
}

/// Generates a call of the macro `callback` with those fields of `Assert` that have a key. The fields of one part of the
/// checks, such as `workers` (`Field::part`), form one block.
pub(crate) fn parts(callback: TokenStream) -> TokenStream {
    let mut parts: Vec<(&str, TokenStream)> = Vec::new();
    for (key, field) in KEYS.iter().filter_map(|key| Some((key, key.field?))) {
        let (name, switch) = (
            format_ident!("{}", key.name),
            format_ident!("{}", field.switch),
        );
        let (type_, about) = (rust(field.type_), field.about);
        let line = quote!(#( #[doc = #about] )* #switch #name: #type_;);
        match parts.iter_mut().find(|(part, _)| *part == field.part) {
            Some((_, lines)) => lines.extend(line),
            None => parts.push((field.part, line)),
        }
    }
    let parts = parts.iter().map(|(part, lines)| {
        let part = format_ident!("{part}");
        quote!(#part { #lines })
    });
    quote!(#callback! { #(#parts)* })
}

/// Returns the tokens of a type that the table has as text. A text that is not Rust becomes a compile error.
fn rust(text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|error: proc_macro2::LexError| {
        let message = error.to_string();
        quote!(compile_error!(#message))
    })
}

/// Returns the attributes that have one of these names.
fn of<'a>(attrs: &'a [Attribute], names: &[&str]) -> Vec<&'a Attribute> {
    attrs
        .iter()
        .filter(|attr| names.iter().any(|name| attr.path().is_ident(name)))
        .collect()
}

/// Generates the fields of the entry: those that the test gives, and those that come from the scheduler.
fn fields(attrs: &Attrs) -> TokenStream {
    let mut out = TokenStream::new();
    let scheduler = match attrs.path("scheduler") {
        Some(path) => quote!(#path),
        None => quote!(::ktstr::test_support::Scheduler::EEVDF),
    };
    if attrs.get("scheduler").is_some() {
        out.extend(quote!(scheduler: &#scheduler,));
    }
    let topology = topology(attrs, &scheduler);
    let constraints = constraints(attrs, &scheduler, &topology);
    out.extend(quote! {
        topology: #topology,
        constraints: #constraints,
    });
    for (key, field) in [
        ("expect_err", "expect_err"),
        ("allow_inconclusive", "allow_inconclusive"),
        ("host_only", "host_only"),
        ("ignore", "ignored"),
        ("fresh_attach", "fresh_attach"),
        ("performance_mode", "performance_mode"),
        ("no_perf_mode", "no_perf_mode"),
        ("survives_storm", "survives_storm"),
        ("auto_repro", "auto_repro"),
    ] {
        if let Some(value) = attrs.bool(key) {
            let field = format_ident!("{field}");
            out.extend(quote!(#field: #value,));
        }
    }
    if let Some(value) = attrs.integer("cpu_budget") {
        let value = value as u32;
        out.extend(quote!(cpu_budget: Some(#value),));
    }
    for name in ["memory_mib", "num_snapshots"] {
        if let Some(value) = attrs.integer(name) {
            let field = format_ident!("{name}");
            // The value was checked against u32::MAX when it was parsed.
            let value = value as u32;
            out.extend(quote!(#field: #value,));
        }
    }
    let duration = attrs.integer("duration_s").unwrap_or(DEFAULT_DURATION_S);
    out.extend(quote!(duration: ::core::time::Duration::from_secs(#duration),));
    if let Some(seconds) = attrs.integer("watchdog_timeout_s") {
        out.extend(quote!(watchdog_timeout: ::core::time::Duration::from_secs(#seconds),));
    }
    if let Some(ms) = attrs.integer("cleanup_budget_ms") {
        out.extend(quote!(cleanup_budget: Some(::core::time::Duration::from_millis(#ms)),));
    }
    if let Some(seed) = attrs.integer("seed") {
        out.extend(quote!(seed: Some(#seed),));
    }
    for name in ["post_vm", "post_vm_unconditional"] {
        if let Some(path) = attrs.path(name) {
            let field = format_ident!("{name}");
            out.extend(quote!(#field: Some(#path),));
        }
    }
    for name in ["extra_sched_args", "extra_include_files"] {
        if attrs.get(name).is_some() {
            let field = format_ident!("{name}");
            let values = attrs.texts(name);
            out.extend(quote!(#field: &[#(#values),*],));
        }
    }
    if attrs.get("staged_schedulers").is_some() {
        let values = attrs.paths("staged_schedulers");
        out.extend(quote!(staged_schedulers: &[#(&#values),*],));
    }
    if attrs.get("scheduler").is_some() {
        let content = match attrs.get("config").map(|attr| &attr.value) {
            Some(Value::Text(text)) => quote!(Some(#text)),
            Some(Value::Path(path)) => quote!(Some(#path)),
            _ => quote!(::core::option::Option::None),
        };
        out.extend(quote! {
            config_content: ::ktstr::__private::config_content(&#scheduler, #content),
        });
    }
    if let Some(path) = attrs.path("payload") {
        out.extend(quote!(payload: Some(&#path),));
    }
    if let Some(path) = attrs.path("disk") {
        out.extend(quote!(disk: Some(#path),));
    }
    for name in ["bpf_map_write", "watch_bpf_maps", "perf_delta_assertions"] {
        if attrs.get(name).is_some() {
            let (field, values) = (format_ident!("{name}"), attrs.paths(name));
            out.extend(quote!(#field: &[#(&#values),*],));
        }
    }
    if attrs.get("workloads").is_some() {
        let values = attrs.paths("workloads");
        out.extend(quote!(workloads: &[#(&#values),*],));
    }
    if let Some(path) = attrs.text("workload_root_cgroup") {
        out.extend(quote! {
            workload_root_cgroup: Some(::ktstr::test_support::CgroupPath::new(#path)),
        });
    }
    if let Some(clock) = attrs.text("clock") {
        let variant = match clock.value().as_str() {
            "real" => quote!(Real),
            "virtual" => quote!(Virtual),
            _ => quote!(Auto),
        };
        out.extend(quote!(clock: ::ktstr::test_support::ClockMode::#variant,));
    }
    out.extend(checks(attrs));
    out
}

/// Generates the topology: that of the scheduler, in which the test's own dimensions replace the scheduler's. If the test
/// sets any dimension, `const` code checks the result, and a topology that cannot be built is a compile error with the
/// numbers in its message.
fn topology(attrs: &Attrs, scheduler: &TokenStream) -> TokenStream {
    let given = ["numa_nodes", "llcs", "cores", "threads"];
    if given.iter().all(|name| attrs.get(name).is_none()) {
        return quote!((#scheduler).topology);
    }
    let inherited = ["numa_nodes", "llcs", "cores_per_llc", "threads_per_core"];
    let dimensions = given.iter().zip(inherited).map(|(name, field)| {
        let field = format_ident!("{field}");
        match attrs.integer(name) {
            Some(value) => {
                let value = value as u32;
                quote!(#value)
            }
            None => quote!((#scheduler).topology.#field),
        }
    });
    quote!(::ktstr::test_support::Topology::new(#(#dimensions),*).checked())
}

/// Generates the constraints: those of the scheduler, in which the test's own limits replace the scheduler's. The declared
/// topology must satisfy them. An inherited limit with the value that it has in `TopologyConstraints::DEFAULT` counts as not set
/// and is not checked, so that a test on two nodes need not lift the default limit of one. A limit that the test itself sets
/// is always checked.
fn constraints(attrs: &Attrs, scheduler: &TokenStream, topology: &TokenStream) -> TokenStream {
    let mut given = TokenStream::new();
    for name in [
        "min_llcs",
        "max_llcs",
        "min_numa_nodes",
        "max_numa_nodes",
        "min_cpus",
        "max_cpus",
    ] {
        if let Some(value) = attrs.integer(name) {
            let setter = format_ident!("with_{name}");
            let value = value as u32;
            given.extend(quote!(.#setter(#value)));
        }
    }
    if let Some(value) = attrs.bool("requires_smt") {
        given.extend(quote!(.with_requires_smt(#value)));
    }
    quote! {
        {
            let topology = #topology;
            ::ktstr::test_support::TopologyConstraints::UNLIMITED #given .hold_strictly(&topology);
            (#scheduler).constraints #given .checked().holding(&topology)
        }
    }
}

/// Generates the test's own checks. They are merged with the scheduler's when the test runs.
fn checks(attrs: &Attrs) -> TokenStream {
    let mut set = TokenStream::new();
    let checks = KEYS
        .iter()
        .filter(|key| matches!(key.group, Group::Check | Group::MonitorBound));
    for name in checks.map(|key| key.name) {
        let Some(attr) = attrs.get(name) else {
            continue;
        };
        let field = format_ident!("{name}");
        let value = match &attr.value {
            Value::Bool(value) => quote!(#value),
            Value::Integer(value) => {
                let value = proc_macro2::Literal::u64_unsuffixed(*value);
                quote!(#value)
            }
            Value::Text(value) => quote!(#value),
            Value::Path(value) => quote!(#value),
            Value::Limit(None) => quote!(::ktstr::assert::Limit::Off),
            Value::Limit(Some(value)) => {
                let value = proc_macro2::Literal::f64_suffixed(*value);
                quote!(::ktstr::assert::Limit::At(#value))
            }
            _ => {
                let value = attrs.float(name);
                quote!(#value)
            }
        };
        set.extend(quote!(assert.#field = Some(#value);));
    }
    // A violated monitor bound fails a test with `monitor = "enforce"`, and a test without `monitor` that sets a monitor
    // bound.
    let report = attrs.text("monitor").map(|m| m.value() == "report");
    let bounded = KEYS
        .iter()
        .any(|key| key.group == Group::MonitorBound && attrs.get(key.name).is_some());
    if report == Some(false) || (report.is_none() && bounded) {
        set.extend(quote!(assert.enforce_monitor_thresholds = true;));
    }
    if let Some(report) = report {
        set.extend(quote!(assert.report_monitor_only = Some(#report);));
    }
    if set.is_empty() {
        return set;
    }
    quote! {
        assert: {
            let mut assert = ::ktstr::assert::Assert::NO_OVERRIDES;
            #set
            assert
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(args: &str) -> String {
        let args = args.parse().expect("tokens");
        let item = quote! {
            /// Says what it does.
            fn fair(ctx: &Ctx) -> Result<AssertResult> { run(ctx) }
        };
        let code = test(args, item).expect("it expands");
        syn::parse2::<syn::File>(code.clone()).expect("it is Rust");
        code.to_string()
    }

    #[test]
    fn a_part_of_the_topology_is_inherited() {
        let code = written("scheduler = S, llcs = 3");
        assert!(
            code.contains(
                "Topology :: new ((S) . topology . numa_nodes , 3u32 , (S) . topology . \
                 cores_per_llc , (S) . topology . threads_per_core) . checked ()"
            ),
            "{code}"
        );
        assert!(code.contains("scheduler : & S ,"), "{code}");
    }

    #[test]
    fn nothing_given_is_all_inherited() {
        let code = written("");
        assert!(
            code.contains("topology : (:: ktstr :: test_support :: Scheduler :: EEVDF) . topology")
        );
        assert!(!code.contains("scheduler :"), "{code}");
        assert!(!code.contains("assert :"), "{code}");
        assert!(code.contains("Duration :: from_secs (12u64)"), "{code}");
    }

    #[test]
    fn checks_become_an_assert() {
        let code = written(
            "scheduler = S, not_stuck, max_gap_ms = 5, max_spread_pct = 1.5, expect_err, \
             expect_scx_bpf_error_contains = \"a\", expect_scx_bpf_error_matches = own::PATTERN",
        );
        for field in [
            "assert . not_stuck = Some (true)",
            "assert . max_gap_ms = Some (5)",
            "assert . max_spread_pct = Some (1.5)",
            "assert . expect_scx_bpf_error_contains = Some (\"a\")",
            "assert . expect_scx_bpf_error_matches = Some (own :: PATTERN)",
        ] {
            assert!(code.contains(field), "{field} is not in {code}");
        }
    }

    /// Returns `key = value` with a value that the key accepts.
    fn sample(key: &crate::keys::Key) -> String {
        use crate::keys::Kind;
        let value = match (key.name, key.kind) {
            ("workload_root_cgroup", _) => "\"/a\"",
            ("clock", _) => "\"real\"",
            ("monitor", _) => "\"report\"",
            ("host_only" | "expect_err", _) => "true",
            (_, Kind::Bool) => "true",
            (_, Kind::Positive { .. } | Kind::Integer { .. }) => "7",
            (_, Kind::Float) => "0.5",
            (_, Kind::Limit) => "off",
            (_, Kind::Text | Kind::TextOrPath) => "\"x\"",
            (_, Kind::Texts) => "[\"x\"]",
            (_, Kind::Path) => "own::ITEM",
            (_, Kind::Paths | Kind::PathOrPaths) => "[own::ITEM]",
            (_, Kind::Any) => "x",
        };
        format!("{} = {value}", key.name)
    }

    /// Returns the other keys that `name` requires.
    fn needed(name: &str) -> &'static str {
        match name {
            "config" | "survives_storm" | "extra_sched_args" | "bpf_map_write"
            | "watch_bpf_maps" => "scheduler = S, ",
            "cpu_budget" => "no_perf_mode, ",
            "expect_scx_bpf_error_contains" | "expect_scx_bpf_error_matches" => {
                "scheduler = S, expect_err, "
            }
            _ => "",
        }
    }

    #[test]
    fn every_key_that_is_accepted_changes_the_code() {
        for key in KEYS {
            let needed = needed(key.name);
            let args = format!("{needed}{}", sample(key));
            if key.status() == crate::keys::Status::Available {
                assert_ne!(written(&args), written(needed), "`{args}` does nothing");
            } else {
                assert!(
                    syn::parse_str::<TestArgs>(&args).is_err(),
                    "`{args}` is accepted"
                );
            }
        }
    }

    #[test]
    fn a_monitor_bound_is_enforced_unless_it_is_only_reported() {
        let enforced = "assert . enforce_monitor_thresholds = true";
        let bounds: Vec<_> = KEYS
            .iter()
            .filter(|key| key.group == Group::MonitorBound)
            .collect();
        let documented = KEYS.iter().filter(|key| key.doc.starts_with("monitor: "));
        assert!(
            documented
                .map(|key| key.name)
                .eq(bounds.iter().map(|key| key.name))
        );
        for key in bounds {
            let name = key.name;
            let value = match key.kind {
                Kind::Bool => "true",
                Kind::Float => "2.0",
                _ => "2",
            };
            let code = written(&format!("scheduler = S, {name} = {value}"));
            assert!(code.contains(enforced), "{name}: {code}");
        }
        let code = written("scheduler = S, work_conservation, monitor = \"report\"");
        assert!(!code.contains(enforced), "{code}");
        assert!(
            code.contains("assert . report_monitor_only = Some (true)"),
            "{code}"
        );
        assert!(!written("scheduler = S, not_stuck").contains(enforced));
    }

    #[test]
    fn ignored_and_demonstrations() {
        assert!(written("ignore").contains("# [test] # [ignore]"));
        assert!(!written("").contains("ignore"));
        let code = test(
            TokenStream::new(),
            quote!(
                fn demo_x(ctx: &Ctx) -> R {
                    x
                }
            ),
        );
        assert!(code.expect("expands").to_string().contains("# [ignore]"));
    }

    #[test]
    fn entries_by_hand() {
        let code = entry(
            TokenStream::new(),
            quote!(
                static X: KtstrTestEntry = make();
            ),
        );
        assert!(
            code.expect("expands")
                .to_string()
                .contains("fn __ktstr_entry_x")
        );
        let error = entry(
            TokenStream::new(),
            quote!(
                static mut X: E = e();
            ),
        )
        .expect_err("a mutable entry must be refused");
        insta::assert_snapshot!(error, @"an entry must not be mutable");
    }
}
