//! Calling `make`, with all of its children bound to our life.

use std::path::Path;
use std::process::Command;

use crate::KernelError;
use crate::command;

/// Runs a command in a process group that ends when our end of its stdin is closed, however we came to our end: the
/// compilers that `make` started would otherwise go on.
const BOUND: &str = "exec 3<&0 </dev/null
\"$@\" &
work=$!
{ read -r _ <&3; kill -s KILL 0; } >/dev/null 2>&1 &
guard=$!
wait \"$work\"
status=$?
kill \"$guard\" 2>/dev/null
exit $status";

const HINT: &str = "The source does not build as it is, or with this compiler; `make` in the tree says the same. The \
                    result of another build can be used as it is: set KTSTR_KERNEL to the tree";

/// A tree and the folder that its objects go to.
pub(super) struct Make<'a> {
    pub(super) tree: &'a Path,
    pub(super) objects: &'a Path,
}

impl Make<'_> {
    /// Runs `make ARGUMENTS...`; `hear` gets each line that it prints.
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
            // Who built it where and when would make the same source another kernel.
            .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01 00:00:00 UTC")
            .env("KBUILD_BUILD_USER", "ktstr")
            .env("KBUILD_BUILD_HOST", "ktstr")
            .env("KBUILD_BUILD_VERSION", "1")
            // A make around us must not hand its options down.
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL");
        command::run_bound(&mut command, hear)
            .map(|_| ())
            .map_err(|failure| {
                let what = format!("make {} in {}", arguments.join(" "), self.tree.display());
                failure.into_build_error(&what, self.objects, HINT)
            })
    }
}
