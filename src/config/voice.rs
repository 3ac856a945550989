//! Settings of conversations: where media streams come in, and the providers that hear, think and speak.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use secrecy::SecretString;
use url::Url;

/// Settings of conversations.
#[derive(Debug, Clone, Args)]
pub struct VoiceSettings {
    /// Where carriers open the media streams of this calls program: ws:// or wss://, host and port as they see them.
    #[arg(long, env = "PUBLIC_MEDIA_URL", default_value = "ws://127.0.0.1:8090", value_parser = media_url)]
    pub public_media_url: Url,
    /// Conversations that one calls program holds at once.
    #[arg(long, env = "MAX_SESSIONS", default_value = "500", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_sessions: u32,
    /// Deepgram, or what speaks its protocol.
    #[arg(long, env = "DEEPGRAM_BASE_URL", default_value = "https://api.deepgram.com", value_parser = provider_url)]
    pub deepgram_base_url: Url,
    /// The installation's key at Deepgram; a business may have its own.
    #[arg(long, env = "DEEPGRAM_API_KEY", hide_env_values = true)]
    pub deepgram_api_key: Option<SecretString>,
    /// Transcriptions at once of all calls programs together (Deepgram, pay as you go: 50): nobody is dialed for one more.
    #[arg(long, env = "DEEPGRAM_AT_ONCE", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub deepgram_at_once: u32,
    /// OpenAI, or what speaks its protocols.
    #[arg(long, env = "OPENAI_BASE_URL", default_value = "https://api.openai.com/v1", value_parser = provider_url)]
    pub openai_base_url: Url,
    /// The installation's key at OpenAI; a business may have its own.
    #[arg(long, env = "OPENAI_API_KEY", hide_env_values = true)]
    pub openai_api_key: Option<SecretString>,
    /// Answers and conversations at OpenAI at once of all calls programs together: an answer waits for another to be over, and nobody is dialed for a conversation more.
    #[arg(long, env = "OPENAI_AT_ONCE", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub openai_at_once: u32,
    /// ElevenLabs, or what speaks its protocol.
    #[arg(long, env = "ELEVENLABS_BASE_URL", default_value = "https://api.elevenlabs.io", value_parser = provider_url)]
    pub elevenlabs_base_url: Url,
    /// The installation's key at ElevenLabs; a business may have its own.
    #[arg(long, env = "ELEVENLABS_API_KEY", hide_env_values = true)]
    pub elevenlabs_api_key: Option<SecretString>,
    /// Voices at once of all calls programs together: nobody is dialed for one more.
    #[arg(long, env = "ELEVENLABS_AT_ONCE", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub elevenlabs_at_once: u32,
    /// Lets agents' tools be at private addresses and without TLS. For development only: tools are customers' text.
    #[arg(long, env = "VOICE_TOOLS_PRIVATE", default_value = "false", action = clap::ArgAction::Set)]
    pub voice_tools_private: bool,
    /// What tells a caller's voice from other sounds: earshot, or silero in programs built with `--features silero`.
    #[arg(long, env = "VOICE_ACTIVITY", value_enum, default_value = "earshot")]
    pub voice_activity: VoiceActivity,
    /// The onnxruntime library that Silero runs on, e.g. /usr/lib/libonnxruntime.so.
    #[arg(long, env = "ORT_DYLIB_PATH")]
    pub ort_dylib_path: Option<PathBuf>,
    /// Silero's model: `silero_vad_op18_ifless.onnx` of its package.
    #[arg(long, env = "SILERO_MODEL")]
    pub silero_model: Option<PathBuf>,
    /// The SHA-256 of the model, as hex: with another one no calls program starts.
    #[arg(long, env = "SILERO_SHA256")]
    pub silero_sha256: Option<String>,
}

/// A detector of voices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VoiceActivity {
    /// earshot's, which is inside: one for each call.
    Earshot,
    /// Silero's, one for the process (in programs that were built with the feature `silero`).
    Silero,
}

/// What Silero is loaded from.
#[derive(Debug, Clone, Copy)]
pub struct SileroSettings<'a> {
    /// The onnxruntime library.
    pub library: &'a Path,
    /// The model.
    pub model: &'a Path,
    /// Its SHA-256 as hex, where it must have one.
    pub sha256: Option<&'a str>,
}

/// The settings of one provider.
#[derive(Debug, Clone, Copy)]
pub struct ProviderSettings<'a> {
    /// Where it is.
    pub base_url: &'a Url,
    /// The installation's key.
    pub key: Option<&'a SecretString>,
    /// At once, over all processes.
    pub most_at_once: usize,
}

impl VoiceSettings {
    /// What Silero is loaded from, where it is asked for.
    #[must_use]
    pub fn silero(&self) -> Option<SileroSettings<'_>> {
        let (library, model) = (self.ort_dylib_path.as_deref()?, self.silero_model.as_deref()?);
        let wanted = SileroSettings { library, model, sha256: self.silero_sha256.as_deref() };
        (self.voice_activity == VoiceActivity::Silero).then_some(wanted)
    }

    /// The settings of conversations that no program starts with, each in one sentence.
    #[must_use]
    pub fn contradictions(&self) -> Vec<String> {
        if self.voice_activity == VoiceActivity::Earshot {
            return Vec::new();
        }
        if !cfg!(feature = "silero") {
            return vec!["VOICE_ACTIVITY is silero, but this program was built without the feature silero.".into()];
        }
        let needed = [("ORT_DYLIB_PATH", &self.ort_dylib_path), ("SILERO_MODEL", &self.silero_model)];
        let missing = needed.into_iter().filter(|(_, path)| path.is_none());
        missing.map(|(name, _)| format!("VOICE_ACTIVITY is silero, but {name} is missing.")).collect()
    }

    /// The settings of the provider of this name: `deepgram`, `elevenlabs`, and OpenAI for any other.
    #[must_use]
    pub fn provider(&self, name: &str) -> ProviderSettings<'_> {
        let (base_url, key, most) = match name {
            "deepgram" => (&self.deepgram_base_url, &self.deepgram_api_key, self.deepgram_at_once),
            "elevenlabs" => (&self.elevenlabs_base_url, &self.elevenlabs_api_key, self.elevenlabs_at_once),
            _ => (&self.openai_base_url, &self.openai_api_key, self.openai_at_once),
        };
        ProviderSettings { base_url, key: key.as_ref(), most_at_once: most as usize }
    }
}

fn media_url(text: &str) -> Result<Url, String> {
    url_of(text, &["ws", "wss"])
}

/// A base URL of a provider: where it takes WebSockets, `http` stands for `ws` and `https` for `wss`.
fn provider_url(text: &str) -> Result<Url, String> {
    url_of(text, &["http", "https"])
}

fn url_of(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    if !schemes.contains(&url.scheme()) || url.host_str().is_none() {
        return Err(format!("{}:// and a host are needed", schemes.join(":// or ")));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("a base URL has no query, fragment or user".into());
    }
    Ok(url)
}
