//! An issuer's metadata (OpenID Connect Discovery 1.0, RFC 8414): where its keys are, and where it answers questions
//! about tokens. An issuer that calls itself by another name is not believed.

use std::sync::Arc;

use actix_http::header::{HeaderValue, ACCEPT};
use actix_http::Method;
use bytes::Bytes;
use serde::Deserialize;

use super::outbound::{Answer, Call, CallError, Outbound};

/// Metadata of large providers has a few kilobytes.
const METADATA_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug, Deserialize)]
pub struct Metadata {
    issuer: String,
    pub jwks_uri: Option<String>,
    pub introspection_endpoint: Option<String>,
}

/// Why something is not known. For logs: names neither tokens nor secrets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DiscoveryError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("answered {0}")]
    Status(u16),
    #[error("its metadata cannot be read")]
    Metadata,
    #[error("its metadata is that of another issuer")]
    OtherIssuer,
    #[error("its metadata has no usable {0}")]
    Missing(&'static str),
    #[error("its key set cannot be read")]
    Keys,
}

/// A GET for JSON.
pub async fn get_json(
    outbound: &Outbound,
    purpose: &'static str,
    url: &str,
    answer_bytes_max: usize,
) -> Result<Answer, CallError> {
    let headers = vec![(ACCEPT, HeaderValue::from_static("application/json"))];
    let body = Bytes::new();
    outbound.call(Call { purpose, method: Method::GET, url: url.into(), headers, body, answer_bytes_max }).await
}

/// Where an issuer's metadata may be: OpenID's place, then OAuth's.
fn places(issuer: &str) -> [String; 2] {
    let base = issuer.trim_end_matches('/');
    let host_end = base.find("://").map_or(0, |at| at + 3);
    let path_start = base[host_end..].find('/').map_or(base.len(), |at| host_end + at);
    let (host, path) = base.split_at(path_start);
    [format!("{base}/.well-known/openid-configuration"), format!("{host}/.well-known/oauth-authorization-server{path}")]
}

/// Asks an issuer about itself.
pub async fn discover(outbound: &Outbound, issuer: &str) -> Result<Metadata, DiscoveryError> {
    let mut last = DiscoveryError::Metadata;
    for place in places(issuer) {
        let answer = get_json(outbound, "discovery", &place, METADATA_BYTES_MAX).await?;
        match answer.status {
            200 => return read(issuer, &answer.body),
            status => last = DiscoveryError::Status(status),
        }
    }
    Err(last)
}

fn read(issuer: &str, body: &[u8]) -> Result<Metadata, DiscoveryError> {
    let metadata: Metadata = serde_json::from_slice(body).map_err(|_| DiscoveryError::Metadata)?;
    match metadata.issuer == issuer {
        true => Ok(metadata),
        false => Err(DiscoveryError::OtherIssuer),
    }
}

/// One of the metadata's URLs. An issuer that is asked over TLS must not send elsewhere without it.
pub fn usable(issuer: &str, url: Option<String>, what: &'static str) -> Result<Arc<str>, DiscoveryError> {
    let secure = issuer.starts_with("https://");
    url.filter(|url| url.starts_with("https://") || (!secure && url.starts_with("http://")))
        .map(Arc::from)
        .ok_or(DiscoveryError::Missing(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_metadata() {
        assert_eq!(
            places("https://h:8/realms/a/"),
            [
                "https://h:8/realms/a/.well-known/openid-configuration",
                "https://h:8/.well-known/oauth-authorization-server/realms/a"
            ]
        );
        assert_eq!(places("https://h")[1], "https://h/.well-known/oauth-authorization-server");
    }

    #[test]
    fn an_issuer_must_be_itself_and_must_not_leave_tls() {
        let body = br#"{"issuer": "https://h", "jwks_uri": "http://h/k"}"#;
        let metadata = read("https://h", body).unwrap();
        assert!(matches!(read("https://h/", body), Err(DiscoveryError::OtherIssuer)));
        assert!(matches!(read("https://h", b"{}"), Err(DiscoveryError::Metadata)));
        assert!(usable("https://h", metadata.jwks_uri.clone(), "jwks_uri").is_err());
        assert_eq!(&*usable("http://h", metadata.jwks_uri, "jwks_uri").unwrap(), "http://h/k");
        assert!(usable("http://h", Some("file:///k".into()), "jwks_uri").is_err());
        assert!(usable("http://h", None, "jwks_uri").is_err());
    }
}
