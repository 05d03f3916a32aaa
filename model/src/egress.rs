//! Where a node may call: rules over host names and addresses. Pure; read by egress (which asks at every connection),
//! config (what can never be called is a warning) and settings (which parses the rules).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::filters::IpRule;

/// The node's settings `outbound.allow`, `outbound.deny` and `outbound.allow_metadata`.
#[derive(Debug, Clone, Default)]
pub struct EgressRules {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    allow_metadata: bool,
}

/// One entry of a list, with its text for people.
#[derive(Debug, Clone)]
struct Rule {
    text: String,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Network(IpRule),
    /// This very host.
    Host(String),
    /// Every host that ends in this, which begins with a dot.
    Below(String),
}

/// Why an entry is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an address, a CIDR block (10.0.0.0/8), a host name or *. and a host name (*.example.com), one is {0:?}"
)]
pub struct RuleError(String);

/// Why a host or address may not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An entry of the deny list.
    #[error("outbound.deny has {0}")]
    Denied(String),
    /// Nothing in a list that is not empty.
    #[error("it is not in outbound.allow")]
    NotAllowed,
    /// Where machines learn about themselves, credentials included.
    #[error("link-local and metadata addresses are closed (outbound.allow_metadata)")]
    Metadata,
    /// Its name is allowed, but leads into this machine.
    #[error("its name is in outbound.allow, but leads to this machine or to no single one")]
    NameLeadsHome,
}

impl Rule {
    fn parse(text: &str) -> Result<Rule, RuleError> {
        let wrong = || RuleError(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let what = if let Ok(network) = IpRule::parse(&lower) {
            What::Network(network)
        } else {
            let (name, below) = lower.strip_prefix("*.").map_or((lower.as_str(), false), |name| (name, true));
            let label = |label: &str| {
                let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                !label.is_empty() && label.bytes().all(word)
            };
            let is_name = name.len() <= 253 && name.split('.').all(label) && inet_aton(name).is_none();
            match (is_name, below) {
                (false, _) => return Err(wrong()),
                (true, true) => What::Below(format!(".{name}")),
                (true, false) => What::Host(name.to_owned()),
            }
        };
        Ok(Rule { text: text.to_owned(), what })
    }

    fn names(&self, host: &str) -> bool {
        match &self.what {
            What::Network(_) => false,
            What::Host(name) => name == host,
            What::Below(suffix) => host.ends_with(suffix.as_str()) && host.len() > suffix.len(),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        matches!(&self.what, What::Network(network) if network.contains(address))
    }
}

impl EgressRules {
    /// Parses the lists; an error names the list.
    pub fn parse(
        allow: &[String],
        deny: &[String],
        allow_metadata: bool,
    ) -> Result<EgressRules, (&'static str, RuleError)> {
        let list = |name, texts: &[String]| -> Result<Vec<Rule>, _> {
            texts.iter().map(|text| Rule::parse(text)).collect::<Result<_, _>>().map_err(|err| (name, err))
        };
        Ok(EgressRules { allow: list("outbound.allow", allow)?, deny: list("outbound.deny", deny)?, allow_metadata })
    }

    /// Whether a connection for `host` may be made to `address`.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        let host = normal(host);
        let forms = forms(address);
        let denies = |rule: &&Rule| rule.names(&host) || forms.iter().any(|form| rule.contains(*form));
        if let Some(rule) = self.deny.iter().find(denies) {
            return Err(Refused::Denied(rule.text.clone()));
        }
        if !self.allow_metadata && forms.iter().any(|form| is_metadata(*form)) {
            return Err(Refused::Metadata);
        }
        if self.allow.is_empty() || self.allow.iter().any(|rule| rule.contains(address)) {
            return Ok(());
        }
        if !self.allow.iter().any(|rule| rule.names(&host)) {
            return Err(Refused::NotAllowed);
        }
        // Whoever runs an allowed name's DNS must not reach into this machine with it. localhost is meant to.
        let loopback_by_name = host == "localhost" || host.ends_with(".localhost");
        match forms.iter().any(|form| leads_home(*form)) && !loopback_by_name {
            true => Err(Refused::NameLeadsHome),
            false => Ok(()),
        }
    }

    /// Why a host can never be called, whatever its name resolves to. For hosts as they stand in documents.
    pub fn never(&self, host: &str) -> Option<Refused> {
        if let Some(address) = literal(host) {
            return self.check(host, address).err();
        }
        let host = normal(host);
        if let Some(rule) = self.deny.iter().find(|rule| rule.names(&host)) {
            return Some(Refused::Denied(rule.text.clone()));
        }
        let may = |rule: &Rule| rule.names(&host) || matches!(rule.what, What::Network(_));
        (!self.allow.is_empty() && !self.allow.iter().any(may)).then_some(Refused::NotAllowed)
    }

    /// Whether the brokers that a document names may be called. librdkafka resolves names itself, and goes on to whatever
    /// addresses the brokers tell it of: only what stands in the list can be looked at.
    pub fn check_brokers(&self, servers: &str) -> Result<(), String> {
        for host in servers.split(',').map(|server| host_of(server.trim())) {
            self.check_unresolved(host)
                .map_err(|why| format!("broker {host} may not be called from this node: {why}"))?;
        }
        Ok(())
    }

    /// For callers that resolve names themselves and cannot be watched: an allowed name is needed, not only a network
    /// that its addresses may turn out to be in.
    pub fn check_unresolved(&self, host: &str) -> Result<(), Refused> {
        if let Some(refused) = self.never(host) {
            return Err(refused);
        }
        let named = || self.allow.iter().any(|rule| rule.names(&normal(host)));
        match self.allow.is_empty() || literal(host).is_some() || named() {
            true => Ok(()),
            false => Err(Refused::NotAllowed),
        }
    }
}

/// `host:port`, `[::1]:port` or a host alone.
fn host_of(server: &str) -> &str {
    match server.rfind(':') {
        Some(colon) if !server[colon..].contains(']') => &server[..colon],
        _ => server,
    }
}

fn normal(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The address that a host is the text of, in any spelling that resolvers take: `[::1]`, `127.1`, `0x7f000001`,
/// `2130706433`.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().or_else(|| inet_aton(bare).map(IpAddr::V4))
}

/// As the C library reads addresses: one to four numbers, each decimal, octal (0…) or hexadecimal (0x…), the last of
/// which fills what is left.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut numbers = Vec::new();
    for part in text.split('.') {
        let (digits, radix) = match part.strip_prefix("0x").or(part.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if part.len() > 1 && part.starts_with('0') => (&part[1..], 8),
            None => (part, 10),
        };
        // from_str_radix would take a sign.
        if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        numbers.push(u32::from_str_radix(digits, radix).ok()?);
    }
    let (last, first) = numbers.split_last().filter(|(_, first)| first.len() < 4)?;
    let mut address = 0u32;
    for (place, number) in first.iter().enumerate() {
        address |= u32::from(u8::try_from(*number).ok()?) << (24 - 8 * place);
    }
    let room = 32 - 8 * first.len() as u32;
    if u64::from(*last) >> room != 0 {
        return None;
    }
    Some(Ipv4Addr::from(address | last))
}

