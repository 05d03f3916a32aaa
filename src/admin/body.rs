//! Request bodies, bounded.

use actix_web::dev::Payload;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::problem::Problem;

/// Reads the whole body, also one that is too long: an unread rest would cost the caller its connection.
pub(super) async fn read_body(mut payload: Payload, max: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    let mut total = 0;
    let mut only = None;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|err| Problem::new(400, "invalid_body", err.to_string()))?;
        total += chunk.len();
        if total > max.saturating_mul(64) {
            break; // this is no mistake any more
        }
        if total <= max {
            match only.take() {
                None if body.is_empty() => only = Some(chunk),
                None => body.extend_from_slice(&chunk),
                Some(first) => {
                    body.extend_from_slice(&first);
                    body.extend_from_slice(&chunk);
                }
            }
        }
    }
    if total > max {
        return Err(Problem::new(413, "too_big", format!("the body may have {max} bytes, this has {total}")));
    }
    Ok(only.unwrap_or_else(|| body.freeze()))
}
