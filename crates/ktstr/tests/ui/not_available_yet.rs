use ktstr::prelude::*;

#[ktstr_test(networks = [NIC])]
fn later(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
