//! A client's new token, in the middle of a connection: a message of its own, which is no event. Called by client_events
//! at endpoints that allow it; the token is for the authentication room alone.

use std::borrow::Cow;

use serde::Deserialize;

use crate::authentication::{Accepted, Denied};

/// Longer messages are events: no token is that long.
const FRAME_BYTES_MAX: usize = 64 * 1024;
const TYPE: &str = "refresh";
/// Whatever has no such text is an event, and is not read here.
const TYPE_QUOTED: &[u8] = b"\"refresh\"";

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    token: Option<String>,
}

/// The token of a refresh, empty where it has none; None: the message is an event.
pub fn token_of(message: &[u8]) -> Option<String> {
    if message.len() > FRAME_BYTES_MAX || !message.windows(TYPE_QUOTED.len()).any(|part| part == TYPE_QUOTED) {
        return None;
    }
    let frame: Frame = serde_json::from_slice(message).ok()?;
    (frame.r#type == TYPE).then(|| frame.token.unwrap_or_default())
}

/// The credential that takes the place of the one before, or why it does not, for the client.
pub fn exchanged(checked: Result<Accepted, Denied>, user: Option<&str>) -> Result<Accepted, String> {
    let accepted = checked.map_err(|denied| denied.to_string())?;
    match accepted.user.as_deref() == user {
        true => Ok(accepted),
        false => Err("the token is another user's".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_is_told_from_an_event() {
        for (message, token) in [
            (r#"{"type":"refresh","token":"t"}"#, Some("t")),
            (r#" {"id": 7, "token":"t", "type": "refresh"} "#, Some("t")),
            (r#"{"type":"refresh"}"#, Some("")),
            (r#"{"type":"refresh","token":null}"#, Some("")),
            (r#"{"type":"refreshed","token":"t"}"#, None),
            (r#"{"kind":"refresh","token":"t"}"#, None),
            (r#"{"text":"\"refresh\"","type":"other"}"#, None),
            (r#"["refresh"]"#, None),
            (r#"{"type":"refresh","token":"#, None),
            (r#"{"type":"refresh","token":7}"#, None),
        ] {
            assert_eq!(token_of(message.as_bytes()).as_deref(), token, "{message}");
        }
    }

    #[test]
    fn nobody_becomes_somebody_else() {
        let accepted = |user: &str| Ok(Accepted { user: Some(user.to_owned()), ..Accepted::default() });
        assert!(exchanged(accepted("ann"), Some("ann")).is_ok());
        assert!(exchanged(accepted("bob"), Some("ann")).is_err_and(|why| why.contains("another user")));
        assert!(exchanged(Ok(Accepted::default()), Some("ann")).is_err());
        assert!(exchanged(Err(Denied::Wrong), Some("ann")).is_err_and(|why| why.contains("not valid")));
    }
}
