//! Fetches Debian's kernels and kernel sources with apt's own clients, which work on private state. The machine's apt
//! configuration is not changed, root is not needed, and apt verifies signatures as usual.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_state::arch::DEBIAN as ARCH;
use ktstr_state::{Lock, Place};

use crate::cache::{Cache, Material};
use crate::command::{self, Failure};
use crate::kernel::Kernel;
use crate::offers::{self, Candidate, Offers, kernel_release};
use crate::progress::{self, Listener};
use crate::version::Spec;
use crate::{KernelError, package, sources};

/// The suites that are searched, by the names that do not depend on the current stable release.
const SUITES: [&str; 4] = ["stable", "stable-backports", "testing", "unstable"];
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];
/// Prefixes of the settings that are inherited from the machine's apt: how to reach its mirror, and how old the mirror's
/// lists may be. Settings that would admit unsigned packages are never inherited.
const INHERITED: [&str; 6] = [
    "Acquire::http",
    "Acquire::https",
    "Acquire::Retries",
    "Acquire::ForceIPv",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];
/// The folder of the cache in which apt keeps its state.
const FOLDER: &str = "apt";
/// The subfolder for packages that contain a kernel's source.
const SOURCE: &str = "source";
const LIST_HINT: &str = "Check the network and this machine's apt sources (`apt-get update` must work), or set \
                         KTSTR_KERNEL to a kernel on this machine";

/// Returns the newest kernel that matches `spec`. It is downloaded only if it is not in the cache yet.
pub(crate) fn fetch(
    cache: &Cache,
    spec: &Spec,
    listener: &mut Listener<'_>,
) -> Result<Kernel, KernelError> {
    let request = format!("debian:{spec}");
    let apt = Apt::new(cache, &request)?;
    let _lock = apt.lock(cache)?;
    apt.set_up()?;
    let (candidates, failure) = apt.candidates(listener)?;
    let Some(candidate) = offers::choose(&candidates, spec) else {
        if let Some(failure) = failure {
            return Err(failure);
        }
        return Err(KernelError::UnknownVersion {
            spec: request,
            looked_in: apt.places(),
            available: offers::in_words(candidates),
        });
    };
    if let Some(failure) = failure {
        progress::note(
            listener,
            &format!(
                "note: not all of Debian's package lists could be read, so {} is the newest kernel that is known: {failure}",
                candidate.release
            ),
        );
    }
    let source = candidate.source();
    if let Some(kernel) = cache.scan()?.0.into_iter().find(|k| k.source == source) {
        return Ok(kernel);
    }
    apt.download(candidate, cache, listener)
}

/// Returns the newest available kernel of each series and flavour.
pub(crate) fn offered(cache: &Cache, listener: &mut Listener<'_>) -> Result<Offers, KernelError> {
    let apt = Apt::new(cache, "debian:newest")?;
    let _lock = apt.lock(cache)?;
    apt.set_up()?;
    match apt.candidates(listener)? {
        (candidates, Some(failure)) if candidates.is_empty() => Err(failure),
        (candidates, incomplete) => Ok(Offers {
            kernels: offers::newest_of_each(candidates),
            incomplete,
        }),
    }
}

/// Fetches a package that contains a kernel's source. Returns the package's version and the path of the tarball from it, which
/// lies in a folder of the cache. The folder is replaced when another version of the package is fetched; a version that is still
/// there is not downloaded again.
pub(crate) fn fetch_source(
    cache: &Cache,
    package: &str,
    listener: &mut Listener<'_>,
) -> Result<(String, PathBuf), KernelError> {
    let apt = Apt::new(cache, package)?;
    let _lock = apt.lock(cache)?;
    apt.set_up()?;
    let failure = apt.update(listener);
    let shown = apt.show(&["--no-all-versions"], &[package]);
    let version = shown.ok().and_then(|text| {
        text.lines()
            .find_map(|line| Some(line.strip_prefix("Version: ")?.to_owned()))
    });
    let Some(version) = version else {
        if let Some(failure) = failure {
            return Err(failure);
        }
        return Err(KernelError::UnknownVersion {
            spec: package.to_owned(),
            looked_in: apt.places(),
            available: apt.names("linux-source-")?.join(", "),
        });
    };
    let dir = apt.root.join(SOURCE).join(format!("{package}_{version}"));
    let tarball = tarball_in(&dir, package);
    if tarball.exists() {
        return Ok((version, tarball));
    }
    let fresh = apt.fresh("source-download")?;
    let _clean = RemoveOnDrop(&fresh);
    apt.get(&fresh, &[format!("{package}={version}")], package, listener)?;
    let unpacked = fresh.join("unpacked");
    apt.unpack_all(&fresh, &unpacked)?;
    // A tarball that is in place counts as whole, so its contents must be on the disk before its name is.
    let fetched = tarball_in(&unpacked, package);
    fs::File::open(&fetched)
        .and_then(|file| file.sync_all())
        .map_err(|e| KernelError::io("write", &fetched, e))?;
    let others = apt.root.join(SOURCE);
    fs::create_dir_all(&others).map_err(|e| KernelError::io("create", &others, e))?;
    // Remove other versions of the package only now, so that a failed fetch leaves them in place. Other packages stay,
    // because another process may be building from one of them.
    let entries = fs::read_dir(&others).map_err(|e| KernelError::io("read", &others, e))?;
    for entry in entries.flatten() {
        let is_version = (entry.file_name().to_string_lossy()).starts_with(&format!("{package}_"));
        if is_version {
            let old = entry.path();
            fs::remove_dir_all(&old).map_err(|e| KernelError::io("remove", &old, e))?;
        }
    }
    fs::rename(&unpacked, &dir).map_err(|e| KernelError::io("put in place", &dir, e))?;
    Ok((version, tarball))
}

