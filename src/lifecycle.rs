//! The life of a process: it runs until SIGTERM or SIGINT, then drains, and a second signal ends it at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that fires at the first SIGTERM or SIGINT. At the second one the process exits without waiting.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn shutdown_token() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        for already_stopping in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if already_stopping {
                tracing::warn!("second signal: exiting without draining");
                std::process::exit(1);
            }
            tracing::info!("stopping: draining what is in flight");
            shutdown.cancel();
        }
    });
    Ok(token)
}
