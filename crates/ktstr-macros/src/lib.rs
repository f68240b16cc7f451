//! The attribute, derive and declaration macros of ktstr. The declaration of a test or scheduler is registered at link
//! time. `#[ktstr_test]` works in two steps. The modules `keys`, `attrs` and `test_args` parse and check the keys: they are
//! pure, and their messages are tested. Then `expand` generates the code. `expand` also has the code of `#[ktstr_test_entry]` and
//! of the two hidden macros. Each of the other macros has a module of its own.
//!
//! Except for `#[derive(Claim)]`, the generated code refers to these names of the `ktstr` crate, and to no others:
//! `::ktstr::test_support::{KtstrTestEntry, KTSTR_TESTS, KTSTR_SCHEDULERS, Scheduler, SchedulerSpec, CgroupPath, Topology,
//! TopologyConstraints, ClockMode, Payload, PayloadKind, OutputFormat, MetricCheck, MetricHint, MetricPattern}`,
//! `::ktstr::assert::{Assert, Limit, Polarity}` and `::ktstr::__private::{linkme, config_content, run_under_libtest,
//! LIBTEST_NAMES, RunsPayloads}`.

#[macro_use]
mod keys;

mod attrs;
mod claim;
mod declare;
mod expand;
mod json;
mod near;
mod payload;
mod test_args;

use proc_macro::TokenStream;

/// Turns a function `fn(&Ctx) -> anyhow::Result<AssertResult>` into a scheduler test.
///
/// Each key may be given once; a boolean may be given without a value (`host_only`). Unknown keys, values out of range and
/// keys that exclude each other are compile errors. So are reserved keys, except that a boolean reserved key may be `false`,
/// which has no effect. A key that is not reserved always has an effect.
///
/// ```text
/// #[ktstr_test(scheduler = MY_SCHED, llcs = 2, cores = 2, duration_s = 10, num_snapshots = 4)]
/// fn spreads_over_llcs(ctx: &Ctx) -> Result<AssertResult> {
///     execute_defs(ctx, vec![CgroupDef::named("cg").workers(4)])
/// }
/// ```
///
#[doc = table!(page)]
#[proc_macro_attribute]
pub fn ktstr_test(args: TokenStream, item: TokenStream) -> TokenStream {
    finish(expand::test(args.into(), item.into()))
}

/// Registers a hand-written `static X: KtstrTestEntry = …;` as a test. Use this when the entry is computed and
/// `#[ktstr_test]` cannot express it.
#[proc_macro_attribute]
pub fn ktstr_test_entry(args: TokenStream, item: TokenStream) -> TokenStream {
    finish(expand::entry(args.into(), item.into()))
}

/// Declares a scheduler and registers it: `declare_scheduler!(pub MY_SCHED, { name = "my", binary = "scx_my" })`. Without a
/// visibility, the static is `pub`.
#[proc_macro]
pub fn declare_scheduler(input: TokenStream) -> TokenStream {
    finish(declare::declare(input.into()))
}

/// Expands to a JSON text, which is checked and written out at compile time, as a `&'static str`. Use it for a constant that
/// the key `config` of [`macro@ktstr_test`] names.
///
/// Strings, numbers, `true`, `false`, `null`, `[…]` and `{"key": …}` are written as in JSON; numbers may have Rust's
/// forms (`0x10`, `1_000`). A key that is given twice is an error.
#[proc_macro]
pub fn json(input: TokenStream) -> TokenStream {
    finish(json::json(input.into()))
}

/// Generates a trait `<Name>Claim` for a struct with named fields. Its methods `claim_<field>(&self, &mut Verdict)`
/// start a claim about a field: a set for a `BTreeSet`, a sequence for a `Vec`, a metric that may be absent for an
/// `Option<f64>`, otherwise a value. Maps, other options and fields with `#[claim(skip)]` get no method.
///
/// The generated code refers to `::ktstr::assert::{Verdict, ClaimBuilder, PresentClaim, SetClaim, SeqClaim}`.
/// `#[claim(crate = path)]` on the struct replaces `::ktstr::assert` with another path.
#[proc_macro_derive(Claim, attributes(claim))]
pub fn derive_claim(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    finish(claim::derive(input))
}

/// Declares a program of the host that tests run as their load. The derive generates a constant of type `Payload` with
/// the struct's visibility. The constant is named after the struct, in capitals and without a trailing `Payload`.
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
/// | `#[payload(binary = "…", name = "…", output = Json)]` | the program, in the form that `Payload::binary` takes; its name in reports (default: the program's name); the format of its output, `Json` or `ExitCode` (the default) |
/// | `#[default_args("…", …)]` | arguments that precede those of a run |
/// | `#[default_check(…)]` | a check: `min("m", v)`, `max("m", v)`, `range("m", low, high)`, `exists("m")` or `exit_code_eq(n)`; may be repeated |
/// | `#[metric(name = "…", polarity = …, unit = "…")]` | the meaning of a metric, whose polarity is `HigherBetter`, `LowerBetter`, `TargetValue(x)`, `Informational` or `Unknown`; may be repeated |
/// | `#[pattern(name = "…", regex = "…")]` | a metric in lines of text, instead of `output`; may be repeated |
/// | `#[include_files("…", …)]` | further files of the host that the program needs |
#[proc_macro_derive(
    Payload,
    attributes(payload, default_args, default_check, metric, pattern, include_files)
)]
pub fn derive_payload(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    finish(payload::derive(input))
}

/// The table of the attribute's keys, for the crate `ktstr` alone: `__keys!(apply)` calls the macro `apply` with a line
/// `name Kind(least, most) Group "default" "doc";` for each key that is available.
#[doc(hidden)]
#[proc_macro]
pub fn __keys(input: TokenStream) -> TokenStream {
    expand::keys(input.into()).into()
}

/// The fields of `Assert` that keys set, for the crate `ktstr-assert` alone: `__checks!(apply)` calls the macro `apply`
/// with a block `part { … }` for each part of the checks. A block has a line `#[doc = "doc"] bound name: type;` for each of
/// its fields, with `flag` in place of `bound` for a field that is on only if it is `true`.
#[doc(hidden)]
#[proc_macro]
pub fn __checks(input: TokenStream) -> TokenStream {
    expand::parts(input.into()).into()
}

fn finish(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(syn::Error::into_compile_error).into()
}
