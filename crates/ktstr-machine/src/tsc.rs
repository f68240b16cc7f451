//! The rate of the host's time-stamp counter (TSC), which under TCG and the real clock is also the guest's.

use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The largest relative error of a measured rate.
const MAX_ERROR: f64 = 2e-5;

/// Returns the kernel parameter that tells the guest the rate of its TSC, in kHz (`tsc_early_khz=`, since Linux 5.9).
///
/// Under the real clock, QEMU's TSC is the one of the host. Without this parameter Linux measures the rate when it boots, with
/// the timers that QEMU emulates (`pit_hpet_ptimer_calibrate_cpu()` in arch/x86/kernel/tsc.c). If the host is busy during the
/// measurement, the result may be a fraction of the rate, and the guest's clocks are then several times too fast, also in
/// every machine that is forked from a template of this guest. With the parameter, Linux only refines the given rate later, by
/// 1 % at most.
///
/// The value is measured once in each process, and differs a little from process to process.
pub(crate) fn parameter() -> &'static str {
    static PARAMETER: OnceLock<String> = OnceLock::new();
    PARAMETER.get_or_init(|| format!("tsc_early_khz={:.0}", host_hz() / 1e3))
}

/// Returns a text that stands for [`parameter`] in the keys of templates: the model of the host's processor, and the rate that
/// the host's kernel calibrated when it booted (`bogomips`, twice the rate in MHz). It is the same in all processes.
pub(crate) fn of_host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let is_own = |line: &&str| line.starts_with("model name") || line.starts_with("bogomips");
        let lines: Vec<&str> = cpus.lines().filter(is_own).take(2).collect();
        format!("{lines:?}")
    })
}

/// Measures how many times the host's TSC counts in a second, with a relative error of at most [`MAX_ERROR`]. This takes
/// about 10 ms, and longer if the host is busy. If the counters of the host's CPUs differ so much that the TSC seems to go back,
/// the result is 0, and Linux then measures the rate itself.
fn host_hz() -> f64 {
    let first = Reading::take();
    loop {
        sleep(Duration::from_millis(2));
        let last = Reading::take();
        let elapsed = last.time.duration_since(first.time).as_secs_f64();
        let unknown = (first.width + last.width).as_secs_f64();
        if unknown <= elapsed * MAX_ERROR {
            return last.count.saturating_sub(first.count) as f64 / elapsed;
        }
    }
}

/// The TSC at a time that is known up to `width`.
struct Reading {
    count: u64,
    time: Instant,
    width: Duration,
}

impl Reading {
    /// Reads the TSC between two readings of the clock. Of several attempts, the one in which these are closest counts, since
    /// the host may preempt this thread in between.
    fn take() -> Self {
        let attempts = (0..16).map(|_| {
            let time = Instant::now();
            // SAFETY: every processor of this architecture has the instruction, and it has no effect on memory.
            let count = unsafe { _rdtsc() };
            Self {
                count,
                time,
                width: time.elapsed(),
            }
        });
        attempts
            .min_by_key(|reading| reading.width)
            .expect("there are several attempts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let [one, other] = [host_hz(), host_hz()];
        assert!(one > 1e8, "{one} Hz");
        assert!(
            (one / other - 1.0).abs() <= 3.0 * MAX_ERROR,
            "{one} and {other} Hz"
        );
    }

    #[test]
    fn the_parameter_has_the_rate_in_khz() {
        let khz = parameter()
            .strip_prefix("tsc_early_khz=")
            .expect("the name");
        let khz: f64 = khz.parse().expect("a number");
        let measured = host_hz() / 1e3;
        assert!(
            (khz / measured - 1.0).abs() <= 3.0 * MAX_ERROR,
            "{khz} and {measured} kHz"
        );
    }
}
