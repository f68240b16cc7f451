//! What somebody may have meant who wrote a word that there is none of.

/// Most letters that may differ, for a word of three letters and more.
const MOST: usize = 3;

/// `: did you mean …?` with the nearest of the `known` words, or nothing where none is near.
pub fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known
        .map(|known| (distance(word, known), known))
        .filter(|(distance, known)| *distance <= MOST.min(known.chars().count() / 2))
        .min();
    near.map_or_else(String::new, |(_, known)| {
        format!(": did you mean `{known}`?")
    })
}

/// How many letters have to be put in, left out or changed (Levenshtein 1965).
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
