//! The client's own word that it has a message: pushes that wait for it, by connection. A push that wants it travels as
//! `{"type": "message", "id", "data"}` and is answered by the client's `{"type": "ack", "id"}`. Pure; behind a lock of the
//! outlet.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde::Deserialize;
use tokio::sync::oneshot;

/// Confirmations that a client may owe; also how many late ones are still known as such.
const UNCONFIRMED_MAX: usize = 64;
/// A longer text is no confirmation.
const ACK_BYTES_MAX: usize = 256;

/// What a client owes. The oldest first.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    owed: VecDeque<(u64, Option<oneshot::Sender<()>>)>,
    ended: bool,
}

/// The client's frame; other members are its own.
#[derive(Deserialize)]
struct Ack<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

impl Confirmations {
    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// One more under this id; None: the client owes too many, or has gone.
    pub fn expect(&mut self, id: u64) -> Option<oneshot::Receiver<()>> {
        if self.owed.len() >= UNCONFIRMED_MAX {
            // Those whose senders have given up are only kept so that a late word is known as one.
            let given_up = |(_, waiting): &(u64, Option<oneshot::Sender<()>>)| {
                waiting.as_ref().is_none_or(oneshot::Sender::is_closed)
            };
            let place = self.owed.iter().position(given_up)?;
            self.owed.remove(place);
        }
        let (sender, receiver) = oneshot::channel();
        (!self.ended).then(|| {
            self.owed.push_back((id, Some(sender)));
            receiver
        })
    }

    /// Its message was not sent.
    pub fn forget(&mut self, id: u64) {
        self.owed.retain(|(owed, _)| *owed != id);
    }

    /// Whether a text of the client is a confirmation of one of these.
    pub fn take(&mut self, text: &[u8]) -> bool {
        if text.len() > ACK_BYTES_MAX {
            return false;
        }
        let Ok(Ack { kind, id }) = serde_json::from_slice(text) else { return false };
        let Some(id) = (kind == "ack").then(|| parse_id(&id)).flatten() else { return false };
        let Some(place) = self.owed.iter().position(|(owed, _)| *owed == id) else { return false };
        if let Some((_, Some(waiting))) = self.owed.remove(place) {
            // A late word: who waited has given up.
            let _late = waiting.send(());
        }
        true
    }

    /// The connection has ended.
    pub fn end(&mut self) {
        self.ended = true;
        self.owed = VecDeque::new();
    }
}

/// Ids are numbers that cannot be guessed, as texts.
pub(super) fn id_text(id: u64) -> String {
    format!("{id:016x}")
}

fn parse_id(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// The frame's payload around a message.
pub(super) fn wrapped(id: u64, message: &[u8]) -> Vec<u8> {
    let mut wrapped = Vec::with_capacity(message.len() + 64);
    wrapped.extend_from_slice(b"{\"type\":\"message\",\"id\":\"");
    wrapped.extend_from_slice(id_text(id).as_bytes());
    wrapped.extend_from_slice(b"\",\"data\":");
    wrapped.extend_from_slice(message);
    wrapped.push(b'}');
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_is_of_what_is_owed_only() {
        let mut owed = Confirmations::default();
        let mut first = owed.expect(7).unwrap();
        let _second = owed.expect(8).unwrap();
        for other in [
            r#"{"type": "ack"}"#,
            r#"{"type": "ack", "id": "0000000000000009"}"#,
            r#"{"type": "ack", "id": 7}"#,
            r#"{"type": "ack", "id": "7"}"#,
            r#"{"type": "message", "id": "0000000000000007"}"#,
            "7",
            "{",
        ] {
            assert!(!owed.take(other.as_bytes()), "{other}");
        }
        assert!(first.try_recv().is_err());
        let word = r#"{"id": "0000000000000007", "type": "ack", "mine": [1]}"#;
        assert!(owed.take(word.as_bytes()));
        assert_eq!(first.try_recv(), Ok(()));
        assert!(!owed.take(word.as_bytes()), "said once more it is an event");
        let made: serde_json::Value = serde_json::from_slice(&wrapped(7, b"[1 ]")).unwrap();
        assert_eq!(made, serde_json::json!({"type": "message", "id": "0000000000000007", "data": [1]}));
    }

    #[test]
    fn what_is_owed_is_bounded_and_ends() {
        let mut owed = Confirmations::default();
        let mut waiting: Vec<_> = (0..64).map(|id| owed.expect(id).unwrap()).collect();
        assert!(owed.expect(64).is_none());
        drop(waiting.remove(3));
        assert!(owed.take(br#"{"type":"ack","id":"0000000000000003"}"#), "late, and still no event");
        assert!(owed.expect(65).is_some() && owed.expect(66).is_some(), "the last sender gave up at once");
        owed.end();
        assert!(waiting[0].try_recv().is_err() && owed.is_empty() && owed.expect(67).is_none());
    }
}