/// Fetches the package with the modules of the Debian kernel whose image is in this version of `package`, and passes the
/// folder in which it is unpacked to `take`. Returns `None` if the archive does not have the modules in this version.
pub(crate) fn fetch_modules<T>(
    cache: &Cache,
    package: &str,
    version: &str,
    listener: &mut Listener<'_>,
    take: impl FnOnce(&Path) -> Result<T, KernelError>,
) -> Result<Option<T>, KernelError> {
    let name = modules_package(package);
    let apt = Apt::new(cache, &name)?;
    let _lock = apt.lock(cache)?;
    apt.set_up()?;
    let wanted = format!("{name}={version}");
    // For a package that is only mentioned by others, the command succeeds and prints nothing.
    let is_listed = || {
        apt.show(&[], &[&wanted])
            .is_ok_and(|text| !text.trim().is_empty())
    };
    if !is_listed() {
        if let Some(failure) = apt.update(listener) {
            return Err(failure);
        }
        if !is_listed() {
            return Ok(None);
        }
    }
    let dir = apt.fresh("download")?;
    let _clean = RemoveOnDrop(&dir);
    apt.get(&dir, &[wanted], &name, listener)?;
    let unpacked = dir.join("unpacked");
    apt.unpack_all(&dir, &unpacked)?;
    take(&unpacked).map(Some)
}

/// Returns the name of the package with the modules of the kernel whose image is in `package`. Older kernels have the image
/// and the modules in one package.
pub(crate) fn modules_package(package: &str) -> String {
    match package.strip_prefix("linux-binary-") {
        Some(release) => format!("linux-modules-{release}"),
        None => package.to_owned(),
    }
}

/// Returns the version and the tarball of a package that [`fetch_source`] fetched before; `None` if the cache does not hold
/// this package. The archive is not contacted.
pub(crate) fn fetched_source(
    cache: &Cache,
    package: &str,
) -> Result<Option<(String, PathBuf)>, KernelError> {
    let Some(folder) = cache.existing(FOLDER)? else {
        return Ok(None);
    };
    // If the folder is missing, nothing was fetched.
    let entries = fs::read_dir(folder.path().join(SOURCE))
        .into_iter()
        .flatten();
    Ok(entries.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let version = name.strip_prefix(package)?.strip_prefix('_')?.to_owned();
        let tarball = tarball_in(&entry.path(), package);
        tarball.exists().then_some((version, tarball))
    }))
}

/// Returns the path of the tarball in the folder of an unpacked source package.
fn tarball_in(dir: &Path, package: &str) -> PathBuf {
    dir.join(format!("usr/src/{package}.tar.xz"))
}

/// Runs apt with its state in the cache folder.
struct Apt {
    root: PathBuf,
    archive: String,
    keyring: &'static str,
    request: String,
}

