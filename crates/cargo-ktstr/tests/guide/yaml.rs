//! A reader of the part of YAML that the CI examples use: block mappings and sequences, flow sequences of scalars, plain and
//! quoted scalars, literal blocks, comments, and several documents. Anything else is an error, so that an example cannot hide
//! in syntax that is not checked.

/// A node of a document. Scalars are texts: no rule of a CI system here depends on their type.
#[derive(Clone, Debug, PartialEq)]
pub enum Yaml {
    /// A text, a number, or nothing.
    Scalar(String),
    /// A sequence.
    List(Vec<Yaml>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// Returns the value of a key; `None` if this is no mapping or lacks it.
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        self.entries().iter().find(|(k, _)| k == key).map(|e| &e.1)
    }

    /// Returns the entries of a mapping; none if this is something else.
    pub fn entries(&self) -> &[(String, Yaml)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the items of a sequence; of anything else itself, since CI systems take one item without its list.
    pub fn items(&self) -> Vec<&Yaml> {
        match self {
            Self::List(items) => items.iter().collect(),
            other => vec![other],
        }
    }

    /// Returns the text of a scalar; empty for anything else.
    pub fn text(&self) -> &str {
        match self {
            Self::Scalar(text) => text,
            _ => "",
        }
    }
}

/// A line with its number in the file, its indentation and its content.
#[derive(Clone, Debug)]
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

impl Line {
    fn wrong(&self, what: &str) -> String {
        format!("line {}: {what}: {}", self.number, self.text)
    }
}

/// Reads the documents of a file.
///
/// # Errors
///
/// A line uses syntax that this reader does not know, or a mapping has a key twice. The error names the line.
pub fn documents(text: &str) -> Result<Vec<Yaml>, String> {
    let lines: Vec<Line> = text
        .lines()
        .enumerate()
        .map(|(at, line)| Line {
            number: at + 1,
            indent: line.len() - line.trim_start_matches(' ').len(),
            text: line.trim().to_owned(),
        })
        .collect();
    let ends = |line: &Line| line.indent == 0 && line.text == "---";
    lines.split(ends).map(document).collect()
}

fn document(lines: &[Line]) -> Result<Yaml, String> {
    let mut rest = lines.to_vec();
    rest.reverse();
    let first = skip(&mut rest).map(|line| line.indent);
    let node = block(&mut rest, first.unwrap_or(0))?;
    match skip(&mut rest) {
        Some(line) => Err(line.wrong("its indentation belongs to nothing")),
        None => Ok(node),
    }
}

/// Drops empty lines and comments, and returns the next line. The lines are in reverse order.
fn skip(lines: &mut Vec<Line>) -> Option<Line> {
    while let Some(line) = lines.last() {
        if !line.text.is_empty() && !line.text.starts_with('#') {
            return Some(line.clone());
        }
        lines.pop();
    }
    None
}

/// Reads the mapping or sequence whose lines have this indentation.
fn block(lines: &mut Vec<Line>, indent: usize) -> Result<Yaml, String> {
    let (mut items, mut entries) = (Vec::new(), Vec::<(String, Yaml)>::new());
    while let Some(line) = skip(lines).filter(|line| line.indent == indent) {
        lines.pop();
        if let Some(item) = line.text.strip_prefix("- ") {
            let inner = indent + line.text.len() - item.trim_start().len();
            let item = item.trim_start().to_owned();
            items.push(match key(&item) {
                // The rest of the line is the first entry of a mapping that goes on below it.
                Some(_) => {
                    lines.push(Line {
                        indent: inner,
                        text: item,
                        ..line
                    });
                    block(lines, inner)?
                }
                None => value(&line, &item, lines, indent)?,
            });
        } else if let Some((key, rest)) = key(&line.text) {
            if entries.iter().any(|(other, _)| other == key) {
                return Err(line.wrong("the key is there twice"));
            }
            entries.push((key.to_owned(), value(&line, rest, lines, indent)?));
        } else {
            return Err(line.wrong("it is neither an entry nor an item"));
        }
        if !items.is_empty() && !entries.is_empty() {
            return Err(line.wrong("entries and items are mixed"));
        }
    }
    match items.is_empty() {
        true => Ok(Yaml::Map(entries)),
        false => Ok(Yaml::List(items)),
    }
}

/// Splits an entry into its key and what follows the colon.
fn key(text: &str) -> Option<(&str, &str)> {
    let (key, rest) = text.split_once(':')?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let is_key = !key.is_empty() && key.chars().all(is_word);
    (is_key && (rest.is_empty() || rest.starts_with(' '))).then(|| (key, rest.trim()))
}

/// Reads what follows a key or a dash: a scalar on the same line, or a block on the next lines.
fn value(line: &Line, text: &str, lines: &mut Vec<Line>, indent: usize) -> Result<Yaml, String> {
    if text.is_empty() {
        return match skip(lines).filter(|next| next.indent > indent) {
            Some(next) => block(lines, next.indent),
            None => Ok(Yaml::Scalar(String::new())),
        };
    }
    if text == "|" {
        let mut literal = String::new();
        while let Some(next) = lines.last() {
            if next.indent <= indent && !next.text.is_empty() {
                break;
            }
            literal = literal + &next.text + "\n";
            lines.pop();
        }
        return Ok(Yaml::Scalar(literal));
    }
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner
            .strip_suffix(']')
            .ok_or_else(|| line.wrong("a list does not end on its line"))?;
        let items = inner.split(", ").map(|item| scalar(line, item.trim()));
        return items.collect::<Result<_, _>>().map(Yaml::List);
    }
    scalar(line, text)
}

