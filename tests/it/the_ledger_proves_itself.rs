//! An exported ledger is sound until somebody touches it, and then says where.

use std::path::{Path, PathBuf};

use rollcall::{
    ids::{BusinessId, RunId},
    sim,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    by_hand::{AUTH_TOKEN, client},
    house::{House, Options, caller_id, numbers},
    ops_harness::Printed,
};

/// A run that was dialed, and its ledger in a file.
struct Exported {
    house: House,
    business: BusinessId,
    run: RunId,
    folder: tempfile::TempDir,
    head: String,
    lines: Vec<String>,
}

impl Exported {
    async fn after_a_run_of(count: usize) -> Self {
        let house = House::open(Options { workers: 1, ..Options::default() }).await;
        let business = house.business(3).await;
        let run = house.started(business, &numbers(count)).await;
        house.until_run_is(run, "completed").await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.jsonl");
        let written = export(&house, run, &file).await;
        assert_eq!(written["attempts"], count);
        let lines = read(&file);
        Self { house, business, run, folder, head: written["head"].as_str().unwrap().to_owned(), lines }
    }

    /// Verifies these lines.
    async fn verified(&self, lines: &[String], more: &[&str]) -> Printed {
        let file = self.folder.path().join("changed.jsonl");
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        verify(&self.house, &file, more).await
    }

    /// The lines that are named, each with what is said of it, where these lines are not sound.
    async fn faults(&self, lines: &[String], more: &[&str]) -> Vec<(u64, String)> {
        let printed = self.verified(lines, more).await;
        assert_eq!(printed.code, 4, "{}{}", printed.out, printed.err);
        let verdict = printed.json();
        assert_eq!(verdict["sound"], false);
        let faults = verdict["faults"].as_array().unwrap().iter();
        faults.map(|fault| (fault["line"].as_u64().unwrap(), fault["what"].as_str().unwrap().to_owned())).collect()
    }