/// The address, and every one that it may stand for: IPv4 inside IPv6 (mapped, compatible, NAT64, 6to4, Teredo, SIIT,
/// ISATAP), and loopback for the unspecified address, to which Linux connects as if it were that.
fn forms(address: IpAddr) -> Vec<IpAddr> {
    let mut forms = vec![address.to_canonical()];
    if let IpAddr::V6(v6) = forms[0] {
        forms.extend(embedded(v6).into_iter().map(IpAddr::V4));
    }
    if forms.iter().any(IpAddr::is_unspecified) {
        forms.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }
    forms
}

fn embedded(v6: Ipv6Addr) -> Vec<Ipv4Addr> {
    let s = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    let mut found = Vec::new();
    let last = v4(s[6], s[7]);
    let compatible = s[..6] == [0; 6] && u32::from(last) > 1;
    let siit = s[..6] == [0, 0, 0, 0, 0xffff, 0];
    let isatap = s[5] == 0x5efe && matches!(s[4], 0 | 0x200);
    if compatible || siit || isatap || (s[0] == 0x64 && s[1] == 0xff9b) {
        found.push(last);
    }
    if s[0] == 0x2002 {
        found.push(v4(s[1], s[2]));
    }
    if s[0] == 0x2001 && s[1] == 0 {
        found.extend([v4(s[2], s[3]), v4(!s[6], !s[7])]);
    }
    found
}

/// Link-local, and where clouds answer a machine's questions about itself outside of it: Azure, Alibaba, Oracle;
/// Amazon and Google over IPv6.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local() || matches!(v4.octets(), [168, 63, 129, 16] | [100, 100, 100, 200] | [192, 0, 0, 192])
        }
        IpAddr::V6(v6) => {
            let s = v6.segments();
            v6.is_unicast_link_local()
                || s[..7] == [0xfd00, 0xec2, 0, 0, 0, 0, 0]
                || s == [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        }
    }
}

