//! Processes that we start, and the watchdog that ends them when nobody of us is left to do it.
//!
//! There is one way to the end, whatever happens: the pipe to the watchdog closes, and the watchdog stops what is left, the
//! last started first. A normal end, Ctrl-C, a panic and kill -9 differ only in who closes the pipe. It is a shell script
//! because a signal at the parent's death (`PR_SET_PDEATHSIG`) exists on Linux alone and needs unsafe code.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const WATCHDOG: &str = include_str!("watchdog.sh");
/// A program that does not answer after this time never will.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at something that is starting or stopping.
const LOOK: Duration = Duration::from_millis(20);
/// So much of the end of a log is shown where a program failed.
const SHOWN_LOG_LINES: usize = 12;

/// How a process is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM.
    Terminate,
    /// SIGINT: Postgres' fast shutdown, which does not wait for its clients.
    Interrupt,
    /// SIGQUIT: Postgres' immediate shutdown, which leaves a recovery to its next start.
    Quit,
}

impl Stop {
    fn signal(self) -> Signal {
        match self {
            Self::Terminate => Signal::SIGTERM,
            Self::Interrupt => Signal::SIGINT,
            Self::Quit => Signal::SIGQUIT,
        }
    }
}

/// A scratch folder and the processes that work in it. When this is dropped, all of them are ended and the folder is gone.
#[derive(Debug)]
pub struct Children {
    scratch: PathBuf,
    orders: Option<ChildStdin>,
    watchdog: Child,
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    name: &'static str,
    child: Child,
}

impl Children {
    /// Makes the scratch folder `/tmp/rollcall-…` (mode 0700) and starts the watchdog.
    ///
    /// # Errors
    /// Where /tmp cannot be written or `sh` cannot be run.
    pub fn new() -> anyhow::Result<Self> {
        let mut watchdog = Command::new("/bin/sh");
        watchdog.args(["-c", WATCHDOG, "rollcall-watchdog"]).current_dir("/").process_group(0);
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut watchdog = watchdog.spawn().context("/bin/sh cannot be run")?;
        let orders = watchdog.stdin.take();
        // The short path keeps the name of Postgres' socket below the limit of 103 bytes.
        let folder = tempfile::Builder::new()
            .prefix("rollcall-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in("/tmp")
            .context("no scratch folder can be made in /tmp")?;
        let mut children = Self { scratch: folder.keep(), orders, watchdog, running: Vec::new() };
        children.order(&format!("scratch {}", children.scratch.display()))?;
        Ok(children)
    }

    /// The folder that is removed at the end.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The file that takes what `name` prints.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("{name}.log"))
    }

