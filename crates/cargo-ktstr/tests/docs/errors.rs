//! Error types. The message of an error either contains its cause or leaves it to `Error::source`: with both, `{:#}` of `anyhow`,
//! by which causes are printed, prints the cause twice.

use std::sync::LazyLock;

use regex_lite::Regex;

/// `thiserror` takes a field named `source`, and a field with `#[from]` or `#[source]`, as the source.
static BOTH: LazyLock<Regex> = LazyLock::new(|| {
    let named = r#"#\[error\([^\]]*\{source\b"#;
    let marked = r#"#\[error\("[^\]]*\{0[^\]]*\)\]\s*\w+\(#\[(from|source)\]"#;
    Regex::new(&format!("{named}|{marked}")).unwrap()
});

#[test]
fn no_error_states_its_source_twice() {
    let found: Vec<String> = super::words::files()
        .into_iter()
        .filter(|(name, text)| {
            name.ends_with(".rs") && !name.ends_with("docs/errors.rs") && BOTH.is_match(text)
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn both_forms_are_found() {
    for text in [
        "#[error(\"cannot read {path:?}: {source}\")]\nRead { path: PathBuf, source: io::Error }",
        "#[error(\"{0}\")]\n    Io(#[from] io::Error),",
        "#[error(\"disk: {0}\")]\n    Io(#[source] io::Error),",
    ] {
        assert!(BOTH.is_match(text), "{text}");
    }
    let once = "#[error(transparent)]\n    Io(#[from] io::Error), #[error(\"{0}: {cause}\")] Other(String)";
    assert!(!BOTH.is_match(once));
}
