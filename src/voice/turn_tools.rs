//! Tools within a turn: used, waited for, and what the model makes of them.

use std::time::Instant;

use axum::body::Bytes;
use serde_json::{Value, json};

use crate::{
    calls::Who,
    dialing::conversation,
    models::Provider,
    voice::{
        ending::{Ending, Reason},
        mulaw,
        session::Session,
        tools::{self, Deed},
    },
};

/// Rounds of tools in one turn: a model that asks for more goes round in circles.
const MOST_ROUNDS: u32 = 8;

/// A tool that came to its end.
pub(super) struct ToolDone {
    turn: u32,
    id: String,
    name: String,
    arguments: String,
    output: Value,
}

impl Session {
    pub(super) fn use_tool(&mut self, turn: u32, id: String, name: String, arguments: String) {
        if self.current(turn).is_none() || self.ending.is_some() {
            return;
        }
        let (ctx, client) = (self.parts.sessions.ctx().clone(), self.parts.sessions.tools().clone());
        let deed = tools::act((&ctx, &client), &self.parts.agent, &mut self.parts.state, &name, &arguments);
        tracing::info!(attempt.id = %self.parts.state.attempt, tool = name, "the agent uses a tool");
        match deed {
            Deed::Done(output) => self.tool_kept(&id, &name, &arguments, &output),
            Deed::Keys(keys) => {
                self.add_sound(turn, Bytes::from(mulaw::tones(&keys)));
                self.tool_kept(&id, &name, &arguments, &json!({"ok": true}));
            }
            Deed::Later(output) => {
                self.open_tools += 1;
                self.tools.spawn(async move { ToolDone { turn, id, name, arguments, output: output.await } });
            }
            Deed::End => {
                self.tool_kept(&id, &name, &arguments, &json!({"ok": true}));
                self.last_words(turn);
            }
            Deed::Transfer(to) => {
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

    pub(super) fn tool_done(&mut self, done: ToolDone) {
        self.open_tools = self.open_tools.saturating_sub(1);
        self.tool_kept(&done.id, &done.name, &done.arguments, &done.output);
        self.next_round(done.turn);
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
        if tools {
            self.next_round(turn);
        } else if !by_itself && self.ending.is_none() {
            self.turn_is_all(turn);
        }
    }

    /// Once every tool of a turn has come to its end, the model goes on in the same turn.
    fn next_round(&mut self, turn: u32) {
        let waits = self.open_tools > 0 || self.ending.is_some();
        let Some(speaking) = self.current(turn).filter(|speaking| speaking.wants_tools && !waits) else { return };
        (speaking.wants_tools, speaking.sound_over) = (false, false);
        speaking.asked = Instant::now();
        speaking.rounds += 1;
        if speaking.rounds > MOST_ROUNDS {
            return self.trouble(Provider::Openai, "it asks for tools without an end");
        }
        self.voice.pipeline.answer(turn, &self.parts.state.memory);
        self.save();
    }

    pub(super) async fn transfer(&mut self, id: String, to: String) {
        let name = "transfer_call".to_owned();
        let done = conversation::transfer(self.parts.sessions.ctx(), &self.parts.state, &to).await;
        let output = match &done {
            Ok(()) => json!({"ok": true}),
            Err(error) => {
                tracing::warn!(attempt.id = %self.parts.state.attempt, error = format!("{error:#}"), "a caller was not put through");
                json!({"error": "nobody could be reached there"})
            }
        };
        self.tool_kept(&id, &name, "{}", &output);
        match done {
            Ok(()) => {
                self.parts.state.memory.outcome.insert("transferred".to_owned(), true.into());
                self.over = Some(Reason::Transferred);
            }
            Err(_) => self.answer(None),
        }
    }
}