impl Apt {
    fn new(cache: &Cache, request: &str) -> Result<Self, KernelError> {
        let cannot = |reason: String| KernelError::CannotFetch {
            request: Some(request.to_owned()),
            reason,
        };
        if let Err(Failure::Missing) =
            command::run(Command::new("apt-get").arg("--version"), |_| {})
        {
            return Err(cannot(
                "`apt-get` is not installed, and it is needed to fetch kernels from Debian's archive"
                    .to_owned(),
            ));
        }
        let etc_apt = Path::new("/etc/apt");
        let archive = sources::debian_archive(etc_apt).ok_or_else(|| {
            cannot(format!(
                "no Debian archive is among this machine's apt sources ({0}/sources.list, {0}/sources.list.d)",
                etc_apt.display()
            ))
        })?;
        let keyring = KEYRINGS
            .into_iter()
            .find(|k| Path::new(k).exists())
            .ok_or_else(|| {
                cannot(format!(
                    "Debian's keys are missing ({}): install debian-archive-keyring",
                    KEYRINGS.join(", ")
                ))
            })?;
        Ok(Self {
            root: cache.root().join(FOLDER),
            archive,
            keyring,
            request: request.to_owned(),
        })
    }

    /// Locks the folder, so that only one apt works in it at a time.
    fn lock(&self, cache: &Cache) -> Result<Lock, KernelError> {
        cache.folder(FOLDER)?;
        Ok(Lock::take(
            &self.root.join("lock"),
            Place::CACHE,
            "another download of a kernel",
        )?)
    }

    /// Returns the places that are searched, in words for messages.
    fn places(&self) -> String {
        format!("{} (the suites {})", self.archive, SUITES.join(", "))
    }

    /// Writes apt's private configuration.
    fn set_up(&self) -> Result<(), KernelError> {
        let root = self.root.display();
        if self.root.to_string_lossy().contains(['"', '\n', ';', ' ']) {
            return Err(KernelError::CannotFetch {
                request: Some(self.request.clone()),
                reason: format!(
                    "apt cannot work in the folder {root}: set KTSTR_CACHE_DIR to a path without spaces or quotes"
                ),
            });
        }
        for dir in ["state/lists/partial", "cache/archives/partial", "log"] {
            let dir = self.root.join(dir);
            fs::create_dir_all(&dir).map_err(|e| KernelError::io("create", dir, e))?;
        }
        let mut conf = format!(
            "Dir::State \"{root}/state\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{root}/cache\";\n\
             Dir::Log \"{root}/log\";\nDir::Etc::SourceList \"{root}/sources.list\";\n\
             Dir::Etc::SourceParts \"/dev/null\";\nDir::Etc::Preferences \"/dev/null\";\n\
             Dir::Etc::PreferencesParts \"/dev/null\";\nDir::Etc::Parts \"/dev/null\";\nDir::Etc::Main \"/dev/null\";\n\
             APT::Architecture \"{ARCH}\";\nAPT::Architectures {{ \"{ARCH}\"; }};\nAPT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::AllowReleaseInfoChange \"true\";\n"
        );
        for setting in self.inherited() {
            conf.push_str(&setting);
            conf.push('\n');
        }
        let path = self.root.join("apt.conf");
        fs::write(&path, conf).map_err(|e| KernelError::io("write", path, e))
    }

