//! Builds a kernel from source: from a tree, a tarball, or Debian's `linux-source-X.Y` package. The configuration
//! contains what ktstr needs and little else.
//!
//! The build is out of tree, in the cache folder, so that the user's tree is not changed. The result is identified by
//! its inputs (source, configuration, compiler), and a kernel with the same inputs is not built again.

mod config;
mod make;
mod needs;
mod source;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use ktstr_state::{Lock, Place, arch};
use sha2::{Digest, Sha256};

use crate::cache::{Cache, Material, hex};
use crate::kernel::{Kernel, Source};
use crate::progress::{self, Listener};
use crate::{KernelError, Resolver};

use source::Origin;

/// Disk space in bytes that a build needs in addition to the source: objects with debug information, and the image
/// in several forms.
const OBJECTS_SIZE: u64 = 1 << 30;
/// Disk space in bytes that an unpacked tarball of the kernel's source needs.
const SOURCE_SIZE: u64 = 2 << 30;

/// Builds the kernel of `source`, unless it is cached. `source` is a folder, a tarball (`.tar`, `.tar.xz`, `.tar.gz`,
/// `.tgz` or `.tar.zst`), or the name of a Debian package such as `linux-source-6.12`. `fragments` are configuration files
/// that are applied on top of ktstr's own; later files override earlier ones.
pub fn build(
    source: &str,
    fragments: &[PathBuf],
    listener: &mut Listener<'_>,
) -> Result<Kernel, KernelError> {
    let resolver = Resolver::from_env()?;
    let origin = Origin::of(source, &resolver.cache, resolver.offline, listener)?;
    needs::check(&origin)?;
    Build {
        cache: &resolver.cache,
        origin: &origin,
        compiler: needs::compiler(),
    }
    .run(fragments, listener)
}

struct Build<'a> {
    cache: &'a Cache,
    origin: &'a Origin,
    /// The compiler and the other tools that affect the result, with their versions.
    compiler: String,
}

