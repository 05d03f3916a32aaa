//! Who is calling, when proxies stand in between: the client's address, and the host and scheme that it called, by the
//! word of trusted proxies only. Pure. Called by upgrade; imports model.
//!
//! Each proxy appends what it saw to the right, so headers are read from the right, and only as long as the one who
//! wrote is trusted: what is further left may be the client's own invention. Quoted texts are read from the right too;
//! a quote that the client opened cannot swallow what a proxy appended.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use actix_http::header::{
    HeaderMap, HeaderName, HeaderValue, FORWARDED, HOST, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO,
};
use rustls::pki_types::CertificateDer;

use crate::model::filters::Scheme;
use crate::model::proxies::{ForwardedHeader, TrustedProxies};

/// A client as far as it can be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Never IPv4-mapped.
    pub ip: IpAddr,
    /// The host that the client called, with its port if it has one.
    pub host: Option<String>,
    /// None: nobody trusted has said.
    pub scheme: Option<Scheme>,
    /// Those of its TLS handshake with this node, or with the one that has brought it.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl Caller {
    /// One that has shown no certificate.
    fn new(ip: IpAddr, host: Option<String>, scheme: Option<Scheme>) -> Caller {
        Caller { ip, host, scheme, certificates: Vec::new() }
    }
}

/// `Forwarded` and `X-Forwarded-For` name different clients, and nothing says which of them the proxy wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Forwarded and X-Forwarded-For name different clients; the setting client.forwarded_header says which to take")]
pub struct Contradiction;

/// Resolves the client of a handshake that came from `peer`.
pub fn caller(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
    which: ForwardedHeader,
) -> Result<Caller, Contradiction> {
    let peer = peer.to_canonical();
    let direct = || Caller::new(peer, headers.get(HOST).and_then(text).map(Cow::into_owned), None);
    if trusted.is_empty() || !trusted.contains(peer) {
        return Ok(direct());
    }
    let wanted = |header, name: &HeaderName| which != header && headers.contains_key(name);
    let standard = wanted(ForwardedHeader::XForwardedFor, &FORWARDED).then(|| by_forwarded(peer, headers, trusted));
    let x = wanted(ForwardedHeader::Forwarded, &X_FORWARDED_FOR).then(|| by_x_forwarded_for(peer, headers, trusted));
    let found = match (standard, x) {
        (Some(standard), Some(x)) if standard.ip != x.ip => return Err(Contradiction),
        (Some(standard), Some(x)) => {
            Caller { host: standard.host.or(x.host), scheme: standard.scheme.or(x.scheme), ..standard }
        }
        (Some(found), None) | (None, Some(found)) => found,
        (None, None) if which == ForwardedHeader::Forwarded => direct(),
        // Some proxies say only what was called.
        (None, None) => Caller::new(peer, last(headers, &X_FORWARDED_HOST), x_scheme(headers)),
    };
    Ok(Caller { host: found.host.or_else(|| direct().host), ..found })
}

/// Follows hops from the right; answers the first address that is not a trusted proxy's, or else the last hop that is
/// known, and how many entries were believed.
fn follow(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &TrustedProxies) -> (IpAddr, usize) {
    let mut last = peer;
    let mut believed = 0;
    for hop in hops {
        believed += 1;
        match hop {
            Some(ip) if trusted.contains(ip) => last = ip,
            Some(ip) => return (ip, believed),
            // "unknown", an obfuscated name or nonsense: whoever wrote it is the last that we can name.
            None => break,
        }
    }
    (last, believed)
}

fn by_x_forwarded_for(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Caller {
    let lines: Vec<_> = headers.get_all(X_FORWARDED_FOR).collect();
    let hops = from_the_right(&lines).map(|item| node(&item));
    let (ip, _) = follow(peer, hops, trusted);
    Caller::new(ip, last(headers, &X_FORWARDED_HOST), x_scheme(headers))
}

fn x_scheme(headers: &HeaderMap) -> Option<Scheme> {
    last(headers, &X_FORWARDED_PROTO).as_deref().and_then(Scheme::parse)
}

/// The last value of a header that may be a list: the nearest proxy's word.
fn last(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).collect();
    let last = from_the_right(&lines).next().filter(|item| !item.is_empty()).map(Cow::into_owned);
    last
}

