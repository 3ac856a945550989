//! A time at which somebody is to be called again is agreed on only as far as the rules will keep it, and the agent is told when that is.

use chrono::{DateTime, Datelike, Days, SecondsFormat, TimeDelta, Utc, Weekday};
use rollcall::{
    ids::{BusinessId, RunId},
    sim::{Answer, Call, Callee, Then},
};
use serde_json::{Value, json};

use crate::{
    database,
    house::{House, Options, numbers},
    voice_house::script,
};

/// A house in which everybody who is called wants to be called again.
struct Asked {
    house: House,
    media: crate::voice_house::Media,
    business: BusinessId,
}

impl Asked {
    async fn open() -> Self {
        let house = House::open(Options { workers: 1, ..Options::default() }).await;
        let (media, business) = (house.media().await, house.business(1).await);
        let lines = script(&["Call {tag} again.", "Goodbye now."]);
        house.sim.set_callees(vec![Callee { lines, then: Then::Stays, ..Callee::default() }]);
        Self { house, media, business }
    }

    /// What the agent is told who agrees on this time with the number `nth` in a run with these terms, what is kept of it, and the run.
    async fn agrees(
        &self,
        nth: usize,
        at: DateTime<Utc>,
        (window, end_at): (Option<Value>, Option<DateTime<Utc>>),
    ) -> (Value, RunId) {
        let arguments = json!({"at": at.to_rfc3339_opts(SecondsFormat::Secs, true)});
        let calls = Some(Call { name: "agree_time".into(), arguments });
        self.house.sim.set_answers(vec![Answer { hears: Some("again".into()), calls, ..Answer::default() }]);
        let tools = json!([{"type": "end_call"}, {"type": "agree_time"}]);
        let agent = self.house.agent(self.business, json!({"greeting": "Hello.", "tools": tools})).await;
        let run = self.house.run(self.business, &numbers(9)[nth..=nth]).await;
        sqlx::query!(
            "UPDATE run SET calling_window = $2, end_at = $3, window_version = window_version + ($2::jsonb IS NOT NULL)::int WHERE run_id = $1",
            run.0,
            window,
            end_at
        )
        .execute(&self.house.ctx.stores.pg)
        .await
        .unwrap();
        self.house.talks_in(agent, run).await;
        self.house.ctx.profiles.forget(self.business);
        self.house.ctx.ring(self.business).await;
        self.house.until("it was talked about", || async { self.told(run).await.is_some() }).await;
        (self.told(run).await.unwrap(), run)
    }

    /// What the tool came to in the last call of a run, once that call is over.
    async fn told(&self, run: RunId) -> Option<Value> {
        let transcript = sqlx::query_scalar!(
            "SELECT transcript FROM conversation JOIN attempt a USING (attempt_id) WHERE a.run_id = $1 AND NOT a.open",
            run.0
        );
        let transcript = transcript.fetch_optional(&self.house.ctx.stores.pg).await.unwrap()?;
        let tool = transcript.as_array()?.iter().find(|one| one["tool"]["name"] == "agree_time")?;
        Some(tool["tool"]["output"].clone())
    }

    /// When the one job of a run is dialed again; none where it is not.
    async fn next_at(&self, run: RunId) -> Option<DateTime<Utc>> {
        let next = sqlx::query_scalar!("SELECT next_at FROM job WHERE run_id = $1", run.0);
        next.fetch_one(&self.house.ctx.stores.pg).await.unwrap()
    }

    async fn close(self) {
        self.media.close().await;
        self.house.close().await;
    }
}

/// All days but this one, from its first minute to its last.
fn all_but(closed: Weekday) -> Value {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let open: Vec<_> = days
        .into_iter()
        .enumerate()
        .filter(|(day, _)| *day != closed.num_days_from_monday() as usize)
        .map(|(_, day)| day)
        .collect();
    json!({"hours": [{"days": open, "from": "00:00", "to": "24:00"}], "zone": "UTC"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "any time some days from now will do")]
async fn the_agent_is_told_when_it_will_really_be_or_why_it_will_not() {
    let asked = Asked::open().await;
    let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).unwrap();
    let noon = (now + Days::new(2)).date_naive().and_hms_opt(12, 0, 0).unwrap().and_utc();
    let window = all_but(noon.weekday());
    let (told, run) = asked.agrees(0, noon, (Some(window.clone()), None)).await;
    let opens = noon + TimeDelta::hours(12);
    let will: DateTime<Utc> = told["at"].as_str().unwrap_or_else(|| panic!("{told}")).parse().unwrap();
    assert_eq!((&told["ok"], will, asked.next_at(run).await), (&json!(true), opens, Some(opens)), "{told}");

    let (told, run) = asked.agrees(1, noon, (None, None)).await;
    let will: DateTime<Utc> = told["at"].as_str().unwrap().parse().unwrap();
    assert_eq!((will, asked.next_at(run).await), (noon, Some(noon)), "{told}");

    let (told, run) = asked.agrees(2, noon, (None, Some(noon - TimeDelta::hours(1)))).await;
    assert!(told["error"].as_str().is_some_and(|why| why.contains("ends before")), "{told}");
    assert_eq!(asked.next_at(run).await, None);

    let (told, _) = asked.agrees(3, noon, (Some(window), Some(opens))).await;
    assert!(told["error"].as_str().is_some_and(|why| why.contains("ends before")), "{told}");
    asked.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "a callee's clock, not the time of a fact")]
async fn a_time_that_a_limit_of_the_number_puts_off_is_the_first_that_it_allows() {
    let asked = Asked::open().await;
    let pg = &asked.house.ctx.stores.pg;
    database::run(&mut pg.acquire().await.unwrap(), "UPDATE business SET cap_per_24h = 1").await;
    let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).unwrap();
    let (told, run) = asked.agrees(0, now + TimeDelta::hours(2), (None, None)).await;
    let will: DateTime<Utc> = told["at"].as_str().unwrap_or_else(|| panic!("{told}")).parse().unwrap();
    assert!((now..now + TimeDelta::minutes(2)).contains(&(will - TimeDelta::hours(24))), "{told}");
    assert_eq!(asked.next_at(run).await, Some(will));
    asked.close().await;
}
