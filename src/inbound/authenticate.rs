//! What is the client showing? Looks for the credential where the endpoint's rule says; whether it holds is for the
//! authentication room. Tokens are never logged.

use actix_http::header::{HeaderMap, AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;

use crate::authentication::Presented;
use crate::model::authentication::{ApiKeyPlace, Authentication, Mode};

/// The prefix of a subprotocol that carries a credential; it is never echoed.
pub const CREDENTIAL_SUBPROTOCOL_PREFIX: &str = "bearer.";

/// The credential of a handshake. `decoded` is room for one that has to be decoded.
pub fn presented<'a>(
    rule: &Authentication,
    headers: &'a HeaderMap,
    query: &'a [(String, String)],
    decoded: &'a mut String,
) -> Presented<'a> {
    match &rule.mode {
        // An authorizer is shown the handshake, not a part of it; a certificate came before it.
        Mode::None | Mode::Authorizer { .. } | Mode::ClientCertificate(_) => Presented::Nothing,
        Mode::Basic(_) => password(headers, decoded).unwrap_or(Presented::Nothing),
        Mode::ApiKey(keys) => {
            let key = match &keys.place {
                ApiKeyPlace::Header(name) => headers.get(name.as_str()).and_then(|value| value.to_str().ok()),
                ApiKeyPlace::Query(name) => query_value(query, name),
                ApiKeyPlace::Subprotocol => subprotocol_credential(headers),
            };
            key.map_or(Presented::Nothing, Presented::Key)
        }
        Mode::Bearer(_) | Mode::Jwt(_) | Mode::Oauth2(_) => {
            let token = authorization(headers, "bearer")
                .or_else(|| query_value(query, rule.token_query.as_deref()?))
                .or_else(|| subprotocol_credential(headers))
                .filter(|token| !token.is_empty());
            token.map_or(Presented::Nothing, Presented::Token)
        }
    }
}

/// `user:password` in base64 (RFC 7617); what is none is nothing.
fn password<'a>(headers: &HeaderMap, decoded: &'a mut String) -> Option<Presented<'a>> {
    let bytes = STANDARD.decode(authorization(headers, "basic")?).ok()?;
    *decoded = String::from_utf8(bytes).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Presented::Password { user, password })
}

/// What follows the scheme, in lower case here, of the Authorization header.
fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| credentials.trim())
}

fn query_value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn subprotocol_credential(headers: &HeaderMap) -> Option<&str> {
    offered_subprotocols(headers).find_map(|offered| offered.strip_prefix(CREDENTIAL_SUBPROTOCOL_PREFIX))
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
    use crate::model::authentication::{ApiKeys, BasicUsers, BearerCheck};
    use actix_http::header::{HeaderName, HeaderValue};
    use std::time::Duration;

    /// The credential as `kind:text`.
    fn shown(mode: Mode, name: &'static str, value: &'static str, query: &[(&str, &str)]) -> String {
        let rule = Authentication { mode, token_query: Some("token".into()), recheck: None, refresh: false };
        let mut headers = HeaderMap::new();
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        let query: Vec<_> = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match presented(&rule, &headers, &query, &mut String::new()) {
            Presented::Nothing => "nothing".to_owned(),
            Presented::Password { user, password } => format!("password:{user}:{password}"),
            Presented::Key(key) => format!("key:{key}"),
            Presented::Token(token) => format!("token:{token}"),
            Presented::Handshake(_) | Presented::Certificates(_) => unreachable!("not of these modes"),
        }
    }

    #[test]
    fn finds_keys_in_each_place() {
        let key = |place| Mode::ApiKey(ApiKeys { place, keys: Vec::new() });
        let header = || key(ApiKeyPlace::Header("x-api-key".into()));
        assert_eq!(shown(header(), "x-api-key", "k1", &[]), "key:k1");
        assert_eq!(shown(header(), "authorization", "Bearer k1", &[("token", "k2")]), "nothing");
        assert_eq!(shown(key(ApiKeyPlace::Query("key".into())), "x", "1", &[("key", "k1")]), "key:k1");
        let offered = ("sec-websocket-protocol", "chat, bearer.k1");
        assert_eq!(shown(key(ApiKeyPlace::Subprotocol), offered.0, offered.1, &[]), "key:k1");
    }

    #[test]
    fn finds_tokens_in_each_place_and_in_this_order() {
        let bearer = || Mode::Bearer(BearerCheck { url: "http://h".into(), cache: Duration::ZERO });
        assert_eq!(shown(bearer(), "authorization", "bEaReR  t1 ", &[("token", "t2")]), "token:t1");
        assert_eq!(shown(bearer(), "authorization", "Basic dTpw", &[("token", "t2")]), "token:t2");
        assert_eq!(shown(bearer(), "sec-websocket-protocol", "bearer.t3", &[("token", "t2")]), "token:t2");
        assert_eq!(shown(bearer(), "sec-websocket-protocol", "a,bearer.t3", &[]), "token:t3");
        assert_eq!(shown(bearer(), "authorization", "Bearer", &[]), "nothing");
        assert_eq!(shown(bearer(), "authorization", "Bearer ", &[]), "nothing");
        assert_eq!(shown(bearer(), "x-token", "t", &[("other", "t")]), "nothing");
    }

    #[test]
    fn decodes_passwords() {
        let basic = || Mode::Basic(BasicUsers(Vec::new()));
        // ann:a:b with an umlaut in front.
        assert_eq!(shown(basic(), "authorization", "Basic w6RubjphOmI=", &[]), "password:änn:a:b");
        assert_eq!(shown(basic(), "authorization", "basic YW5uOg==", &[]), "password:ann:");
        for none in ["Basic", "Basic !", "Basic YW5u", "Basic /////w==", "Bearer YW5uOg=="] {
            assert_eq!(shown(basic(), "authorization", none, &[("token", "t")]), "nothing", "{none}");
        }
    }
}
