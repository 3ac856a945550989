//! Private stores outlive nobody: also a parent that is killed takes Postgres and Redis with it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use sqlx::{Connection, PgConnection, Row};

#[tokio::test]
async fn a_killed_parent_leaves_neither_a_store_nor_a_folder() {
    // The command says where its stores are and then waits for the end of its input.
    let script = "echo $DATABASE_URL; echo $REDIS_URL; exec cat";
    let mut parent = Command::new(env!("CARGO_BIN_EXE_rollcall-ops"))
        .args(["with-stores", "--", "/bin/sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said: Vec<String> = BufReader::new(parent.stdout.take().unwrap()).lines().take(2).map(Result::unwrap).collect();
    let mut connection = PgConnection::connect(&said[0]).await.unwrap();
    let row = sqlx::raw_sql("SHOW data_directory").fetch_one(&mut connection).await.unwrap();
    let data: String = row.get(0);
    let scratch = Path::new(&data).parent().unwrap();
    assert!(scratch.starts_with("/tmp") && scratch.is_dir());

    parent.kill().unwrap();
    parent.wait().unwrap();
    drop(parent.stdin.take());

    // The folder goes last, when both stores have ended.
    while scratch.exists() {
        std::thread::yield_now();
    }
    for url in &said {
        let address = url.rsplit_once('@').map_or(url.trim_start_matches("redis://"), |(_, rest)| rest);
        let address = address.split('/').next().unwrap();
        assert!(std::net::TcpStream::connect(address).is_err(), "{address} still answers");
    }
}
