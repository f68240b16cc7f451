//! `declare_scheduler!`: parses the declaration of a scheduler and generates a registered static.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitStr, Result, Token, Visibility, braced};

use crate::attrs::{RawAttr, error, texts};
use crate::keys::unknown;

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

/// Keys that are reserved and not implemented yet.
const LATER: &[&str] = &[
    "kernel_builtin_enable",
    "kernel_builtin_disable",
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
            if LATER.contains(&key.as_str()) {
                return Err(error(at, format!("`{key}` is not available yet")));
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
    check_name(&name)?;
    let spec = match (get("binary"), get("binary_path")) {
        (Some(value), None) => {
            let binary = text("binary", value)?;
            quote!(Discover(#binary))
        }
        (None, Some(value)) => {
            let path = text("binary_path", value)?;
            if !path.value().starts_with('/') {
                return Err(error(path.span(), "`binary_path` must be absolute"));
            }
            quote!(Path(#path))
        }
        _ => {
            return Err(error(
                ident.span(),
                "exactly one of `binary` and `binary_path` must be given",
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
            "sched_args" | "kargs" => {
                let Expr::Array(array) = value else {
                    let what = format!("`{name}` takes a list of string literals");
                    return Err(error(value.span(), what));
                };
                let values = texts(&name, array)?;
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

fn check_name(name: &LitStr) -> Result<()> {
    let value = name.value().trim().to_lowercase();
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
    fn bad_declarations_are_rejected_with_a_reason() {
        insta::assert_snapshot!(message("my, {}"), @"`my` must be in capitals: `MY`");
        insta::assert_snapshot!(message("EEVDF, {}"), @"`EEVDF` is the kernel's own scheduler; choose another name");
        insta::assert_snapshot!(message("MY, {}"), @r#"`name` is missing: `name = "…"`"#);
        insta::assert_snapshot!(message("MY, { name = \"a\" }"), @"exactly one of `binary` and `binary_path` must be given");
        insta::assert_snapshot!(message("MY, { name = \" Eevdf \", binary = \"x\" }"), @r#"`name = " Eevdf "` is reserved for the kernel's own scheduler"#);
        insta::assert_snapshot!(message("MY, { name = \"a\", binary_path = \"x\" }"), @"`binary_path` must be absolute");
        insta::assert_snapshot!(message("MY, { name = \"a\", binary = \"x\", topology = 3 }"), @"`topology` takes (numa_nodes, llcs, cores, threads)");
        insta::assert_snapshot!(message("MY, { kernels = [] }"), @"`kernels` is not available yet");
        assert!(
            message("MY, { nmae = 1 }").starts_with("unknown key `nmae`, did you mean `name`?")
        );
    }
}
