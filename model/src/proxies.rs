//! Which peers are trusted to say for whom they speak: the node's setting `client.trusted_proxies`. Read by settings and
//! inbound; imports filters.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::filters::IpRule;

/// Addresses of proxies, written as in `filters`: an address, a CIDR block or a dotted prefix.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct TrustedProxies {
    texts: Vec<String>,
    rules: Vec<IpRule>,
}

impl TrustedProxies {
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.rules.iter().any(|rule| rule.contains(ip))
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl TryFrom<Vec<String>> for TrustedProxies {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<TrustedProxies, String> {
        let parse = |text: &String| IpRule::parse(text).map_err(|err| format!("{text:?} {err}"));
        let rules = texts.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(TrustedProxies { texts, rules })
    }
}

impl From<TrustedProxies> for Vec<String> {
    fn from(proxies: TrustedProxies) -> Vec<String> {
        proxies.texts
    }
}

/// Which header the trusted proxies write; the setting `client.forwarded_header`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// Whichever is there. A handshake in which both are and name different clients is refused: one of them may be the
    /// client's own.
    #[default]
    Auto,
    /// `Forwarded` (RFC 7239) only.
    Forwarded,
    /// `X-Forwarded-For`, `-Host` and `-Proto` only.
    XForwardedFor,
}