fn by_forwarded(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Caller {
    let lines: Vec<_> = headers.get_all(FORWARDED).collect();
    let elements: Vec<Element> = from_the_right(&lines).map(|item| Element::parse(&item)).collect();
    let (ip, believed) = follow(peer, elements.iter().map(|element| element.node), trusted);
    // The outermost trusted proxy heard the client itself; a nearer one knows better than nobody.
    let mut believed: Vec<_> = elements.into_iter().take(believed).collect();
    believed.reverse();
    let scheme = believed.iter().find_map(|element| element.scheme);
    let host = believed.into_iter().find_map(|element| element.host);
    Caller::new(ip, host, scheme)
}

/// What one proxy says in a `Forwarded` header. Whatever is malformed is as if it were not there.
#[derive(Debug, Default)]
struct Element {
    node: Option<IpAddr>,
    host: Option<String>,
    scheme: Option<Scheme>,
}

impl Element {
    fn parse(text: &str) -> Element {
        let mut element = Element::default();
        let mut nodes = 0;
        for pair in split_from_the_right(text, b';') {
            let Some((name, value)) = pair.split_once('=') else { continue };
            let Some(value) = unquoted(value.trim()) else { continue };
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => {
                    nodes += 1;
                    element.node = node(&value);
                }
                "host" => element.host = Some(value),
                "proto" => element.scheme = Scheme::parse(&value),
                _ => {}
            }
        }
        // RFC 7239 §4: each parameter at most once an element.
        element.node = element.node.filter(|_| nodes == 1);
        element
    }
}

/// The value of a token or a quoted string; None: it is neither.
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let mut text = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        match (escaped, c) {
            (false, '\\') => escaped = true,
            (false, '"') => return None,
            _ => {
                text.push(c);
                escaped = false;
            }
        }
    }
    (!escaped).then_some(text)
}

/// The address of a node (RFC 7239 §6, and the bare forms of `X-Forwarded-For`): `192.0.2.1`, `192.0.2.1:80`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`, `2001:db8::1`. None for `unknown`, `_hidden` and nonsense.
fn node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return (port.is_empty() || is_port(port.strip_prefix(':')?)).then(|| IpAddr::V6(address).to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    is_port(port).then_some(IpAddr::V4(address))
}

/// A number, or an obfuscated name.
fn is_port(text: &str) -> bool {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let hidden = text.len() > 1 && text.starts_with('_') && text.bytes().all(|b| b.is_ascii_graphic());
    digits || hidden
}

fn text(value: &HeaderValue) -> Option<Cow<'_, str>> {
    value.to_str().ok().map(Cow::Borrowed)
}

/// The items of a list header over all its lines, the last one first.
fn from_the_right<'h>(lines: &'h [&'h HeaderValue]) -> impl Iterator<Item = Cow<'h, str>> {
    lines.iter().rev().flat_map(|line| match String::from_utf8_lossy(line.as_bytes()) {
        Cow::Borrowed(line) => split_from_the_right(line, b',').into_iter().map(Cow::Borrowed).collect::<Vec<_>>(),
        Cow::Owned(line) => {
            split_from_the_right(&line, b',').into_iter().map(|item| Cow::Owned(item.to_owned())).collect()
        }
    })
}

/// Parts between separators that stand outside quotes, trimmed, the last one first. An unpaired quote on the left
/// belongs to the leftmost part.
fn split_from_the_right(text: &str, separator: u8) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let mut end = bytes.len();
    let mut quoted = false;
    for at in (0..bytes.len()).rev() {
        match bytes[at] {
            b'"' if !is_escaped(bytes, at) => quoted = !quoted,
            byte if byte == separator && !quoted => {
                parts.push(text[at + 1..end].trim());
                end = at;
            }
            _ => {}
        }
    }
    parts.push(text[..end].trim());
    parts
}

/// Whether an odd number of backslashes stands before it.
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
#[path = "client_address_tests.rs"]
mod tests;
