//! The scheduler of the demo, which `cargo install cargo-ktstr` installs next to `cargo-ktstr`: a separate program, so that
//! `cargo-ktstr` links none of it. Like scx-ktstr, it is GPL-2.0-only.

fn main() -> std::process::ExitCode {
    scx_ktstr::main()
}
