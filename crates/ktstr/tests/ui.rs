//! What the compiler says of a declaration that makes no sense: at the right place, and with what
//! would make sense. Only the macro's own words: those of the compiler differ from one release to
//! the next.

#[test]
fn declarations_that_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
