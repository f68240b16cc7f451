//! Why a worker gave up: something that it needs is missing. The worker stores a code and an errno
//! in the memory that it shares with its parent, and the parent turns them into a sentence.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        /// Something that a worker needs but does not have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Unable {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Unable {
            /// Returns the code to store in shared memory. 0 stands for no reason.
            pub fn code(self) -> u32 {
                self as u32 + 1
            }

            /// Returns the sentence for a stored code. An errno of 0 is omitted.
            pub fn sentence(code: u32, errno: i32) -> String {
                let texts = [$($text),+];
                let at = (code as usize).wrapping_sub(1);
                let text = texts.get(at).copied().unwrap_or("gave no known reason");
                if errno == 0 {
                    return format!("the worker {text}");
                }
                let error = std::io::Error::from_raw_os_error(errno);
                format!("the worker {text}: {error}")
            }
        }
    };
}

reasons! {
    /// The buffer that the worker uses could not be mapped.
    Memory = "could not map its memory";
    /// The memory policy could not be set.
    MemPolicy = "could not set its memory policy; are the nodes among those of its cpuset?";
    /// The disk, or without a disk the temporary file, could not be opened or used.
    File = "could not open or use the disk or, without one, a temporary file in /tmp or /";
    /// No two threads of one core are among the worker's CPUs.
    Sibling = "needs two threads of one core among its CPUs and found none; declare a topology with \
        2 threads per core, or a larger cpuset";
    /// Fewer than two NUMA nodes have CPUs that the worker may use.
    Nodes = "needs CPUs of two NUMA nodes and found fewer; declare a topology with more nodes, or a \
        larger cpuset";
    /// The CPU has no vector registers of the requested width.
    Width = "needs wider vector registers than CPUID reports; use AluWidth::Widest";
    /// No work loop uses AMX tiles, whether or not the CPU has them.
    Tiles = "has no code for AMX on any CPU; use AluWidth::Widest";
    /// The worker's own cgroup could not be found, or a cgroup below it could not be created or entered.
    Cgroup = "could not find its own cgroup, or create or enter one below it";
    /// The destination cgroup of `CgroupAttachStorm` could not be opened.
    Dest = "could not open cgroup.procs of `dest` next to its own cgroup; declare a cgroup with that name";
    /// The kernel refused to fork a child, mostly because of a limit.
    Fork = "could not fork a child; does the limit on tasks (pids.max) of its cgroup, or of one above it, leave room for \
        the children of all workers?";
    /// The eventfd or the epoll instance failed.
    Epoll = "could not wait for its eventfd";
    /// The loopback device could not be opened or brought up.
    Loopback = "could not send through the loopback device; the first worker of a guest that uses it must run as root";
    /// A frame could not be sent or received, although the loopback device could be opened.
    Frame = "could not send or receive a frame through the loopback device, which it had opened; has the test \
        changed the device's address or MTU?";
    /// The futex with priority inheritance could not be taken.
    PiLock = "could not take a futex with priority inheritance (FUTEX_LOCK_PI2 of Linux 5.14)";
    /// All slots for named objects are taken.
    Objects = "names more locks, condition variables, barriers, semaphores and timers than the 4096 of a scenario";
    /// The worker holds as many locks as it can.
    Locks = "tried to take a 17th lock; a thread of rt-app can hold 16";
    /// The kernel refused the CPUs that the worker wanted.
    Affinity = "could not change its own affinity; are these CPUs in its cpuset?";
    /// The report of a custom function could not be passed to the parent.
    Report = "could not pass on the report of its function";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_sentences() {
        let text = Unable::sentence(Unable::Dest.code(), libc::ENOENT);
        assert!(text.starts_with("the worker could not open cgroup.procs of `dest`"));
        assert!(
            text.ends_with("No such file or directory (os error 2)"),
            "{text}"
        );
        let text = Unable::sentence(Unable::Tiles.code(), 0);
        assert!(text.contains("AMX") && !text.contains("os error"));
        assert!(Unable::sentence(999, 0).contains("no known reason"));
    }
}