    /// The number of the first line of this kind, from 0.
    fn at(&self, kind: &str) -> usize {
        self.lines.iter().position(|line| line.contains(&format!(r#""kind":"{kind}""#))).unwrap()
    }
}

async fn export(house: &House, run: RunId, file: &Path) -> Value {
    let written =
        house.ops(&["ledger", "export", "--run", &run.to_string(), "--out", file.to_str().unwrap(), "--json"]).await;
    assert_eq!(written.code, 0, "{}", written.err);
    written.json()
}

async fn verify(house: &House, file: &Path, more: &[&str]) -> Printed {
    house.ops(&[&["ledger", "verify", file.to_str().unwrap(), "--json"], more].concat()).await
}

fn read(file: &PathBuf) -> Vec<String> {
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

/// The lines with their places and hashes made anew, as a forger with time would.
fn made_anew(lines: &[String]) -> Vec<String> {
    let mut prev = "0".repeat(64);
    (1..)
        .zip(lines)
        .map(|(at, line)| {
            let record = &line[..line.rfind(r#","line":"#).unwrap()];
            let text = format!(r#"{record},"line":{at},"prev":"{prev}""#);
            prev = hex::encode(Sha256::digest(&text));
            format!(r#"{text},"hash":"{prev}"}}"#)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_nobody_touched_is_sound_and_the_carrier_agrees() {
    let exported = Exported::after_a_run_of(8).await;
    let printed = exported.verified(&exported.lines, &["--carrier", "--head", &exported.head]).await;
    assert_eq!(printed.code, 0, "{}{}", printed.out, printed.err);
    let verdict = printed.json();
    assert_eq!(
        (&verdict["sound"], &verdict["attempts"], &verdict["calls_at_carrier"]),
        (&json!(true), &json!(8), &json!(8))
    );
    assert_eq!(verdict["head"], exported.head.as_str());
    let text = exported.lines.join("\n");
    assert!(!numbers(8).iter().any(|number| text.contains(number.as_str())), "numbers are masked unless asked for");
    exported.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_over_both_carriers_is_compared_with_both() {
    let shares = sim::Shares::all(sim::Outcome::Answered);
    let slow = sim::Config { shares, talk_ms: sim::Millis::exactly(400), ..sim::Config::quick() };
    let house = House::open(Options { workers: 1, sim: Some(slow), ..Options::default() }).await;
    let business = house.business(3).await;
    house.telnyx_account(business).await;
    house.carriers(business, &["twilio", "telnyx"]).await;
    let run = house.run(business, &numbers(12)).await;
    house.ctx.ring(business).await;
    house.sim.wait(sim::Until::Ended(4), std::time::Duration::from_secs(60)).await.unwrap();
    // The first carrier is left alone for the rest of the run.
    sqlx::query!(
        "UPDATE carrier_account SET hold_until = now() + interval '1 hour' WHERE business_id = $1 AND carrier = 'twilio'",
        business.0
    )
    .execute(&house.ctx.stores.pg)
    .await
    .unwrap();
    house.ctx.profiles.forget(business);
    house.until_run_is(run, "completed").await;
    let used = sqlx::query_scalar!(r#"SELECT count(DISTINCT carrier) AS "n!" FROM attempt WHERE run_id = $1"#, run.0);
    assert_eq!(used.fetch_one(&house.ctx.stores.pg).await.unwrap(), 2, "both carriers were used");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.jsonl");
    let written = export(&house, run, &file).await;
    let head = written["head"].as_str().unwrap();
    let printed = verify(&house, &file, &["--carrier", "--head", head]).await;
    let verdict = printed.json();
    assert_eq!(printed.code, 0, "{}{}", printed.out, printed.err);
    assert_eq!((&verdict["sound"], &verdict["calls_at_carrier"]), (&json!(true), &json!(12)), "{verdict}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_go_to_standard_output_with_whole_numbers_only_where_both_are_asked_for() {
    let exported = Exported::after_a_run_of(2).await;
    let printed = exported.house.ops(&["ledger", "export", "--run", &exported.run.to_string(), "--numbers"]).await;
    assert_eq!(printed.code, 0, "{}", printed.err);
    assert!(numbers(2).iter().all(|number| printed.out.contains(number.as_str())));
    assert!(printed.err.contains("2 attempts"), "{}", printed.err);
    let lines: Vec<String> = printed.out.lines().map(str::to_owned).collect();
    assert_eq!(exported.verified(&lines, &[]).await.code, 0);
    exported.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_tampering_is_named_by_its_line() {
    let exported = Exported::after_a_run_of(4).await;
    let lines = &exported.lines;
    let count = u64::try_from(lines.len()).unwrap();

    let mut edited = lines.clone();
    edited[1] = edited[1].replace(r#""slot":"#, r#""slot":1"#);
    let faults = exported.faults(&edited, &[]).await;
    assert_eq!(faults[0].0, 2);
    assert!(faults[0].1.contains("edited"), "{faults:?}");

    let mut removed = lines.clone();
    removed.remove(2);
    let faults = exported.faults(&removed, &[]).await;
    assert!(faults.iter().any(|(line, what)| *line == 3 && what.contains("removed")), "{faults:?}");

    let mut moved = lines.clone();
    moved.swap(2, 3);
    let faults = exported.faults(&moved, &[]).await;
    assert!([3, 4].iter().all(|at| faults.iter().any(|(line, _)| line == at)), "{faults:?}");

    let mut inserted = lines.clone();
    inserted.insert(3, lines[2].clone());
    let faults = exported.faults(&inserted, &[]).await;
    assert!(faults.iter().any(|(line, what)| *line == 4 && what.contains("inserted")), "{faults:?}");

    let faults = exported.faults(&lines[..lines.len() - 2], &[]).await;
    assert!(faults.iter().any(|(line, what)| *line == count - 2 && what.contains("cut off")), "{faults:?}");

    let faults = exported.faults(&lines[1..], &[]).await;
    assert!(faults.iter().any(|(line, what)| *line == 1 && what.contains("beginning")), "{faults:?}");

    let mut garbled = lines.clone();
    garbled[4] = "{}".into();
    assert!(exported.faults(&garbled, &[]).await.iter().any(|(line, _)| *line == 5));
    exported.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_made_anew_is_given_away_by_its_head_the_promises_and_the_carrier() {
    let exported = Exported::after_a_run_of(4).await;
    let last = u64::try_from(exported.lines.len()).unwrap();
    let same = made_anew(&exported.lines);
    assert_eq!(same, exported.lines, "the forger makes what the export made");

    // Another call id: only the carrier, or the head, knows better.
    let mut other = exported.lines.clone();
    let dial = exported.at("attempt");
    let known: Value = serde_json::from_str(&other[dial]).unwrap();
    let call = known["call_id"].as_str().unwrap();
    other[dial] = other[dial].replace(call, "CA00000000000000000000000000000001");
    let other = made_anew(&other);
    assert_eq!(exported.verified(&other, &[]).await.code, 0, "by itself it fits");
    let faults = exported.faults(&other, &["--head", &exported.head]).await;
    assert!(matches!(&faults[..], [(line, what)] if *line == last && what.contains("another file")), "{faults:?}");
    let faults = exported.faults(&other, &["--carrier"]).await;
    let at = u64::try_from(dial).unwrap() + 1;
    assert!(faults.iter().any(|(line, what)| *line == at && what.contains("no such call")), "{faults:?}");

    // Another outcome: the carrier has its own.
    let mut better = exported.lines.clone();
    better[dial] = better[dial].replace(r#""disposition":"answered""#, r#""disposition":"busy""#);
    let faults = exported.faults(&made_anew(&better), &["--carrier"]).await;
    assert!(faults.iter().any(|(line, what)| *line == at && what.contains("busy")), "{faults:?}");

    // An attempt with its transitions gone: the end has counted them.
    let next = (dial + 1..).find(|at| !exported.lines[*at].contains(r#""kind":"transition""#)).unwrap();
    let fewer = made_anew(&[&exported.lines[..dial], &exported.lines[next..]].concat());
    let faults = exported.faults(&fewer, &[]).await;
    assert!(
        faults.iter().all(|(line, what)| *line == u64::try_from(fewer.len()).unwrap() && what.contains("counts")),
        "{faults:?}"
    );

    // A transition gone: the attempt had more, and what follows does not begin where it should.
    let mut shorter = exported.lines.clone();
    shorter.remove(dial + 1);
    let faults = exported.faults(&made_anew(&shorter), &[]).await;
    assert!(faults.iter().any(|(line, what)| *line == at && what.contains("transitions")), "{faults:?}");

    // Two attempts of one slot at one time.
    let mut together = exported.lines.clone();
    let second = (next..).find(|at| together[*at].contains(r#""kind":"attempt""#)).unwrap();
    for name in ["slot", "intent_at", "ended_at"] {
        let theirs: Value = serde_json::from_str(&together[second]).unwrap();
        together[second] =
            together[second].replace(&format!(r#""{name}":{}"#, theirs[name]), &format!(r#""{name}":{}"#, known[name]));
    }
    let faults = exported.faults(&made_anew(&together), &[]).await;
    assert!(faults.iter().any(|(_, what)| what.contains("it had slot")), "{faults:?}");
    exported.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_no_attempt_answers_for_is_named() {
    let exported = Exported::after_a_run_of(2).await;
    let account = format!("AC{}", exported.business.0.simple());
    let url = format!("{}/2010-04-01/Accounts/{account}/Calls.json", exported.house.sim.base_url());
    let from = caller_id(exported.business);
    let to = numbers(1).remove(0);
    let form = [("To", to.as_str()), ("From", from.as_str()), ("Twiml", "<Response><Hangup/></Response>")];
    let made = client().post(url).basic_auth(account, Some(AUTH_TOKEN)).form(&form).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let file = exported.folder.path().join("later.jsonl");
    export(&exported.house, exported.run, &file).await;
    let printed = verify(&exported.house, &file, &["--carrier"]).await;
    assert_eq!(printed.code, 4, "{}{}", printed.out, printed.err);
    assert!(printed.out.contains("that no attempt answers for"), "{}", printed.out);
    exported.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_run_or_no_file_is_said_plainly() {
    let house = House::open(Options::default()).await;
    let none = house.ops(&["ledger", "export", "--run", &RunId::new().to_string()]).await;
    assert_eq!((none.code, none.out.as_str()), (1, ""));
    assert!(none.err.contains("there is no run"), "{}", none.err);
    let missing = verify(&house, Path::new("no-such-file.jsonl"), &[]).await;
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("no-such-file.jsonl"), "{}", missing.err);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stored_ledger_only_grows() {
    let exported = Exported::after_a_run_of(2).await;
    let pg = &exported.house.ctx.stores.pg;
    for tampering in [
        "UPDATE attempt SET events = ''",
        "UPDATE attempt SET events = substr(events, strpos(substr(events, 2), E'\\n') + 1)",
        "UPDATE attempt SET events = regexp_replace(events, ' ended$', ' ringing')",
        "UPDATE attempt SET events = events || events",
        "DELETE FROM attempt",
        "TRUNCATE attempt",
    ] {
        let refused = sqlx::raw_sql(tampering).execute(pg).await.unwrap_err();
        let code = refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("RC002"), "{tampering}: {refused}");
    }
    exported.house.close().await;
}
