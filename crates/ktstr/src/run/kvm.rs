//! The result of booting a kernel under KVM. It is kept with its reason and its time, so that a host on which KVM does not
//! work reports why, and tries again later.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::RunError;

/// The time after which a kernel that did not boot is tried again. After a change of the host's kernel or microcode, of QEMU
/// or of the guest's kernel, the finding no longer applies, and the next run boots a kernel to find out.
const EXPIRES: Duration = Duration::from_secs(24 * 3600);

/// The result of a boot under KVM. Only results that the guest caused are kept: a host that was busy or out of some
/// resource says nothing about the next boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Why the kernel did not boot; `None` if it did.
    pub failed: Option<String>,
    /// The time of the boot, in seconds since the epoch.
    pub at: u64,
    /// The release of the guest's kernel.
    pub kernel: String,
    /// The version of QEMU.
    pub qemu: String,
    /// The host's kernel, processor and microcode.
    pub host: String,
}

impl Finding {
    /// Creates the finding of a boot that has just ended.
    pub(super) fn now(failed: Option<String>, kernel: &str, qemu: &str) -> Self {
        Self {
            failed,
            at: since_epoch(),
            kernel: kernel.to_owned(),
            qemu: qemu.to_owned(),
            host: host(),
        }
    }

    /// Reads the finding from `file`; `None` if it cannot be read, belongs to another host, or is a failure that has expired
    /// or lies in the future.
    pub(super) fn read(file: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(file).ok()?;
        let finding: Self = serde_json::from_str(&text).ok()?;
        finding.is_valid(&host(), since_epoch()).then_some(finding)
    }

    fn is_valid(&self, host: &str, now: u64) -> bool {
        // A time in the future shows that the clock was wrong.
        let age = now.checked_sub(self.at);
        let fresh = age.is_some_and(|age| age < EXPIRES.as_secs());
        self.host == host && (self.failed.is_none() || fresh)
    }

    /// Writes the finding to `file`, completely or not at all. If that fails, the next run boots a kernel again.
    pub(super) fn keep(&self, file: &Path) {
        let Some(folder) = file.parent() else { return };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let aside = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer(&aside, self)?;
            aside.persist(file)?;
            Ok(())
        };
        let _ = write();
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minutes = since_epoch().saturating_sub(self.at) / 60;
        let ago = match minutes {
            0 => "just now".to_owned(),
            1 => "a minute ago".to_owned(),
            2..120 => format!("{minutes} minutes ago"),
            _ => format!("{} hours ago", minutes / 60),
        };
        match &self.failed {
            None => write!(f, "kernel {} booted under it {ago}", self.kernel),
            Some(why) => write!(
                f,
                "kernel {} did not boot under it {ago}: {why}. ktstr runs this kernel in software until 24 hours after that \
                 attempt, and then tries KVM again",
                self.kernel
            ),
        }
    }
}

/// Returns all findings on this host that have not expired, newest first.
///
/// # Errors
/// Returns an error if the cache cannot be used.
pub fn findings() -> Result<Vec<Finding>, RunError> {
    let files = std::fs::read_dir(folder()?).into_iter().flatten().flatten();
    let mut all: Vec<Finding> = files
        .filter_map(|entry| Finding::read(&entry.path()))
        .collect();
    all.sort_by_key(|finding| std::cmp::Reverse(finding.at));
    Ok(all)
}

/// Returns the folder of findings, and creates it if it is missing.
pub(super) fn folder() -> Result<PathBuf, RunError> {
    let cache = ktstr_kernel::cache::Cache::from_env()?;
    Ok(cache.folder("kvm")?.path().to_owned())
}

/// Returns the host's kernel, processor and microcode.
pub(super) fn host() -> String {
    let host = rustix::system::uname();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu: Vec<&str> = cpu
        .lines()
        .filter(|l| l.starts_with("model name") || l.starts_with("microcode"))
        .take(2)
        .collect();
    format!("{:?} {:?} {cpu:?}", host.release(), host.version())
}

fn since_epoch() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Finding {
        Finding::now(Some("it reset itself".to_owned()), "7.3.4", "10.0.2")
    }

    #[test]
    fn a_stored_finding_is_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("kvm/finding");
        assert_eq!(Finding::read(&file), None);
        failed().keep(&file);
        assert_eq!(Finding::read(&file).as_ref(), Some(&failed()));
        // The file is truncated, or has an older format.
        std::fs::write(&file, "fails\nthe guest did not come up\n").expect("own folder");
        assert_eq!(Finding::read(&file), None);
    }

    #[test]
    fn a_failure_expires_and_a_success_does_not() {
        let host = host();
        let (failed, day) = (failed(), EXPIRES.as_secs());
        let works = Finding {
            failed: None,
            ..failed.clone()
        };
        assert!(failed.is_valid(&host, failed.at + day - 1));
        assert!(!failed.is_valid(&host, failed.at + day));
        assert!(!failed.is_valid(&host, failed.at - 1));
        assert!(works.is_valid(&host, works.at + 1000 * day));
        assert!(!works.is_valid("another host", works.at));
    }

    #[test]
    fn a_failure_is_reported_with_its_kernel_reason_and_age() {
        let text = failed().to_string();
        assert_eq!(
            text,
            "kernel 7.3.4 did not boot under it just now: it reset itself. ktstr runs this kernel in software until 24 hours after that \
             attempt, and then tries KVM again"
        );
    }
}
