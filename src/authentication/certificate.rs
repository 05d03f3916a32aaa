//! Mode clientCertificate: what a client has proven at its TLS handshake. Looked at again for each WebSocket handshake: a
//! TLS session that is resumed brings the certificate of the first one, which may have been revoked since.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use serde_json::{json, Map, Value};
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid2abbrev, oid_registry};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::claims::{checked_size, checked_user, Unusable};
use super::{Accepted, Authenticator, Credential, Holds};
use crate::model::authentication::{sha256, CertificateName};
use crate::model::timestamp::rfc3339;

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("the client certificate is not accepted")]
    NotAccepted,
    #[error("the client certificate does not say who the client is")]
    Nameless,
    #[error("the client certificate says too much: {0}")]
    TooLong(#[from] Unusable),
}

impl CertificateFault {
    /// A metric label.
    pub const fn outcome(&self) -> &'static str {
        match self {
            CertificateFault::NotAccepted => "certificate_not_accepted",
            CertificateFault::Nameless => "certificate_nameless",
            CertificateFault::TooLong(_) => "certificate_too_long",
        }
    }
}

impl Authenticator {
    /// The client's own certificate comes first.
    pub(super) fn certificate(
        &self,
        name: CertificateName,
        chain: Arc<[CertificateDer<'static>]>,
    ) -> Result<Accepted, CertificateFault> {
        let accepted = self.client_tls.as_ref().map_or(Err("no TLS here".to_owned()), |tls| tls.accepts(&chain));
        if let Err(why) = accepted {
            tracing::debug!("client certificate: {why}");
            return Err(CertificateFault::NotAccepted);
        }
        let own = chain.first().ok_or(CertificateFault::NotAccepted)?;
        let (_, parsed) = X509Certificate::from_der(own).map_err(|err| {
            tracing::debug!("client certificate: {err}");
            CertificateFault::NotAccepted
        })?;
        let names = Names::of(&parsed);
        let user = checked_user(&names.user(name, &parsed).ok_or(CertificateFault::Nameless)?)?;
        let ends = parsed.validity().not_after.timestamp();
        Ok(Accepted {
            user: Some(user),
            claims: Some(checked_size(claims(own, &parsed, names))?),
            groups: Vec::new(),
            holds: Holds { until_unix_millis: Some(unix_millis_of(ends)), ..Holds::default() },
            credential: Credential::Certificates(chain),
        })
    }
}

fn unix_millis_of(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

/// The names that a certificate is for. What is no text is none.
#[derive(Default)]
struct Names {
    common_name: Option<String>,
    dns: Vec<String>,
    email: Vec<String>,
    uri: Vec<String>,
    ip: Vec<String>,
}

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Names {
        let common_name = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let mut names = Names { common_name: common_name.map(str::to_owned), ..Names::default() };
        // One that cannot be read, or is there twice, is as if it were not.
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => names.email.push((*name).to_owned()),
                GeneralName::URI(name) => names.uri.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.ip.extend(address(bytes)),
                _ => {}
            }
        }
        names
    }

    fn user(&self, name: CertificateName, certificate: &X509Certificate<'_>) -> Option<String> {
        let user = match name {
            CertificateName::CommonName => self.common_name.clone(),
            CertificateName::DnsName => self.dns.first().cloned(),
            CertificateName::Email => self.email.first().cloned(),
            CertificateName::Uri => self.uri.first().cloned(),
            CertificateName::Subject => Some(distinguished(certificate.subject())),
        };
        // Where it goes, in headers and logs, there is no place for them.
        user.filter(|user| !user.is_empty() && !user.chars().any(char::is_control))
    }
}

/// A name as RFC 4514 writes it, so that no two names are written alike.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = attribute.attr_type();
    match (oid2abbrev(kind, oid_registry()), attribute.as_str()) {
        (Ok(name), Ok(value)) => format!("{name}={}", escaped(value)),
        (Err(_), Ok(value)) => format!("{}={}", kind.to_id_string(), escaped(value)),
        (_, Err(_)) => format!("{}=#{}", kind.to_id_string(), hexadecimal(attribute.attr_value().data)),
    }
}

/// RFC 4514 §2.4.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=');
        let at_an_end = at == 0 && c == '#' || (at == 0 || at == last) && c == ' ';
        if special || at_an_end {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|v4| std::net::Ipv4Addr::from(v4).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
        _ => None,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What routes, filters and services may want to know.
fn claims(own: &CertificateDer<'_>, certificate: &X509Certificate<'_>, names: Names) -> Map<String, Value> {
    let time = |seconds: i64| rfc3339(unix_millis_of(seconds));
    let validity = certificate.validity();
    let mut claims = Map::new();
    claims.insert("subject".to_owned(), distinguished(certificate.subject()).into());
    claims.insert("issuer".to_owned(), distinguished(certificate.issuer()).into());
    claims.insert("serialNumber".to_owned(), hexadecimal(certificate.raw_serial()).into());
    claims.insert("fingerprint".to_owned(), format!("sha256:{}", hexadecimal(&sha256(own))).into());
    claims.insert("notBefore".to_owned(), time(validity.not_before.timestamp()).into());
    claims.insert("notAfter".to_owned(), time(validity.not_after.timestamp()).into());
    if let Some(name) = names.common_name {
        claims.insert("commonName".to_owned(), name.into());
    }
    for (kind, found) in [("dnsNames", names.dns), ("emails", names.email), ("uris", names.uri), ("ips", names.ip)] {
        if !found.is_empty() {
            claims.insert(kind.to_owned(), json!(found));
        }
    }
    claims
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
