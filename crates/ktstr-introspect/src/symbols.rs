//! Kernel symbols: name to address and back.
//!
//! The module does not search an image for symbols: the caller provides the text of `/proc/kallsyms`, a `System.map`, or a
//! list. Names are kept in one string, so 200,000 symbols take some 8 MB.

use thiserror::Error;

use crate::btf::hash;

/// The length in bytes of the longest symbol name that is kept (the kernel's `KSYM_NAME_LEN`).
const MAX_NAME: usize = 512;
/// The largest number of symbols that are kept: twenty times as many as a distribution kernel has.
const MAX_SYMBOLS: usize = 4 << 20;

/// Kernel symbols, with an index by address and one by name.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    names: String,
    /// One entry per symbol, in ascending order of address.
    by_address: Vec<Entry>,
    /// (hash of the name, index into `by_address`), sorted.
    by_name: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    address: u64,
    start: u32,
    len: u16,
}

impl Symbols {
    /// Parses lines of `address type name [module]`, as in `/proc/kallsyms` and `System.map`.
    ///
    /// Symbols of modules and of BPF programs (those with a `[module]`) are left out: their names are not unique.
    ///
    /// # Errors
    /// If a line has another shape, if there are no symbols or too many, or if every address is zero, which is what the
    /// kernel shows to readers without the right to see the addresses.
    pub fn from_kallsyms(text: &str) -> Result<Self, SymbolsError> {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(address), Some(_), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            else {
                if line.trim().is_empty() {
                    continue;
                }
                return Err(malformed(number, line));
            };
            if fields.next().is_some() {
                continue;
            }
            let address = u64::from_str_radix(address, 16).map_err(|_| malformed(number, line))?;
            entries.push((address, name));
        }
        if !entries.is_empty() && entries.iter().all(|(address, _)| *address == 0) {
            return Err(SymbolsError::Hidden {
                count: entries.len(),
            });
        }
        Self::build(entries.into_iter())
    }

    /// Creates a symbol table from a list of (address, name), in any order. Names that are empty or longer than 512 bytes
    /// are left out.
    ///
    /// # Errors
    /// If there are no symbols, or too many.
    pub fn from_entries(entries: Vec<(u64, String)>) -> Result<Self, SymbolsError> {
        Self::build(entries.iter().map(|(address, name)| (*address, &**name)))
    }

    fn build<'a>(entries: impl Iterator<Item = (u64, &'a str)>) -> Result<Self, SymbolsError> {
        let mut names = String::new();
        let mut by_address = Vec::new();
        for (address, name) in entries {
            if by_address.len() == MAX_SYMBOLS {
                return Err(SymbolsError::TooMany { max: MAX_SYMBOLS });
            }
            if name.is_empty() || name.len() > MAX_NAME {
                continue;
            }
            let (Ok(start), Ok(len)) = (u32::try_from(names.len()), u16::try_from(name.len()))
            else {
                return Err(SymbolsError::TooMany { max: MAX_SYMBOLS });
            };
            names.push_str(name);
            by_address.push(Entry {
                address,
                start,
                len,
            });
        }
        if by_address.is_empty() {
            return Err(SymbolsError::Empty);
        }
        // The kernel's tables are sorted already, so that this sort takes only one pass over them.
        by_address.sort_by_key(|entry| entry.address);
        let mut by_name: Vec<(u32, u32)> = by_address
            .iter()
            .zip(0..)
            .map(|(entry, index)| (hash(entry.name(&names).as_bytes()), index))
            .collect();
        by_name.sort_unstable();
        Ok(Self {
            names,
            by_address,
            by_name,
        })
    }

    /// Returns the address of the symbol `name`, the lowest one if several symbols have that name; `None` if there is
    /// no such symbol.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.addresses(name).next()
    }

    /// Returns the addresses of all symbols with the name `name`, in ascending order. Variables that are `static` in several
    /// files of the kernel may have the same name.
    pub fn addresses<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        let wanted = hash(name.as_bytes());
        let start = self.by_name.partition_point(|(hash, _)| *hash < wanted);
        let same_hash = self.by_name.get(start..).unwrap_or_default().iter();
        same_hash
            .take_while(move |(hash, _)| *hash == wanted)
            .filter_map(|(_, index)| self.by_address.get(*index as usize))
            .filter(move |entry| entry.name(&self.names) == name)
            .map(|entry| entry.address)
    }

    /// Returns the name of the last symbol at or below `address`, and the distance from it in bytes; `None` if all symbols
    /// are above `address`.
    pub fn nearest(&self, address: u64) -> Option<(&str, u64)> {
        let above = self
            .by_address
            .partition_point(|entry| entry.address <= address);
        let index = above.checked_sub(1)?;
        let entry = self.by_address.get(index)?;
        Some((entry.name(&self.names), address - entry.address))
    }

    /// Returns all symbols as (address, name), in ascending order of address.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.by_address
            .iter()
            .map(|entry| (entry.address, entry.name(&self.names)))
    }

    /// Returns the number of symbols that were kept; [`Self::from_kallsyms`] leaves out those of modules and BPF programs.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Returns whether there are no symbols.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }
}

