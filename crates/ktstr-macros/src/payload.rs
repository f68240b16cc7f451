//! `#[derive(Payload)]`: generates a constant that declares a program of the host, from attributes on an empty struct.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, DeriveInput, Error, Expr, Ident, LitInt, LitStr, Result, Token, parenthesized,
};

use crate::near::unknown;

/// The attributes that the derive accepts.
const ATTRIBUTES: &[&str] = &[
    "payload",
    "default_args",
    "default_check",
    "metric",
    "pattern",
    "include_files",
];

/// The contents of all attributes of a struct.
#[derive(Default)]
struct Declared {
    binary: Option<LitStr>,
    name: Option<LitStr>,
    output: Option<Ident>,
    args: Vec<LitStr>,
    checks: Vec<TokenStream>,
    metrics: Vec<(LitStr, TokenStream)>,
    patterns: Vec<TokenStream>,
    files: Vec<LitStr>,
}

pub fn derive(input: DeriveInput) -> Result<TokenStream> {
    match &input.data {
        syn::Data::Struct(data) if data.fields.is_empty() => {}
        _ => {
            let why =
                "Payload can be derived only for a struct without fields; use attributes instead";
            return Err(Error::new(input.ident.span(), why));
        }
    }
    let mut declared = Declared::default();
    for attr in &input.attrs {
        if ATTRIBUTES.iter().any(|known| attr.path().is_ident(known)) {
            declared.read(attr)?;
        }
    }
    let constant = constant(&input.ident)?;
    let missing = || {
        Error::new(
            input.ident.span(),
            "name the program: #[payload(binary = \"…\")]",
        )
    };
    let binary = declared.binary.take().ok_or_else(missing)?;
    let name = match declared.name.take() {
        Some(name) => name,
        None => {
            let path = binary.value();
            let base = path
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or_default();
            LitStr::new(base, binary.span())
        }
    };
    for (what, text) in [("binary", &binary), ("name", &name)] {
        if text.value().is_empty() {
            return Err(Error::new(text.span(), format!("`{what}` is empty")));
        }
    }
    let output = declared.output()?;
    let Declared {
        args,
        checks,
        metrics,
        files,
        ..
    } = declared;
    let metrics = metrics.into_iter().map(|(_, metric)| metric);
    let (vis, ident, home) = (&input.vis, &input.ident, quote!(::ktstr::test_support));
    let docs = input
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("doc"));
    let doc = format!("The program `{}` as a test runs it.", binary.value());
    Ok(quote! {
        // The struct only carries the attributes. This line uses it once, so that the compiler does not report it as unused.
        const _: #ident = #ident {};
        #[doc = #doc]
        #(#docs)*
        #vis const #constant: #home::Payload = #home::Payload::new(
            #name,
            #home::PayloadKind::Binary(#binary),
            #output,
            &[#(#args),*],
            &[#(#checks),*],
            &[#(#metrics),*],
            &[#binary #(, #files)*],
            false,
            ::core::option::Option::None,
        );
    })
}

/// Derives the constant's name: both `FioPayload` and `Fio` become `FIO`.
fn constant(ident: &Ident) -> Result<Ident> {
    let text = ident.to_string();
    let text = text.strip_suffix("Payload").unwrap_or(&text);
    if text.is_empty() {
        let why = "a struct named `Payload` gives the constant no name: name it after its program";
        return Err(Error::new(ident.span(), why));
    }
    let mut name = String::new();
    let mut before = '_';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let word = c.is_uppercase()
            && (before.is_lowercase()
                || before.is_ascii_digit()
                || before.is_uppercase() && rest.peek().is_some_and(|next| next.is_lowercase()));
        if word {
            name.push('_');
        }
        name.extend(c.to_uppercase());
        before = c;
    }
    Ok(Ident::new(&name, ident.span()))
}

impl Declared {
    fn read(&mut self, attr: &Attribute) -> Result<()> {
        let texts = || attr.parse_args_with(Punctuated::<LitStr, Token![,]>::parse_terminated);
        if attr.path().is_ident("payload") {
            attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("binary") {
                    once(&mut self.binary, &meta)
                } else if meta.path.is_ident("name") {
                    once(&mut self.name, &meta)
                } else if meta.path.is_ident("output") {
                    once(&mut self.output, &meta)
                } else {
                    Err(refused(&meta, &["binary", "name", "output"]))
                }
            })
        } else if attr.path().is_ident("default_args") {
            self.args.extend(texts()?);
            Ok(())
        } else if attr.path().is_ident("include_files") {
            self.files.extend(texts()?);
            Ok(())
        } else if attr.path().is_ident("default_check") {
            self.checks.push(attr.parse_args::<Check>()?.0);
            Ok(())
        } else if attr.path().is_ident("metric") {
            self.metric(attr)
        } else {
            self.pattern(attr)
        }
    }

    fn metric(&mut self, attr: &Attribute) -> Result<()> {
        let (mut name, mut unit, mut polarity) = (None::<LitStr>, None::<LitStr>, None::<Polarity>);
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                once(&mut name, &meta)
            } else if meta.path.is_ident("unit") {
                once(&mut unit, &meta)
            } else if meta.path.is_ident("polarity") {
                once(&mut polarity, &meta)
            } else {
                Err(refused(&meta, &["name", "polarity", "unit"]))
            }
        })?;
        let name = name.ok_or_else(|| Error::new_spanned(attr, "a metric needs its `name`"))?;
        if self
            .metrics
            .iter()
            .any(|(known, _)| known.value() == name.value())
        {
            let why = format!("the metric {:?} is declared twice", name.value());
            return Err(Error::new(name.span(), why));
        }
        let Polarity(polarity) = polarity.unwrap_or(Polarity(quote!(Unknown)));
        let unit = unit.unwrap_or_else(|| LitStr::new("", name.span()));
        let hint = quote!(::ktstr::test_support::MetricHint {
            name: #name,
            polarity: ::ktstr::assert::Polarity::#polarity,
            unit: #unit,
        });
        self.metrics.push((name, hint));
        Ok(())
    }

    fn pattern(&mut self, attr: &Attribute) -> Result<()> {
        let (mut name, mut regex) = (None::<LitStr>, None::<LitStr>);
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                once(&mut name, &meta)
            } else if meta.path.is_ident("regex") {
                once(&mut regex, &meta)
            } else {
                Err(refused(&meta, &["name", "regex"]))
            }
        })?;
        let (Some(name), Some(regex)) = (name, regex) else {
            let why = "a pattern needs the metric's `name` and its `regex`";
            return Err(Error::new_spanned(attr, why));
        };
        self.patterns
            .push(quote!(::ktstr::test_support::MetricPattern {
                name: #name,
                regex: #regex,
            }));
        Ok(())
    }

    fn output(&self) -> Result<TokenStream> {
        let format = quote!(::ktstr::test_support::OutputFormat);
        let patterns = &self.patterns;
        match &self.output {
            None if patterns.is_empty() => Ok(quote!(#format::ExitCode)),
            None => Ok(quote!(#format::Patterns(&[#(#patterns),*]))),
            Some(output) if output != "Json" && output != "ExitCode" => Err(Error::new(
                output.span(),
                format!(
                    "`output = {output}`: expected Json or ExitCode, or leave it out and give patterns"
                ),
            )),
            Some(output) if !patterns.is_empty() => Err(Error::new(
                output.span(),
                format!(
                    "`output = {output}` and patterns exclude each other: leave one of them out"
                ),
            )),
            Some(output) => Ok(quote!(#format::#output)),
        }
    }
}

/// Creates the error for an unknown key, with a list of the valid keys.
fn refused(meta: &syn::meta::ParseNestedMeta<'_>, keys: &[&str]) -> Error {
    let given = meta.path.get_ident().map(Ident::to_string);
    meta.error(unknown(&given.unwrap_or_default(), keys))
}

fn once<T: Parse>(place: &mut Option<T>, meta: &syn::meta::ParseNestedMeta<'_>) -> Result<()> {
    if place.is_some() {
        return Err(meta.error("this key is given twice"));
    }
    *place = Some(meta.value()?.parse()?);
    Ok(())
}

/// The name of a polarity, with its target if it has one.
struct Polarity(TokenStream);

impl Parse for Polarity {
    fn parse(input: ParseStream) -> Result<Self> {
        const NAMES: &[&str] = &[
            "HigherBetter",
            "LowerBetter",
            "TargetValue",
            "Unknown",
            "Informational",
        ];
        let name: Ident = input.parse()?;
        if !NAMES.iter().any(|known| name == known) {
            return Err(Error::new(name.span(), unknown(&name.to_string(), NAMES)));
        }
        if name != "TargetValue" {
            return Ok(Self(quote!(#name)));
        }
        let target;
        parenthesized!(target in input);
        let number = number(&target)?;
        Ok(Self(quote!(#name(#number))))
    }
}

/// Parses an expression and casts it to `f64`, so that a number may be written without a decimal point.
fn number(input: ParseStream) -> Result<TokenStream> {
    let number: Expr = input.parse()?;
    Ok(quote!((#number) as f64))
}

/// A check such as `min("m", 1.0)`. A path before its name, such as `MetricCheck::`, is ignored.
struct Check(TokenStream);

impl Parse for Check {
    fn parse(input: ParseStream) -> Result<Self> {
        const NAMES: &[&str] = &["min", "max", "range", "exists", "exit_code_eq"];
        let path: syn::Path = input.parse()?;
        let Some(last) = path.segments.last().map(|segment| segment.ident.clone()) else {
            return Err(Error::new_spanned(path, "a check needs a name"));
        };
        let given;
        parenthesized!(given in input);
        let metric = || given.parse::<LitStr>();
        let values = match last.to_string().as_str() {
            "min" | "max" => {
                let metric = metric()?;
                given.parse::<Token![,]>()?;
                let value = number(&given)?;
                quote!(#metric, #value)
            }
            "range" => {
                let metric = metric()?;
                given.parse::<Token![,]>()?;
                let low = number_before_comma(&given)?;
                let high = number(&given)?;
                quote!(#metric, #low, #high)
            }
            "exists" => {
                let metric = metric()?;
                quote!(#metric)
            }
            "exit_code_eq" => {
                let minus: Option<Token![-]> = given.parse()?;
                let code: LitInt = given.parse()?;
                quote!(#minus #code)
            }
            other => return Err(Error::new(last.span(), unknown(other, NAMES))),
        };
        let _: Option<Token![,]> = given.parse()?;
        if !given.is_empty() {
            return Err(given.error("the check takes no further arguments"));
        }
        let check = format_ident!("{last}");
        Ok(Self(
            quote!(::ktstr::test_support::MetricCheck::#check(#values)),
        ))
    }
}

fn number_before_comma(input: ParseStream) -> Result<TokenStream> {
    let value = number(input)?;
    input.parse::<Token![,]>()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let input = syn::parse_str(text).expect("a struct");
        match derive(input) {
            Ok(code) => {
                syn::parse2::<syn::File>(code.clone()).expect("it is Rust");
                code.to_string()
            }
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn all_attributes_reach_the_constant() {
        let code = code(
            "#[payload(binary = \"bin/fio\", name = \"disk\", output = Json)]
             #[default_args(\"--a\", \"--b\")]
             #[default_check(min(\"iops\", 5))]
             #[default_check(MetricCheck::range(\"lat\", -1.5, 2.0))]
             #[default_check(exists(\"m\"))]
             #[default_check(exit_code_eq(3))]
             #[metric(name = \"iops\", polarity = HigherBetter, unit = \"op/s\")]
             #[metric(name = \"lat\", polarity = TargetValue(2.5))]
             #[include_files(\"job\")]
             pub struct DiskWritePayload;",
        );
        for part in [
            "pub const DISK_WRITE : :: ktstr :: test_support :: Payload",
            "(\"disk\" , :: ktstr :: test_support :: PayloadKind :: Binary (\"bin/fio\")",
            "OutputFormat :: Json",
            "& [\"--a\" , \"--b\"]",
            "MetricCheck :: min (\"iops\" , (5) as f64)",
            "MetricCheck :: range (\"lat\" , (- 1.5) as f64 , (2.0) as f64)",
            "MetricCheck :: exists (\"m\")",
            "MetricCheck :: exit_code_eq (3)",
            "polarity : :: ktstr :: assert :: Polarity :: HigherBetter , unit : \"op/s\"",
            "Polarity :: TargetValue ((2.5) as f64) , unit : \"\"",
            "& [\"bin/fio\" , \"job\"]",
        ] {
            assert!(code.contains(part), "{part} in {code}");
        }
    }

    #[test]
    fn names_follow_from_the_struct_and_the_program() {
        for (name, constant) in [
            ("FioPayload", "FIO"),
            ("StressNgCpu", "STRESS_NG_CPU"),
            ("IOLoadPayload", "IO_LOAD"),
            ("Fio2Write", "FIO2_WRITE"),
        ] {
            let code = code(&format!("#[payload(binary = \"a/b\")] struct {name};"));
            assert!(code.contains(&format!("const {constant} :")), "{code}");
            assert!(code.contains("new (\"b\" ,"), "{code}");
            assert!(code.contains("OutputFormat :: ExitCode"), "{code}");
        }
        let code =
            code("#[payload(binary = \"b\")] #[pattern(name = \"m\", regex = \"(.)\")] struct B;");
        assert!(code.contains("OutputFormat :: Patterns (& ["), "{code}");
    }

    #[test]
    fn invalid_attributes_are_rejected_with_a_reason() {
        insta::assert_snapshot!(code("struct A;"), @r#"error: name the program: #[payload(binary = "…")]"#);
        insta::assert_snapshot!(code("#[payload(binary = \"\")] struct A;"), @"error: `binary` is empty");
        insta::assert_snapshot!(code("#[payload(binary = \"b\")] struct Payload;"), @"error: a struct named `Payload` gives the constant no name: name it after its program");
        insta::assert_snapshot!(code("#[payload(binary = \"b\")] struct A { x: u8 }"), @"error: Payload can be derived only for a struct without fields; use attributes instead");
        insta::assert_snapshot!(code("#[payload(binary = \"b\", outptu = Json)] struct A;"), @"error: unknown key `outptu`, did you mean `output`? Valid keys: binary, name, output");
        insta::assert_snapshot!(code("#[payload(binary = \"b\", output = Yaml)] struct A;"), @"error: `output = Yaml`: expected Json or ExitCode, or leave it out and give patterns");
        insta::assert_snapshot!(code("#[payload(binary = \"b\", binary = \"c\")] struct A;"), @"error: this key is given twice");
        insta::assert_snapshot!(code("#[payload(binary = \"b\", output = Json)] #[pattern(name = \"m\", regex = \"(.)\")] struct A;"), @"error: `output = Json` and patterns exclude each other: leave one of them out");
        insta::assert_snapshot!(code("#[payload(binary = \"b\")] #[metric(name = \"m\")] #[metric(name = \"m\")] struct A;"), @r#"error: the metric "m" is declared twice"#);
        insta::assert_snapshot!(code("#[payload(binary = \"b\")] #[metric(name = \"m\", polarity = Better)] struct A;"), @"error: unknown key `Better`. Valid keys: HigherBetter, LowerBetter, TargetValue, Unknown, Informational");
        insta::assert_snapshot!(code("#[payload(binary = \"b\")] #[default_check(least(\"m\", 1.0))] struct A;"), @"error: unknown key `least`. Valid keys: min, max, range, exists, exit_code_eq");
    }
}
