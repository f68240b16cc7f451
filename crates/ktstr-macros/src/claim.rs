//! `#[derive(Claim)]`: generates a trait with one method for each field that can have a claim, which is a statement about the
//! field's value that a `Verdict` checks.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, GenericArgument, Path, PathArguments, Type};

/// How a field is passed to its claim.
enum Way {
    /// The value is copied.
    Value,
    /// The value is borrowed, as a reference to this type.
    Borrow(TokenStream),
    /// A metric that may be absent.
    Present,
    /// A set of values.
    Set(Type),
    /// A sequence of values.
    Seq(Type),
    /// The field gets no claim.
    Skip,
}

pub fn derive(input: DeriveInput) -> syn::Result<TokenStream> {
    let (name, vis) = (&input.ident, &input.vis);
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => &fields.named,
            other => return Err(Error::new(other.span(), NAMED)),
        },
        _ => return Err(Error::new(name.span(), NAMED)),
    };
    if !input.generics.params.is_empty() {
        let why = "Claim cannot be derived for a struct with parameters";
        return Err(Error::new(input.generics.span(), why));
    }
    let home = home(&input)?;
    let (mut declared, mut defined) = (Vec::new(), Vec::new());
    for field in fields {
        let Some(ident) = &field.ident else { continue };
        let way = match skipped(field)? {
            true => Way::Skip,
            false => way(&field.ty),
        };
        let label = ident.to_string();
        let label = label.trim_start_matches("r#");
        let method = format_ident!("claim_{label}");
        let (claim, body) = match way {
            Way::Skip => continue,
            Way::Value => {
                let ty = &field.ty;
                (
                    quote!(ClaimBuilder<'a, #ty>),
                    quote!(claim(#label, self.#ident)),
                )
            }
            Way::Borrow(ty) => (
                quote!(ClaimBuilder<'a, &'a #ty>),
                quote!(claim(#label, &self.#ident)),
            ),
            Way::Present => (
                quote!(PresentClaim<'a>),
                quote!(claim_present(#label, self.#ident)),
            ),
            Way::Set(ty) => (
                quote!(SetClaim<'a, #ty>),
                quote!(claim_set(#label, &self.#ident)),
            ),
            Way::Seq(ty) => (
                quote!(SeqClaim<'a, #ty>),
                quote!(claim_seq(#label, &self.#ident)),
            ),
        };
        let doc = format!("Claims something about `{label}`.");
        let signature = quote! {
            fn #method<'a>(&'a self, verdict: &'a mut #home::Verdict) -> #home::#claim
        };
        declared.push(quote!(#[doc = #doc] #signature;));
        defined.push(quote!(#signature { verdict.#body }));
    }
    let claims = format_ident!("{name}Claim");
    let doc = format!("Claims about the fields of a [`{name}`].");
    Ok(quote! {
        #[doc = #doc]
        #vis trait #claims { #(#declared)* }
        impl #claims for #name { #(#defined)* }
    })
}

const NAMED: &str = "Claim can be derived for structs with named fields";

/// Returns the path of the claim types: the path in `#[claim(crate = path)]` on the struct, otherwise `::ktstr::assert`.
fn home(input: &DeriveInput) -> syn::Result<TokenStream> {
    let mut home = quote!(::ktstr::assert);
    for attr in input.attrs.iter().filter(|a| a.path().is_ident("claim")) {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("a struct takes only `#[claim(crate = path)]`"));
            }
            let path: Path = meta.value()?.call(Path::parse_mod_style)?;
            home = quote!(#path);
            Ok(())
        })?;
    }
    Ok(home)
}

fn skipped(field: &syn::Field) -> syn::Result<bool> {
    let mut skip = false;
    for attr in field.attrs.iter().filter(|a| a.path().is_ident("claim")) {
        attr.parse_nested_meta(|meta| match meta.path.is_ident("skip") {
            true => {
                skip = true;
                Ok(())
            }
            false => Err(meta.error("a field takes only `#[claim(skip)]`")),
        })?;
    }
    Ok(skip)
}

/// Returns how a field of this type is passed to its claim. Only the last segment of the type's path decides, because a
/// macro cannot resolve types. Maps get no claim, and neither do options other than `Option<f64>`.
fn way(ty: &Type) -> Way {
    // A type that came through a macro as `$name:ty` is in an invisible group.
    if let Type::Group(group) = ty {
        return way(&group.elem);
    }
    let Type::Path(path) = ty else {
        return Way::Borrow(quote!(#ty));
    };
    let Some(last) = path.path.segments.last() else {
        return Way::Skip;
    };
    let inner = match &last.arguments {
        PathArguments::AngleBracketed(args) => args.args.iter().find_map(|arg| match arg {
            GenericArgument::Type(ty) => Some(ty.clone()),
            _ => None,
        }),
        _ => None,
    };
    match (last.ident.to_string().as_str(), inner) {
        ("Vec", Some(ty)) => Way::Seq(ty),
        ("BTreeSet", Some(ty)) => Way::Set(ty),
        ("BTreeMap" | "HashMap", _) => Way::Skip,
        ("Option", Some(Type::Path(of))) if of.path.is_ident("f64") => Way::Present,
        ("Option", _) => Way::Skip,
        ("String", None) => Way::Borrow(quote!(str)),
        (
            "bool" | "char" | "f32" | "f64" | "i8" | "i16" | "i32" | "i64" | "i128" | "isize"
            | "u8" | "u16" | "u32" | "u64" | "u128" | "usize",
            None,
        ) => Way::Value,
        _ => Way::Borrow(quote!(#ty)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods(text: &str) -> String {
        let input = syn::parse_str(text).expect("a struct");
        match derive(input) {
            Ok(code) => {
                let code = code.to_string();
                let part = code.split("impl ").next().unwrap_or_default();
                let names = part.split("fn ").skip(1).map(|f| {
                    let name = f.split(' ').next().unwrap_or_default();
                    let claim = f.split("-> ").nth(1).unwrap_or_default();
                    format!("{name}: {}", claim.split(" ;").next().unwrap_or_default())
                });
                names.collect::<Vec<_>>().join("\n")
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn a_type_that_came_through_a_macro_is_the_type() {
        let through_a_macro = |ty: Type| {
            Type::Group(syn::TypeGroup {
                group_token: syn::token::Group::default(),
                elem: Box::new(ty),
            })
        };
        let set = through_a_macro(syn::parse_quote!(BTreeSet<usize>));
        assert!(matches!(way(&set), Way::Set(_)));
        let number = through_a_macro(syn::parse_quote!(u64));
        assert!(matches!(way(&number), Way::Value));
    }

    #[test]
    fn the_type_of_a_field_decides_its_claim() {
        insta::assert_snapshot!(methods(
            "struct S { n: u64, name: String, cpus: BTreeSet<usize>, gaps: std::vec::Vec<f64>, by: \
             BTreeMap<u8, u8>, rate: Option<f64>, why: Option<String>, #[claim(skip)] x: u8, p: Phase }"
        ), @r"
        claim_n: :: ktstr :: assert :: ClaimBuilder < 'a , u64 >
        claim_name: :: ktstr :: assert :: ClaimBuilder < 'a , & 'a str >
        claim_cpus: :: ktstr :: assert :: SetClaim < 'a , usize >
        claim_gaps: :: ktstr :: assert :: SeqClaim < 'a , f64 >
        claim_rate: :: ktstr :: assert :: PresentClaim < 'a >
        claim_p: :: ktstr :: assert :: ClaimBuilder < 'a , & 'a Phase >
        ");
    }

    #[test]
    fn invalid_structs_and_attributes_are_rejected() {
        insta::assert_snapshot!(methods("enum E { A }"), @"error: Claim can be derived for structs with named fields");
        insta::assert_snapshot!(methods("struct T(u8);"), @"error: Claim can be derived for structs with named fields");
        insta::assert_snapshot!(methods("struct S { #[claim(no)] x: u8 }"), @"error: a field takes only `#[claim(skip)]`");
        insta::assert_snapshot!(methods("#[claim(skip)] struct S { x: u8 }"), @"error: a struct takes only `#[claim(crate = path)]`");
    }
}
