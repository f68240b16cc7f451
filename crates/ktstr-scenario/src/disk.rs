//! The declaration of a guest's disk.
//!
//! The disk is the kernel's own `null_blk` device (`drivers/block/null_blk`) in its memory-backed mode. The
//! guest's memory holds the data, and a timer of the guest's kernel ends each request after the declared latency. The tasks that
//! wait for the disk therefore sleep in state D and are woken from an interrupt, as with a real disk. Under the virtual clock,
//! the same seed gives the same run.

use std::time::Duration;

/// The largest capacity in MiB. The capacity is limited because the data is stored in the guest's memory.
const MOST_MIB: u32 = 16 << 10;

/// A disk of the guest, `/dev/vda`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskConfig {
    /// A second name for the disk: `/dev/NAME` is a link to it. With `None` the disk has no second name.
    pub name: Option<&'static str>,
    /// The capacity in MiB. The guest gets this much memory in addition to the test's `memory_mib`.
    pub capacity_mib: u32,
    /// What is on the disk when the test starts.
    pub filesystem: Filesystem,
    /// How long each request takes, in guest time.
    pub latency: Duration,
    /// Bounds on the rate of requests and of bytes.
    pub throttle: DiskThrottle,
    /// Whether the kernel refuses writes to the disk.
    pub read_only: bool,
}

/// What is on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filesystem {
    /// Nothing: the disk reads as zeros.
    #[default]
    Raw,
    /// An empty Btrfs file system. It is not available yet.
    Btrfs,
}

/// Bounds on what a disk does in a second; `None` for no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskThrottle {
    /// The largest number of requests in a second. With this bound the disk serves one request after the other, and each request
    /// takes at least `1 / iops` s.
    pub iops: Option<u64>,
    /// The largest number of bytes in a second, a multiple of 1 MiB.
    pub bytes_per_sec: Option<u64>,
    /// The number of requests that may come at once before `iops` applies. It is not available yet.
    pub iops_burst_capacity: Option<u64>,
    /// The number of bytes that may come at once before `bytes_per_sec` applies. It is not available yet.
    pub bytes_burst_capacity: Option<u64>,
}

/// What a bound of a [`DiskThrottle`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottleDimension {
    /// The number of requests.
    Iops,
    /// The number of bytes.
    Bytes,
}

impl std::fmt::Display for ThrottleDimension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Iops => "iops",
            Self::Bytes => "bytes_per_sec",
        })
    }
}

/// Why a [`DiskThrottle`] makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiskThrottleValidationError {
    /// A rate is zero, so that no request would ever end.
    #[error("{0} is 0, so no request would ever end: leave it out for no bound")]
    Zero(ThrottleDimension),
    /// A burst capacity is given for requests or bytes, but no rate.
    #[error("there is a burst capacity without {0}: set the rate, or leave the burst out")]
    BurstWithoutRate(ThrottleDimension),
    /// The burst is smaller than the rate, so it would have no effect.
    #[error("the burst capacity {burst} is below {dimension} = {rate}: it would change nothing")]
    BurstBelowRate {
        /// What the rate and the burst count.
        dimension: ThrottleDimension,
        /// The declared number of requests or bytes in a second.
        rate: u64,
        /// The declared burst capacity.
        burst: u64,
    },
}

