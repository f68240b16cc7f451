//! The error message for a key that does not exist, with the key that was probably meant.

/// Returns the error message for a key that is not among `keys`. The message suggests the key that is most like `given`, if
/// `given` could be a misspelling of it, and lists all keys.
pub(crate) fn unknown(given: &str, keys: &[&str]) -> String {
    let hint =
        nearest(given, keys).map_or(".".to_owned(), |name| format!(", did you mean `{name}`?"));
    format!(
        "unknown key `{given}`{hint} Valid keys: {}",
        keys.join(", ")
    )
}

/// Returns the first of the names that are closest to `given`; `None` if no name is so close that `given` could be a
/// misspelling of it.
pub(crate) fn nearest<'a>(given: &str, names: &[&'a str]) -> Option<&'a str> {
    // Two swapped letters are a distance of two, so the limit is at least two unless the word is very short.
    let limit = if given.len() < 4 {
        1
    } else {
        (given.len() / 3).max(2)
    };
    names
        .iter()
        .map(|&name| (distance(given, name), name))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// Returns the Levenshtein distance of two strings.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, &cb) in row.iter_mut().skip(1).zip(&b) {
            let here = (diagonal + usize::from(ca != cb))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn typing_errors_are_recognised() {
        let names = ["duration_s", "llcs", "cores"];
        assert_eq!(nearest("duration", &names), Some("duration_s"));
        assert_eq!(nearest("llc", &names), Some("llcs"));
        assert_eq!(nearest("payload", &names), None);
    }
}
