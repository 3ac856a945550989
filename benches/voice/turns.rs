//! What the product wrote down of its own turns, less what its providers are known to take.

use hdrhistogram::Histogram;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::place::DELAYS;

/// Of all answers, ms.
pub(crate) struct Turns {
    /// From what the caller said, once it was transcribed, to the agent's first sound, less what the model and the voice take.
    pub(crate) own: Histogram<u64>,
    /// From the end of the caller's voice to its transcript, less the pause that ends a turn and what the transcription takes.
    pub(crate) waiting: Histogram<u64>,
    /// From the end of the caller's voice to the agent's first sound.
    pub(crate) whole: Histogram<u64>,
    /// Turns that the caller cut: there should be none.
    pub(crate) cut: u64,
}

/// The turns of every conversation that is over.
pub(crate) async fn read(database: &str) -> anyhow::Result<Turns> {
    let mut postgres = PgConnection::connect(database).await?;
    let rows = sqlx::query_scalar!("SELECT turns FROM conversation").fetch_all(&mut postgres).await?;
    postgres.close().await?;
    let empty = || Histogram::new_with_bounds(1, 600_000, 3);
    let mut turns = Turns { own: empty()?, waiting: empty()?, whole: empty()?, cut: 0 };
    for turn in rows.iter().filter_map(Value::as_array).flatten().filter(|turn| turn["kind"] == "answer") {
        if turn["cut"] == true {
            turns.cut += 1;
            continue;
        }
        let ms = |part: &str| turn[part].as_u64();
        if let (Some(model), Some(speech)) = (ms("model_ms"), ms("speech_ms")) {
            turns.own.saturating_record((model + speech).saturating_sub(u64::from(DELAYS.chat + DELAYS.speech)));
        }
        if let Some(waited) = ms("transcription_ms") {
            turns.waiting.saturating_record(waited.saturating_sub(u64::from(DELAYS.endpointing + DELAYS.transcript)));
        }
        if let Some(whole) = ms("whole_ms") {
            turns.whole.saturating_record(whole);
        }
    }
    Ok(turns)
}
