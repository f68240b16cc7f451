//! The scheduler of the demo, which `cargo install cargo-ktstr` installs next to `cargo-ktstr`. It is a separate program, so
//! that `cargo-ktstr` links no code of the scheduler. Like scx-ktstr, this program is GPL-2.0-only.

fn main() -> std::process::ExitCode {
    scx_ktstr::main()
}