/// Why a [`DiskConfig`] cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The capacity is 0 or too large.
    #[error("the capacity is {0} MiB: give 1 to {MOST_MIB}, which is memory of the guest")]
    Capacity(u32),
    /// The name is not a plain file name.
    #[error("the name {0:?} is not a plain file name for /dev")]
    Name(&'static str),
    /// The latency is not in the range that the device accepts.
    #[error("the latency {0:?} is not between 1 us and 10 s")]
    Latency(Duration),
    /// The throttle makes no sense.
    #[error(transparent)]
    Throttle(#[from] DiskThrottleValidationError),
    /// The rate of bytes is not a multiple of 1 MiB.
    #[error("bytes_per_sec is {0}: give a multiple of 1048576 (1 MiB)")]
    Rate(u64),
    /// The declaration is valid, but nothing implements it.
    #[error("{0} is not available")]
    NotAvailable(&'static str),
}

impl DiskThrottle {
    /// Checks the bounds against each other.
    ///
    /// # Errors
    /// The first bound that makes no sense.
    pub const fn validate(&self) -> Result<(), DiskThrottleValidationError> {
        use DiskThrottleValidationError::{BurstBelowRate, BurstWithoutRate, Zero};
        let all = [
            (ThrottleDimension::Iops, self.iops, self.iops_burst_capacity),
            (
                ThrottleDimension::Bytes,
                self.bytes_per_sec,
                self.bytes_burst_capacity,
            ),
        ];
        let mut at = 0;
        while at < all.len() {
            let (dimension, rate, burst) = all[at];
            match (rate, burst) {
                (Some(0), _) => return Err(Zero(dimension)),
                (None, Some(_)) => return Err(BurstWithoutRate(dimension)),
                (Some(rate), Some(burst)) if burst < rate => {
                    return Err(BurstBelowRate {
                        dimension,
                        rate,
                        burst,
                    });
                }
                _ => {}
            }
            at += 1;
        }
        Ok(())
    }
}

impl DiskConfig {
    /// A raw disk of 256 MiB that can be written, whose requests take 100 us each, without a throttle.
    pub const DEFAULT: Self = Self {
        name: None,
        capacity_mib: 256,
        filesystem: Filesystem::Raw,
        latency: Duration::from_micros(100),
        throttle: DiskThrottle {
            iops: None,
            bytes_per_sec: None,
            iops_burst_capacity: None,
            bytes_burst_capacity: None,
        },
        read_only: false,
    };

    /// Sets the capacity in MiB.
    pub const fn capacity_mib(mut self, mib: u32) -> Self {
        self.capacity_mib = mib;
        self
    }

    /// Sets what is on the disk.
    pub const fn filesystem(mut self, filesystem: Filesystem) -> Self {
        self.filesystem = filesystem;
        self
    }

    /// Sets how long each request takes, in guest time: about 100 us for a fast SSD, 8 ms for a disk that has to seek.
    pub const fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Lets the disk serve one request after the other, at most this many in a second.
    pub const fn iops(mut self, iops: u64) -> Self {
        self.throttle.iops = Some(iops);
        self
    }

    /// Bounds the bytes that are read and written in a second.
    pub const fn bytes_per_sec(mut self, bytes: u64) -> Self {
        self.throttle.bytes_per_sec = Some(bytes);
        self
    }

    /// Sets the burst of requests. It is not available yet.
    pub const fn iops_burst_capacity(mut self, requests: u64) -> Self {
        self.throttle.iops_burst_capacity = Some(requests);
        self
    }

    /// Sets the burst of bytes. It is not available yet.
    pub const fn bytes_burst_capacity(mut self, bytes: u64) -> Self {
        self.throttle.bytes_burst_capacity = Some(bytes);
        self
    }

    /// Lets the kernel refuse writes to the disk.
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Gives the disk a second name: `/dev/NAME` is a link to `/dev/vda`.
    pub const fn with_name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// Checks whether a guest can have this disk.
    ///
    /// # Errors
    /// The first value that is invalid, or that nothing implements.
    pub fn validate(&self) -> Result<(), DiskError> {
        if !(1..=MOST_MIB).contains(&self.capacity_mib) {
            return Err(DiskError::Capacity(self.capacity_mib));
        }
        let plain = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            (1..=32).contains(&name.len()) && name.chars().all(plain) && name != "vda"
        };
        if let Some(name) = self.name.filter(|name| !plain(name)) {
            return Err(DiskError::Name(name));
        }
        if !(Duration::from_micros(1)..=Duration::from_secs(10)).contains(&self.latency) {
            return Err(DiskError::Latency(self.latency));
        }
        self.throttle.validate()?;
        let throttle = &self.throttle;
        if let Some(rate) = throttle.bytes_per_sec.filter(|rate| rate % (1 << 20) != 0) {
            return Err(DiskError::Rate(rate));
        }
        let bursts = [throttle.iops_burst_capacity, throttle.bytes_burst_capacity];
        if bursts.iter().any(Option::is_some) {
            return Err(DiskError::NotAvailable("a burst of a disk"));
        }
        match self.filesystem {
            Filesystem::Raw => Ok(()),
            Filesystem::Btrfs => Err(DiskError::NotAvailable("a Btrfs file system on a disk")),
        }
    }

    /// Returns the shortest time of a request: the latency, or the time per request that `iops` implies if that is longer.
    pub fn request_time(&self) -> Duration {
        let of_rate = self.throttle.iops.map(|iops| {
            let ns = 1_000_000_000u64.div_ceil(iops.max(1));
            Duration::from_nanos(ns)
        });
        self.latency.max(of_rate.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_disk_cannot_do_is_named() {
        const D: DiskConfig = DiskConfig::DEFAULT;
        assert_eq!(D.validate(), Ok(()));
        assert_eq!(
            D.iops(100)
                .bytes_per_sec(2 << 20)
                .with_name("data")
                .validate(),
            Ok(())
        );
        for (config, part) in [
            (D.capacity_mib(0), "0 MiB"),
            (D.capacity_mib(1 << 20), "1 to 16384"),
            (D.with_name("a/b"), "a/b"),
            (D.latency(Duration::ZERO), "between 1 us"),
            (D.iops(0), "iops is 0"),
            (D.bytes_per_sec(1000), "multiple of 1048576"),
            (D.iops_burst_capacity(5), "without iops"),
            (
                D.bytes_per_sec(1 << 21).bytes_burst_capacity(5),
                "below bytes_per_sec",
            ),
            (D.iops(5).iops_burst_capacity(10), "not available"),
            (D.filesystem(Filesystem::Btrfs), "Btrfs"),
        ] {
            let error = config.validate().expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_rate_makes_requests_longer() {
        let disk = DiskConfig::DEFAULT.latency(Duration::from_micros(50));
        assert_eq!(disk.request_time(), Duration::from_micros(50));
        assert_eq!(disk.iops(1000).request_time(), Duration::from_millis(1));
        assert_eq!(
            disk.iops(1_000_000).request_time(),
            Duration::from_micros(50)
        );
    }
}
