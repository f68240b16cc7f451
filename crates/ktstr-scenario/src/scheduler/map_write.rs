//! A value that the host writes into a variable of the scheduler under test before the workload begins.

/// A write of four bytes into a variable of the scheduler.
///
/// ```
/// use ktstr_scenario::scheduler::BpfMapWrite;
///
/// const STALL: BpfMapWrite = BpfMapWrite::new(".bss", "stall", 1);
/// assert_eq!(STALL.value(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfMapWrite {
    map: &'static str,
    field: &'static str,
    value: u32,
}

impl BpfMapWrite {
    /// Declares that the host writes `value` to `field` in the scheduler's first array map whose name ends with `map`, such as
    /// `.bss`.
    ///
    /// # Panics
    /// If `map` or `field` is empty; in a `const` this is a compile error.
    pub const fn new(map: &'static str, field: &'static str, value: u32) -> Self {
        assert!(
            !map.is_empty(),
            "BpfMapWrite: the suffix of the map's name is empty"
        );
        assert!(
            !field.is_empty(),
            "BpfMapWrite: the name of the variable is empty"
        );
        Self { map, field, value }
    }

    /// Returns the suffix of the map's name.
    pub const fn map(&self) -> &'static str {
        self.map
    }

    /// Returns the name of the variable.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// Returns the value that is written.
    pub const fn value(&self) -> u32 {
        self.value
    }
}
