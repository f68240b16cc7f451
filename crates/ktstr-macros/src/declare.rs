//! `declare_scheduler!`: parses the declaration of a scheduler and generates a registered static.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitStr, Result, Token, Visibility, braced};

use crate::attrs::{RawAttr, error, texts};
use crate::near::unknown;

const KEYS: &[&str] = &[
    "name",
    "binary",
    "binary_path",
    "kernel_builtin_enable",
    "kernel_builtin_disable",
    "topology",
    "cgroup_parent",
    "sched_args",
    "kargs",
    "sysctls",
    "constraints",
    "assert",
    "config_file",
    "config_file_def",
    "kernels",
    "verifier_exclude_topologies",
];

struct Declaration {
    outer: Vec<Attribute>,
    visibility: Visibility,
    ident: Ident,
    attrs: Vec<(Ident, Expr)>,
}

impl Parse for Declaration {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut outer = input.call(Attribute::parse_outer)?;
        let visibility = match input.parse()? {
            Visibility::Inherited => syn::parse_quote!(pub),
            given => given,
        };
        let ident: Ident = input.parse()?;
        check_ident(&ident)?;
        if !outer.iter().any(|attr| attr.path().is_ident("doc")) {
            outer.push(syn::parse_quote!(#[doc = "A scheduler under test."]));
        }
        input.parse::<Token![,]>()?;
        let body;
        braced!(body in input);
        input.parse::<Option<Token![,]>>()?;
        let mut attrs: Vec<(Ident, Expr)> = Vec::new();
        for raw in Punctuated::<RawAttr, Token![,]>::parse_terminated(&body)? {
            let key = raw.key.to_string();
            let at = raw.key.span();
            if !KEYS.contains(&key.as_str()) {
                return Err(error(at, unknown(&key, KEYS)));
            }
            if attrs.iter().any(|(name, _)| *name == raw.key) {
                return Err(error(at, format!("`{key}` is given twice")));
            }
            let value = raw
                .value
                .ok_or_else(|| error(at, format!("`{key}` needs a value: `{key} = …`")))?;
            attrs.push((raw.key, value));
        }
        Ok(Self {
            outer,
            visibility,
            ident,
            attrs,
        })
    }
}

/// Generates the code of one declaration.
pub(crate) fn declare(input: TokenStream) -> Result<TokenStream> {
    let Declaration {
        outer,
        visibility,
        ident,
        attrs,
    } = syn::parse2(input)?;
    let get = |key: &str| attrs.iter().find(|(name, _)| name == key).map(|(_, e)| e);
    let name = match get("name") {
        Some(value) => text("name", value)?,
        None => return Err(error(ident.span(), "`name` is missing: `name = \"…\"`")),
    };
    let builtin = builtin(get("kernel_builtin_enable"), get("kernel_builtin_disable"))?;
    check_name(&name, builtin.is_some())?;
    let spec = match (get("binary"), get("binary_path"), builtin) {
        (None, None, Some(builtin)) => builtin,
        (Some(value), None, None) => {
            let binary = text("binary", value)?;
            quote!(Discover(#binary))
        }
        (None, Some(value), None) => {
            let path = text("binary_path", value)?;
            if !path.value().starts_with('/') {
                return Err(error(path.span(), "`binary_path` must be absolute"));
            }
            quote!(Path(#path))
        }
        _ => {
            return Err(error(
                ident.span(),
                "exactly one of `binary`, `binary_path` and `kernel_builtin_enable` with `kernel_builtin_disable` must be given",
            ));
        }
    };
    let mut builders = TokenStream::new();
    for (key, value) in &attrs {
        let name = key.to_string();
        match name.as_str() {
            "topology" => builders.extend(topology(value)?),
            "cgroup_parent" => {
                let path = text(&name, value)?;
                builders.extend(quote!(.cgroup_parent(#path)));
            }
            "config_file" => {
                let path = text(&name, value)?;
                builders.extend(quote!(.config_file(#path)));
            }
            "config_file_def" => match value {
                Expr::Tuple(pair) if pair.elems.len() == 2 => {
                    let pair = &pair.elems;
                    builders.extend(quote!(.config_file_def(#pair)));
                }
                other => {
                    return Err(error(
                        other.span(),
                        "`config_file_def` takes (\"arguments with {file}\", \"/path/in/the/guest\")",
                    ));
                }
            },
            "sched_args" | "kargs" | "kernels" | "verifier_exclude_topologies" => {
                let Expr::Array(array) = value else {
                    let what = format!("`{name}` takes a list of string literals");
                    return Err(error(value.span(), what));
                };
                let values = texts(&name, array)?;
                if matches!(name.as_str(), "kernels" | "verifier_exclude_topologies") {
                    check_filter(&name, &values)?;
                }
                builders.extend(quote!(.#key(&[#(#values),*])));
            }
            "sysctls" => {
                let by_ref = matches!(value, Expr::Array(_)).then(|| quote!(&));
                builders.extend(quote!(.sysctls(#by_ref #value)));
            }
            "constraints" => builders.extend(quote!(.constraints((#value).checked()))),
            "assert" => builders.extend(quote!(.assert(#value))),
            _ => {}
        }
    }
    let registered = format_ident!("__KTSTR_SCHEDULER_{}", ident);
    Ok(quote! {
        #(#outer)*
        #visibility static #ident: ::ktstr::test_support::Scheduler =
            ::ktstr::test_support::Scheduler::named(#name)
                .binary(::ktstr::test_support::SchedulerSpec::#spec)
                .manifest_dir(::core::env!("CARGO_MANIFEST_DIR"))
                #builders;

        #[doc(hidden)]
        #[::ktstr::__private::linkme::distributed_slice(::ktstr::test_support::KTSTR_SCHEDULERS)]
        #[linkme(crate = ::ktstr::__private::linkme)]
        static #registered: &'static ::ktstr::test_support::Scheduler = &#ident;
    })
}

/// Checks that no value of `kernels` or `verifier_exclude_topologies` is empty or contains `/`, and that no two are the same.
fn check_filter(key: &str, values: &[LitStr]) -> Result<()> {
    for (at, value) in values.iter().enumerate() {
        let text = value.value();
        if text.trim().is_empty() || text.contains('/') {
            let what = format!("`{key}` has {text:?}: a value must not be empty nor contain `/`");
            return Err(error(value.span(), what));
        }
        if values.iter().take(at).any(|other| other.value() == text) {
            return Err(error(value.span(), format!("`{key}` has {text:?} twice")));
        }
    }
    Ok(())
}

fn check_ident(ident: &Ident) -> Result<()> {
    let name = ident.to_string();
    let screaming = name
        .chars()
        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if !screaming {
        return Err(error(
            ident.span(),
            format!("`{name}` must be in capitals: `{}`", name.to_uppercase()),
        ));
    }
    if ["EEVDF", "KERNEL_DEFAULT"].contains(&name.as_str()) {
        return Err(error(
            ident.span(),
            format!("`{name}` is the kernel's own scheduler; choose another name"),
        ));
    }
    Ok(())
}

/// Generates the specification of a scheduler that is built into the kernel. `enable` and `disable` are the lists of the
/// commands that turn the scheduler on and off. Returns `None` if neither list is given.
fn builtin(enable: Option<&Expr>, disable: Option<&Expr>) -> Result<Option<TokenStream>> {
    let (enable, disable) = match (enable, disable) {
        (None, None) => return Ok(None),
        (Some(enable), Some(disable)) => (enable, disable),
        (Some(one), None) | (None, Some(one)) => {
            let what =
                "`kernel_builtin_enable` and `kernel_builtin_disable` must be given together";
            return Err(error(one.span(), what));
        }
    };
    let commands = |key: &str, value: &Expr| {
        let Expr::Array(array) = value else {
            let what = format!("`{key}` takes a list of string literals");
            return Err(error(value.span(), what));
        };
        let commands = texts(key, array)?;
        match commands.iter().find(|command| !is_echo(&command.value())) {
            None => Ok(commands),
            Some(command) => Err(error(
                command.span(),
                format!(
                    "{:?} must have the form `echo VALUE > /path`",
                    command.value()
                ),
            )),
        }
    };
    let on = commands("kernel_builtin_enable", enable)?;
    let off = commands("kernel_builtin_disable", disable)?;
    if on.is_empty() && off.is_empty() {
        let what = "`kernel_builtin_enable` and `kernel_builtin_disable` are both empty";
        return Err(error(enable.span(), what));
    }
    Ok(Some(
        quote!(KernelBuiltin { enable: &[#(#on),*], disable: &[#(#off),*] }),
    ))
}

/// Returns whether `command` has the form `echo VALUE > /path`; the value may have several words.
fn is_echo(command: &str) -> bool {
    let words: Vec<&str> = command.split_whitespace().collect();
    matches!(words.as_slice(), ["echo", _, .., ">", path] if path.len() > 1 && path.starts_with('/'))
}

fn check_name(name: &LitStr, builtin: bool) -> Result<()> {
    let value = name.value().trim().to_lowercase();
    if builtin && value == "kernel" {
        return Ok(());
    }
    if value.is_empty() {
        return Err(error(name.span(), "`name` is empty"));
    }
    if ["eevdf", "kernel_default", "kernel"].contains(&value.as_str()) {
        return Err(error(
            name.span(),
            format!(
                "`name = {:?}` is reserved for the kernel's own scheduler",
                name.value()
            ),
        ));
    }
    Ok(())
}

fn text(key: &str, value: &Expr) -> Result<LitStr> {
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(lit), ..
        }) if !lit.value().is_empty() => Ok(lit.clone()),
        other => Err(error(
            other.span(),
            format!("`{key}` takes a string literal that is not empty"),
        )),
    }
}

fn topology(value: &Expr) -> Result<TokenStream> {
    match value {
        Expr::Tuple(tuple) if tuple.elems.len() == 4 => {
            let dimensions = &tuple.elems;
            Ok(quote!(.topology(#dimensions)))
        }
        other => Err(error(
            other.span(),
            "`topology` takes (numa_nodes, llcs, cores, threads)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        declare(text.parse().expect("tokens"))
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_declaration() {
        let code = declare(quote!(MY, { name = "my", binary = "scx_my", topology = (1, 2, 3, 1), sched_args = ["-v"] }))
            .expect("it expands");
        syn::parse2::<syn::File>(code.clone()).expect("it is Rust");
        let code = code.to_string();
        assert!(code.contains("pub static MY"), "{code}");
        assert!(
            code.contains(r#". topology (1 , 2 , 3 , 1) . sched_args (& ["-v"])"#),
            "{code}"
        );
    }

    #[test]
    fn a_scheduler_of_the_kernel_and_configurations() {
        let code = declare(quote!(KERNEL, { name = "kernel", kernel_builtin_enable = ["echo 1 > /sys/x"], kernel_builtin_disable = [] }))
            .expect("it expands")
            .to_string();
        assert!(
            code.contains(r#"KernelBuiltin { enable : & ["echo 1 > /sys/x"] , disable : & [] }"#),
            "{code}"
        );
        let code = declare(quote!(MY, { name = "my", binary = "x", config_file = "a.json", config_file_def = ("-c {file}", "/c") }))
            .expect("it expands")
            .to_string();
        assert!(
            code.contains(r#". config_file ("a.json") . config_file_def ("-c {file}" , "/c")"#),
            "{code}"
        );
    }

    #[test]
    fn bad_declarations_are_rejected_with_a_reason() {
        insta::assert_snapshot!(message("my, {}"), @"`my` must be in capitals: `MY`");
        insta::assert_snapshot!(message("EEVDF, {}"), @"`EEVDF` is the kernel's own scheduler; choose another name");
        insta::assert_snapshot!(message("MY, {}"), @r#"`name` is missing: `name = "…"`"#);
        insta::assert_snapshot!(message("MY, { name = \"a\" }"), @"exactly one of `binary`, `binary_path` and `kernel_builtin_enable` with `kernel_builtin_disable` must be given");
        insta::assert_snapshot!(message("MY, { name = \"a\", kernel_builtin_enable = [\"echo 1 > /x\"] }"), @"`kernel_builtin_enable` and `kernel_builtin_disable` must be given together");
        insta::assert_snapshot!(message("MY, { name = \"a\", kernel_builtin_enable = [], kernel_builtin_disable = [] }"), @"`kernel_builtin_enable` and `kernel_builtin_disable` are both empty");
        insta::assert_snapshot!(message("MY, { name = \"a\", kernel_builtin_enable = [\"rm /x\"], kernel_builtin_disable = [] }"), @r#""rm /x" must have the form `echo VALUE > /path`"#);
        insta::assert_snapshot!(message("MY, { name = \"kernel\", binary = \"x\" }"), @r#"`name = "kernel"` is reserved for the kernel's own scheduler"#);
        insta::assert_snapshot!(message("MY, { name = \"a\", binary = \"x\", config_file_def = \"x\" }"), @r#"`config_file_def` takes ("arguments with {file}", "/path/in/the/guest")"#);
        insta::assert_snapshot!(message("MY, { name = \" Eevdf \", binary = \"x\" }"), @r#"`name = " Eevdf "` is reserved for the kernel's own scheduler"#);
        insta::assert_snapshot!(message("MY, { name = \"a\", binary_path = \"x\" }"), @"`binary_path` must be absolute");
        insta::assert_snapshot!(message("MY, { name = \"a\", binary = \"x\", topology = 3 }"), @"`topology` takes (numa_nodes, llcs, cores, threads)");
        insta::assert_snapshot!(message("MY, { name = \"x\", binary = \"x\", kernels = [\"6.14\", \"6.14\"] }"), @r#"`kernels` has "6.14" twice"#);
        insta::assert_snapshot!(message("MY, { name = \"x\", binary = \"x\", verifier_exclude_topologies = [\"\"] }"), @r#"`verifier_exclude_topologies` has "": a value must not be empty nor contain `/`"#);
        assert!(
            message("MY, { nmae = 1 }").starts_with("unknown key `nmae`, did you mean `name`?")
        );
    }
}
