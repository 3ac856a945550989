//! Where conversations are held: an installation whose calls program reaches the sandbox's voice providers over TLS only.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rollcall::ops::{
    installation::{Installation, Plan},
    private::free_addresses,
};
use tempfile::TempDir;

use crate::client::Client;

/// How long the sandbox's providers take, ms.
pub(crate) struct Delays {
    pub(crate) transcript: u32,
    pub(crate) chat: u32,
    pub(crate) speech: u32,
    /// A pause of the caller so long ends their turn.
    pub(crate) endpointing: u32,
}

/// Fixed, so that they can be taken off.
pub(crate) const DELAYS: Delays = Delays { transcript: 100, chat: 200, speech: 100, endpointing: 300 };

/// Room besides, so that no limit of ours is met where few are asked for.
const SPARE: usize = 1_000;

/// Of which files the certificate is made.
const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";

/// An installation with a business and an agent.
pub(crate) struct Place {
    pub(crate) all: Installation,
    pub(crate) client: Client,
    /// The certificate, until the end.
    _folder: TempDir,
}

impl Delays {
    pub(crate) fn note(&self) -> String {
        format!(
            "one api, one calls program, no worker; agents of the cascade; endpointing {} ms; providers over TLS on loopback: transcript \
             after {} ms, first word of the model after {} ms and the rest at once, first sound after {} ms, sound at 8 times its speed; \
             callers of 20 ms frames who speak for 1.5 s of every 12, the agent for 8.4",
            self.endpointing, self.transcript, self.chat, self.speech
        )
    }
}

impl Place {
    /// Starts everything, with room for so many conversations.
    pub(crate) async fn open(programs: &Path, sessions: usize, set: &[(&'static str, String)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let [secure] = free_addresses()?;
        certify(folder.path(), &secure.ip().to_string())?;
        let path = |name| folder.path().join(name).display().to_string();
        let most = (sessions * 2 + SPARE).to_string();
        let base = format!("https://{secure}");
        let mut settings = vec![
            ("DEEPGRAM_BASE_URL", base.clone()),
            ("ELEVENLABS_BASE_URL", base.clone()),
            ("OPENAI_BASE_URL", format!("{base}/v1")),
            ("SSL_CERT_FILE", path(CHAIN)),
            ("MAX_SESSIONS", most.clone()),
            ("DEEPGRAM_AT_ONCE", most.clone()),
            ("ELEVENLABS_AT_ONCE", most.clone()),
            ("OPENAI_AT_ONCE", most),
        ];
        settings.extend(set.iter().cloned());
        let ms = |ms: u32| leaked(ms.to_string());
        let tls = leaked(format!("{secure},{},{}", path(CHAIN), path(KEY)));
        let carrier = vec![
            "--tls",
            tls,
            "--transcript-ms",
            ms(DELAYS.transcript),
            "--chat-first-ms",
            ms(DELAYS.chat),
            "--chat-word-ms",
            "0",
            "--speech-first-ms",
            ms(DELAYS.speech),
        ];
        let programs = programs.to_owned();
        let plan = Plan { programs, carrier, settings, postgres: Vec::new(), workers: 0, talks: true };
        let all = Installation::start(plan).await?;
        let client = Client::of(&all).await?;
        Ok(Self { all, client, _folder: folder })
    }

    /// Stops everything.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.all.check()?;
        self.all.end().await
    }
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Writes a certificate for this address that stands for itself, and its key.
fn certify(folder: &Path, address: &str) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let made = CertificateParams::new(vec![address.to_owned()])?.self_signed(&key)?;
    std::fs::write(folder.join(CHAIN), made.pem())?;
    std::fs::write(folder.join(KEY), key.serialize_pem())?;
    Ok(())
}
