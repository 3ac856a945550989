//! The command line as a process, against the installation of a test.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::house::House;

/// What a command printed, and its exit code.
pub(crate) struct Printed {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Printed {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }

    /// The doctor's check of this name.
    pub(crate) fn check(&self, name: &str) -> Value {
        let answer = self.json();
        let check = answer["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).cloned();
        check.unwrap_or_else(|| panic!("no check {name}: {answer:#}"))
    }

    /// What the cleanup found of this kind.
    pub(crate) fn found(&self, kind: &str) -> Vec<Value> {
        let answer = self.json();
        answer["findings"].as_array().unwrap().iter().filter(|finding| finding["kind"] == kind).cloned().collect()
    }
}

impl House {
    /// Runs `rollcall-ops` with the settings of this installation behind the command.
    pub(crate) async fn ops(&self, command: &[&str]) -> Printed {
        let settings: Vec<&str> = self.args[1..].iter().map(String::as_str).collect();
        run(&[command, &settings].concat(), None).await
    }
}

/// Runs `rollcall-ops` with these arguments alone; `input` is its standard input.
pub(crate) async fn run(args: &[&str], input: Option<&str>) -> Printed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall-ops"));
    command.env_clear().args(args).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.unwrap_or_default().to_owned();
    tokio::spawn(async move {
        // A command that reads nothing may be gone already.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
    });
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Printed { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}
