//! Coming back to a connection whose socket was lost: the rule of an endpoint, the token, the frame that tells a client
//! where it is, and why it could not come back. Plain types; imports connection_id.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::connection_id::ConnectionId;

/// What an endpoint says about connections without a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeRule {
    /// How long a connection waits for its client.
    pub window: Duration,
    /// What is kept of its messages, with [`MESSAGE_OVERHEAD_BYTES`] for each.
    pub max_bytes: usize,
}

/// What a kept message costs beyond its frame: about what its place in the queue and its allocation take.
pub const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// 128 bits, too many to guess.
const SECRET_BYTES: usize = 16;

/// Shown by a client that comes back: its connection and the secret of its last socket. Never in a log: it has no Debug
/// that shows the secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResumeToken {
    pub connection: ConnectionId,
    secret: [u8; SECRET_BYTES],
}

/// What is kept of a token.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl ResumeToken {
    pub fn generate(connection: ConnectionId) -> ResumeToken {
        ResumeToken { connection, secret: rand::random() }
    }

    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.secret).into())
    }

    /// For the client alone.
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.connection, URL_SAFE_NO_PAD.encode(self.secret))
    }
}

impl TokenHash {
    /// Takes the same time whatever is wrong.
    pub fn is_of(&self, token: &ResumeToken) -> bool {
        self.0.ct_eq(&token.hash().0).into()
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeToken").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// Not a token of this gateway's making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no resume token")]
pub struct NoToken;

impl FromStr for ResumeToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<ResumeToken, NoToken> {
        let (connection, secret) = text.split_once('.').ok_or(NoToken)?;
        let connection = connection.parse().map_err(|_| NoToken)?;
        let secret = URL_SAFE_NO_PAD.decode(secret).map_err(|_| NoToken)?;
        Ok(ResumeToken { connection, secret: secret.try_into().map_err(|_| NoToken)? })
    }
}

/// What a returning client shows. Between nodes the token goes as the client shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(try_from = "ShownClaim", into = "ShownClaim")]
pub struct Claim {
    pub token: ResumeToken,
    /// How many messages it has received on this connection.
    pub received: u64,
}

#[derive(Serialize, serde::Deserialize)]
struct ShownClaim {
    token: String,
    received: u64,
}

impl From<Claim> for ShownClaim {
    fn from(claim: Claim) -> ShownClaim {
        ShownClaim { token: claim.token.reveal(), received: claim.received }
    }
}

impl TryFrom<ShownClaim> for Claim {
    type Error = NoToken;

    fn try_from(shown: ShownClaim) -> Result<Claim, NoToken> {
        Ok(Claim { token: shown.token.parse()?, received: shown.received })
    }
}

/// Why a connection could not be resumed. The client has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotResumed {
    Unknown,
    MissedTooMuch,
    OtherUser,
    OtherEndpoint,
    NodeLost,
    Malformed,
}

impl NotResumed {
    /// As the session frame and metrics call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            NotResumed::Unknown => "unknown",
            NotResumed::MissedTooMuch => "missed_too_much",
            NotResumed::OtherUser => "other_user",
            NotResumed::OtherEndpoint => "other_endpoint",
            NotResumed::NodeLost => "node_lost",
            NotResumed::Malformed => "malformed",
        }
    }
}

/// The first frame of a socket.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionFrame<'a> {
    r#type: &'static str,
    connection_id: &'a str,
    resume_token: String,
    resumed: bool,
    received: u64,
    window_in_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// The first frame of a new connection.
pub fn session_frame(connection_id: &str, token: &ResumeToken, rule: &ResumeRule, why: Option<NotResumed>) -> Vec<u8> {
    frame(SessionFrame {
        r#type: "session",
        connection_id,
        resume_token: token.reveal(),
        resumed: false,
        received: 0,
        window_in_seconds: rule.window.as_secs(),
        reason: why.map(NotResumed::as_str),
    })
}

/// The first frame of a connection's next socket.
pub fn resumed_frame(connection_id: &str, token: &ResumeToken, rule: &ResumeRule, received: u64) -> Vec<u8> {
    frame(SessionFrame {
        r#type: "session",
        connection_id,
        resume_token: token.reveal(),
        resumed: true,
        received,
        window_in_seconds: rule.window.as_secs(),
        reason: None,
    })
}

fn frame(frame: SessionFrame<'_>) -> Vec<u8> {
    // Texts and numbers: cannot fail.
    serde_json::to_vec(&frame).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_were_written_and_do_not_show_themselves() {
        let token = ResumeToken::generate(ConnectionId::generate(1, 2));
        let text = token.reveal();
        let read: ResumeToken = text.parse().unwrap();
        assert!(read == token && token.hash().is_of(&read));
        assert!(!token.hash().is_of(&ResumeToken::generate(token.connection)));
        let secret = text.split_once('.').unwrap().1;
        let claim = Claim { token, received: 7 };
        assert_eq!(serde_json::from_str::<Claim>(&serde_json::to_string(&claim).unwrap()).unwrap(), claim);
        assert!(!format!("{token:?} {:?}", Claim { token, received: 1 }).contains(secret));
        for bad in ["", ".", "a.b", secret, &text[1..], &format!("{text}A"), &text.replace('.', "")] {
            assert_eq!(bad.parse::<ResumeToken>(), Err(NoToken), "{bad}");
        }
    }
}
