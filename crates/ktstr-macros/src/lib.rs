//! The attribute and declaration macros of ktstr: a declaration becomes an entry registered at
//! link time. Each macro is two steps: `keys`, `attrs` and `test_args` read and check (pure, and
//! tested on their messages), `expand` writes code.
//!
//! The code written refers to these names of the `ktstr` crate, and to no others:
//! `::ktstr::test_support::{KtstrTestEntry, KTSTR_TESTS, KTSTR_SCHEDULERS, Scheduler,
//! SchedulerSpec, Sysctl, CgroupPath, Topology, TopologyConstraints, ClockMode, Payload, PayloadKind,
//! OutputFormat, MetricCheck, MetricHint, MetricPattern}`, `::ktstr::assert::Polarity`,
//! `::ktstr::assert::Assert`, `::ktstr::__private::linkme` and
//! `::ktstr::__private::run_under_libtest(&'static KtstrTestEntry)`.

mod attrs;
mod claim;
mod declare;
mod expand;
mod json;
mod keys;
mod payload;
mod test_args;

use proc_macro::TokenStream;

/// Makes a function `fn(&Ctx) -> anyhow::Result<AssertResult>` a scheduler test.
///
/// Every key may be given once; booleans may be given bare (`host_only`). An unknown key, a value out of
/// range, keys that exclude each other and keys that are not built yet do not compile: a key that is
/// accepted has an effect.
///
/// ```text
/// #[ktstr_test(scheduler = MY_SCHED, llcs = 2, cores = 2, duration_s = 10, num_snapshots = 4)]
/// fn spreads_over_llcs(ctx: &Ctx) -> Result<AssertResult> {
///     execute_defs(ctx, vec![CgroupDef::named("cg").workers(4)])
/// }
/// ```
///
#[doc = include_str!("attributes.md")]
#[proc_macro_attribute]
pub fn ktstr_test(args: TokenStream, item: TokenStream) -> TokenStream {
    finish(expand::test(args.into(), item.into()))
}

/// Registers a `static X: KtstrTestEntry = …;` written by hand as a test.
#[proc_macro_attribute]
pub fn ktstr_test_entry(args: TokenStream, item: TokenStream) -> TokenStream {
    finish(expand::entry(args.into(), item.into()))
}

/// Declares a scheduler and registers it: `declare_scheduler!(pub MY_SCHED, { name = "my",
/// binary = "scx_my" })`.
#[proc_macro]
pub fn declare_scheduler(input: TokenStream) -> TokenStream {
    finish(declare::declare(input.into()))
}

/// A JSON text, checked and written out while the test compiles: a `&'static str`, such as `config` of
/// [`macro@ktstr_test`] takes.
///
/// Strings, numbers, `true`, `false`, `null`, `[…]` and `{"key": …}` are written as in JSON; numbers may have Rust's
/// forms (`0x10`, `1_000`). A key that is given twice is an error.
#[proc_macro]
pub fn json(input: TokenStream) -> TokenStream {
    finish(json::json(input.into()))
}

/// Gives a struct with named fields a trait `<Name>Claim` with `claim_<field>(&self, &mut Verdict)` for
/// each: a set for a `BTreeSet`, a sequence for a `Vec`, a metric that may be absent for an
/// `Option<f64>`, else a value. Maps, other options and fields with `#[claim(skip)]` have none.
///
/// The code refers to `::ktstr::assert::{Verdict, ClaimBuilder, PresentClaim, SetClaim, SeqClaim}`, or
/// to what `#[claim(crate = path)]` on the struct names in its place.
#[proc_macro_derive(Claim, attributes(claim))]
pub fn derive_claim(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    finish(claim::derive(input))
}

/// Declares a program of the host that tests run as their load: a constant of the type `Payload`, named after the struct
/// without a `Payload` at its end, in capitals, with the struct's visibility.
///
/// ```text
/// #[derive(Payload)]
/// #[payload(binary = "fio", output = Json)]
/// #[default_args("--output-format=json", "--name=w", "--rw=write", "--size=1M")]
/// #[default_check(min("jobs.0.write.iops", 100.0))]
/// #[metric(name = "jobs.0.write.iops", polarity = HigherBetter, unit = "op/s")]
/// struct FioPayload;      // const FIO: Payload
/// ```
///
/// | Attribute | Meaning |
/// | --- | --- |
/// | `#[payload(binary = "…", name = "…", output = Json)]` | the program, as `Payload::binary` takes it; its name in reports, otherwise the program's own; `Json` or `ExitCode`, which it is otherwise |
/// | `#[default_args("…", …)]` | arguments that come before those of a run |
/// | `#[default_check(…)]` | `min("m", v)`, `max("m", v)`, `range("m", low, high)`, `exists("m")` or `exit_code_eq(n)`; may be repeated |
/// | `#[metric(name = "…", polarity = …, unit = "…")]` | what is known of a metric: `HigherBetter`, `LowerBetter`, `TargetValue(x)`, `Informational` or `Unknown`; may be repeated |
/// | `#[pattern(name = "…", regex = "…")]` | a metric in lines of text, in the place of `output`; may be repeated |
/// | `#[include_files("…", …)]` | files of the host that it needs besides |
#[proc_macro_derive(
    Payload,
    attributes(payload, default_args, default_check, metric, pattern, include_files)
)]
pub fn derive_payload(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    finish(payload::derive(input))
}

fn finish(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(syn::Error::into_compile_error).into()
}