impl Build<'_> {
    fn run(
        &self,
        fragments: &[PathBuf],
        listener: &mut Listener<'_>,
    ) -> Result<Kernel, KernelError> {
        let wanted = config::Wanted::read(fragments)?;
        let identity = self.origin.identity(listener)?;
        let mut hash = Sha256::new();
        for part in [&identity, &wanted.text, &self.compiler] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let source = Source::Built {
            from: self.origin.to_string(),
            inputs_sha256: hex(&hash.finalize()),
        };
        if let Some(kernel) = self.cached(&source)? {
            return Ok(kernel);
        }
        let work = Work::at(self.cache, self.origin)?;
        // Another process may have built the kernel while this process waited for the lock.
        if let Some(kernel) = self.cached(&source)? {
            return Ok(kernel);
        }
        let made = self.make(&work, &wanted, source, listener);
        let is_full = matches!(made, Err(KernelError::DiskFull { .. }));
        if !self.origin.is_tree() || is_full {
            let removed = work.remove();
            // If both failed, the error of the build is the one that the user can act on.
            let kernel = made?;
            removed?;
            return Ok(kernel);
        }
        made
    }

    fn cached(&self, source: &Source) -> Result<Option<Kernel>, KernelError> {
        let (whole, _) = self.cache.scan()?;
        let Source::Built { inputs_sha256, .. } = source else {
            return Ok(None);
        };
        // The location of a source is not part of its identity.
        Ok(whole.into_iter().find(|kernel| {
            matches!(&kernel.source, Source::Built { inputs_sha256: of_kernel, .. } if of_kernel == inputs_sha256)
        }))
    }

    fn make(
        &self,
        work: &Work,
        wanted: &config::Wanted,
        source: Source,
        listener: &mut Listener<'_>,
    ) -> Result<Kernel, KernelError> {
        let unpacked = if self.origin.is_tree() {
            0
        } else {
            SOURCE_SIZE
        };
        let objects = work.dir.join("objects");
        let seen = work.dir.join("seen");
        let state = self.origin.objects_are_stale(&seen)?;
        // The objects of a tarball were left by a build that was killed, perhaps of another tarball with this name. `make` would
        // keep them, because unpacked files have older times than the objects.
        let are_stale = state.as_ref().is_none_or(|(stale, _)| *stale);
        if are_stale && objects.exists() {
            fs::remove_dir_all(&objects).map_err(|e| KernelError::io("remove", &objects, e))?;
        }
        if let Some((_, now)) = state {
            fs::write(&seen, now).map_err(|e| KernelError::io("write", &seen, e))?;
        }
        let present = if objects.exists() { OBJECTS_SIZE } else { 0 };
        room_for(&work.dir, OBJECTS_SIZE + unpacked - present)?;
        let tree = self.origin.tree(&work.dir.join("source"), listener)?;
        fs::create_dir_all(&objects).map_err(|e| KernelError::io("create", &objects, e))?;
        let fragment = work.dir.join("fragment");
        fs::write(&fragment, &wanted.text).map_err(|e| KernelError::io("write", &fragment, e))?;
        let make = make::Make {
            tree: &tree,
            objects: &objects,
        };
        let stage = format!("configuring {}", self.origin);
        progress::begin(listener, &stage);
        make.run(
            &[
                &format!("KCONFIG_ALLCONFIG={}", fragment.display()),
                "allnoconfig",
            ],
            |_| {},
        )?;
        progress::end(listener, &stage);
        let config = objects.join(".config");
        let missed = wanted.check(&config, &self.origin.to_string())?;
        if !missed.is_empty() {
            let lines = missed.join(", ");
            progress::note(
                listener,
                &format!(
                    "note: this source does not have these options, or other options exclude them: {lines}"
                ),
            );
        }
        let stage = format!("building {}", self.origin);
        let mut compiled = 0_u32;
        make.run(&[arch::IMAGE], |line| {
            if let Some((_, file)) = line.trim_start().split_once("CC ") {
                compiled += 1;
                let file = Path::new(file.trim());
                let file = file.strip_prefix(&objects).unwrap_or(file).display();
                let what = format!("{stage}: {compiled} files, {file}");
                progress::report(listener, &what, None, false);
            }
        })?;
        progress::end(listener, &stage);
        if self.origin.is_tree() {
            // `make` may miss a change to a file whose time is not after the end of this build. The next build finds the change
            // by the time of `seen`, which is therefore set to the end of this build.
            fs::File::options()
                .append(true)
                .open(&seen)
                .and_then(|file| file.set_modified(std::time::SystemTime::now()))
                .map_err(|e| KernelError::io("write", &seen, e))?;
        }
        self.cache.import(
            &Material {
                image: objects.join(arch::IMAGE_PATH),
                config: Some(config),
                source,
            },
            listener,
        )
    }
}

/// The folder in which a source is built, by one process at a time.
struct Work {
    dir: PathBuf,
    /// The lock that is held while the folder is in use.
    _lock: Lock,
}

impl Work {
    fn at(cache: &Cache, origin: &Origin) -> Result<Self, KernelError> {
        let name = &hex(&Sha256::digest(origin.to_string().as_bytes()))[..16];
        let builds = cache.folder("builds")?;
        let _lock = Lock::take(
            &builds.path().join(format!("{name}.lock")),
            Place::CACHE,
            "another build of this source",
        )?;
        let dir = builds.subfolder(name)?.path().to_owned();
        Ok(Self { dir, _lock })
    }

    fn remove(&self) -> Result<(), KernelError> {
        fs::remove_dir_all(&self.dir).map_err(|e| KernelError::io("remove", &self.dir, e))
    }
}

/// Returns an error if the disk has less free space than a build needs.
fn room_for(dir: &Path, needed: u64) -> Result<(), KernelError> {
    let stat = rustix::fs::statvfs(dir).map_err(|e| KernelError::io("examine", dir, e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed {
        return Err(KernelError::NoRoom {
            path: dir.to_owned(),
            needed_mib: needed >> 20,
            free_mib: free >> 20,
        });
    }
    Ok(())
}