impl Entry {
    fn name(self, names: &str) -> &str {
        let start = self.start as usize;
        names
            .get(start..start + usize::from(self.len))
            .unwrap_or_default()
    }
}

fn malformed(number: usize, line: &str) -> SymbolsError {
    SymbolsError::Malformed {
        line: number + 1,
        text: line.chars().take(80).collect(),
    }
}

/// Why a symbol table could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SymbolsError {
    /// A line is not `address type name`.
    #[error("symbol table, line {line}: expected `address type name`, found {text:?}")]
    Malformed {
        /// Line number from 1.
        line: usize,
        /// Start of the line.
        text: String,
    },
    /// The table has no symbols.
    #[error("symbol table has no symbols")]
    Empty,
    /// The kernel showed names without addresses.
    #[error(
        "all {count} addresses in the symbol table are zero; read /proc/kallsyms as root with \
         kernel.kptr_restrict=0"
    )]
    Hidden {
        /// Symbols in the table.
        count: usize,
    },
    /// The table has more symbols than any kernel has.
    #[error("symbol table has more than {max} symbols")]
    TooMany {
        /// The largest number of symbols that are read.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "ffffffff81000000 T _text\nffffffff81000200 t dup\nffffffff81000100 T start\n\
                        ffffffffc0000000 t inmod\t[mod]\nffffffff81000300 t dup\n";

    #[test]
    fn symbols_are_found_by_name_and_by_address() {
        let symbols = Symbols::from_kallsyms(TEXT).expect("parses");
        assert_eq!(symbols.len(), 4);
        assert_eq!(symbols.address("start"), Some(0xffff_ffff_8100_0100));
        assert_eq!(symbols.address("dup"), Some(0xffff_ffff_8100_0200));
        assert_eq!(symbols.address("inmod"), None);
        assert_eq!(symbols.address("zzz"), None);
        assert_eq!(symbols.nearest(0xffff_ffff_8100_0104), Some(("start", 4)));
        assert_eq!(symbols.nearest(0x1000), None);
        let first = symbols.iter().next();
        assert_eq!(first, Some((0xffff_ffff_8100_0000, "_text")));
    }

    #[test]
    fn bad_tables_say_what_is_wrong() {
        let error = |text| {
            Symbols::from_kallsyms(text)
                .expect_err("refused")
                .to_string()
        };
        assert_eq!(
            error("ffff T a\nnonsense\n"),
            "symbol table, line 2: expected `address type name`, found \"nonsense\""
        );
        assert!(error("0000 T a\n0000 T b\n").contains("all 2 addresses"));
        assert_eq!(error("\n"), "symbol table has no symbols");
    }

    proptest::proptest! {
        #[test]
        fn every_name_is_found_again(names in proptest::collection::btree_map("[a-z_]{1,8}", 1u64.., 1..50)) {
            let entries = names.iter().map(|(name, address)| (*address, name.clone())).collect();
            let symbols = Symbols::from_entries(entries).expect("not empty");
            for (name, address) in &names {
                proptest::prop_assert_eq!(symbols.address(name), Some(*address));
                let (_, offset) = symbols.nearest(*address).expect("at or below");
                proptest::prop_assert_eq!(offset, 0);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,200}") {
            let _ = Symbols::from_kallsyms(&text);
        }
    }
}
