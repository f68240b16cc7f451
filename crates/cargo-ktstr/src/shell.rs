//! Quoting for a shell, so that a printed command can be pasted whatever its words contain.

/// Returns the word, in single quotes if a POSIX shell would read it as anything else than itself.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_word_with_special_characters_is_quoted() {
        let words = ["./scx_a", "", "my file", "it's", "$(x)"];
        let shown = words.map(quoted);
        assert_eq!(
            shown,
            ["./scx_a", "''", "'my file'", r"'it'\''s'", "'$(x)'"]
        );
    }
}
