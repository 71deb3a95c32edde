//! Developer tasks: tidy, layers, conformance tables.
fn main() {}
