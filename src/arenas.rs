//! How many heaps the allocator keeps.
//!
//! Invariant: a program of an installation has at most two, however it was started.
//!
//! glibc's malloc gives each new thread a heap ("arena") of its own, up to eight for each core of the machine, and what was freed in one
//! serves no other (mallopt(3), `M_ARENA_MAX`). With the threads of a runtime, and those that it starts for files, that was a
//! sixth of the memory of api and worker. Two cost no time that could be measured (docs/performance.md).
//! Not here: the memory limits of containers (docker-compose.yml).

use std::{
    env,
    os::unix::process::CommandExt,
    process::{self, Command},
};

/// The environment variable that glibc reads (mallopt(3)).
const SETTING: &str = "MALLOC_ARENA_MAX";
/// Heaps of a program.
const MOST: &str = "2";
/// Says that this was tried: glibc takes its own variable away from a program with privileges of its file.
const TRIED: &str = "ROLLCALL_ARENAS";

/// Starts this program once more, in the same process, with few heaps; returns where that was done, where somebody has chosen another
/// number, and where it cannot be done. To be called before anything is opened.
///
/// glibc reads its variable when a program starts. Later it could only be told by unsafe code, which is forbidden here.
pub fn keep_few() {
    let glibc = cfg!(all(target_os = "linux", target_env = "gnu"));
    if !glibc || env::var_os(SETTING).is_some() || env::var_os(TRIED).is_some() {
        return;
    }
    let mut args = env::args_os();
    let (Ok(program), Some(name)) = (env::current_exe(), args.next()) else { return };
    let why =
        Command::new(program).arg0(name).args(args).env(SETTING, MOST).env(TRIED, process::id().to_string()).exec();
    eprintln!("[STARTUP] more memory than needed: {SETTING}={MOST} could not be set ({why})");
}
