//! From a signal to the end of the process: first no new work, then what is in flight, then a hard end.
//!
//! Invariant: a second signal, or the drain limit, ends the process whatever is still running.
//! Not here: what each program does while it drains.

use std::{process::ExitCode, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. The second signal ends the process with exit code 1.
///
/// # Errors
/// Where the signals cannot be listened to.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let first = token.clone();
    tokio::spawn(async move {
        for nth in 1.. {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            if nth == 1 {
                tracing::info!("stopping: no new work, finishing what is in flight");
                first.cancel();
            } else {
                tracing::warn!("stopped by a second signal");
                std::process::exit(1);
            }
        }
    });
    Ok(token)
}

/// Ends the process with exit code 1 if it is still there `limit` after `token` was cancelled.
pub fn end_hard_after(token: &CancellationToken, limit: Duration) {
    let token = token.clone();
    tokio::spawn(async move {
        token.cancelled().await;
        tokio::time::sleep(limit).await;
        tracing::error!(limit_secs = limit.as_secs(), "the drain took too long");
        std::process::exit(1);
    });
}

/// The exit code of a program that came to this end: 0, or 1 for an error, which is logged.
#[must_use]
pub fn exit_code(end: anyhow::Result<()>) -> ExitCode {
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the program ended");
            ExitCode::FAILURE
        }
    }
}
