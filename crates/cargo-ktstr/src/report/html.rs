//! Escaping and formatting for HTML pages: a browser shows what a guest wrote, and does not interpret it.

use std::fmt::Write as _;

use ktstr_record::terminal::escaped;

/// Escapes text for use between tags or in a quoted attribute.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in escaped(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Formats JSON for use inside a `script` element: no character in it can end the element or start a comment.
pub fn json(value: &serde_json::Value) -> String {
    let plain = value.to_string();
    let mut out = String::with_capacity(plain.len() + 16);
    for c in escaped(&plain).chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Renders a table with a caption. The columns from the index `numbers` on hold numbers, which are aligned to the right;
/// `rows` are plain text, which is escaped here.
pub fn table(caption: &str, header: &[&str], numbers: usize, rows: &[Vec<String>]) -> String {
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>",
        text(caption)
    );
    let class = |column: usize| match column < numbers {
        true => "",
        false => " class=\"n\"",
    };
    for (column, name) in header.iter().enumerate() {
        let _ = write!(
            out,
            "<th scope=\"col\"{}>{}</th>",
            class(column),
            text(name)
        );
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{}</td>", class(column), text(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    out
}

/// Formats nanoseconds as milliseconds with one decimal digit.
pub fn ms(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e6)
}

/// Formats a length of time in the largest unit that is not longer than it: ns, us, ms or s.
pub fn length(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOSTILE: &str = "</script><!--<img src=x onerror='a(\"b\")'>&\u{2028}\u{202e}\u{1b}[2J";

    #[test]
    fn text_is_no_markup() {
        let shown = text(HOSTILE);
        assert!(
            !shown.contains(['<', '>', '"', '\'', '\u{202e}', '\u{1b}']),
            "{shown}"
        );
        assert!(
            shown.starts_with("&lt;/script&gt;&lt;!--&lt;img"),
            "{shown}"
        );
    }

    #[test]
    fn json_in_a_page_is_the_same_document_and_no_markup() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE, 1.5] });
        let shown = json(&value);
        assert!(
            !shown.contains(['<', '>', '&', '\u{2028}', '\u{202e}']),
            "{shown}"
        );
        let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn a_table_has_its_parts() {
        let table = table(
            "Of <x>",
            &["who", "ms"],
            1,
            &[vec!["<b>".into(), ms(1_500_000)]],
        );
        assert!(table.contains("<caption>Of &lt;x&gt;</caption>"), "{table}");
        assert!(
            table.contains("<td>&lt;b&gt;</td><td class=\"n\">1.5</td>"),
            "{table}"
        );
    }

    #[test]
    fn lengths_have_units() {
        let all = [5, 1_500, 2_500_000, 3_000_000_000].map(length);
        assert_eq!(all, ["5 ns", "1.5 us", "2.5 ms", "3.00 s"]);
    }
}