fn leads_home(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    address.is_loopback() || address.is_unspecified() || address.is_multicast() || broadcast || is_metadata(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> EgressRules {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        EgressRules::parse(&owned(allow), &owned(deny), false).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_read_in_every_spelling() {
        for text in
            ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.01", "017700000001"]
        {
            assert_eq!(literal(text), Some(ip("127.0.0.1")), "{text}");
        }
        assert_eq!(literal("[::ffff:127.0.0.1]").map(|ip| ip.to_canonical()), Some(ip("127.0.0.1")));
        assert_eq!(literal("0"), Some(ip("0.0.0.0")));
        for name in
            ["h", "1.example", "127.0.0.1.nip.io", "256.1.1.1.1", "0x", "1..2", "4294967296", "256.1", "+1", "09"]
        {
            assert_eq!(literal(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_denied_is_denied_in_every_form() {
        let rules = rules(&[], &["127.0.0.0/8", "::1", "10.0.0.0/8", "*.internal", "db"]);
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "0.0.0.0",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::10.0.0.1",
            "2002:7f00:1::",
            "2001:0:4136:e378:8000:63bf:80ff:fffe",
            "::ffff:0:10.1.2.3",
            "fe00::5efe:10.1.2.3",
            "10.255.0.1",
        ] {
            assert!(matches!(rules.check("h", ip(address)), Err(Refused::Denied(_))), "{address}");
        }
        assert_eq!(rules.check("h", ip("192.168.1.1")), Ok(()));
        for host in ["a.internal", "A.B.Internal.", "db", "DB."] {
            assert!(matches!(rules.check(host, ip("192.0.2.1")), Err(Refused::Denied(_))), "{host}");
            assert!(matches!(rules.never(host), Some(Refused::Denied(_))), "{host}");
        }
        assert_eq!((rules.never("internal"), rules.never("h")), (None, None));
        assert!(rules.never("2130706433").is_some() && rules.never("[::ffff:10.0.0.1]").is_some());
    }

    #[test]
    fn metadata_is_closed_unless_opened() {
        let closed = EgressRules::default();
        for address in [
            "169.254.169.254",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fe80::1",
            "100.100.100.200",
            "168.63.129.16",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert_eq!(closed.check("metadata", ip(address)), Err(Refused::Metadata), "{address}");
        }
        assert_eq!(closed.never("2852039166"), Some(Refused::Metadata));
        for open in ["127.0.0.1", "::1", "10.0.0.1", "fd00::1", "93.184.216.34", "0.0.0.0"] {
            assert_eq!(closed.check("h", ip(open)), Ok(()), "{open}");
        }
        let opened = EgressRules::parse(&[], &[], true).unwrap();
        assert_eq!(opened.check("metadata", ip("169.254.169.254")), Ok(()));
    }

    #[test]
    fn an_allow_list_allows_nothing_else() {
        let rules = rules(&["*.example.com", "hooks.test", "10.1.0.0/16", "localhost"], &["10.1.9.0/24"]);
        assert_eq!(rules.check("a.example.com", ip("93.184.216.34")), Ok(()));
        assert_eq!(rules.check("anything", ip("10.1.2.3")), Ok(()));
        assert_eq!(
            rules.check("hooks.test", ip("10.2.0.1")),
            Ok(()),
            "an allowed name may be at home in a private net"
        );
        assert_eq!(rules.check("localhost", ip("127.0.0.1")), Ok(()));
        assert_eq!(rules.check("a.example.com", ip("10.1.9.1")), Err(Refused::Denied("10.1.9.0/24".into())));
        for address in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            assert_eq!(rules.check("a.example.com", ip(address)), Err(Refused::NameLeadsHome), "{address}");
        }
        for host in ["example.com", "example.com.evil.test", "hooks.test.evil", "127.0.0.1", "xexample.com"] {
            assert_eq!(rules.check(host, ip("127.0.0.1")), Err(Refused::NotAllowed), "{host}");
        }
        assert_eq!(rules.never("evil.test"), None, "it may resolve into 10.1.0.0/16");
        assert_eq!(rules.check_unresolved("evil.test"), Err(Refused::NotAllowed));
        assert_eq!(rules.check_unresolved("a.example.com"), Ok(()));
        assert_eq!(rules.check_unresolved("10.1.2.3"), Ok(()));
        assert_eq!(rules.check_brokers("a.example.com:9092, 10.1.2.3, [::ffff:10.1.2.3]:1"), Ok(()));
        for brokers in ["a.example.com,127.0.0.1:9092", "[::1]:9092", "2130706433:1", "evil.test"] {
            assert!(
                rules.check_brokers(brokers).unwrap_err().contains("may not be called from this node"),
                "{brokers}"
            );
        }
        let names_only = self::rules(&["a.test"], &[]);
        assert_eq!(names_only.never("evil.test"), Some(Refused::NotAllowed));
    }

    #[test]
    fn entries_that_mean_nothing_are_refused() {
        for text in ["", "*", "*.", "a b", "http://h", "h:80", "10.0.0.0/33", "2130706433.", "a..b", "*.1", "é"] {
            assert!(Rule::parse(text).is_err(), "{text}");
        }
        for text in ["10", "10.0", "::1", "fd00::/8", "h", "*.a", "a_b.c-d"] {
            assert!(Rule::parse(text).is_ok(), "{text}");
        }
        let err = EgressRules::parse(&[], &["*".to_owned()], false).unwrap_err();
        assert_eq!(err.0, "outbound.deny");
    }
}
