//! A program of Rollcall.
fn main() {}
