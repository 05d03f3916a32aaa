//! Mode authorizer: a service looks at the whole handshake and says who it is. 2xx is yes, its 401 and 403 are the
//! client's; anything else, or silence, is neither.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims::{self, Unusable};
use super::{shown, unavailable, Accepted, Authenticator, Credential, Denied, Holds};
use crate::model::delivery::is_group_name;
use crate::model::limits;

/// What a service may say of a client; other members are its own.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Word {
    user_id: Option<String>,
    claims: Option<Map<String, Value>>,
    groups: Option<Vec<String>>,
}

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// The parser's own words would quote values.
    #[error("it is not {{\"userId\", \"claims\", \"groups\"}} (line {line}, column {column})")]
    Shape { line: usize, column: usize },
    #[error("{0}")]
    Claims(#[from] Unusable),
    #[error("it has more than {} groups, or one that is no name", limits::GROUPS_MAX)]
    Groups,
}

impl Authenticator {
    pub(super) async fn authorizer(&self, url: &str, handshake: Arc<str>) -> Result<Accepted, Denied> {
        let answer = self.post_json("authorizer", url, handshake.to_string()).await?;
        let accepted = match answer.status {
            200..=299 => read(&answer.body),
            401 => return Err(Denied::Wrong),
            403 => return Err(Denied::Forbidden),
            status => {
                tracing::warn!(url = shown(url), status, "the authorizer did not say yes or no");
                return Err(unavailable());
            }
        };
        let mut accepted = accepted.map_err(|fault| {
            tracing::warn!(url = shown(url), "the authorizer's answer cannot be used: {fault}");
            unavailable()
        })?;
        if accepted.holds.until_unix_millis.is_some_and(|until| until <= super::unix_millis()) {
            return Err(Denied::Wrong);
        }
        accepted.credential = Credential::Handshake(handshake);
        Ok(accepted)
    }
}

fn read(body: &[u8]) -> Result<Accepted, Fault> {
    let word: Word = match body.iter().all(u8::is_ascii_whitespace) {
        true => Word::default(),
        false => serde_json::from_slice(body).map_err(|err| Fault::Shape { line: err.line(), column: err.column() })?,
    };
    let groups = word.groups.unwrap_or_default();
    if groups.len() > limits::GROUPS_MAX || !groups.iter().all(|group| is_group_name(group)) {
        return Err(Fault::Groups);
    }
    let until_unix_millis = word.claims.as_ref().map_or(Ok(None), claims::until)?;
    Ok(Accepted {
        user: word.user_id.as_deref().filter(|name| !name.is_empty()).map(claims::checked_user).transpose()?,
        claims: word.claims.map(claims::checked_size).transpose()?,
        groups,
        credential: Credential::Anonymous,
        holds: Holds { until_unix_millis, age: Duration::ZERO },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_service_may_say() {
        let whole = read(br#"{"userId": "ann", "claims": {"exp": 5, "a": [1]}, "groups": ["g"], "mine": 1}"#).unwrap();
        assert_eq!(whole.user.as_deref(), Some("ann"));
        assert_eq!(whole.claims, Some(serde_json::json!({"exp": 5, "a": [1]})));
        assert_eq!((whole.groups, whole.holds.until_unix_millis), (vec!["g".to_owned()], Some(5000)));
        for nothing in [&b""[..], b" \n", b"{}", br#"{"userId": null, "groups": []}"#] {
            let read = read(nothing).unwrap();
            assert_eq!((read.user, read.claims, read.groups), (None, None, Vec::new()));
        }
        for wrong in
            ["[]", "{", "\"ok\"", r#"{"userId": 5}"#, r#"{"groups": "g"}"#, r#"{"groups": [""]}"#, r#"{"claims": []}"#]
        {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let crowd = serde_json::json!({"groups": vec!["g"; 65]}).to_string();
        assert!(read(crowd.as_bytes()).is_err());
    }
}
