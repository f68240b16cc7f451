use ktstr::prelude::*;

#[ktstr_test(llcs = 1, duration = 5)]
fn misspelt(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
