//! Reads a machine's apt configuration to find out where it gets Debian packages from.

use std::fs;
use std::path::Path;

/// The names of suites of Debian's archive. An archive with one of them is assumed to have the suites with
/// new kernels, too.
const RELEASES: [&str; 14] = [
    "sid",
    "unstable",
    "testing",
    "stable",
    "oldstable",
    "oldoldstable",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "experimental",
    "rc-buggy",
];

/// One line or paragraph of a sources list.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
}

impl Entry {
    /// Returns whether the names of the suites and components are those of the Debian archive itself, rather than those of
    /// its security archive or a third party's.
    fn is_debian(&self) -> bool {
        self.components.iter().any(|c| c == "main")
            && self.suites.iter().any(|suite| {
                let base = suite.split(['-', '/']).next().unwrap_or(suite);
                let rest = suite.strip_prefix(base).unwrap_or("");
                RELEASES.contains(&base)
                    && matches!(
                        rest,
                        "" | "-updates" | "-backports" | "-proposed-updates" | "-backports-sloppy"
                    )
            })
    }
}

/// Returns the base URI of the first Debian archive in the apt sources below `etc_apt` (`/etc/apt`); `None` if
/// there is none. Any URI that apt accepts is allowed, including `mirror+file:`, except a disc (`cdrom:`) and a URI
/// that contains `security`.
pub(crate) fn debian_archive(etc_apt: &Path) -> Option<String> {
    let mut files = vec![etc_apt.join("sources.list")];
    let mut parts: Vec<_> = fs::read_dir(etc_apt.join("sources.list.d"))
        .map(|dir| dir.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    parts.sort();
    files.extend(parts);
    let entries = files.iter().filter_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        match file.extension()?.to_str()? {
            "sources" => Some(deb822(&text)),
            "list" => Some(one_line(&text)),
            _ => None,
        }
    });
    let uris: Vec<String> = entries
        .flatten()
        .filter(Entry::is_debian)
        .flat_map(|entry| entry.uris)
        .filter(|uri| !uri.contains("security") && !uri.starts_with("cdrom:"))
        .collect();
    // Archives of third parties often have `stable main` too, and most mirrors of Debian have `debian` in their URI. So a
    // URI with this word is preferred.
    let named = uris.iter().find(|uri| uri.contains("debian"));
    let uri = named.or(uris.first())?;
    Some(uri.trim_end_matches('/').to_owned())
}

/// Parses lines of the form `deb [options] uri suite component...`.
fn one_line(text: &str) -> Vec<Entry> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim();
            let mut rest = line
                .strip_prefix("deb")?
                .strip_prefix([' ', '\t'])?
                .trim_start();
            if rest.starts_with('[') {
                rest = rest.split_once(']')?.1;
            }
            let mut words = rest.split_whitespace().map(str::to_owned);
            Some(Entry {
                uris: vec![words.next()?],
                suites: vec![words.next()?],
                components: words.collect(),
            })
        })
        .collect()
}

/// Parses paragraphs of `Field: value`, and returns the enabled ones of the type `deb`. A line that starts with white space
/// continues the field before it.
fn deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for paragraph in paragraphs(text) {
        let mut entry = Entry::default();
        let (mut types, mut enabled) = (Vec::new(), true);
        for (name, words) in paragraph {
            match name.as_str() {
                "types" => types = words,
                "uris" => entry.uris = words,
                "suites" => entry.suites = words,
                "components" => entry.components = words,
                "enabled" => {
                    enabled = !words.first().is_some_and(|w| {
                        matches!(
                            w.to_ascii_lowercase().as_str(),
                            "no" | "false" | "off" | "0"
                        )
                    });
                }
                _ => {}
            }
        }
        if enabled && types.iter().any(|t| t == "deb") {
            entries.push(entry);
        }
    }
    entries
}

type Field = (String, Vec<String>);

fn paragraphs(text: &str) -> Vec<Vec<Field>> {
    let mut paragraphs: Vec<Vec<Field>> = vec![Vec::new()];
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let words = |s: &str| s.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if line.trim().is_empty() {
            paragraphs.push(Vec::new());
        } else if let Some(fields) = paragraphs.last_mut() {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.extend(words(line));
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim().to_ascii_lowercase(), words(value)));
            }
        }
    }
    paragraphs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        debian_archive(dir.path())
    }

    #[test]
    fn one_line_format() {
        let text = "# deb http://old.example/debian bookworm main\n\
                    deb cdrom:[Debian GNU/Linux 12]/ bookworm main\n\
                    deb-src http://a.example/debian bookworm main\n\
                    deb http://security.example/debian-security bookworm-security main\n\
                    deb [arch=amd64 signed-by=/x.gpg] http://m.example/debian/ bookworm main contrib # ours\n";
        assert_eq!(
            archive(&[("sources.list", text)]).unwrap(),
            "http://m.example/debian"
        );
    }

    #[test]
    fn deb822_format() {
        let text = "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n\n\
                    Types: deb deb-src\n# a note\nURIs:\n mirror+file:/etc/apt/mirrors/debian.list\n\
                    Suites: trixie trixie-updates\nComponents: main\nSigned-By: /x.gpg\n";
        assert_eq!(
            archive(&[("sources.list.d/debian.sources", text)]).unwrap(),
            "mirror+file:/etc/apt/mirrors/debian.list"
        );
    }

    #[test]
    fn third_parties_are_not_debian() {
        let third = "deb https://p.example/linux/debian bookworm stable\n\
                     deb https://q.example/apt cloud-sdk-bookworm main\n\
                     deb https://r.example/repos/apt bookworm-pgdg main\n\
                     deb http://u.example/ubuntu noble main\n";
        assert_eq!(archive(&[("sources.list.d/third.list", third)]), None);
        assert_eq!(archive(&[]), None);
    }

    #[test]
    fn an_archive_named_after_debian_is_preferred_to_one_with_the_same_suites() {
        let third = "deb https://browser.example/ stable main\n";
        let debian = "deb http://m.example/debian trixie main\n";
        let lists = [
            ("sources.list.d/browser.list", third),
            ("sources.list.d/debian.list", debian),
        ];
        assert_eq!(archive(&lists).unwrap(), "http://m.example/debian");
        assert_eq!(
            archive(&[("sources.list", "deb http://m.example/d trixie main\n")]).unwrap(),
            "http://m.example/d"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_ignored(text in "(?s).{0,200}") {
            let _ = one_line(&text);
            let _ = deb822(&text);
        }
    }
}
