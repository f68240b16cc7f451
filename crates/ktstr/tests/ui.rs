//! Tests of the compiler errors for invalid declarations: each is at the right place, and shows what would be valid. The files
//! have only errors of the macro, because the compiler's own texts differ from release to release. The unknown key is given to
//! `#[payload]`, which has few keys, because the error lists all keys. A unit test of `ktstr-macros` tests `#[ktstr_test]`.

#[test]
fn declarations_that_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