    /// Writes the list of suites that the next update reads.
    fn write_sources<'a>(
        &self,
        suites: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), KernelError> {
        let list: String = suites
            .into_iter()
            .map(|suite| {
                format!(
                    "deb [signed-by={} arch={ARCH}] {} {suite} main\n",
                    self.keyring, self.archive
                )
            })
            .collect();
        let path = self.root.join("sources.list");
        fs::write(&path, list).map_err(|e| KernelError::io("write", path, e))
    }

    /// Returns the codenames under which package lists were fetched before. Lists from another archive do no harm: apt does not
    /// use them, because the name of each list begins with the address of its archive.
    fn fetched(&self) -> Vec<String> {
        let lists = fs::read_dir(self.root.join("state/lists"));
        let names = lists.into_iter().flatten().flatten();
        let names = names.filter_map(|entry| of_list(entry.file_name().to_str()?));
        names
            .filter(|name| !SUITES.contains(&name.as_str()))
            .collect()
    }

    /// Returns the codenames of the suites, which come from the signed release files under the suites' permanent names. A
    /// suite whose file is missing is left out. Lists are fetched under the codenames, because a mirror may serve a separate
    /// copy under each name, and the copies under the codenames are the fresh ones.
    fn codenames(&self) -> Vec<String> {
        SUITES
            .iter()
            .filter_map(|suite| {
                let end = format!("_dists_{suite}_InRelease");
                let lists = fs::read_dir(self.root.join("state/lists")).ok()?;
                let file = lists
                    .flatten()
                    .find(|entry| entry.file_name().to_string_lossy().ends_with(&end))?;
                codename(&fs::read_to_string(file.path()).ok()?)
            })
            .collect()
    }

    /// Returns the lines to inherit from the machine's configuration.
    fn inherited(&self) -> Vec<String> {
        let dump = command::run(Command::new("apt-config").arg("dump"), |_| {}).unwrap_or_default();
        dump.lines()
            .filter(|line| INHERITED.iter().any(|name| line.starts_with(name)))
            .map(str::to_owned)
            .collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.root.join("apt.conf"));
        command
    }

    /// Fetches the package lists, and returns the kernels in them in order of preference. If a list cannot be fetched, the
    /// kernels in the lists that are present, old ones included, are returned together with the error. The whole call fails
    /// if the disk is full, or if `apt-cache` fails.
    fn candidates(
        &self,
        listener: &mut Listener<'_>,
    ) -> Result<(Vec<Candidate>, Option<KernelError>), KernelError> {
        let failure = self.update(listener);
        if let Some(full @ KernelError::DiskFull { .. }) = failure {
            return Err(full);
        }
        let names = self.names("linux-")?;
        let names: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|n| n.ends_with(&format!("-{ARCH}")) && kernel_release(n).is_some())
            .collect();
        if names.is_empty() {
            return Ok((Vec::new(), failure));
        }
        let shown = self.show(&["--no-all-versions"], &names)?;
        Ok((offers::candidates(&shown), failure))
    }

    /// Fetches the package lists. Returns the error if that fails. A list that cannot be fetched stays as it was.
    fn update(&self, listener: &mut Listener<'_>) -> Option<KernelError> {
        let stage = "reading Debian's package lists";
        progress::begin(listener, stage);
        let failure = self.update_suites(stage, listener).err();
        progress::end(listener, stage);
        failure
    }

    fn update_suites(&self, stage: &str, listener: &mut Listener<'_>) -> Result<(), KernelError> {
        // First find out the current codenames, without fetching or removing any package lists.
        let names_only = [
            "Acquire::IndexTargets::deb::Packages::DefaultEnabled=false",
            "APT::Get::List-Cleanup=false",
        ];
        let before = self.fetched();
        self.write_sources(SUITES)?;
        let asked = self.run_update(&names_only, stage, listener);
        let mut names = self.codenames();
        // A suite that cannot be reached keeps the list that was fetched before, under the codename that it had then.
        let mut options = &[][..];
        if asked.is_err() {
            options = &names_only[1..];
            names.extend(before);
            names.sort();
            names.dedup();
        }
        if names.is_empty() {
            return asked;
        }
        self.write_sources(names.iter().map(String::as_str))?;
        self.run_update(options, stage, listener).and(asked)
    }

    fn run_update(
        &self,
        options: &[&str],
        stage: &str,
        listener: &mut Listener<'_>,
    ) -> Result<(), KernelError> {
        let mut update = self.command("apt-get");
        update.args(["-q", "-o", "APT::Status-Fd=1"]);
        update.args(["-o", "APT::Update::Error-Mode=any"]);
        for option in options {
            update.args(["-o", option]);
        }
        update.arg("update");
        command::run(&mut update, |line| hear(listener, stage, line))
            .map(|_| ())
            .map_err(|f| f.into_error("apt-get update (with private state)", &self.root, LIST_HINT))
    }

    /// Returns the names of the packages that begin with `prefix`.
    fn names(&self, prefix: &str) -> Result<Vec<String>, KernelError> {
        let names = command::run(self.command("apt-cache").args(["pkgnames", prefix]), |_| {})
            .map_err(|f| {
                f.into_error(
                    &format!("apt-cache pkgnames {prefix}"),
                    &self.root,
                    LIST_HINT,
                )
            })?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    fn show(&self, options: &[&str], packages: &[&str]) -> Result<String, KernelError> {
        command::run(
            self.command("apt-cache")
                .arg("show")
                .args(options)
                .args(packages),
            |_| {},
        )
        .map_err(|f| f.into_error("apt-cache show", &self.root, LIST_HINT))
    }

    /// Creates an empty folder. The caller holds the lock, so existing contents were left by a fetch that was killed.
    fn fresh(&self, name: &str) -> Result<PathBuf, KernelError> {
        let dir = self.root.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(|e| KernelError::io("remove", &dir, e))?;
        }
        fs::create_dir_all(&dir).map_err(|e| KernelError::io("create", &dir, e))?;
        Ok(dir)
    }

    /// Downloads packages, given as `NAME=VERSION`, into `dir`.
    fn get(
        &self,
        dir: &Path,
        packages: &[String],
        name: &str,
        listener: &mut Listener<'_>,
    ) -> Result<(), KernelError> {
        const HINT: &str =
            "Check the network and try again, or set KTSTR_KERNEL to a kernel on this machine";
        let stage = format!("downloading {name}");
        progress::begin(listener, &stage);
        let mut get = self.command("apt-get");
        get.current_dir(dir)
            .args(["-q", "-o", "APT::Status-Fd=1", "download"])
            .args(packages);
        command::run(&mut get, |line| hear(listener, &stage, line))
            .map_err(|f| f.into_error(&format!("apt-get download {name}"), dir, HINT))?;
        progress::end(listener, &stage);
        Ok(())
    }

    /// Unpacks all packages in a folder into another folder.
    fn unpack_all(&self, dir: &Path, into: &Path) -> Result<(), KernelError> {
        fs::create_dir_all(into).map_err(|e| KernelError::io("create", into, e))?;
        for entry in fs::read_dir(dir)
            .map_err(|e| KernelError::io("list", dir, e))?
            .flatten()
        {
            if entry.path().extension().is_some_and(|e| e == "deb") {
                package::unpack(&entry.path(), into)?;
            }
        }
        Ok(())
    }

    fn download(
        &self,
        candidate: &Candidate,
        cache: &Cache,
        listener: &mut Listener<'_>,
    ) -> Result<Kernel, KernelError> {
        let dir = self.fresh("download")?;
        let _clean = RemoveOnDrop(&dir);
        let unpacked = dir.join("unpacked");
        let packages: Vec<String> = [Some(&candidate.package), candidate.base.as_ref()]
            .into_iter()
            .flatten()
            .map(|name| format!("{name}={}", candidate.version))
            .collect();
        self.get(&dir, &packages, &candidate.package, listener)?;
        self.unpack_all(&dir, &unpacked)?;
        let found = package::in_folder(&unpacked)?;
        cache.import(
            &Material {
                image: found.image,
                config: found.config,
                source: candidate.source(),
            },
            listener,
        )
    }
}

