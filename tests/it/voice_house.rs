//! Calls programs in a house, agents, and runs that talk.

use std::{sync::Arc, time::Duration};

use rollcall::{
    calls::conversation::{self, Conversation},
    context::{Context, Parts},
    dialing::agents,
    heartbeats::{self, Who},
    ids::{AgentId, AttemptId, BusinessId, RunId},
    server,
    sim::{CallReport, Line, Until},
    stores::tenant,
    voice::Sessions,
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::house::House;

/// Longest wait for something that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// A number of the sandbox that rings until it is told to answer.
pub(crate) const RINGS_UNTIL_ANSWERED: &str = "+12125550196";

/// A calls program in this process.
pub(crate) struct Media {
    pub(crate) sessions: Sessions,
    pub(crate) base: String,
    name: String,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl House {
    /// A calls program in this process, once others know of it.
    pub(crate) async fn media(&self) -> Media {
        self.media_for(500).await
    }

    /// The same with room for so many conversations.
    pub(crate) async fn media_for(&self, most: u32) -> Media {
        self.media_at(most, None).await
    }

    /// The same, which says of itself that it is at `elsewhere`.
    pub(crate) async fn media_at(&self, most: u32, elsewhere: Option<&str>) -> Media {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = format!("ws://{}", listener.local_addr().unwrap());
        let base = elsewhere.map_or(own, str::to_owned);
        let mut settings = (*self.ctx.settings).clone();
        settings.voice.public_media_url = base.parse().unwrap();
        settings.voice.max_sessions = most;
        let stop = CancellationToken::new();
        let ctx =
            Context::from(Parts { settings: Arc::new(settings), stopping: stop.clone(), ..Parts::clone(&self.ctx) });
        let (name, ended) = (Who::new_name(), CancellationToken::new());
        let sessions = Sessions::new(ctx.clone(), &name).unwrap();
        let doors = server::media_doors(ctx.clone(), sessions.clone());
        let (stopping, held, own) = (stop.clone(), sessions.clone(), name.clone());
        let tasks = vec![
            tokio::spawn(async move { server::serve(listener, doors, stopping).await.unwrap() }),
            tokio::spawn(async move { server::holds_conversations(&ctx, &held, &own, ended).await }),
        ];
        self.until("the calls program beats", || async {
            let seen = heartbeats::processes(&self.ctx.stores).await.unwrap();
            seen.iter().any(|one| one.beat.name == name)
        })
        .await;
        Media { sessions, base, name, stop, tasks }
    }

    /// An agent of this definition; `name` and `prompt` are added.
    pub(crate) async fn agent(&self, business: BusinessId, mut definition: Value) -> AgentId {
        definition["name"] = "Test".into();
        if definition.get("prompt").is_none() {
            definition["prompt"] = "You talk to {{name}}.".into();
        }
        let definition = serde_json::from_value(definition).unwrap();
        tenant::request(async {
            tenant::bind(business);
            agents::create(&self.ctx, business, AgentId::new(), definition).await.unwrap().id
        })
        .await
    }

    /// A run over these numbers that talks, rung for.
    pub(crate) async fn talking(&self, business: BusinessId, agent: AgentId, numbers: &[String]) -> RunId {
        let run = self.run(business, numbers).await;
        self.talks_in(agent, run).await;
        self.ctx.profiles.forget(business);
        self.ctx.ring(business).await;
        run
    }

    /// Gives a run to an agent, and tells nobody.
    pub(crate) async fn talks_in(&self, agent: AgentId, run: RunId) {
        sqlx::query!(
            "UPDATE run SET message = NULL, agent_id = $2, agent_version = 1 WHERE run_id = $1",
            run.0,
            agent.0
        )
        .execute(&self.ctx.stores.pg)
        .await
        .unwrap();
    }

    /// The one attempt of a run.
    pub(crate) async fn only_attempt(&self, run: RunId) -> AttemptId {
        let found = sqlx::query_scalar!("SELECT attempt_id FROM attempt WHERE run_id = $1", run.0);
        AttemptId(found.fetch_one(&self.ctx.stores.pg).await.unwrap())
    }

    /// What was said in the one call of a run.
    pub(crate) async fn said(&self, business: BusinessId, run: RunId) -> Conversation {
        let attempt = self.only_attempt(run).await;
        let kept = async || conversation::of(&self.ctx.stores.pg, business, attempt).await.unwrap();
        // A call may be over before its conversation is kept.
        self.until("what was said is kept", || async { kept().await.is_some() }).await;
        kept().await.unwrap()
    }

    /// Waits until nothing is open at the voice providers and on no stream.
    pub(crate) async fn silent(&self) {
        self.sim.wait(Until::Streams(0), SOON).await.unwrap();
        self.sim.wait(Until::Sessions(0), SOON).await.unwrap();
    }

    /// How often the carrier was asked to end or move this call.
    pub(crate) fn updates_of(&self, call: &CallReport) -> u32 {
        self.sim.calls().iter().find(|one| one.sid == call.sid).map_or(0, |one| one.updates)
    }
}

impl Media {
    /// Begins to stop it; its conversations are handed over or end.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// The name that it beats under.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Ends it; no conversation may be left.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        assert_eq!(self.sessions.count(), 0, "conversations that are left");
    }
}

/// Who said what, as `who: text`.
pub(crate) fn lines_of(said: &Conversation) -> Vec<String> {
    let line = |one: &Value| format!("{}: {}", one["who"].as_str().unwrap(), one["text"].as_str().unwrap());
    said.transcript.as_array().unwrap().iter().map(line).collect()
}

/// Lines of a callee.
pub(crate) fn script(lines: &[&str]) -> Vec<Line> {
    lines.iter().map(|line| Line { say: (*line).to_owned(), ..Line::default() }).collect()
}
