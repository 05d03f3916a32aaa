//! Waiting with a deadline. Every wait of the rig and of the scenarios goes through here, so that a failure says what
//! was waited for and for how long.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Long enough for a busy two-core machine; a test that needs it has most likely failed.
pub const PATIENCE: Duration = Duration::from_secs(15);

const POLL_INTERVAL: Duration = Duration::from_millis(15);

/// Looks again and again until `look` finds something. Panics with `what` when it has not within `within`.
pub async fn eventually<T>(what: &str, within: Duration, look: impl AsyncFnMut() -> Option<T>) -> T {
    match eventually_or_not(within, look).await {
        Some(found) => found,
        None => panic!("waited {within:?} for {what}"),
    }
}

/// The same for what may also stay away.
pub async fn eventually_or_not<T>(within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Awaits something that reports by itself. Panics with `what` when it has not within [`PATIENCE`].
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}
