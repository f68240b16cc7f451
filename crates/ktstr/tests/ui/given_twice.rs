use ktstr::prelude::*;

#[ktstr_test(llcs = 1, cores = 2, llcs = 2)]
fn twice(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
