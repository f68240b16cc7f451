//! Suggests the known word that a user may have meant by an unknown one.

/// The largest number of letters by which a suggestion may differ from the unknown word. A known word of fewer than six
/// letters may differ by at most half of its letters, rounded down.
const MOST: usize = 3;

/// Returns `: did you mean …?` with the most similar of the `known` words, or an empty text if none is similar.
pub fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known
        .map(|known| (distance(word, known), known))
        .filter(|(distance, known)| *distance <= MOST.min(known.chars().count() / 2))
        .min();
    near.map_or_else(String::new, |(_, known)| {
        format!(": did you mean `{known}`?")
    })
}

/// Returns the edit distance: the smallest number of letters to insert, delete or replace (Levenshtein 1965).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for j in 1..=b.len() {
            let changed = diagonal + usize::from(b[j - 1] != letter);
            diagonal = row[j];
            row[j] = changed.min(row[j] + 1).min(row[j - 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, letters) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("seedz", "seeds", 1),
        ] {
            assert_eq!(distance(a, b), letters, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = || ["seeds", "kernels"].into_iter();
        assert_eq!(hint("sedes", known()), ": did you mean `seeds`?");
        assert_eq!(hint("colour", known()), "");
    }
}
