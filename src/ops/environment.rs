//! Commands that see nothing of our environment but what any program needs.

use std::{ffi::OsStr, process::Command};

/// Not settings, but what the operating system needs to find programs and folders.
const KEPT: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// `program` with PATH, HOME and TMPDIR, in the C locale, and without any other variable that was exported here.
/// (Postgres on macOS does not start without a locale in its environment.)
#[must_use]
pub(in crate::ops) fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C");
    command.envs(KEPT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_sees_no_exported_setting() {
        // Cargo exports CARGO_MANIFEST_DIR to tests; it stands for whatever else a person has exported.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let seen = clean_command("env").output().unwrap();
        let seen = String::from_utf8(seen.stdout).unwrap();
        let mut names: Vec<&str> = seen.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        names.retain(|name| !KEPT.contains(name));
        assert_eq!(names, ["LC_ALL"]);
    }
}
