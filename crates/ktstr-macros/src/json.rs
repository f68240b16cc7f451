//! `json!`: turns a JSON value that is written as Rust tokens into a string literal at compile time.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, Lit, LitStr, Result, Token, braced, bracketed, token};

use crate::attrs::error;

/// A JSON value as JSON text.
struct Json(String);

/// A member of an object: `"key": value`.
struct Member {
    key: LitStr,
    value: Json,
}

impl Parse for Member {
    fn parse(input: ParseStream) -> Result<Self> {
        let key = input.parse().map_err(|at| {
            let what = "the key of a JSON object is a string literal: `\"key\": value`";
            error(at.span(), what)
        })?;
        input.parse::<Token![:]>()?;
        let value = input.parse()?;
        Ok(Self { key, value })
    }
}

impl Parse for Json {
    fn parse(input: ParseStream) -> Result<Self> {
        if input.peek(token::Brace) {
            let inner;
            braced!(inner in input);
            let members = Punctuated::<Member, Token![,]>::parse_terminated(&inner)?;
            return object(members);
        }
        if input.peek(token::Bracket) {
            let inner;
            bracketed!(inner in input);
            let values = Punctuated::<Json, Token![,]>::parse_terminated(&inner)?;
            let values: Vec<String> = values.into_iter().map(|value| value.0).collect();
            return Ok(Self(format!("[{}]", values.join(","))));
        }
        if input.peek(Ident) {
            let word: Ident = input.parse()?;
            return match word.to_string().as_str() {
                "null" => Ok(Self("null".to_owned())),
                other => Err(error(
                    word.span(),
                    format!("`{other}` is no JSON value: {WANTED}"),
                )),
            };
        }
        match input.parse()? {
            Lit::Str(text) => Ok(Self(quoted(&text.value()))),
            Lit::Bool(value) => Ok(Self(value.value.to_string())),
            Lit::Int(value) => Ok(Self(value.base10_digits().to_owned())),
            Lit::Float(value) => Ok(Self(float(value.base10_digits()))),
            other => Err(error(other.span(), format!("no JSON value: {WANTED}"))),
        }
    }
}

const WANTED: &str = "expected a string, a number, `true`, `false`, `null`, `[…]` or `{…}`";

fn object(members: Punctuated<Member, Token![,]>) -> Result<Json> {
    let mut keys: Vec<String> = Vec::new();
    let mut written: Vec<String> = Vec::new();
    for Member { key, value } in members {
        let name = key.value();
        if keys.contains(&name) {
            return Err(error(
                key.span(),
                format!("the key {name:?} is given twice"),
            ));
        }
        written.push(format!("{}:{}", quoted(&name), value.0));
        keys.push(name);
    }
    Ok(Json(format!("{{{}}}", written.join(","))))
}

/// Returns the digits of a Rust float in the form of JSON, which requires a digit after the point where Rust allows `1.`.
fn float(digits: &str) -> String {
    digits
        .strip_suffix('.')
        .map_or_else(|| digits.to_owned(), |whole| format!("{whole}.0"))
}

/// Returns the text as a JSON string, quoted and escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{0}'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Generates the string literal of one JSON value.
pub(crate) fn json(input: TokenStream) -> Result<TokenStream> {
    let Json(text) = syn::parse2(input)?;
    Ok(quote!(#text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tokens: TokenStream) -> String {
        let literal = json(tokens).expect("it is JSON");
        syn::parse2::<LitStr>(literal).expect("a string").value()
    }

    fn message(tokens: TokenStream) -> String {
        json(tokens).expect_err("must be refused").to_string()
    }

    #[test]
    fn values_are_written_out() {
        assert_eq!(
            text(quote!({"a": 1, "b": [1u8, -2.5, 0x10, {"c": true,},], "n": null})),
            r#"{"a":1,"b":[1,-2.5,16,{"c":true}],"n":null}"#
        );
        assert_eq!(text(quote!("x\"y\\\n")), "\"x\\\"y\\\\\\u000a\"");
        assert_eq!(text(quote!([])), "[]");
        assert_eq!(text(quote!({})), "{}");
        assert_eq!(float("1."), "1.0");
    }

    #[test]
    fn what_is_no_json_says_why() {
        assert_eq!(
            message(quote!(nil)),
            format!("`nil` is no JSON value: {WANTED}")
        );
        assert_eq!(message(quote!('c')), format!("no JSON value: {WANTED}"));
        assert!(message(quote!({a: 1})).contains("is a string literal"));
        assert_eq!(
            message(quote!({"a": 1, "a": 2})),
            "the key \"a\" is given twice"
        );
    }
}
