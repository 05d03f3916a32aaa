//! Who may connect from where: address, Host and Origin lists. Called by inbound; imports nothing of the crate.

use std::net::IpAddr;

/// The compiled `filters` of a document. A non-empty whitelist admits nothing else; a blacklist always wins.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    whitelist_ips: Vec<IpRule>,
    blacklist_ips: Vec<IpRule>,
    whitelist_hosts: Vec<String>,
    blacklist_hosts: Vec<String>,
    allowed_origins: AllowedOrigins,
}

#[derive(Debug, Clone, Default)]
enum AllowedOrigins {
    #[default]
    Any,
    Listed(Vec<String>),
}

/// Which list refused a client. All are answered with 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterRefusal {
    /// `blacklistIps`, or not in `whitelistIps`.
    #[error("this address may not connect")]
    Ip,
    /// `blacklistHosts`, or not in `whitelistHosts`.
    #[error("this host name is not served")]
    Host,
    /// Not in `allowedOrigins`.
    #[error("pages of this origin may not connect")]
    Origin,
}

/// How a page or a handshake travels; `wss` is https, `ws` is http.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// Also WebSocket's own names, which some proxies pass on.
    pub fn parse(text: &str) -> Option<Scheme> {
        let is = |name: &str| text.eq_ignore_ascii_case(name);
        if is("https") || is("wss") {
            Some(Scheme::Https)
        } else if is("http") || is("ws") {
            Some(Scheme::Http)
        } else {
            None
        }
    }
}

/// Why an address rule is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an IP address, a CIDR block (10.0.0.0/8) or a dotted prefix (127.0.0)")]
pub struct IpRuleError;

/// A block of addresses, as the top `bits` of `network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRule {
    v4: bool,
    network: u128,
    bits: u32,
}

/// IPv4 addresses occupy the top 32 bits, so that one comparison serves both families. An IPv4 client on a dual-stack
/// socket (`::ffff:a.b.c.d`) is an IPv4 client.
fn family_and_bits(ip: IpAddr) -> (bool, u128) {
    match ip.to_canonical() {
        IpAddr::V4(v4) => (true, u128::from(u32::from(v4)) << 96),
        IpAddr::V6(v6) => (false, u128::from(v6)),
    }
}

impl IpRule {
    /// Reads an address, a CIDR block (its host bits are ignored) or a dotted prefix of one to three numbers.
    pub fn parse(text: &str) -> Result<Self, IpRuleError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            let (v4, network) = family_and_bits(ip);
            return Ok(Self { v4, network, bits: if v4 { 32 } else { 128 } });
        }
        if let Some((address, length)) = text.split_once('/') {
            let ip: IpAddr = address.parse().map_err(|_| IpRuleError)?;
            if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
                return Err(IpRuleError);
            }
            let bits: u32 = length.parse().map_err(|_| IpRuleError)?;
            // Not canonical here: the length of ::ffff:0:0/96 counts IPv6 bits.
            let (v4, network) = match ip {
                IpAddr::V4(v4) => (true, u128::from(u32::from(v4)) << 96),
                IpAddr::V6(v6) => (false, u128::from(v6)),
            };
            return match bits <= if v4 { 32 } else { 128 } {
                true => Ok(Self { v4, network, bits }.unmapped()),
                false => Err(IpRuleError),
            };
        }
        let mut network = 0u128;
        let mut octets = 0;
        for part in text.strip_suffix('.').unwrap_or(text).split('.') {
            let plain = part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
            let octet = part.parse::<u8>().ok().filter(|_| plain && octets < 3).ok_or(IpRuleError)?;
            network |= u128::from(octet) << (120 - 8 * octets);
            octets += 1;
        }
        Ok(Self { v4: true, network, bits: 8 * octets })
    }

    /// A block inside ::ffff:0:0/96 is a block of IPv4 addresses.
    fn unmapped(self) -> Self {
        match !self.v4 && self.bits >= 96 && self.network >> 32 == 0xffff {
            true => Self { v4: true, network: self.network << 96, bits: self.bits - 96 },
            false => self,
        }
    }

    /// Is the address in the block?
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (v4, bits) = family_and_bits(ip);
        let difference = bits ^ self.network;
        v4 == self.v4 && (self.bits == 0 || difference >> (128 - self.bits) == 0)
    }
}

