//! Debian's kernels through apt's own clients, with state of our own: nothing of the machine's apt is
//! changed, no root is needed, and apt verifies what it always verifies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr_state::{Lock, Place};

use crate::cache::{Cache, Material};
use crate::command::{self, Failure};
use crate::kernel::{Kernel, Source};
use crate::progress::{self, Listener};
use crate::version::{self, Spec};
use crate::{KernelError, package, sources};

/// Suites that carry kernels with sched_ext.
const SUITES: [&str; 2] = ["trixie-backports", "sid"];
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];
/// Settings of the machine's apt that are taken over: how to reach its mirror, and how old its
/// administrator lets the mirror's lists be. Never what would let unsigned packages in.
const INHERITED: [&str; 6] = [
    "Acquire::http",
    "Acquire::https",
    "Acquire::Retries",
    "Acquire::ForceIPv",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];
/// The folder of the cache that apt keeps its state in.
const FOLDER: &str = "apt";
/// Packages smaller than this only depend on others.
const SMALLEST_IMAGE: u64 = 5 << 20;

/// A kernel that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// `uname -r` of the kernel.
    pub release: String,
    /// The package that holds the image.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The package that holds the configuration, when it is another one and still there.
    base: Option<String>,
}

/// Fetches the newest kernel that matches, unless it is cached already.
pub(crate) fn fetch(
    cache: &Cache,
    spec: &Spec,
    listener: &mut Listener<'_>,
) -> Result<Kernel, KernelError> {
    let request = format!("debian:{spec}");
    let apt = Apt::new(cache, &request)?;
    cache.folder(FOLDER)?;
    let _lock = Lock::take(
        &apt.root.join("lock"),
        Place::CACHE,
        "another download of a kernel",
    )?;
    apt.set_up()?;
    let (candidates, failure) = apt.candidates(listener)?;
    let Some(candidate) = candidates.iter().find(|c| spec.matches(&c.release)) else {
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut available: Vec<&str> = candidates.iter().map(|c| c.release.as_str()).collect();
        available.truncate(12);
        return Err(KernelError::UnknownVersion {
            spec: request,
            looked_in: format!("{} of {}", SUITES.join(" and "), apt.archive),
            available: available.join(", "),
        });
    };
    let source = candidate.source();
    if let Some(kernel) = cache.scan()?.0.into_iter().find(|k| k.source == source) {
        return Ok(kernel);
    }
    apt.download(candidate, cache, listener)
}

impl Candidate {
    fn source(&self) -> Source {
        Source::Debian {
            package: self.package.clone(),
            version: self.version.clone(),
        }
    }
}

