//! How the programs of a release are linked.
//!
//! The list of the addresses that are corrected when a program starts is over a megabyte, all of it read into memory then. Packed
//! (RELR) it is some kilobytes. The C library that starts the program must know of that, which glibc does from 2.36 on (its NEWS for
//! 2.36); with an older one, or where a program is built for another machine, all stays as it is.

use std::{env, process::Command};

const KNOWS_PACKED: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var_os(name).is_some_and(|is| is == value);
    let here = env::var_os("HOST") == env::var_os("TARGET");
    let glibc_here = here && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is("PROFILE", "release") && glibc_here && glibc().is_some_and(|version| version >= KNOWS_PACKED) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library, as getconf(1) tells it: `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?.stdout;
    let (major, minor) = std::str::from_utf8(&told).ok()?.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
