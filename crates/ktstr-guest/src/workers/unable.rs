//! Why a worker gave up: what it needs is not there. The worker leaves a number and an errno in the
//! memory it shares with its parent, who makes a sentence of them.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        /// What a worker needs and does not find.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Unable {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Unable {
            /// What is left in shared memory; 0 is nobody's.
            pub fn code(self) -> u32 {
                self as u32 + 1
            }

            /// The sentence for a number that was left. The errno is left out when it is 0.
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
    /// It could not map the buffer that it works in.
    Memory = "could not map its memory";
    /// The nodes of its memory policy.
    MemPolicy = "could not set its memory policy; are the nodes among those of its cpuset?";
    /// A file in /tmp.
    File = "could not make or use a temporary file in /tmp or /";
    /// Two threads of a core.
    Sibling = "needs two threads of one core among its CPUs and found none; declare a topology with \
        2 threads a core, or a wider cpuset";
    /// CPUs of two nodes.
    Nodes = "needs CPUs of two NUMA nodes and found fewer; declare a topology with more nodes, or a \
        wider cpuset";
    /// Registers of that width.
    Width = "needs vector registers that are wider than those that CPUID reports; take AluWidth::Widest";
    /// The tiles of AMX.
    Tiles = "has no code for AMX, since no CPU model of the harness has it; take AluWidth::Widest";
    /// Its own cgroup.
    Cgroup = "could not make or enter a cgroup below its own";
    /// The destination of CgroupAttachStorm.
    Dest = "could not open cgroup.procs of `dest` beside its own cgroup; declare a cgroup of that name";
    /// An eventfd or an epoll instance.
    Epoll = "could not wait for its eventfd";
    /// The loopback device could not be opened or brought up.
    Loopback = "could not send through the loopback device; the first worker of a guest that does has to be root";
    /// A futex with priority inheritance.
    PiLock = "could not take a futex with priority inheritance (FUTEX_LOCK_PI2 of Linux 5.14)";
    /// The report of a custom function.
    Report = "could not hand over the report of its function";
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