    /// Starts `command` in a process group of its own, so that Ctrl-C reaches only us, and its output in its log.
    ///
    /// # Errors
    /// Where it cannot be run, or the watchdog is gone.
    pub fn spawn(&mut self, name: &'static str, mut command: Command, stop: Stop) -> anyhow::Result<()> {
        let path = self.log(name);
        let log = File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
        let program = command.get_program().display().to_string();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("{program} cannot be run"))?;
        let watch = format!("watch {} {}", child.id(), stop.signal().as_str().trim_start_matches("SIG"));
        self.running.push(Running { name, child });
        self.order(&watch)
    }

    /// Runs `command` to its end, as a child like the others.
    ///
    /// # Errors
    /// Where it cannot be run, or fails; with the end of its log.
    pub async fn run(&mut self, name: &'static str, command: Command) -> anyhow::Result<()> {
        self.spawn(name, command, Stop::Terminate)?;
        loop {
            let running = self.running.iter_mut().find(|running| running.name == name);
            let status = running.with_context(|| format!("{name} does not run"))?.child.try_wait()?;
            if let Some(status) = status {
                self.reap()?;
                ensure!(status.success(), "{name} failed ({status}).\n{}", self.log_end(name));
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// True while `name` runs.
    ///
    /// # Errors
    /// Where the operating system does not say.
    pub fn runs(&mut self, name: &str) -> io::Result<bool> {
        self.reap()?;
        Ok(self.running.iter().any(|running| running.name == name))
    }

    /// The process id of `name`, while it runs.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.running.iter().find(|running| running.name == name).map(|running| running.child.id())
    }

    /// Ends `name` without a warning (SIGKILL), as an out-of-memory killer would.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let running = self.running.iter_mut().find(|running| running.name == name);
        let running = running.with_context(|| format!("{name} does not run"))?;
        running.child.kill()?;
        running.child.wait()?;
        Ok(self.reap()?)
    }

    /// Asks `name` to stop and waits until it has ended.
    ///
    /// # Errors
    /// Where it does not run, or has not ended within a minute.
    pub async fn stop(&mut self, name: &str, stop: Stop) -> anyhow::Result<()> {
        let pid = self.pid(name).with_context(|| format!("{name} does not run"))?;
        kill(Pid::from_raw(i32::try_from(pid)?), stop.signal())?;
        let begun = Instant::now();
        while self.runs(name)? {
            if begun.elapsed() > START_LIMIT {
                bail!("{name} does not stop");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until `answers` says true, while `name` runs.
    ///
    /// # Errors
    /// Where `name` ends before, or says nothing for a minute; with the end of its log.
    pub async fn wait_for(&mut self, name: &str, answers: impl AsyncFn() -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            if !self.runs(name)? {
                bail!("{name} ended before it answered.\n{}", self.log_end(name));
            }
            if answers().await {
                return Ok(());
            }
            if begun.elapsed() > START_LIMIT {
                bail!("{name} has not answered for {} s.\n{}", START_LIMIT.as_secs(), self.log_end(name));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The last lines that `name` printed, for a person.
    #[must_use]
    pub fn log_end(&self, name: &str) -> String {
        let path = self.log(name);
        let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(SHOWN_LOG_LINES);
        lines
            .get(from..)
            .map(|end| end.join("\n"))
            .filter(|end| !end.is_empty())
            .unwrap_or("It printed nothing.".into())
    }

    /// Ends everything, the last started first, and removes the scratch folder. Dropping does the same on this thread.
    ///
    /// # Errors
    /// Where the runtime itself is stopping.
    pub async fn end(self) -> anyhow::Result<()> {
        Ok(tokio::task::spawn_blocking(move || drop(self)).await?)
    }

    fn order(&mut self, order: &str) -> anyhow::Result<()> {
        let orders = self.orders.as_mut().context("the watchdog has been dismissed")?;
        writeln!(orders, "{order}").context("the watchdog is gone")
    }

    /// Takes the ended ones off the lists, ours and the watchdog's, whose process ids may soon be someone else's.
    fn reap(&mut self) -> io::Result<()> {
        let mut ended = Vec::new();
        for running in &mut self.running {
            if running.child.try_wait()?.is_some() {
                ended.push(running.child.id());
            }
        }
        self.running.retain(|running| !ended.contains(&running.child.id()));
        for pid in ended {
            // A watchdog that is gone has nothing to forget.
            let _ = self.order(&format!("forget {pid}"));
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.orders = None;
        // Failing to wait leaves the watchdog at its work; it needs nobody.
        let _ = self.watchdog.wait();
        for running in &mut self.running {
            let _ = running.child.try_wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(pid: u32) -> bool {
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), None).is_ok()
    }

    fn long_lived() -> Command {
        let mut command = Command::new("tail");
        command.args(["-f", "/dev/null"]);
        command
    }

    #[test]
    fn dropping_ends_every_child_and_removes_the_folder() {
        let mut children = Children::new().unwrap();
        children.spawn("one", long_lived(), Stop::Terminate).unwrap();
        children.spawn("two", long_lived(), Stop::Interrupt).unwrap();
        let (pids, scratch) =
            ([children.pid("one").unwrap(), children.pid("two").unwrap()], children.scratch().to_owned());
        assert!(scratch.is_dir() && pids.into_iter().all(lives));
        drop(children);
        assert!(!scratch.exists() && !pids.into_iter().any(lives));
    }

    #[test]
    fn the_last_started_is_stopped_first() {
        let mut children = Children::new().unwrap();
        let order = tempfile::NamedTempFile::new().unwrap();
        for name in ["first", "second", "third"] {
            let mut command = Command::new("/bin/sh");
            let script = format!(
                "trap 'echo {name} >>{}; exit' TERM; : >ready-{name}; while :; do sleep 0.02; done",
                order.path().display()
            );
            command.args(["-c", &script]).current_dir(children.scratch());
            children.spawn(name, command, Stop::Terminate).unwrap();
            // Spin, not sleep: the trap is set a few ms after the start.
            while !children.scratch().join(format!("ready-{name}")).exists() {
                std::thread::yield_now();
            }
        }
        drop(children);
        assert_eq!(fs::read_to_string(order.path()).unwrap(), "third\nsecond\nfirst\n");
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let left = std::sync::Mutex::new(None);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut children = Children::new().unwrap();
            children.spawn("one", long_lived(), Stop::Terminate).unwrap();
            *left.lock().unwrap() = Some((children.pid("one").unwrap(), children.scratch().to_owned()));
            panic!("on purpose");
        }));
        let (pid, scratch) = left.into_inner().unwrap().unwrap();
        assert!(panicked.is_err() && !lives(pid) && !scratch.exists());
    }

    #[test]
    fn a_killed_child_is_forgotten_and_its_name_can_be_used_again() {
        let mut children = Children::new().unwrap();
        children.spawn("one", long_lived(), Stop::Terminate).unwrap();
        let first = children.pid("one").unwrap();
        children.kill("one").unwrap();
        assert!(!children.runs("one").unwrap() && !lives(first));
        children.spawn("one", long_lived(), Stop::Terminate).unwrap();
        assert!(children.runs("one").unwrap());
    }

    #[tokio::test]
    async fn a_child_that_ends_early_is_told_with_the_end_of_its_log() {
        let mut children = Children::new().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo the port is taken >&2; exit 3"]);
        children.spawn("one", command, Stop::Terminate).unwrap();
        let told = children.wait_for("one", async || false).await.unwrap_err().to_string();
        assert!(told.contains("one ended before it answered") && told.contains("the port is taken"), "{told}");
    }
}
