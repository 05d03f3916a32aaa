//! Who is connecting? Looks for the credential where the endpoint says and compares it. Tokens are never logged.

use actix_http::header::{HeaderMap, SEC_WEBSOCKET_PROTOCOL};

use crate::model::endpoint::{ApiKeyPlace, Authentication};

/// The prefix of a subprotocol that carries a credential; it is never echoed.
pub const CREDENTIAL_SUBPROTOCOL_PREFIX: &str = "bearer.";

/// The identity of an accepted client.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: Option<String>,
}

/// Why a client is not accepted: 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("an API key is required")]
    Missing,
    #[error("the API key is not valid")]
    Wrong,
}

/// Checks the handshake's credential.
pub fn authenticate(
    auth: &Authentication,
    headers: &HeaderMap,
    query: &[(String, String)],
) -> Result<Identity, AuthError> {
    let keys = match auth {
        Authentication::None => return Ok(Identity { user: None }),
        Authentication::ApiKey(keys) => keys,
    };
    let presented = match &keys.place {
        ApiKeyPlace::Header(name) => headers.get(name.as_str()).and_then(|value| value.to_str().ok()),
        ApiKeyPlace::Query(name) => query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()),
        ApiKeyPlace::Subprotocol => {
            offered_subprotocols(headers).find_map(|offered| offered.strip_prefix(CREDENTIAL_SUBPROTOCOL_PREFIX))
        }
    };
    let presented = presented.ok_or(AuthError::Missing)?;
    let user = keys.matches(presented).ok_or(AuthError::Wrong)?.to_owned();
    Ok(Identity { user: Some(user) })
}

/// The subprotocols that the client offers, in its order of preference.
pub fn offered_subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::{sha256, ApiKeys};
    use actix_http::header::{HeaderName, HeaderValue};

    fn auth(place: ApiKeyPlace) -> Authentication {
        Authentication::ApiKey(ApiKeys { place, keys: vec![("alice".into(), sha256(b"alices-long-key-1"))] })
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn finds_the_key_in_each_place() {
        let alice = Ok(Identity { user: Some("alice".into()) });
        let header = auth(ApiKeyPlace::Header("x-api-key".into()));
        assert_eq!(authenticate(&header, &headers("x-api-key", "alices-long-key-1"), &[]), alice);
        assert_eq!(authenticate(&header, &HeaderMap::new(), &[]), Err(AuthError::Missing));
        assert_eq!(authenticate(&header, &headers("x-api-key", "guess"), &[]), Err(AuthError::Wrong));

        let query = auth(ApiKeyPlace::Query("key".into()));
        assert_eq!(authenticate(&query, &HeaderMap::new(), &[("key".into(), "alices-long-key-1".into())]), alice);

        let offered = headers("sec-websocket-protocol", "chat, bearer.alices-long-key-1");
        assert_eq!(authenticate(&auth(ApiKeyPlace::Subprotocol), &offered, &[]), alice);
    }
}
