use ktstr::prelude::*;

#[ktstr_test(duration_s = 1, num_snapshots = 8)]
fn eight_in_a_second(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
