//! Checks whether modules belong to a kernel. A module of another build does not load, or it loads and reads the kernel's
//! structures at the wrong offsets.

use std::fs;
use std::path::{Path, PathBuf};

use memchr::memmem;

use crate::kernel::{Kernel, Source};
use crate::{KernelError, package, stamps};

/// Where the folder of an installed kernel has its image; `*` stands for the release.
const INSTALLED: [&str; 3] = [
    "usr/lib/modules/*/vmlinuz",
    "lib/modules/*/vmlinuz",
    "boot/vmlinuz-*",
];

/// Checks that the place from which the kernel came still has its image. Otherwise the modules there belong to another
/// kernel, such as a later build in the same tree. The error says so.
pub(super) fn source_has(kernel: &Kernel) -> Result<(), String> {
    let (Source::Path(place) | Source::Host(place)) = &kernel.source else {
        return Ok(());
    };
    let images = match &kernel.source {
        Source::Path(path) if path.extension().is_some_and(|e| e == "deb") => return Ok(()),
        Source::Path(path) if path.is_dir() => {
            let installed = INSTALLED.map(|place| path.join(place.replace('*', &kernel.release)));
            let preferred = package::in_folder(path).ok().map(|found| found.image);
            preferred.into_iter().chain(installed).collect()
        }
        _ => vec![place.clone()],
    };
    let is_image = |image: &PathBuf| {
        // An image that cannot be read is not known to be this kernel's.
        stamps::sha256_of(image).is_ok_and(|found| found == kernel.image_sha256)
    };
    if images.iter().any(is_image) {
        return Ok(());
    }
    Err(format!(
        "{0} no longer has this kernel, so the modules there belong to another kernel; set KTSTR_KERNEL={0} to use the kernel \
         that it has now",
        place.display()
    ))
}

/// A kernel's image, in which the version magic of modules is looked up.
pub(super) struct Magic {
    vmlinux: Vec<u8>,
}

impl Magic {
    pub(super) fn of(kernel: &Kernel) -> Result<Self, KernelError> {
        let path = &kernel.vmlinux;
        let vmlinux = fs::read(path).map_err(|e| KernelError::io("read", path, e))?;
        Ok(Self { vmlinux })
    }

    /// Checks that the kernel accepts the module in `bytes`, which came from `origin`: both must have the same version magic
    /// (include/linux/vermagic.h), which has the release and the main options. The error says what is wrong.
    pub(super) fn check(&self, bytes: &[u8], origin: &Path) -> Result<(), String> {
        let magic = magic_of(bytes)
            .ok_or_else(|| format!("{} is no module: it has no version magic", origin.display()))?;
        let whole = [magic, b"\0"].concat();
        match memmem::find(&self.vmlinux, &whole) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{} was built for another kernel (its version magic is {:?}); if it is in a build tree, run `make` there to \
                 build the modules again",
                origin.display(),
                String::from_utf8_lossy(magic)
            )),
        }
    }
}

/// Returns the version magic in the section `.modinfo` of a module, which consists of strings that end with a NUL.
fn magic_of(module: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"vermagic=";
    let starts = memmem::find_iter(module, NAME);
    let mut starts = starts.filter(|at| *at == 0 || module.get(at - 1) == Some(&0));
    let magic = module.get(starts.next()? + NAME.len()..)?;
    let end = magic.iter().position(|byte| *byte == 0)?;
    magic.get(..end)
}

/// Returns whether a module's file is long enough to contain its whole section header table, to which the ELF header points
/// (elf(5)). This table is the last part of a module, and only a signature may follow it.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let end = || {
        let number = |at: usize, len: usize| {
            let field = bytes.get(at..at + len)?;
            Some(
                field
                    .iter()
                    .rev()
                    .fold(0, |all, byte| all << 8 | u64::from(*byte)),
            )
        };
        let (offset, size, count) = (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?);
        offset.checked_add(size * count)
    };
    bytes.starts_with(b"\x7fELF\x02") && end().is_some_and(|end| end <= bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_was_cut_short_is_not_whole() {
        let mut file = vec![0; 256];
        file[..5].copy_from_slice(b"\x7fELF\x02");
        // Two sections of 64 bytes from 128 on.
        (file[0x28], file[0x3a], file[0x3c]) = (128, 64, 2);
        assert!(is_whole(&file));
        assert!(is_whole(&[&file[..], b"a signature"].concat()));
        assert!(!is_whole(&file[..255]));
        assert!(!is_whole(&file[..20]));
        assert!(!is_whole(b"not a module"));
    }
}
