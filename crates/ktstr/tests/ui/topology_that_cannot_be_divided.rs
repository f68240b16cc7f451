use ktstr::prelude::*;

#[ktstr_test(numa_nodes = 2, llcs = 5)]
fn five_llcs_on_two_nodes(_ctx: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
