//! The `revolve` binary.
fn main() {}
