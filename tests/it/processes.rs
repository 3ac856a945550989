//! The real programs as processes, and the door in front of several apis.
//!
//! A process sees no variable of ours but those that its test gives it. It is killed when it is dropped.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::watch,
};

use crate::house::House;

/// Longest wait for something that must happen. It is no measurement: it ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// The programs of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Api,
    Worker,
    Calls,
}

impl Program {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Api => env!("CARGO_BIN_EXE_rollcall-api"),
            Self::Worker => env!("CARGO_BIN_EXE_rollcall-worker"),
            Self::Calls => env!("CARGO_BIN_EXE_rollcall-calls"),
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Calls => "calls",
        }
    }

    /// What it says once its stores are open.
    fn greeting(self) -> &'static str {
        match self {
            Self::Api => "[STARTUP] rollcall-api serves",
            Self::Worker => "[STARTUP] the worker takes bells",
            Self::Calls => "[STARTUP] rollcall-calls serves",
        }
    }
}

/// A running program and what it has logged.
pub(crate) struct Process {
    program: Program,
    child: Child,
    lines: watch::Receiver<Vec<String>>,
}

impl Process {
    /// Starts a program in its own role on free ports; does not wait for it.
    pub(crate) fn spawn(program: Program, args: &[String], killpoint: Option<&str>) -> Self {
        let mut command = Command::new(program.path());
        command.env_clear().env("SERVICE_ROLE", program.role());
        command.envs(killpoint.map(|wanted| ("KILLPOINT", wanted)));
        command.args(args);
        command.args(["--log-format", "json", "--admin-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0"]);
        command.args(["--calls-addr", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, lines) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                said.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        Self { program, child, lines }
    }

    /// Starts a program and waits until it has opened its stores.
    pub(crate) async fn start(program: Program, args: &[String], killpoint: Option<&str>) -> Self {
        let process = Self::spawn(program, args, killpoint);
        process.said(program.greeting()).await;
        process
    }

    /// Waits until a line contains this text, and gives it back.
    pub(crate) async fn said(&self, text: &str) -> String {
        let mut lines = self.lines.clone();
        let find = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let found = tokio::time::timeout(PATIENCE, lines.wait_for(|lines| find(lines).is_some())).await;
        match found {
            Ok(Ok(lines)) => find(&lines).unwrap(),
            Ok(Err(_)) => panic!("ended without saying `{text}`"),
            Err(_) => panic!("never said `{text}`"),
        }
    }

    /// Everything that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// An address of its greeting: `api`, `calls` or `admin`.
    pub(crate) async fn addr(&self, door: &str) -> SocketAddr {
        let line: serde_json::Value = serde_json::from_str(&self.said(self.program.greeting()).await).unwrap();
        line[door].as_str().unwrap().parse().unwrap()
    }

    /// The HTTP status of `/readyz` on its admin door.
    pub(crate) async fn readiness(&self) -> u16 {
        let url = format!("http://{}/readyz", self.addr("admin").await);
        reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().status().as_u16()
    }

    /// The process that was started.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it has ended already")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits for its end, and for the last line of its log.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        while self.lines.changed().await.is_ok() {}
        status
    }

    /// kill -9.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to stop and asserts that it came to a good end.
    pub(crate) async fn drain(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.ended().await.code(), Some(0), "{:?} did not drain", self.program);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the {:?} ---\n{}\n---", self.program, self.log());
        }
    }
}

impl House {
    /// A worker as a process.
    pub(crate) async fn worker(&self) -> Process {
        Process::start(Program::Worker, &self.args[1..], None).await
    }

    /// A worker as a process that dies or freezes at a killpoint.
    pub(crate) async fn worker_until(&self, killpoint: &str) -> Process {
        Process::start(Program::Worker, &self.args[1..], Some(killpoint)).await
    }

    /// An api as a process.
    pub(crate) async fn api(&self, killpoint: Option<&str>) -> Process {
        Process::start(Program::Api, &self.args[1..], killpoint).await
    }

    /// A calls program as a process.
    pub(crate) async fn calls(&self) -> Process {
        Process::start(Program::Calls, &self.args[1..], None).await
    }

    /// Ends the test as `close` does, draining these processes once nothing is held: until then their sweep is needed, and
    /// after that a look of theirs could hold a slot for a moment.
    pub(crate) async fn close_with(self, processes: impl IntoIterator<Item = Process>) {
        self.until("no attempt is open", || async { self.open_attempts().await == 0 }).await;
        self.until("the gate holds nobody", || async { self.ctx.gate.holders().await.unwrap().is_empty() }).await;
        for process in processes {
            process.drain().await;
        }
        self.close().await;
    }

    /// Makes carriers call this address from now on: workers and apis that are started later say so.
    pub(crate) fn call_back_at(&mut self, addr: SocketAddr) {
        let at = self.args.iter().position(|arg| arg == "--public-base-url").unwrap();
        self.args[at + 1] = format!("http://{addr}");
    }
}

/// What stands in front of several apis: each connection goes to the next one that answers.
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    behind: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Door {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, behind) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<SocketAddr>>>::default());
        let known = Arc::clone(&behind);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut turn = known.lock().unwrap();
                let choice = turn.clone();
                if !choice.is_empty() {
                    turn.rotate_left(1);
                }
                tokio::spawn(pass_on(stream, choice));
            }
        });
        Self { addr, behind }
    }

    /// Sends connections to these apis, as their greetings name them.
    pub(crate) async fn leads_to(&self, apis: &[&Process]) {
        let mut behind = Vec::new();
        for api in apis {
            behind.push(api.addr("api").await);
        }
        *self.behind.lock().unwrap() = behind;
    }
}

async fn pass_on(mut from: TcpStream, choice: Vec<SocketAddr>) {
    for addr in choice {
        if let Ok(mut to) = TcpStream::connect(addr).await {
            // A side that breaks off is what the test is about.
            let _ = copy_bidirectional(&mut from, &mut to).await;
            return;
        }
    }
}
