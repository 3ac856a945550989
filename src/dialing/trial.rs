//! A conversation without a carrier: an agent that is tried from a browser or a script.

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::{
    calls::{CallState, Memory, Phase, Text, Ticket, state::VERSION},
    context::Context,
    dialing::{agents, call, overview, room},
    error::{ApiError, Slug},
    heartbeats,
    ids::{AgentId, AttemptId, BusinessId},
    telemetry::metrics::TurnedAway,
};

/// What the messages of such a session hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Frames {
    /// G.711 mu-law at 8 kHz.
    #[default]
    Mulaw,
    /// 16-bit samples at 8 kHz, little-endian.
    Pcm16,
    /// Not bare sound, but the messages of Twilio Media Streams, for whoever has a client of these: it begins with `start`, under
    /// any `callSid`, and gives marks back.
    Twilio,
}

/// Makes a session under this id; the address of its one socket.
///
/// # Errors
/// 422 where the agent is unknown, a variable is missing or too large, or what is said would be too long; 503 where no calls program has room.
pub async fn open(
    ctx: &Context,
    business: BusinessId,
    id: AttemptId,
    (agent, variables): (AgentId, Map<String, Value>),
    frames: Frames,
) -> Result<Url, ApiError> {
    let agent = agents::named(ctx, business, agent).await?;
    let mut wrong = Vec::new();
    call::check_variables(&variables, &mut wrong);
    if !wrong.is_empty() {
        return Err(ApiError::validation(wrong));
    }
    let definition = agents::said(&agent.definition, &variables)
        .map_err(|error| ApiError::validation(vec![agents::unsaid(&error)]))?;
    // Whom somebody was dialed for comes first at the accounts.
    let accounts = room::conversations(ctx, business, &[definition.pipeline]).await?.accounts;
    let free = room::used_up(&ctx.gate, accounts).await?.is_none();
    let media = match free {
        true => heartbeats::replica_with_room(&ctx.stores, &ctx.replicas, false).await?,
        false => None,
    };
    let Some(media) = media else {
        overview::count_rejected(ctx, TurnedAway::Rejected).await;
        return Err(
            ApiError::new(Slug::AtCapacity, "There is no room for one more session now. Try again.").retry_after(1)
        );
    };
    let call_id = format!("WS{}", id.0.simple());
    let limit = i32::try_from(definition.limits.call_secs).unwrap_or(i32::MAX);
    let state = CallState {
        v: VERSION,
        business,
        attempt: id,
        run: None,
        job: None,
        direction: "inbound".to_owned(),
        carrier: None,
        account: String::new(),
        call_id: call_id.clone(),
        from: String::new(),
        to: String::new(),
        answered_by: None,
        on_machine: None,
        variables,
        zones: Vec::new(),
        agent: agent.id,
        agent_version: agent.version,
        definition: Text::of(&definition).map_err(anyhow::Error::from)?,
        call_time_limit_secs: limit,
        phase: Phase::Answered,
        ended: None,
        memory: Memory::default(),
    };
    let media_url = format!("{}/media/session", media.trim_end_matches('/'));
    let frames = match frames {
        Frames::Mulaw => "mulaw",
        Frames::Pcm16 => "pcm16",
        Frames::Twilio => "twilio",
    };
    let ticket = Ticket {
        business,
        attempt: id,
        carrier: None,
        account: String::new(),
        call_id,
        media_url: media_url.clone(),
        frames: Some(frames.to_owned()),
    };
    let text = ctx.calls.open(&state, &ticket).await?.ticket;
    Ok(format!("{media_url}/{text}").parse().map_err(anyhow::Error::from)?)
}
