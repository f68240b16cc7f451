//! Workload files of rt-app: any text gives a scenario or an error with its line, and a scenario is the same after it was
//! printed and read again.
#![no_main]

use std::sync::LazyLock;

use ktstr_fuzz::bounded;
use ktstr_scenario::text::Scenario;
use ktstr_scenario::topology::{TestTopology, Topology};
use libfuzzer_sys::fuzz_target;

static MACHINE: LazyLock<TestTopology> =
    LazyLock::new(|| TestTopology::from_vm_topology(&Topology::new(1, 1, 8, 1)));

fn run(text: &str) {
    let lines = 1 + text.matches('\n').count();
    match Scenario::from_rt_app(text) {
        Ok(file) => {
            assert!(file.cpus >= 1);
            for note in &file.notes {
                assert!((1..=lines).contains(&note.line), "{note}");
            }
            let _ = file.scenario.validate(&MACHINE);
            if let Ok(printed) = file.scenario.to_text() {
                assert_eq!(
                    Scenario::from_text(&printed),
                    Ok(file.scenario),
                    "{printed}"
                );
            }
        }
        Err(error) => assert!((1..=lines).contains(&error.line), "{error}"),
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        bounded(|| run(text));
    }
});
