use ktstr::prelude::*;

#[derive(Payload)]
#[payload(binary = "fio", outptu = Json)]
struct Misspelt;

fn main() {}
