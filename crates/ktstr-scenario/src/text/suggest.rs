//! Suggests the known word that a user may have meant by an unknown one.

/// Returns the word of `known` that is most similar to `given`. If no word is similar and `given` has at least four letters,
/// returns the first word that begins with `given`; `None` if there is no such word. Only letters and digits are compared,
/// without regard to case. A word is similar if its edit distance to `given` is at most a third of the length of `given`, rounded
/// down, but this limit is at least one edit and at most four.
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |word: &str| -> String {
        let letters = word.chars().filter(char::is_ascii_alphanumeric);
        letters.map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let wanted = plain(given);
    let most = (wanted.len() / 3).clamp(1, 4);
    let near = known.iter().copied().filter_map(|word| {
        let letters = distance(&wanted, &plain(word));
        (letters <= most).then_some((letters, word))
    });
    let begun = |word: &&str| wanted.len() > 3 && plain(word).starts_with(&wanted);
    let near = near.min().map(|(_, word)| word);
    near.or_else(|| known.iter().copied().find(begun))
}

/// Returns the end of a message about an unknown word: a suggestion and the list of known words.
pub(crate) fn instead(given: &str, known: &[&str]) -> String {
    let meant = nearest(given, known);
    let known = known.join(", ");
    match meant {
        Some(word) => format!("did you mean `{word}`? The known ones are: {known}"),
        None => format!("the known ones are: {known}"),
    }
}

/// Returns the edit distance: the smallest number of letters to insert, delete, replace, or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            let exchanged = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if exchanged {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["spin_wait", "pipe_io", "set_cpuset"];
        for (given, meant) in [
            ("SpinWait", Some("spin_wait")),
            ("spin-wiat", Some("spin_wait")),
            ("pipeio", Some("pipe_io")),
            ("setcpusets", Some("set_cpuset")),
            ("pipe", Some("pipe_io")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, &known), meant, "{given}");
        }
    }
}
