//! The promises that a configuration file can release a scheduler from, by their names in the file.

use ktstr::test_support::{Promise, Promises};

/// Every promise that a scheduler can be released from in `ktstr.toml`.
pub const PROMISES: [Promise; 8] = [
    Promise::Service,
    Promise::Fairness,
    Promise::Nice,
    Promise::CpuWeight,
    Promise::WorkConservation,
    Promise::WakeUps,
    Promise::Slices,
    Promise::AllTasks,
];

/// Returns the name of a promise in `ktstr.toml`.
pub const fn key(promise: Promise) -> &'static str {
    match promise {
        Promise::Service => "service",
        Promise::Fairness => "fairness",
        Promise::Nice => "nice",
        Promise::CpuWeight => "cpu_weight",
        Promise::WorkConservation => "work_conservation",
        Promise::WakeUps => "wake_ups",
        Promise::Slices => "slices",
        Promise::AllTasks => "all_tasks",
    }
}

/// Returns all promises except those with these names in `ktstr.toml`. Unknown names are ignored, because `check/config.rs` has
/// refused them already.
pub fn without(words: &[String]) -> Promises {
    PROMISES
        .into_iter()
        .filter(|promise| words.iter().any(|word| word == key(*promise)))
        .fold(Promises::ALL, Promises::without)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_removes_one_promise() {
        for promise in PROMISES {
            let left = without(&[key(promise).to_owned()]);
            for other in PROMISES {
                assert_eq!(left.holds(other), other != promise, "{other:?}");
            }
        }
        assert_eq!(without(&[]), Promises::ALL);
    }
}
