use ktstr::prelude::*;

#[ktstr_test(disk = DISK)]
fn later(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