impl Filters {
    /// Compiles the lists. `allowed_origins` None means all.
    pub fn new(
        whitelist_ips: &[String],
        blacklist_ips: &[String],
        whitelist_hosts: &[String],
        blacklist_hosts: &[String],
        allowed_origins: Option<&[String]>,
    ) -> Result<Self, IpRuleError> {
        let ips = |texts: &[String]| texts.iter().map(|text| IpRule::parse(text)).collect::<Result<Vec<_>, _>>();
        let lower = |texts: &[String]| texts.iter().map(|text| text.to_ascii_lowercase()).collect::<Vec<_>>();
        Ok(Self {
            whitelist_ips: ips(whitelist_ips)?,
            blacklist_ips: ips(blacklist_ips)?,
            whitelist_hosts: lower(whitelist_hosts),
            blacklist_hosts: lower(blacklist_hosts),
            allowed_origins: match allowed_origins {
                None => AllowedOrigins::Any,
                Some(origins) if origins.iter().any(|origin| origin == "*") => AllowedOrigins::Any,
                Some(origins) => AllowedOrigins::Listed(lower(origins)),
            },
        })
    }

    /// Decides on a handshake. `host` is the host that the client called, `origin` its header, `scheme` how it called
    /// where that is known.
    pub fn admit(
        &self,
        client: IpAddr,
        host: Option<&str>,
        origin: Option<&str>,
        scheme: Option<Scheme>,
    ) -> Result<(), FilterRefusal> {
        self.admit_ip(client)?;
        self.admit_host(host)?;
        self.admit_origin(host, origin, scheme)
    }

    fn admit_ip(&self, client: IpAddr) -> Result<(), FilterRefusal> {
        let in_list = |rules: &[IpRule]| rules.iter().any(|rule| rule.contains(client));
        match in_list(&self.blacklist_ips) || !self.whitelist_ips.is_empty() && !in_list(&self.whitelist_ips) {
            true => Err(FilterRefusal::Ip),
            false => Ok(()),
        }
    }

    fn admit_host(&self, host: Option<&str>) -> Result<(), FilterRefusal> {
        let in_list = |names: &[String]| host.is_some_and(|host| names.iter().any(|name| host_matches(name, host)));
        match in_list(&self.blacklist_hosts) || !self.whitelist_hosts.is_empty() && !in_list(&self.whitelist_hosts) {
            true => Err(FilterRefusal::Host),
            false => Ok(()),
        }
    }

    /// Only browsers send Origin; without one there is no page to keep out.
    fn admit_origin(
        &self,
        host: Option<&str>,
        origin: Option<&str>,
        scheme: Option<Scheme>,
    ) -> Result<(), FilterRefusal> {
        let (AllowedOrigins::Listed(allowed), Some(origin)) = (&self.allowed_origins, origin) else {
            return Ok(());
        };
        let listed = allowed.iter().any(|entry| entry.eq_ignore_ascii_case(origin));
        match listed || host.is_some_and(|host| same_origin(host, origin, scheme)) {
            true => Ok(()),
            false => Err(FilterRefusal::Origin),
        }
    }
}

/// A rule without a port covers every port of the host. A trailing dot of a fully qualified name says nothing new.
fn host_matches(rule: &str, host: &str) -> bool {
    let (name, port) = split_port(host);
    let (rule_name, rule_port) = split_port(rule);
    fn bare(name: &str) -> &str {
        name.strip_suffix('.').unwrap_or(name).trim_matches(['[', ']'])
    }
    bare(rule_name).eq_ignore_ascii_case(bare(name)) && (rule_port.is_none() || rule_port == port)
}

/// `[::1]:80` has its port after the bracket, `::1` (a rule written bare) has none.
fn split_port(host: &str) -> (&str, Option<&str>) {
    let after_bracket = host.rfind(']').map_or(0, |at| at + 1);
    match host[after_bracket..].split_once(':') {
        Some((_, port)) if !port.contains(':') => (&host[..host.len() - port.len() - 1], Some(port)),
        _ => (host, None),
    }
}

/// Without a trusted proxy's word the scheme is unknown (TLS may end in front of the node): then only host and port are
/// compared. An origin's missing port is its scheme's.
fn same_origin(host: &str, origin: &str, called: Option<Scheme>) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let Some(scheme) = Scheme::parse(scheme) else { return false };
    if called.is_some_and(|called| called != scheme) {
        return false;
    }
    let (name, port) = split_port(host);
    let (origin_name, origin_port) = split_port(authority);
    let default_port = match scheme {
        Scheme::Https => "443",
        Scheme::Http => "80",
    };
    let origin_port = origin_port.unwrap_or(default_port);
    name.eq_ignore_ascii_case(origin_name) && port.unwrap_or(default_port) == origin_port
}

#[cfg(test)]
#[path = "filters_tests.rs"]
mod tests;
