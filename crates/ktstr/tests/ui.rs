//! Tests of the compiler errors for invalid declarations: each is at the right place, and shows what would be valid. The files
//! have only errors of the macro, because the compiler's own texts differ from release to release. The unknown key is one of a
//! macro with few keys: the error for `#[ktstr_test]` lists all of its keys, and a unit test of `ktstr-macros` compares it.

#[test]
fn declarations_that_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
