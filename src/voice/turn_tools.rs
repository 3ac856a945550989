//! Tools within a turn: used, waited for, and what the model makes of them.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};

use crate::{
    calls::{AT_WORK, Memory, Spoken, Who},
    dialing::conversation,
    models::Provider,
    voice::{
        ending::{Ending, Reason},
        mulaw,
        session::Session,
        tools::{self, Came, Deed},
    },
};

/// Rounds of tools in one turn: a model that asks for more goes round in circles.
const MOST_ROUNDS: u32 = 8;
/// What the caller was promised may take so long at the end of a conversation; then nobody waits for it.
const REST: Duration = Duration::from_secs(3);

/// A tool that came to its end.
pub(super) struct ToolDone {
    turn: u32,
    id: String,
    name: String,
    arguments: String,
    came: Came,
}

impl ToolDone {
    /// As the model knows it.
    fn record(&self) -> Value {
        json!({"id": self.id, "name": self.name, "arguments": self.arguments, "output": self.came.output})
    }
}

/// The tools of a conversation that have not come to their end.
#[derive(Default)]
pub(super) struct Tools {
    set: JoinSet<ToolDone>,
    /// How many of the present turn are waited for.
    open: usize,
    /// Those that have been asked for and have not come to their end: the id, the name and the arguments.
    asked: Vec<(String, String, String)>,
}

impl Tools {
    /// How many tools the present turn waits for.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// True where there is nothing to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The next one that comes to its end; `None` at once where there is none.
    pub(super) async fn next(&mut self) -> Option<Result<ToolDone, JoinError>> {
        self.set.join_next().await
    }

    fn begin(&mut self, used: Used, does: BoxFuture<'static, Came>) {
        let Used { turn, id, name, arguments } = used;
        self.open += 1;
        self.asked.push((id.clone(), name.clone(), arguments.clone()));
        self.set.spawn(async move { ToolDone { turn, id, name, arguments, came: does.await } });
    }

    /// The turn is cut: what it has asked for is done all the same, and nobody waits for it.
    pub(super) fn cut(&mut self) {
        self.open = 0;
    }

    /// Those that are still at work, as the model is to know of them: it must not ask for the same once more.
    pub(super) fn at_work(&self) -> Vec<(String, Value)> {
        let output = json!({"status": AT_WORK});
        let told = |(id, name, arguments): &(String, String, String)| {
            (name.clone(), json!({"id": id, "name": name, "arguments": arguments, "output": output}))
        };
        self.asked.iter().map(told).collect()
    }

    fn is_over(&mut self, id: &str) {
        self.asked.retain(|(asked, ..)| asked != id);
    }

    /// Waits a while for what is left, at the end of a conversation, and notes what it came to; then it goes on by itself.
    pub(super) async fn rest(mut self, memory: &mut Memory, at_ms: u64) {
        self.cut();
        let all = async {
            while let Some(done) = self.set.join_next().await {
                if let Ok(done) = done {
                    let outcome = done.came.outcome.clone().map(|(name, value)| (name.to_owned(), value));
                    memory.outcome.extend(outcome);
                    let tool = done.record();
                    if !memory.comes_to(&tool) {
                        memory.add(Spoken { who: Who::Tool, text: done.name, at_ms, cut: false, tool: Some(tool) });
                    }
                }
            }
        };
        if timeout(REST, all).await.is_err() {
            tracing::warn!(tools = self.set.len(), "tools are still at work at the end of a conversation");
            self.set.detach_all();
        }
    }
}

/// A tool that the model uses.
pub(super) struct Used {
    pub(super) turn: u32,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// How a turn ends the conversation, once all that the model wants in it is known.
pub(super) enum Last {
    /// The tool's id.
    End(String),
    /// The tool's id, and whom the caller is put through to.
    Transfer(String, String),
}

impl Session {
    pub(super) fn use_tool(&mut self, used: Used) {
        let turn = used.turn;
        if self.current(turn).is_none() || self.ending.is_some() {
            return;
        }
        let (ctx, client) = (self.parts.sessions.ctx().clone(), self.parts.sessions.tools().clone());
        let deed = tools::act((&ctx, &client), &self.parts.agent, &mut self.parts.state, &used.name, &used.arguments);
        tracing::info!(attempt.id = %self.parts.state.attempt, tool = used.name, "the agent uses a tool");
        match deed {
            Deed::Done(output) => self.tool_kept(&used.id, &used.name, &used.arguments, &output),
            Deed::Keys(keys) => {
                self.add_sound(turn, Bytes::from(mulaw::tones(&keys)));
                self.tool_kept(&used.id, &used.name, &used.arguments, &json!({"ok": true}));
            }
            Deed::Later(does) => self.tools.begin(used, does),
            // What else the model wants in the same answer comes first.
            Deed::End => self.is_last(turn, Last::End(used.id)),
            Deed::Transfer(to) => self.is_last(turn, Last::Transfer(used.id, to)),
        }
    }

    fn is_last(&mut self, turn: u32, last: Last) {
        if let Some(speaking) = self.current(turn) {
            speaking.last.get_or_insert(last);
        }
    }

