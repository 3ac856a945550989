//! The events of a chat answer as they go over the wire, with the faults that strike on the way.
use std::time::Duration;

use axum::body::Bytes;

use super::{ProviderFault, Session};

/// Each event with the time before it. An empty chunk is one that never comes.
pub(super) fn spoil(session: &Session, lines: Vec<String>, first: Duration) -> Vec<(Duration, Bytes)> {
    let gap = session.shared.config.providers.chat_word_ms;
    let mut chunks: Vec<(Duration, Bytes)> = Vec::with_capacity(lines.len());
    let middle = lines.len() / 2;
    for (at, line) in lines.into_iter().enumerate() {
        let delay = if at == 0 { first } else { gap.draw(&mut session.shared.switchboard().random) };
        let kind = session.fault.as_ref().map(|rule| rule.kind);
        match kind {
            Some(ProviderFault::Duplicate) => chunks.push((delay, line.clone().into())),
            Some(ProviderFault::UnknownType) => {
                chunks.push((delay, "event: surprise\r\ndata: {\"x\":1}\r\n\r\n".into()))
            }
            Some(ProviderFault::InvalidJson) if at == middle => chunks.push((delay, "data: {\"id\": \n\n".into())),
            Some(ProviderFault::Huge) if at == middle => {
                chunks.push((delay, format!(": {}\n\n", "a".repeat(1 << 20)).into()));
            }
            Some(ProviderFault::Error) if at == middle => {
                let error = "data: {\"error\":{\"message\":\"on demand\",\"type\":\"server_error\",\"code\":null}}\n\n";
                chunks.push((delay, error.into()));
            }
            // The answer ends here, without a finish reason and without [DONE].
            Some(ProviderFault::Close) if at == middle => return chunks,
            Some(ProviderFault::Late) if at == middle => {
                chunks.push((delay, Bytes::new()));
                return chunks;
            }
            Some(ProviderFault::Split) => {
                let mut line = Bytes::from(line);
                let head = line.split_to(line.len() / 3);
                chunks.extend([(delay, head), (Duration::from_millis(1), line)]);
                continue;
            }
            _ => {}
        }
        chunks.push((delay, line.into()));
    }
    chunks
}
