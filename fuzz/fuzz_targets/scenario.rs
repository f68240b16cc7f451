//! Scenarios as TOML: any text gives a scenario or an error with its line, and a scenario is the same after it was printed and
//! read again.
#![no_main]

use std::sync::LazyLock;

use ktstr_fuzz::{Draw, bounded};
use ktstr_scenario::text::{Scenario, ScenarioFile, TextError};
use ktstr_scenario::topology::{TestTopology, Topology};
use libfuzzer_sys::fuzz_target;

// Generates random scenarios that use the whole language. A number selects the scenario.
#[allow(dead_code)]
#[path = "../../crates/ktstr-scenario/tests/random/mod.rs"]
mod random;

static MACHINE: LazyLock<TestTopology> =
    LazyLock::new(|| TestTopology::from_vm_topology(&Topology::new(2, 4, 2, 2)));

fn placed(error: &TextError, text: &str) {
    let lines = 1 + text.matches('\n').count();
    assert!((1..=lines).contains(&error.line), "{error}");
    assert!(error.to_string().len() < 8 * text.len() + 65_536);
}

fn run(text: &str) {
    match Scenario::from_text(text) {
        Ok(scenario) => {
            let _ = scenario.validate(&MACHINE);
            if let Ok(printed) = scenario.to_text() {
                assert_eq!(Scenario::from_text(&printed), Ok(scenario), "{printed}");
            }
        }
        Err(error) => placed(&error, text),
    }
    // `ScenarioFile::from_text` leaks the declarations in the sections `payload` and `staged_scheduler`. Over ten million inputs
    // the leaked memory would add up, so a text that may contain such a section is not read as a file.
    if text.contains("payload") || text.contains("staged") {
        return;
    }
    match ScenarioFile::from_text(text) {
        Ok(file) => {
            if let Err(error) = file.validate(&MACHINE) {
                placed(&error, text);
            }
            if let Ok(printed) = file.to_text() {
                let again = ScenarioFile::from_text(&printed).expect("what was printed");
                assert_eq!(again.to_text().as_ref(), Ok(&printed));
            }
        }
        Err(error) => placed(&error, text),
    }
}

/// Draws a scenario, and damages its text by lines and by words.
fn drawn(draw: &mut Draw<'_>) -> String {
    let scenario = random::any(draw.u64());
    let text = scenario.to_text().expect("a scenario without functions");
    // `random::any` also draws cgroups and workers whose own values are invalid. `Scenario::from_text` refuses such texts.
    if let Ok(read) = Scenario::from_text(&text) {
        assert_eq!(read, scenario, "{text}");
    }
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    while !draw.is_empty() && !lines.is_empty() && lines.len() < 2000 {
        let (at, other) = (draw.index(lines.len()), draw.index(lines.len()));
        match draw.u8() % 8 {
            0 => {
                lines.remove(at);
            }
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            3 => lines[at] = draw.text(),
            // The key gets the value of another key.
            4 => {
                let value = lines[other]
                    .split_once(" = ")
                    .map(|(_, value)| value.to_owned());
                if let (Some((key, _)), Some(value)) = (lines[at].split_once(" = "), value) {
                    lines[at] = format!("{key} = {value}");
                }
            }
            5 => {
                if let Some((key, _)) = lines[at].split_once(" = ") {
                    lines[at] = format!("{key} = {}", draw.number().cast_signed());
                }
            }
            6 => {
                if let Some((key, _)) = lines[at].split_once(" = ") {
                    lines[at] = format!("{key} = {:e}", f64::from_bits(draw.u64()));
                }
            }
            _ => {
                let line = &mut lines[at];
                let at = line.floor_char_boundary(draw.index(line.len() + 1));
                let end =
                    line.floor_char_boundary((at + usize::from(draw.u8() % 8)).min(line.len()));
                line.replace_range(at..end, &draw.text());
            }
        }
    }
    lines.join("\n")
}

fuzz_target!(|data: &[u8]| {
    let mut draw = Draw::new(data);
    // An input that starts with an ASCII character is read as a text; any other input draws a scenario.
    let text = match draw.u8() {
        128.. => drawn(&mut draw),
        _ => String::from_utf8_lossy(data).into_owned(),
    };
    bounded(|| run(&text));
});
