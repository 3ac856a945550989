//! The sandbox carrier's lists: filters, pages, lag, events, and what they never show.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails on the spot")]

use rollcall::sim::{Config, Faults, Status, Until};
use serde_json::Value;

use crate::sandbox_carrier_desk::{ACCOUNT, Desk, FROM, PATIENCE, TO, TOKEN};

fn numbers(page: &Value) -> Vec<&str> {
    page["calls"].as_array().unwrap().iter().map(|row| row["to"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn filters_narrow_a_list_as_the_carrier_documents() {
    let desk = Desk::quick().await;
    desk.call("+12125550190", "a").await;
    desk.call("+12125550191", "b").await;
    desk.idle().await;
    desk.call("+12125550198", "c").await;
    let ringing = desk.call("+12125550196", "d").await;
    desk.sim.wait(Until::Reached(ringing, Status::Ringing), PATIENCE).await.unwrap();
    for (query, expected) in [
        ("", &["+12125550196", "+12125550198", "+12125550191", "+12125550190"][..]),
        ("?To=%2B12125550191", &["+12125550191"]),
        ("?From=%2B14155550100&Status=completed", &["+12125550190"]),
        ("?From=%2B14155550999", &[]),
        ("?Status=queued", &["+12125550198"]),
        ("?Status=ringing", &["+12125550196"]),
        ("?Status=busy", &["+12125550191"]),
        // A queued call has no start time, and so fits no filter of it.
        ("?StartTime%3E=2020-01-01", &["+12125550196", "+12125550191", "+12125550190"]),
        ("?StartTime%3E=2020-01-01T10:00:00Z&To=%2B12125550198", &[]),
        ("?StartTime%3C=2020-01-01", &[]),
        ("?StartTime=2020-01-01", &[]),
        ("?EndTime%3E=2020-01-01", &["+12125550191", "+12125550190"]),
        ("?EndTime%3C=2999-01-01", &["+12125550191", "+12125550190"]),
        ("?ParentCallSid=CA1", &[]),
    ] {
        let (status, page) = desk.get(&format!("Calls.json{query}")).await;
        assert_eq!((status, numbers(&page)), (200, expected.to_vec()), "{query}");
    }
    for query in ["?Status=initiated", "?StartTime=yesterday", "?PageSize=0", "?PageToken=x", "?EndTime=2020-01-011"] {
        assert_eq!(desk.get(&format!("Calls.json{query}")).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn pages_show_every_call_once_even_when_new_ones_arrive_between() {
    let desk = Desk::quick().await;
    for n in 0..5 {
        desk.call(&format!("+1212555000{n}"), "t").await;
    }
    let mut next = Some(format!("/2010-04-01/Accounts/{ACCOUNT}/Calls.json?From=%2B14155550100&PageSize=2"));
    let mut seen = Vec::new();
    while let Some(address) = next {
        let url = format!("{}{address}", desk.sim.base_url());
        let page: Value =
            desk.client.get(url).basic_auth(ACCOUNT, Some(TOKEN)).send().await.unwrap().json().await.unwrap();
        assert_eq!((page["page"].as_u64(), page["page_size"].as_u64()), (Some(seen.len() as u64 / 2), Some(2)));
        seen.extend(numbers(&page).into_iter().map(str::to_owned));
        assert!(seen.len() <= 5, "a page came twice: {seen:?}");
        next = page["next_page_uri"].as_str().map(str::to_owned);
        desk.call("+13125550191", "later").await;
    }
    assert_eq!(seen, ["+12125550004", "+12125550003", "+12125550002", "+12125550001", "+12125550000"]);
}

#[tokio::test]
async fn lists_and_events_lag_behind_and_a_fetch_does_not() {
    let desk = Desk::new(Config { list_lag_ms: 3_600_000, ..Config::quick() }).await;
    let sid = desk.call("+12125550190", "t1").await;
    desk.idle().await;
    let events = format!("Calls/{sid}/Events.json");
    assert_eq!(numbers(&desk.get("Calls.json").await.1).len(), 0);
    assert_eq!(desk.get(&events).await.1["events"].as_array().unwrap().len(), 0);
    assert_eq!(desk.get(&format!("Calls/{sid}.json")).await.1["status"], "completed");
    desk.sim.set_faults(Faults { list_lag_ms: Some(0), ..Faults::default() }).unwrap();
    assert_eq!(numbers(&desk.get("Calls.json?Status=completed").await.1).len(), 1);
    assert!(!desk.get(&events).await.1["events"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn events_show_our_own_create_and_rows_never_do() {
    let desk = Desk::quick().await;
    let sid = desk.call("+12125550190", "token-of-this-dial").await;
    desk.idle().await;
    let (_, events) = desk.get(&format!("Calls/{sid}/Events.json")).await;
    let parameters = &events["events"][0]["request"]["parameters"];
    assert_eq!(parameters["status_callback"], format!("{}/status/token-of-this-dial", desk.hooks));
    assert_eq!(parameters["url"], format!("{}/answer/token-of-this-dial", desk.hooks));
    assert_eq!(parameters["status_callback_event"], "initiated,ringing,answered,completed");
    for path in ["Calls.json", &format!("Calls/{sid}.json")] {
        assert!(!desk.get(path).await.1.to_string().contains("token-of-this-dial"), "{path}");
    }
}

#[tokio::test]
async fn what_does_not_exist_or_belongs_to_another_account_is_not_found() {
    let desk = Desk::quick().await;
    let sid = desk.call(TO, "t1").await;
    for path in ["Calls/CA0.json", "Calls/CA0/Events.json", "Messages.json"] {
        let (status, body) = desk.get(path).await;
        assert_eq!((status, body["code"].as_u64()), (404, Some(20404)), "{path}");
    }
    let other = "ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    let url = format!("{}/2010-04-01/Accounts/{other}/Calls/{sid}.json", desk.sim.base_url());
    let answer = desk.client.get(url).basic_auth(other, Some("x")).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let form = [("To", "+12125550190"), ("From", FROM), ("Twiml", "<Response/>")];
    assert_eq!(desk.post("Calls.json", &form).await.0, 201);
    assert_eq!(desk.post("Calls/CA0.json", &[("Status", "completed")]).await.1["code"], 20404);
}
