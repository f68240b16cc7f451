use ktstr::prelude::*;

#[ktstr_test]
fn without_a_context() -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