    /// The model has said all of a turn that ends the conversation.
    fn conclude(&mut self, turn: u32, last: Last) {
        match last {
            Last::End(id) => {
                self.tool_kept(&id, "end_call", "{}", &json!({"ok": true}));
                self.last_words(turn);
            }
            Last::Transfer(id, to) => {
                self.ending = Some(Ending::after(turn, Reason::Transferred, Some((id, to))));
                self.turn_is_all(turn);
            }
        }
    }

    /// The agent has nothing more to say: what it has said in this turn is heard, or else its goodbye.
    fn last_words(&mut self, turn: u32) {
        let said = self.current(turn).is_some_and(|speaking| !speaking.text.trim().is_empty() || speaking.bytes > 0);
        match self.parts.agent.goodbye.clone() {
            Some(goodbye) if !said => self.close(Reason::EndedByAgent, Some(goodbye)),
            _ => {
                self.ending = Some(Ending::after(turn, Reason::EndedByAgent, None));
                self.turn_is_all(turn);
            }
        }
    }

    /// No more text comes for this turn; where none came, there is nothing to hear of it either.
    fn turn_is_all(&mut self, turn: u32) {
        let by_itself = self.voice.pipeline.answers_by_itself();
        let Some(speaking) = self.current(turn) else { return };
        let silent = !by_itself && speaking.text.trim().is_empty() && speaking.bytes == 0;
        if silent || speaking.sound_over {
            self.playout.complete(turn);
        } else {
            self.voice.pipeline.finish(turn);
        }
    }

    /// A tool came to its end, or panicked. One of a turn that was cut changes no turn.
    pub(super) fn tool_done(&mut self, done: Result<ToolDone, JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                tracing::error!(attempt.id = %self.parts.state.attempt, %error, "a tool panicked");
                self.tools.open = self.tools.open.saturating_sub(1);
                return;
            }
        };
        self.tools.is_over(&done.id);
        self.parts.state.memory.outcome.extend(done.came.outcome.clone().map(|(name, value)| (name.to_owned(), value)));
        if self.parts.state.memory.comes_to(&done.record()) {
            self.voice.pipeline.tool(&done.id, &done.came.output);
        } else {
            self.tool_kept(&done.id, &done.name, &done.arguments, &done.came.output);
        }
        if self.current(done.turn).is_some() {
            self.tools.open = self.tools.open.saturating_sub(1);
            self.next_round(done.turn);
        } else {
            self.save();
        }
    }

    fn tool_kept(&mut self, id: &str, name: &str, arguments: &str, output: &Value) {
        self.voice.pipeline.tool(id, output);
        let tool = json!({"id": id, "name": name, "arguments": arguments, "output": output});
        self.remember(Who::Tool, name.to_owned(), false, Some(tool));
    }

    pub(super) fn answered(&mut self, turn: u32, tools: bool) {
        let by_itself = self.voice.pipeline.answers_by_itself();
        let Some(speaking) = self.current(turn) else { return };
        speaking.wants_tools = tools;
        if let Some(last) = speaking.last.take() {
            self.conclude(turn, last);
        } else if tools {
            self.next_round(turn);
        } else if !by_itself && self.ending.is_none() {
            self.turn_is_all(turn);
        }
    }

    /// Once every tool of a turn has come to its end, the model goes on in the same turn.
    fn next_round(&mut self, turn: u32) {
        let waits = self.tools.open > 0 || self.ending.is_some();
        let Some(speaking) = self.current(turn).filter(|speaking| speaking.wants_tools && !waits) else { return };
        (speaking.wants_tools, speaking.sound_over) = (false, false);
        speaking.asked = Instant::now();
        speaking.rounds += 1;
        if speaking.rounds > MOST_ROUNDS {
            return self.trouble(Provider::Openai, "it asks for tools without an end");
        }
        let so_far = speaking.text.trim().to_owned();
        // What the model says next does not run together with that.
        if speaking.text.ends_with(|last: char| !last.is_whitespace()) {
            speaking.text.push(' ');
        }
        self.voice.pipeline.answer(turn, &self.parts.state.memory, &so_far);
        self.save();
    }

    pub(super) async fn transfer(&mut self, id: String, to: String) {
        let name = "transfer_call".to_owned();
        let done = conversation::transfer(self.parts.sessions.ctx(), &self.parts.state, &to).await;
        let output = match &done {
            Ok(true) => json!({"ok": true}),
            Ok(false) => json!({"error": "this cannot be done: nobody may be called at that number"}),
            Err(error) => {
                tracing::warn!(attempt.id = %self.parts.state.attempt, error = format!("{error:#}"), "a caller was not put through");
                json!({"error": "nobody could be reached there"})
            }
        };
        self.tool_kept(&id, &name, "{}", &output);
        match done {
            Ok(true) => {
                self.parts.state.memory.outcome.insert("transferred".to_owned(), true.into());
                self.over = Some(Reason::Transferred);
            }
            Ok(false) | Err(_) => self.answer(None),
        }
    }
}
