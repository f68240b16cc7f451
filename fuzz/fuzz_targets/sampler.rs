//! The samples of the monitor and the reader of a scheduler's exit, on a guest whose memory is damaged.
#![no_main]

use ktstr_fuzz::{Draw, Guest, Noted, Paged, Recording, bounded};
use ktstr_introspect::kernel::KernelView;
use ktstr_introspect::sampler::{ExitReader, Sampler};
use libfuzzer_sys::fuzz_target;

fn run(guest: &Guest, draw: &mut Draw<'_>) {
    let recording = &guest.recording;
    let running = draw.flag();
    // Whether the memory is already damaged when the layout is determined.
    let early = draw.flag();
    let (symbols, btf) = (&recording.symbols, &recording.btf);
    let whole = KernelView::new(&recording.image, symbols, btf).expect("a recording");
    guest.damaged(draw, |image| {
        let image = &Paged(image);
        let (sampler, exit) = if early {
            let Ok(view) = KernelView::new(image, symbols, btf) else {
                return;
            };
            (Sampler::new(&view), ExitReader::new(&view))
        } else {
            (Sampler::new(&whole), ExitReader::new(&whole))
        };
        if let Ok(mut sampler) = sampler {
            for _ in 0..2 {
                if let Ok(sample) = sampler.sample(image, running) {
                    assert!(sample.cpus.len() <= 1024);
                }
            }
        }
        if let Ok(mut exit) = exit {
            for _ in 0..3 {
                let _ = exit.look(image, btf, symbols);
            }
        }
    });
}

/// Reads what a sample needs.
fn sampled(image: &Noted<'_>, recording: &Recording) {
    let view = KernelView::new(image, &recording.symbols, &recording.btf).expect("a recording");
    let mut sampler = Sampler::new(&view).expect("a recording");
    let sample = sampler.sample(image, false).expect("a recording");
    assert!(sample.cpus.iter().any(|cpu| cpu.waiting.is_some()));
    // One of the two recordings lacks what the reader of exits needs.
    if let Ok(mut exit) = ExitReader::new(&view) {
        for _ in 0..2 {
            let _ = exit.look(image, &recording.btf, &recording.symbols);
        }
    }
}

thread_local! {
    static GUESTS: [Guest; 2] =
        [Guest::busy().only_what(sampled), Guest::with_maps().only_what(sampled)];
}

fuzz_target!(|data: &[u8]| {
    GUESTS.with(|guests| {
        let mut draw = Draw::new(data);
        let guest = &guests[draw.index(guests.len())];
        bounded(|| run(guest, &mut draw));
    });
});