fn scalar(line: &Line, text: &str) -> Result<Yaml, String> {
    if let Some(inner) = text.strip_prefix('"') {
        let inner = inner
            .strip_suffix('"')
            .filter(|inner| !inner.contains(['"', '\\']));
        let inner = inner.ok_or_else(|| line.wrong("a quoted text is not plain"))?;
        return Ok(Yaml::Scalar(inner.to_owned()));
    }
    // YAML gives these a meaning at the beginning of a scalar, and `: ` and ` #` within it.
    let starts = text.starts_with([
        '{', '}', '\'', '&', '*', '!', '|', '>', '%', '@', '`', ',', ']',
    ]);
    match starts || text.contains(": ") || text.ends_with(':') || text.contains(" #") {
        true => Err(line.wrong("YAML does not take this for a text")),
        false => Ok(Yaml::Scalar(text.to_owned())),
    }
}

#[test]
fn what_the_examples_use_is_read() {
    let text = "# c\na: 1\nb:\n  - run: x && y\n    if: z\n  # c\n  - [p, \"q\"]\n  - plain\n\
                c:\n  - one\nd: |\n  l1\n\n  l2\ne:\n---\nf: 2\n";
    let one = |text: &str| Yaml::Scalar(text.to_owned());
    let map = |entries: &[(&str, Yaml)]| {
        let entries = entries.iter();
        Yaml::Map(entries.map(|(k, v)| ((*k).to_owned(), v.clone())).collect())
    };
    let first = map(&[
        ("a", one("1")),
        (
            "b",
            Yaml::List(vec![
                map(&[("run", one("x && y")), ("if", one("z"))]),
                Yaml::List(vec![one("p"), one("q")]),
                one("plain"),
            ]),
        ),
        ("c", Yaml::List(vec![one("one")])),
        ("d", one("l1\n\nl2\n")),
        ("e", one("")),
    ]);
    assert_eq!(documents(text).unwrap(), [first, map(&[("f", one("2"))])]);
}

#[test]
fn what_is_not_read_is_an_error_that_names_the_line() {
    for (text, fault) in [
        ("a: 1\na: 2\n", "line 2: the key is there twice"),
        ("a: 1\n   b: 2\n", "line 2: its indentation"),
        ("a:\n  - b\n  c: 1\n", "line 3: entries and items are mixed"),
        ("a:\n- b\n", "line 2: entries and items are mixed"),
        ("a: x: y\n", "line 1: YAML does not take"),
        ("a: {b: 1}\n", "line 1: YAML does not take"),
        ("a: &anchor\n", "line 1: YAML does not take"),
        ("a: >\n  b\n", "line 1: YAML does not take"),
        ("a: [b,\n", "line 1: a list does not end"),
        ("a: \"b\n", "line 1: a quoted text"),
        ("a: 1\njust words\n", "line 2: it is neither"),
    ] {
        let found = documents(text).unwrap_err();
        assert!(found.starts_with(fault), "{text:?}: {found}");
    }
}
