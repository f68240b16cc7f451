//! Turns a request into a kernel. Without a request, the result is a kernel from the cache, else this machine's own kernel,
//! else the newest kernel in Debian's archive.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use ktstr_state::env;

use crate::cache::{Cache, Material};
use crate::kernel::{Kernel, Source};
use crate::package::{self, Found};
use crate::progress::Listener;
use crate::version::{self, Spec};
use crate::{KernelError, Offers, apt, features};

/// Finds the kernel to run. The request is `request` (a `--kernel` value), else the value of `KTSTR_TEST_KERNEL`, else the
/// value of `KTSTR_KERNEL`. Without any of these, the result is a kernel with sched_ext and BTF from the cache, else this
/// machine's own kernel if it has sched_ext, else the newest kernel in Debian's archive.
pub fn resolve(request: Option<&str>, listener: &mut Listener<'_>) -> Result<Kernel, KernelError> {
    let resolver = Resolver::from_env()?;
    let named = match request {
        Some(request) => Some(request.to_owned()),
        None => requested()?,
    };
    resolver.resolve(named.as_deref(), listener)
}

/// Returns the request of the environment: the value of `KTSTR_TEST_KERNEL`, else of `KTSTR_KERNEL`; `None` if neither is set.
pub fn requested() -> Result<Option<String>, KernelError> {
    Ok(match env::TEST_KERNEL.get()? {
        Some(request) => Some(request),
        None => env::KERNEL.get()?,
    })
}

/// Fetches the newest kernel that a spec (`debian:7.3`, `7.3`, `debian:newest`) selects, even if an older match is cached.
pub fn fetch(spec: &str, listener: &mut Listener<'_>) -> Result<Kernel, KernelError> {
    Resolver::from_env()?.fetch(spec, listener)
}

/// Returns the newest kernel of each series and flavour in Debian's archive, newest series first.
///
/// # Errors
/// `KTSTR_OFFLINE` is set, or no list of kernels is available.
pub fn offered(listener: &mut Listener<'_>) -> Result<Offers, KernelError> {
    let resolver = Resolver::from_env()?;
    if resolver.offline {
        return Err(KernelError::Offline {
            request: None,
            looked_at: vec!["Debian's archive: not queried".to_owned()],
        });
    }
    apt::offered(&resolver.cache, listener)
}

/// Where kernels are searched for, and whether they may be fetched.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// The cache that is searched and extended.
    pub cache: Cache,
    /// Whether only kernels that are already on this machine may be used.
    pub offline: bool,
    /// The root of the file system that is searched for this machine's own kernel: `/`, except in tests.
    pub host: PathBuf,
}

impl Resolver {
    /// Creates a resolver with this user's cache. It is offline if `KTSTR_OFFLINE` is set and neither empty nor `0`.
    pub fn from_env() -> Result<Self, KernelError> {
        Ok(Self {
            cache: Cache::from_env()?,
            offline: env::OFFLINE.is_on(),
            host: PathBuf::from("/"),
        })
    }

    /// Finds the kernel for a request. Without a request, the places are searched in the order that [`resolve`] describes.
    pub fn resolve(
        &self,
        request: Option<&str>,
        listener: &mut Listener<'_>,
    ) -> Result<Kernel, KernelError> {
        match request {
            Some(request) => self.explicit(request, listener),
            None => self.any(listener),
        }
    }

    fn explicit(&self, request: &str, listener: &mut Listener<'_>) -> Result<Kernel, KernelError> {
        let path = Path::new(request);
        if path.exists() {
            let path = std::path::absolute(path).map_err(|e| KernelError::io("find", path, e))?;
            return self.at_path(&path, listener);
        }
        let (whole, damaged) = self.cache.scan()?;
        if let Some(kernel) = whole.iter().find(|k| k.id == request) {
            return Ok(kernel.clone());
        }
        let Some(spec) = Spec::parse(request) else {
            return Err(KernelError::NoSuchRequest {
                request: request.to_owned(),
            });
        };
        let only_debian = request.starts_with("debian:");
        let cached = whole.into_iter().find(|k| {
            spec.matches(&k.release) && (!only_debian || matches!(k.source, Source::Debian { .. }))
        });
        match cached {
            Some(kernel) if !spec.is_newest() || self.offline => Ok(kernel),
            _ if self.offline => {
                let mut looked_at = vec![format!(
                    "the cache {}: no kernel that matches",
                    self.cache.kernels().display()
                )];
                looked_at.extend(
                    damaged
                        .into_iter()
                        .map(|d| format!("{} in the cache is damaged: {}", d.id, d.reason)),
                );
                looked_at.push("Debian's archive: not queried".to_owned());
                Err(KernelError::Offline {
                    request: Some(request.to_owned()),
                    looked_at,
                })
            }
            _ => apt::fetch(&self.cache, &spec, listener),
        }
    }

    /// Returns the cached kernel whose folder is at `path` or contains it; `None` if there is none, or if its entry is
    /// damaged. Without this look-up, the path of an entry's decompressed image would be imported as a second kernel of
    /// the same release.
    fn cached_at(&self, path: &Path) -> Result<Option<Kernel>, KernelError> {
        let real = |path: &Path| path.canonicalize().ok();
        let (Some(path), Some(kernels)) = (real(path), real(&self.cache.kernels())) else {
            return Ok(None);
        };
        let Ok(inside) = path.strip_prefix(kernels) else {
            return Ok(None);
        };
        let id = inside.components().next();
        let id = id.and_then(|id| id.as_os_str().to_str());
        let (whole, _) = self.cache.scan()?;
        Ok(whole
            .into_iter()
            .find(|kernel| Some(kernel.id.as_str()) == id))
    }

