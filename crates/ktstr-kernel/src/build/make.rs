//! Runs `make` so that all of its child processes end when ktstr ends.

use std::path::Path;
use std::process::Command;

use crate::KernelError;
use crate::command;

/// Variables that would make kbuild build another kernel than the one that the source, the configuration and the compiler
/// identify (Documentation/kbuild/kbuild.rst). A user may have them set for work on other kernels.
const OF_USER: [&str; 14] = [
    "ARCH",
    "SUBARCH",
    "CROSS_COMPILE",
    "LLVM",
    "LLVM_IAS",
    "CC",
    "LD",
    "HOSTCC",
    "KCFLAGS",
    "KCPPFLAGS",
    "KAFLAGS",
    "KBUILD_OUTPUT",
    "KCONFIG_CONFIG",
    "LOCALVERSION",
];

/// A shell script that runs a command and kills its whole process group once ktstr's end of its stdin is closed. That
/// happens however ktstr ends, so the compilers that `make` started do not outlive ktstr.
const BOUND: &str = "exec 3<&0 </dev/null
\"$@\" &
work=$!
{ read -r _ <&3; kill -s KILL 0; } >/dev/null 2>&1 &
guard=$!
wait \"$work\"
status=$?
kill \"$guard\" 2>/dev/null
exit $status";

const HINT: &str = "The source does not build, at least with this compiler; `make` in the tree fails in the same way. The \
                    result of another build can be used as it is: set KTSTR_KERNEL to the tree";

/// A source tree and the folder for its objects.
pub(super) struct Make<'a> {
    pub(super) tree: &'a Path,
    pub(super) objects: &'a Path,
}

impl Make<'_> {
    /// Runs `make ARGUMENTS...` and passes each line of its output to `hear`.
    pub(super) fn run(
        &self,
        arguments: &[&str],
        hear: impl FnMut(&str),
    ) -> Result<(), KernelError> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new("sh");
        command
            .args(["-c", BOUND, "sh", "make", "-C"])
            .arg(self.tree)
            .arg(format!("O={}", self.objects.display()))
            .arg(format!("-j{jobs}"))
            .args(arguments)
            // Fix builder, host and time, because otherwise the same source would yield different kernels.
            .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01 00:00:00 UTC")
            .env("KBUILD_BUILD_USER", "ktstr")
            .env("KBUILD_BUILD_HOST", "ktstr")
            .env("KBUILD_BUILD_VERSION", "1")
            // An enclosing `make` must not pass its options on.
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL");
        for name in OF_USER {
            command.env_remove(name);
        }
        command::run_bound(&mut command, hear)
            .map(|_| ())
            .map_err(|failure| {
                let what = format!("make {} in {}", arguments.join(" "), self.tree.display());
                failure.into_build_error(&what, self.objects, HINT)
            })
    }
}
