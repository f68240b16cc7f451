//! Parses `key = value, bare_key, …` and checks that each key is given once and that each value is
//! of the key's kind. Rules that involve several keys are checked in `test_args`.

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, ExprArray, ExprLit, ExprPath, Ident, Lit, LitStr, Path, Result, Token};

use crate::keys::{KEYS, Key, Kind, Status};
use crate::near::unknown;

/// A value of the kind that its key takes.
#[derive(Clone)]
pub(crate) enum Value {
    Bool(bool),
    Integer(u64),
    Float(syn::LitFloat),
    /// A number, or `None` for `off`.
    Limit(Option<f64>),
    Text(LitStr),
    Texts(Vec<LitStr>),
    Path(Path),
    Paths(Vec<Path>),
}

/// A key and its value, as given.
#[derive(Clone)]
pub(crate) struct Attr {
    pub(crate) name: &'static str,
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// All keys of an attribute, as given.
#[derive(Clone, Default)]
pub(crate) struct Attrs(Vec<Attr>);

impl Attrs {
    pub(crate) fn get(&self, name: &str) -> Option<&Attr> {
        self.0.iter().find(|attr| attr.name == name)
    }

    pub(crate) fn span(&self, name: &str) -> Span {
        self.get(name)
            .map_or_else(Span::call_site, |attr| attr.span)
    }

    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)?.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Option<u64> {
        match self.get(name)?.value {
            Value::Integer(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn float(&self, name: &str) -> Option<&syn::LitFloat> {
        match &self.get(name)?.value {
            Value::Float(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&LitStr> {
        match &self.get(name)?.value {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, name: &str) -> &[LitStr] {
        match self.get(name).map(|attr| &attr.value) {
            Some(Value::Texts(values)) => values,
            _ => &[],
        }
    }

    pub(crate) fn paths(&self, name: &str) -> &[Path] {
        match self.get(name).map(|attr| &attr.value) {
            Some(Value::Paths(values)) => values,
            _ => &[],
        }
    }

    pub(crate) fn path(&self, name: &str) -> Option<&Path> {
        match &self.get(name)?.value {
            Value::Path(value) => Some(value),
            _ => None,
        }
    }
}

impl Parse for Attrs {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut attrs = Self::default();
        for raw in Punctuated::<RawAttr, Token![,]>::parse_terminated(input)? {
            let name = raw.key.to_string();
            let key = find(&raw.key)?;
            if attrs.get(key.name).is_some() {
                return Err(error(raw.key.span(), format!("`{name}` is given twice")));
            }
            attrs.0.push(Attr {
                name: key.name,
                span: raw.key.span(),
                value: value(key, &raw)?,
            });
        }
        Ok(attrs)
    }
}

/// `key` or `key = expression`, before the key is looked up.
pub(crate) struct RawAttr {
    pub(crate) key: Ident,
    pub(crate) value: Option<Expr>,
}

impl Parse for RawAttr {
    fn parse(input: ParseStream) -> Result<Self> {
        let key = input.call(syn::ext::IdentExt::parse_any)?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Some(input.parse()?)
        } else {
            None
        };
        Ok(Self { key, value })
    }
}

fn find(ident: &Ident) -> Result<&'static Key> {
    let name = ident.to_string();
    if name == "workers_per_cgroup" {
        return Err(error(
            ident.span(),
            "`workers_per_cgroup` is not an attribute of the test: set it for each cgroup with \
             `CgroupDef::named(..).workers(n)`",
        ));
    }
    KEYS.iter().find(|key| key.name == name).ok_or_else(|| {
        let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        error(ident.span(), unknown(&name, &names))
    })
}

fn value(key: &Key, raw: &RawAttr) -> Result<Value> {
    let name = key.name;
    let later = || {
        let text = format!("`{name}` is not available yet: {}", key.doc);
        error(raw.key.span(), text)
    };
    if key.status() == Status::Later {
        return Err(later());
    }
    let Some(expr) = &raw.value else {
        if key.kind != Kind::Bool {
            return Err(error(
                raw.key.span(),
                format!("`{name}` needs a value: `{name} = …`"),
            ));
        }
        return match key.status() {
            Status::Only(false) => Err(later()),
            _ => Ok(Value::Bool(true)),
        };
    };
    // A literal that a macro passes on (`$x:literal`) comes in an invisible group.
    let mut expr = expr;
    while let Expr::Group(group) = expr {
        expr = &group.expr;
    }
    let wrong = |what: &str| error(expr.span(), format!("`{name}` takes {what}"));
    match (key.kind, expr) {
        (
            Kind::Bool,
            Expr::Lit(ExprLit {
                lit: Lit::Bool(lit),
                ..
            }),
        ) => match key.status() {
            Status::Only(only) if lit.value != only => Err(error(
                raw.key.span(),
                format!("`{name} = {}` is not available yet: {}", lit.value, key.doc),
            )),
            _ => Ok(Value::Bool(lit.value)),
        },
        (Kind::Bool, _) => Err(wrong("`true` or `false`")),
        (
            Kind::Positive { max } | Kind::Integer { max },
            Expr::Lit(ExprLit {
                lit: Lit::Int(lit), ..
            }),
        ) => {
            let value = lit
                .base10_parse::<u64>()
                .ok()
                .filter(|&value| value <= max)
                .ok_or_else(|| error(lit.span(), format!("`{name}` is at most {max}")))?;
            if value == 0 && matches!(key.kind, Kind::Positive { .. }) {
                return Err(error(lit.span(), format!("`{name}` must be at least 1")));
            }
            Ok(Value::Integer(value))
        }
        (Kind::Positive { .. } | Kind::Integer { .. }, _) => Err(wrong("an integer literal")),
        (
            Kind::Float,
            Expr::Lit(ExprLit {
                lit: Lit::Float(lit),
                ..
            }),
        ) => match lit.base10_parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Value::Float(lit.clone())),
            _ => Err(wrong("a finite number")),
        },
        (Kind::Float, _) => Err(wrong("a float literal of 0 or more, such as `5.0`")),
        (Kind::Limit, expr) => limit(expr)
            .map(Value::Limit)
            .ok_or_else(|| wrong("a number of 0 or more, or `off`")),
        (
            Kind::Text | Kind::TextOrPath,
            Expr::Lit(ExprLit {
                lit: Lit::Str(lit), ..
            }),
        ) => Ok(Value::Text(lit.clone())),
        (Kind::Text, _) => Err(wrong("a string literal")),
        (Kind::Texts, Expr::Array(array)) => texts(name, array).map(Value::Texts),
        (Kind::Texts, _) => Err(wrong("a list of string literals: `[\"…\", \"…\"]`")),
        (
            Kind::Path | Kind::TextOrPath,
            Expr::Path(ExprPath {
                path, qself: None, ..
            }),
        ) => Ok(Value::Path(path.clone())),
        (Kind::Path, _) => Err(wrong("the path of an item")),
        (
            Kind::PathOrPaths,
            Expr::Path(ExprPath {
                path, qself: None, ..
            }),
        ) => Ok(Value::Paths(vec![path.clone()])),
        (Kind::Paths | Kind::PathOrPaths, Expr::Array(array)) => {
            let paths = array.elems.iter().map(|elem| match elem {
                Expr::Path(ExprPath {
                    path, qself: None, ..
                }) => Ok(path.clone()),
                _ => Err(wrong("a list of paths of items: `[A, B]`")),
            });
            paths.collect::<Result<_>>().map(Value::Paths)
        }
        (Kind::Paths, _) => Err(wrong("a list of paths of items: `[A, B]`")),
        (Kind::PathOrPaths, _) => Err(wrong("the path of an item, or a list of them: `[A, B]`")),
        (Kind::TextOrPath, _) => Err(wrong("a string literal or the path of a constant")),
        (Kind::Any, _) => Err(later()),
    }
}

/// Parses a number or `off`.
fn limit(expr: &Expr) -> Option<Option<f64>> {
    match expr {
        Expr::Path(ExprPath { path, .. }) if path.is_ident("off") => Some(None),
        Expr::Lit(ExprLit { lit, .. }) => {
            let number = match lit {
                Lit::Float(lit) => lit.base10_parse::<f64>().ok()?,
                Lit::Int(lit) => lit.base10_parse::<u32>().ok()?.into(),
                _ => return None,
            };
            number.is_finite().then_some(Some(number))
        }
        _ => None,
    }
}

/// Returns the string literals of a list.
pub(crate) fn texts(name: &str, array: &ExprArray) -> Result<Vec<LitStr>> {
    array
        .elems
        .iter()
        .map(|elem| match elem {
            Expr::Lit(ExprLit {
                lit: Lit::Str(lit), ..
            }) => Ok(lit.clone()),
            other => Err(error(
                other.span(),
                format!("`{name}` takes string literals"),
            )),
        })
        .collect()
}

/// Creates an error at `span`.
pub(crate) fn error(span: Span, message: impl std::fmt::Display) -> syn::Error {
    syn::Error::new(span, message)
}