    fn at_path(&self, path: &Path, listener: &mut Listener<'_>) -> Result<Kernel, KernelError> {
        if let Some(kernel) = self.cached_at(path)? {
            return Ok(kernel);
        }
        let unpacked;
        let found = if path.is_dir() {
            package::in_folder(path)?
        } else if path.extension().is_some_and(|e| e == "deb") {
            unpacked = tempfile::tempdir()
                .map_err(|e| KernelError::io("create a folder in", std::env::temp_dir(), e))?;
            package::unpack(path, unpacked.path())?;
            if let Some(base) = package::base_beside(path) {
                package::unpack(&base, unpacked.path())?;
            }
            Found {
                modules: None,
                ..package::in_folder(unpacked.path())?
            }
        } else {
            package::next_to(path)
        };
        let kernel = self.cache.import(
            &Material {
                image: found.image,
                config: found.config,
                source: Source::Path(path.to_owned()),
            },
            listener,
        )?;
        Ok(Kernel {
            modules: found.modules.or(kernel.modules),
            // The image may have been imported from another path before, but its modules are looked for at this path.
            source: match kernel.source {
                Source::Path(_) => Source::Path(path.to_owned()),
                other => other,
            },
            ..kernel
        })
    }

    fn any(&self, listener: &mut Listener<'_>) -> Result<Kernel, KernelError> {
        let mut looked_at = vec!["KTSTR_TEST_KERNEL, KTSTR_KERNEL: not set".to_owned()];
        let (whole, damaged) = self.cache.scan()?;
        let in_cache = whole.len();
        if let Some(kernel) = whole.into_iter().find(|k| k.has_sched_ext && k.has_btf) {
            return Ok(kernel);
        }
        looked_at.push(format!(
            "the cache {}: none of its kernels ({in_cache}) has sched_ext and BTF",
            self.cache.kernels().display()
        ));
        looked_at.extend(
            damaged
                .into_iter()
                .map(|d| format!("{} in the cache is damaged: {}", d.id, d.reason)),
        );
        match self.host_kernel() {
            Ok(found) => {
                let source = Source::Host(found.image.clone());
                let imported = self.cache.import(
                    &Material {
                        image: found.image,
                        config: found.config,
                        source,
                    },
                    listener,
                );
                match imported {
                    Ok(kernel) => {
                        return Ok(Kernel {
                            modules: found.modules.or(kernel.modules),
                            ..kernel
                        });
                    }
                    // The user did not ask for this kernel, so Debian's newest one is used instead.
                    Err(
                        error @ (KernelError::Compression { .. }
                        | KernelError::NotAKernel { .. }
                        | KernelError::Unreadable { .. }),
                    ) => looked_at.push(format!("this machine's own kernel: {error}")),
                    Err(error) => return Err(error),
                }
            }
            Err(reason) => looked_at.push(format!("this machine's own kernel: {reason}")),
        }
        if self.offline {
            looked_at.push("Debian's archive: not queried".to_owned());
            return Err(KernelError::Offline {
                request: None,
                looked_at,
            });
        }
        apt::fetch(&self.cache, &Spec::newest(), listener)
    }

    /// Returns this machine's own kernel, or the reason why it cannot be used.
    fn host_kernel(&self) -> Result<Found, String> {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let config_path = self.host.join("boot").join(format!("config-{release}"));
        let packed = self.host.join("proc/config.gz");
        let config = fs::read(&config_path).or_else(|_| {
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(fs::File::open(&packed)?)
                .take(16 << 20)
                .read_to_end(&mut text)?;
            Ok::<_, std::io::Error>(text)
        });
        let Ok(config) = config else {
            return Err(format!(
                "{release}: neither {} nor {} can be read",
                config_path.display(),
                packed.display()
            ));
        };
        if !features::is_set(&config, "CONFIG_SCHED_CLASS_EXT") {
            return Err(format!(
                "{release} has no sched_ext (CONFIG_SCHED_CLASS_EXT)"
            ));
        }
        let modules = self.host.join("lib/modules").join(&release);
        let images = [
            self.host.join("boot").join(format!("vmlinuz-{release}")),
            modules.join("vmlinuz"),
        ];
        let image = images
            .iter()
            .find(|path| fs::File::open(path).is_ok())
            .ok_or_else(|| {
                format!(
                    "{release} has sched_ext, but {} cannot be read",
                    images[0].display()
                )
            })?;
        Ok(Found {
            image: image.clone(),
            config: config_path.exists().then_some(config_path),
            modules: modules.is_dir().then_some(modules),
        })
    }

    /// Fetches the newest kernel that a spec selects, unless that one is cached. Fails if this resolver is offline.
    pub fn fetch(&self, spec: &str, listener: &mut Listener<'_>) -> Result<Kernel, KernelError> {
        let parsed = version::Spec::parse(spec).ok_or_else(|| KernelError::NoSuchRequest {
            request: spec.to_owned(),
        })?;
        if self.offline {
            return Err(KernelError::Offline {
                request: Some(spec.to_owned()),
                looked_at: vec!["Debian's archive: not queried".to_owned()],
            });
        }
        apt::fetch(&self.cache, &parsed, listener)
    }
}
