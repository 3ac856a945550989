//! Finds the programs of Postgres and Redis that a machine has.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::ops::environment::clean_command;

/// The oldest Postgres that the schema runs on.
const OLDEST_POSTGRES: u32 = 14;
/// The oldest Redis whose commands are enough; every Valkey is newer.
const OLDEST_REDIS: u32 = 6;

/// Where Postgres keeps its programs besides PATH: Debian, the PostgreSQL project's RPMs, Homebrew (Apple, Intel, Linux).
/// The last folder but one carries the version and may be anything.
const POSTGRES_ROOTS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql"),
];
/// Where Homebrew keeps the programs of Redis and Valkey when they are not linked into PATH.
const REDIS_FOLDERS: [&str; 6] = [
    "/opt/homebrew/opt/redis/bin",
    "/opt/homebrew/opt/valkey/bin",
    "/usr/local/opt/redis/bin",
    "/usr/local/opt/valkey/bin",
    "/home/linuxbrew/.linuxbrew/opt/redis/bin",
    "/home/linuxbrew/.linuxbrew/opt/valkey/bin",
];

/// What private stores are started from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    /// The folder of `postgres` and `initdb`.
    pub(super) postgres: PathBuf,
    /// `redis-server` or `valkey-server`.
    pub(super) redis: PathBuf,
}

impl Binaries {
    /// Those in PATH where they are new enough, else the newest of the usual folders.
    ///
    /// # Errors
    /// Where there is none, with what is needed.
    pub(super) fn find() -> anyhow::Result<Self> {
        let path: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
        let installed: Vec<PathBuf> =
            POSTGRES_ROOTS.iter().flat_map(|(root, prefix)| bin_folders(root, prefix)).collect();
        let postgres = first_or_newest(&path, &installed, postgres_version, OLDEST_POSTGRES)
            .context("Postgres 14 or later was not found; scripts/packages.sh finds or installs it")?;
        let folders: Vec<PathBuf> = REDIS_FOLDERS.iter().map(PathBuf::from).collect();
        let servers = |folders: &[PathBuf]| -> Vec<PathBuf> {
            folders.iter().flat_map(|folder| [folder.join("redis-server"), folder.join("valkey-server")]).collect()
        };
        let redis = first_or_newest(&servers(&path), &servers(&folders), redis_version, OLDEST_REDIS)
            .context("Redis 6.0 or later, or Valkey, was not found; scripts/packages.sh finds or installs it")?;
        Ok(Self { postgres, redis })
    }
}

/// `<root>/<prefix>…/bin`.
fn bin_folders(root: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join("bin"))
        .collect()
}

fn first_or_newest(
    path: &[PathBuf],
    installed: &[PathBuf],
    version: impl Fn(&Path) -> Option<u32>,
    oldest: u32,
) -> Option<PathBuf> {
    let good = |place: &&PathBuf| version(place).is_some_and(|found| found >= oldest);
    let newest = || installed.iter().filter(good).max_by_key(|place| version(place));
    path.iter().find(good).or_else(newest).cloned()
}

/// The major version of the Postgres in `folder`, where it can also make a cluster.
fn postgres_version(folder: &Path) -> Option<u32> {
    if !folder.join("initdb").is_file() {
        return None;
    }
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    leading_number(output_of(&folder.join("postgres"))?.split(") ").nth(1)?)
}

/// The major version of a Redis or Valkey server.
fn redis_version(server: &Path) -> Option<u32> {
    // "Redis server v=7.0.15 sha=00000000:0 …"
    leading_number(output_of(server)?.split("v=").nth(1)?)
}

fn output_of(program: &Path) -> Option<String> {
    if !program.is_file() {
        return None;
    }
    let output = clean_command(program).arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn leading_number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(path: &Path, says: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn postgres(folder: &Path, version: &str) -> PathBuf {
        program(&folder.join("bin/postgres"), &format!("postgres (PostgreSQL) {version}"));
        program(&folder.join("bin/initdb"), "");
        folder.join("bin")
    }

    #[test]
    fn the_newest_installed_postgres_is_taken_unless_path_has_one_that_is_new_enough() {
        let root = tempfile::tempdir().unwrap();
        let installed: Vec<PathBuf> = ["13.9", "9.6", "17.2 (Debian)", "16.4"]
            .map(|version| postgres(&root.path().join(version), version))
            .into();
        let find = |path: &[PathBuf]| first_or_newest(path, &installed, postgres_version, OLDEST_POSTGRES);
        assert_eq!(find(&[]), Some(installed[2].clone()));
        let old = postgres(&root.path().join("old"), "12.1");
        assert_eq!(find(std::slice::from_ref(&old)), Some(installed[2].clone()));
        let own = postgres(&root.path().join("own"), "14beta2");
        assert_eq!(find(&[old, own.clone()]), Some(own));
    }

    #[test]
    fn a_server_without_initdb_is_no_postgres_for_us() {
        let root = tempfile::tempdir().unwrap();
        program(&root.path().join("postgres"), "postgres (PostgreSQL) 17.2");
        assert_eq!(postgres_version(root.path()), None);
    }

    #[test]
    fn redis_and_valkey_tell_their_versions() {
        let root = tempfile::tempdir().unwrap();
        for (says, version) in [
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c", Some(7)),
            ("Valkey server v=8.1.0 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", Some(8)),
            ("something else", None),
        ] {
            let server = root.path().join("server");
            program(&server, says);
            assert_eq!(redis_version(&server), version, "{says}");
        }
    }
}