/// apt with its state in the cache folder.
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
                "there is no `apt-get` here; kernels are fetched from Debian's archive by it"
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

    /// Writes the private configuration.
    fn set_up(&self) -> Result<(), KernelError> {
        let root = self.root.display();
        if self.root.to_string_lossy().contains(['"', '\n', ';', ' ']) {
            return Err(KernelError::CannotFetch {
                request: Some(self.request.clone()),
                reason: format!(
                    "apt cannot work in {root}: set KTSTR_CACHE_DIR to a path without spaces and quotes"
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
             APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\nAPT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\n"
        );
        for setting in self.inherited() {
            conf.push_str(&setting);
            conf.push('\n');
        }
        let list: String = SUITES
            .iter()
            .map(|suite| {
                format!(
                    "deb [signed-by={} arch=amd64] {} {suite} main\n",
                    self.keyring, self.archive
                )
            })
            .collect();
        for (name, text) in [("apt.conf", conf), ("sources.list", list)] {
            let path = self.root.join(name);
            fs::write(&path, text).map_err(|e| KernelError::io("write", path, e))?;
        }
        Ok(())
    }

    /// The lines of the machine's configuration to take over.
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

    /// Fetches the lists of packages, and reads from them what kernels there are, newest first. When
    /// one suite cannot be had, the kernels of the other will do: the failure is handed back beside them.
    fn candidates(
        &self,
        listener: &mut Listener<'_>,
    ) -> Result<(Vec<Candidate>, Option<KernelError>), KernelError> {
        const HINT: &str = "Check the network and this machine's apt sources (`apt-get update` must work), or set \
                            KTSTR_KERNEL to a kernel that is here";
        let stage = "reading Debian's package lists";
        progress::begin(listener, stage);
        let mut update = self.command("apt-get");
        update.args([
            "-q",
            "-o",
            "APT::Status-Fd=1",
            "-o",
            "APT::Update::Error-Mode=any",
            "update",
        ]);
        let failure = command::run(&mut update, |line| hear(listener, stage, line))
            .err()
            .map(|f| f.into_error("apt-get update (with private state)", &self.root, HINT));
        if let Some(full @ KernelError::DiskFull { .. }) = failure {
            return Err(full);
        }
        let names = command::run(
            self.command("apt-cache").args(["pkgnames", "linux-"]),
            |_| {},
        )
        .map_err(|f| f.into_error("apt-cache pkgnames linux-", &self.root, HINT))?;
        let names: Vec<&str> = names
            .lines()
            .filter(|n| n.ends_with("-amd64") && kernel_release(n).is_some())
            .collect();
        if names.is_empty() {
            return Ok((Vec::new(), failure));
        }
        let shown = command::run(
            self.command("apt-cache")
                .args(["show", "--no-all-versions"])
                .args(&names),
            |_| {},
        )
        .map_err(|f| f.into_error("apt-cache show", &self.root, HINT))?;
        progress::end(listener, stage);
        Ok((candidates(&shown), failure))
    }

    fn download(
        &self,
        candidate: &Candidate,
        cache: &Cache,
        listener: &mut Listener<'_>,
    ) -> Result<Kernel, KernelError> {
        const HINT: &str =
            "Check the network and try again, or set KTSTR_KERNEL to a kernel that is here";
        let dir = self.root.join("download");
        // We hold the lock: what is here was left by a fetch that was killed.
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(|e| KernelError::io("remove", &dir, e))?;
        }
        let _clean = RemoveOnDrop(&dir);
        let unpacked = dir.join("unpacked");
        fs::create_dir_all(&unpacked).map_err(|e| KernelError::io("create", &dir, e))?;
        let stage = format!("downloading {}", candidate.package);
        progress::begin(listener, &stage);
        let mut get = self.command("apt-get");
        get.current_dir(&dir)
            .args(["-q", "-o", "APT::Status-Fd=1", "download"])
            .arg(format!("{}={}", candidate.package, candidate.version));
        if let Some(base) = &candidate.base {
            get.arg(format!("{base}={}", candidate.version));
        }
        command::run(&mut get, |line| hear(listener, &stage, line)).map_err(|f| {
            f.into_error(
                &format!("apt-get download {}", candidate.package),
                &dir,
                HINT,
            )
        })?;
        progress::end(listener, &stage);
        for entry in fs::read_dir(&dir)
            .map_err(|e| KernelError::io("list", &dir, e))?
            .flatten()
        {
            if entry.path().extension().is_some_and(|e| e == "deb") {
                package::unpack(&entry.path(), &unpacked)?;
            }
        }
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

struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next fetch.
        let _ = fs::remove_dir_all(self.0);
    }
}

/// Passes on what apt says on its status descriptor: `dlstatus:<item>:<percent>:<text>`.
fn hear(listener: &mut Listener<'_>, stage: &str, line: &str) {
    let percent = line
        .strip_prefix("dlstatus:")
        .and_then(|rest| rest.split(':').nth(1))
        .and_then(|percent| percent.parse::<f32>().ok())
        .filter(|percent| (0.0..=100.0).contains(percent));
    if percent.is_some() {
        progress::tell(listener, stage, percent, false);
    }
}

/// The release whose image, or configuration, a package of this name may hold.
fn kernel_release(package: &str) -> Option<&str> {
    ["linux-binary-", "linux-image-", "linux-base-"]
        .iter()
        .find_map(|prefix| package.strip_prefix(prefix))
        .filter(|release| release.starts_with(|c: char| c.is_ascii_digit()))
}

/// Kernels out of what `apt-cache show` prints, newest first; of one release, other flavours than
/// `cloud` come last.
fn candidates(shown: &str) -> Vec<Candidate> {
    let mut bases = Vec::new();
    let mut found: Vec<Candidate> = Vec::new();
    for paragraph in shown.split("\n\n") {
        let field = |name: &str| {
            paragraph
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
        };
        let (Some(package), Some(version)) = (field("Package"), field("Version")) else {
            continue;
        };
        let Some(release) = kernel_release(package) else {
            continue;
        };
        let size = field("Size")
            .and_then(|s| s.parse::<u64>().ok())
            .unwrap_or(0);
        if package.starts_with("linux-base-") {
            bases.push((package.to_owned(), version.to_owned()));
        } else if size >= SMALLEST_IMAGE {
            found.push(Candidate {
                release: release.to_owned(),
                package: package.to_owned(),
                version: version.to_owned(),
                base: None,
            });
        }
    }
    for candidate in &mut found {
        let base = (
            format!("linux-base-{}", candidate.release),
            candidate.version.clone(),
        );
        candidate.base = bases.contains(&base).then_some(base.0);
    }
    let is_cloud = |c: &Candidate| c.release.ends_with("-cloud-amd64");
    found.sort_by(|a, b| {
        is_cloud(b)
            .cmp(&is_cloud(a))
            .then_with(|| version::compare(&b.release, &a.release))
    });
    found.dedup_by(|later, earlier| later.release == earlier.release);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_from_packages_that_only_depend() {
        let shown = [
            (
                "linux-image-6.18.15+deb13-cloud-amd64",
                "6.18.15-1~bpo13+1",
                49_146_196,
            ),
            (
                "linux-image-7.0.13+deb13-cloud-amd64",
                "7.0.13-1~bpo13+1",
                1920,
            ),
            (
                "linux-binary-7.0.13+deb13-cloud-amd64",
                "7.0.13-1~bpo13+1",
                13_149_508,
            ),
            (
                "linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
                "7.3.4-1~bpo13+1",
                13_000_000,
            ),
            (
                "linux-binary-7.3.4+deb13-amd64",
                "7.3.4-1~bpo13+1",
                15_000_000,
            ),
            (
                "linux-binary-7.3.4+deb13-cloud-amd64",
                "7.3.4-1~bpo13+1",
                13_604_064,
            ),
            (
                "linux-base-7.3.4+deb13-cloud-amd64",
                "7.3.4-1~bpo13+1",
                1_025_208,
            ),
            ("linux-image-cloud-amd64", "7.3.4-1~bpo13+1", 1500),
        ]
        .map(|(package, version, size)| {
            format!("Package: {package}\nVersion: {version}\nSize: {size}\n")
        })
        .join("\n");
        let found: Vec<String> = candidates(&shown)
            .iter()
            .map(|c| format!("{} {} {:?}", c.package, c.version, c.base))
            .collect();
        assert_eq!(
            found,
            [
                "linux-binary-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1 Some(\"linux-base-7.3.4+deb13-cloud-amd64\")",
                "linux-binary-7.0.13+deb13-cloud-amd64 7.0.13-1~bpo13+1 None",
                "linux-image-6.18.15+deb13-cloud-amd64 6.18.15-1~bpo13+1 None",
                "linux-binary-7.3.4+deb13-amd64 7.3.4-1~bpo13+1 None",
            ]
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
