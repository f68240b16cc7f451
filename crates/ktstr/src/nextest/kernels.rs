//! `KTSTR_KERNEL_LIST`: the kernels on which the tests run, as elements `LABEL=KERNEL` that are separated by semicolons.

use ktstr_record::TestName;
use ktstr_state::env::{KERNEL, KERNEL_LIST, TEST_KERNEL};

/// A kernel of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The part of a test's name that stands for this kernel.
    pub label: String,
    /// The path of the kernel's image, or another request for a kernel, such as `7.0` or `debian:7.3`.
    pub request: String,
}

impl Listed {
    /// Makes the runs of this process use the kernel.
    ///
    /// # Safety
    /// The process must have only one thread.
    pub(super) unsafe fn select(&self) {
        // SAFETY: the caller promises that the process has no other thread.
        unsafe {
            // The run's record notes `KTSTR_KERNEL`. `KTSTR_TEST_KERNEL` would take precedence, so it is removed.
            std::env::set_var(&KERNEL, &self.request);
            std::env::remove_var(&TEST_KERNEL);
        }
    }
}

/// Returns the kernels of `KTSTR_KERNEL_LIST`; an empty list if the variable is unset. An error names the element that is no
/// `LABEL=KERNEL`, or the label that occurs twice.
pub(super) fn listed() -> Result<Vec<Listed>, String> {
    let list = KERNEL_LIST.get().map_err(|error| error.to_string())?;
    parse(&list.unwrap_or_default())
}

fn parse(list: &str) -> Result<Vec<Listed>, String> {
    let mut kernels: Vec<Listed> = Vec::new();
    let entries = list.split(';').map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let parts = entry
            .split_once('=')
            .map(|(label, request)| (label.trim(), request.trim()))
            .filter(|(label, request)| TestName::is_label(label) && !request.is_empty());
        let (label, request) = parts.ok_or_else(|| {
            format!(
                "{KERNEL_LIST} has {entry:?}: expected LABEL=PATH, with a label without `/` that does not begin like a seed \
                 (`seed_`)"
            )
        })?;
        if kernels.iter().any(|kernel| kernel.label == label) {
            return Err(format!(
                "{KERNEL_LIST} has the label {label:?} twice: each kernel needs its own"
            ));
        }
        kernels.push(Listed {
            label: label.to_owned(),
            request: request.to_owned(),
        });
    }
    Ok(kernels)
}

/// Returns the kernel with this label. An error names the labels that the list has.
pub(super) fn labelled(label: &str) -> Result<Listed, String> {
    let kernels = listed()?;
    let labels: Vec<String> = kernels.iter().map(|k| k.label.clone()).collect();
    let wanted = kernels.into_iter().find(|kernel| kernel.label == label);
    wanted.ok_or_else(|| match labels.is_empty() {
        true => format!(
            "the name has the kernel {label:?}, and {KERNEL_LIST} is not set: set it to the kernels, as LABEL=PATH;…"
        ),
        false => format!("{KERNEL_LIST} has no {label:?}: it has {}", labels.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_list_of_kernels_is_an_error() {
        let two = parse("a = /x; b=debian:7.0;").expect("a list");
        let two: Vec<_> = two.iter().map(|k| (&*k.label, &*k.request)).collect();
        assert_eq!(two, [("a", "/x"), ("b", "debian:7.0")]);
        assert_eq!(parse(""), Ok(Vec::new()));
        for bad in ["/x", "=x", "a=", "a/b=/x", "a=/x;a=/y", "seed_1=/x"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