/// Returns the suite in the name of an `InRelease` file of apt's lists; `None` for another file.
fn of_list(file: &str) -> Option<String> {
    let (_, suite) = file.strip_suffix("_InRelease")?.rsplit_once("_dists_")?;
    Some(suite.to_owned())
}

/// Returns the codename in the text of an `InRelease` file; `None` if it has none, or one with unexpected characters.
fn codename(text: &str) -> Option<String> {
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("Codename: "))?;
    let name = name.trim();
    let legal = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    (!name.is_empty() && name.chars().all(legal)).then(|| name.to_owned())
}

struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        // If the removal fails, the next fetch removes the folder.
        let _ = fs::remove_dir_all(self.0);
    }
}

/// Parses a line of apt's status descriptor, `dlstatus:<item>:<percent>:<text>`, and reports the progress.
fn hear(listener: &mut Listener<'_>, stage: &str, line: &str) {
    let percent = line
        .strip_prefix("dlstatus:")
        .and_then(|rest| rest.split(':').nth(1))
        .and_then(|percent| percent.parse::<f32>().ok())
        .filter(|percent| (0.0..=100.0).contains(percent));
    if percent.is_some() {
        progress::report(listener, stage, percent, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_has_a_codename() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSuite: stable-backports\nCodename: trixie-backports\n";
        assert_eq!(codename(text).as_deref(), Some("trixie-backports"));
        assert_eq!(codename("Codename: a b\n"), None);
        assert_eq!(codename("Suite: stable\n"), None);
    }

    #[test]
    fn the_lists_that_were_fetched_have_their_suites_in_their_names() {
        let suite = |file| of_list(file);
        let file = "mirror.test_debian_dists_trixie-backports_InRelease";
        assert_eq!(suite(file).as_deref(), Some("trixie-backports"));
        assert_eq!(
            suite("mirror.test_debian_dists_sid_main_binary-amd64_Packages"),
            None
        );
    }

    #[test]
    fn progress_is_read_from_apts_status_lines() {
        let mut heard = Vec::new();
        for line in [
            "dlstatus:1:42.5:Retrieving file 1 of 2",
            "dlstatus:1:nan:x",
            "Get:1 http",
            "dlstatus:",
        ] {
            hear(&mut |news| heard.push(news.percent), "s", line);
        }
        assert_eq!(heard, [Some(42.5)]);
    }
}
