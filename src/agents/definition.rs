//! An agent as clients write it and as every version of it is kept.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agents::tools::Tool;

/// What a voice agent is. Only `name` and `prompt` are required.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// 1 to 200 characters.
    pub name: String,
    /// How it hears and speaks.
    #[serde(default)]
    pub pipeline: PipelineKind,
    /// The language of the call (BCP 47).
    #[serde(default = "english")]
    pub language: String,
    /// What it is to do, at most 20,000 characters: a template over the callee's variables.
    pub prompt: String,
    /// What it says first, a template; null: it waits until it is spoken to.
    #[serde(default)]
    pub greeting: Option<String>,
    /// What it says before it hangs up by itself, a template; null: nothing.
    #[serde(default)]
    pub goodbye: Option<String>,
    /// What it leaves on an answering machine, a template; null: it hangs up.
    #[serde(default)]
    pub voicemail: Option<String>,
    /// What it says when a provider fails for good, a template; null: it hangs up at once.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Names of models at the providers.
    #[serde(default)]
    pub models: Models,
    /// Whose voice.
    #[serde(default)]
    pub voice: Voice,
    /// When who speaks.
    #[serde(default)]
    pub turns: Turns,
    /// What it may do besides talking, at most 32.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// How long it goes on.
    #[serde(default)]
    pub limits: Limits,
}

fn english() -> String {
    "en-US".to_owned()
}

/// How an agent hears and speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PipelineKind {
    /// Transcription, then a chat model, then speech: three providers.
    #[default]
    Cascade,
    /// One model that hears and speaks.
    Realtime,
}

impl PipelineKind {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Cascade, Self::Realtime];

    /// The word in JSON and figures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cascade => "cascade",
            Self::Realtime => "realtime",
        }
    }

    /// The one of this word; of a word that is not known, the usual one.
    #[must_use]
    pub fn named(word: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or_default()
    }
}

/// Names of models, as their providers call them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// Deepgram's, for `cascade`.
    pub transcription: String,
    /// A chat model, for `cascade`.
    pub chat: String,
    /// ElevenLabs', for `cascade`.
    pub speech: String,
    /// Of the `realtime` pipeline.
    pub realtime: String,
    /// 0 to 2, for `cascade`; null is the model's own.
    pub temperature: Option<f64>,
    /// Most tokens of one answer, 1 to 16,384, or 4,096 for `realtime`; null is the model's own.
    pub max_tokens: Option<u32>,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            transcription: "nova-3".to_owned(),
            chat: "gpt-4o-mini".to_owned(),
            speech: "eleven_flash_v2_5".to_owned(),
            realtime: "gpt-realtime".to_owned(),
            temperature: None,
            max_tokens: None,
        }
    }
}

/// A voice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Voice {
    /// ElevenLabs' voice id for `cascade`, OpenAI's name of a voice for `realtime`; null is a default of ours.
    pub id: Option<String>,
    /// 0.7 to 1.2.
    pub speed: f64,
}

impl Default for Voice {
    fn default() -> Self {
        Self { id: None, speed: 1.0 }
    }
}

/// When who speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Turns {
    /// A pause of the caller so long ends their turn, 50 to 5,000 ms.
    pub endpointing_ms: u32,
    /// True where the caller may break in.
    pub interruptible: bool,
    /// Speech of the caller so long breaks in, 60 to 2,000 ms.
    pub interrupt_after_ms: u32,
    /// How sure the detector of voices must be, 0.1 to 0.95.
    pub voice_threshold: f32,
    /// So long after the agent has been heard, and nobody speaks, it says the next of `silence_prompts`; 1 to 120 s.
    pub silence_secs: u32,
    /// What it says into silence, one after the other, at most 5; templates. After the last one it ends the call.
    pub silence_prompts: Vec<String>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            endpointing_ms: 300,
            interruptible: true,
            interrupt_after_ms: 200,
            voice_threshold: 0.6,
            silence_secs: 10,
            silence_prompts: vec!["Are you still there?".to_owned()],
        }
    }
}

/// How long it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The conversation ends after so long, 5 to 14,400 s; the carrier's own limit of the call may be shorter.
    pub call_secs: u32,
    /// Answers of the agent, 1 to 1,000.
    pub turns: u32,
    /// So long a provider may take to begin its answer, 500 to 30,000 ms; after that it counts as failed.
    pub answer_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { call_secs: 600, turns: 200, answer_ms: 8_000 }
    }
}

impl Definition {
    /// Every text that is a template over the callee's variables, with its place in the definition.
    pub fn templates(&self) -> impl Iterator<Item = (String, &str)> {
        let single = [
            ("/prompt", Some(&self.prompt)),
            ("/greeting", self.greeting.as_ref()),
            ("/goodbye", self.goodbye.as_ref()),
            ("/voicemail", self.voicemail.as_ref()),
            ("/trouble", self.trouble.as_ref()),
        ];
        let single = single.into_iter().filter_map(|(at, text)| Some((at.to_owned(), text?.as_str())));
        let prompts = self.turns.silence_prompts.iter().enumerate();
        single.chain(prompts.map(|(i, text)| (format!("/turns/silence_prompts/{i}"), text.as_str())))
    }

    /// Puts what `say` makes of each template in its place.
    ///
    /// # Errors
    /// With the first that `say` cannot make.
    pub fn said<E>(&self, mut say: impl FnMut(&str) -> Result<String, E>) -> Result<Self, E> {
        let mut said = self.clone();
        said.prompt = say(&self.prompt)?;
        for text in [&mut said.greeting, &mut said.goodbye, &mut said.voicemail, &mut said.trouble] {
            *text = text.as_deref().map(&mut say).transpose()?;
        }
        for text in &mut said.turns.silence_prompts {
            *text = say(text)?;
        }
        Ok(said)
    }
}
