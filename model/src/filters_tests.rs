//! Tests of the filters.

use super::*;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn filters(white_ips: &[&str], black_ips: &[&str], white_hosts: &[&str], black_hosts: &[&str]) -> Filters {
    Filters::new(&strings(white_ips), &strings(black_ips), &strings(white_hosts), &strings(black_hosts), None).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn ip_rules() {
    for (rule, address, inside) in [
        ("127.0.0", "127.0.0.1", true),
        ("127.0.0.", "127.0.0.255", true),
        ("127.0.0", "127.0.1.1", false),
        ("10", "10.200.1.1", true),
        ("1.2", "1.20.0.0", false),
        ("10.0.0.7", "10.0.0.7", true),
        ("10.0.0.7", "10.0.0.8", false),
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.1.2.3/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("0.0.0.0/0", "8.8.8.8", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "::1", true),
        ("::/0", "1.1.1.1", false),
        ("2001:db8::/32", "2001:db8:ffff::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("127.0.0", "::ffff:127.0.0.1", true),
        ("::ffff:127.0.0.1", "127.0.0.1", true),
        ("::ffff:10.0.0.0/104", "10.1.1.1", true),
        ("0", "0.1.2.3", true),
        ("0", "1.0.0.0", false),
    ] {
        assert_eq!(IpRule::parse(rule).unwrap().contains(ip(address)), inside, "{rule} {address}");
    }
    for bad in
        ["", ".", "a", "256", "1..2", "1.2.3.4.5", "10.0.0.0/33", "::/129", "10/8", "1.2.3.4/", "1.2.3.4/+8", "+1", "*"]
    {
        assert_eq!(IpRule::parse(bad), Err(IpRuleError), "{bad}");
    }
}

#[test]
fn blacklist_wins_and_whitelist_excludes() {
    let both = filters(&["127.0.0"], &["127.0.0"], &[], &[]);
    assert_eq!(both.admit(ip("127.0.0.1"), None, None, None), Err(FilterRefusal::Ip));
    assert_eq!(both.admit(ip("10.0.0.1"), None, None, None), Err(FilterRefusal::Ip));
    let white = filters(&["127.0.0", "::1"], &["127.0.0.9"], &[], &[]);
    assert_eq!(white.admit(ip("127.0.0.1"), None, None, None), Ok(()));
    assert_eq!(white.admit(ip("::1"), None, None, None), Ok(()));
    assert_eq!(white.admit(ip("127.0.0.9"), None, None, None), Err(FilterRefusal::Ip));
    assert_eq!(white.admit(ip("128.0.0.1"), None, None, None), Err(FilterRefusal::Ip));
    assert_eq!(Filters::default().admit(ip("8.8.8.8"), Some("x"), Some("https://y"), None), Ok(()));
}

#[test]
fn hosts() {
    let hosts = filters(&[], &[], &["LocalHost", "api.example.com:8443", "::1", "[::2]:80"], &["host"]);
    let client = ip("1.1.1.1");
    for good in ["localhost", "localhost:8080", "LOCALHOST:1", "localhost.", "api.example.com:8443", "[::2]:80"] {
        assert_eq!(hosts.admit(client, Some(good), None, None), Ok(()), "{good}");
    }
    for bad in ["api.example.com", "api.example.com:1", "other", "host", "host:8080", "[::2]", ""] {
        assert_eq!(hosts.admit(client, Some(bad), None, None), Err(FilterRefusal::Host), "{bad}");
    }
    assert_eq!(hosts.admit(client, None, None, None), Err(FilterRefusal::Host));
    let black = filters(&[], &[], &[], &["host"]);
    assert_eq!(black.admit(client, Some("HOST:81"), None, None), Err(FilterRefusal::Host));
    assert_eq!(black.admit(client, Some("host.example"), None, None), Ok(()));
    assert_eq!(black.admit(client, None, None, None), Ok(()));
}

#[test]
fn origins() {
    let listed = |origins: &[&str]| Filters::new(&[], &[], &[], &[], Some(&strings(origins))).unwrap();
    let client = ip("1.1.1.1");
    let one = listed(&["https://app.example.com"]);
    for (host, origin, expected) in [
        ("gw:8080", "https://app.example.com", true),
        ("gw:8080", "HTTPS://APP.example.com", true),
        ("gw:8080", "http://app.example.com", false),
        ("gw:8080", "https://app.example.com.evil.com", false),
        ("gw:8080", "http://gw:8080", true),
        ("gw:8080", "http://gw", false),
        ("gw", "http://gw", true),
        ("gw", "https://gw:443", true),
        ("gw", "https://gw:444", false),
        ("[::1]:80", "http://[::1]", true),
        ("gw", "null", false),
        ("gw", "file://gw", false),
    ] {
        assert_eq!(one.admit(client, Some(host), Some(origin), None).is_ok(), expected, "{host} {origin}");
    }
    assert_eq!(one.admit(client, Some("gw"), None, None), Ok(()));
    for (scheme, origin, expected) in [
        (Scheme::Https, "https://gw", true),
        (Scheme::Https, "http://gw", false),
        (Scheme::Http, "https://gw", false),
        (Scheme::Https, "https://gw:443", true),
        (Scheme::Https, "https://gw:8443", false),
        (Scheme::Http, "https://app.example.com", true),
    ] {
        let admitted = one.admit(client, Some("gw"), Some(origin), Some(scheme)).is_ok();
        assert_eq!(admitted, expected, "{scheme:?} {origin}");
    }
    assert_eq!(listed(&["*"]).admit(client, Some("gw"), Some("null"), None), Ok(()));
    let none = listed(&[]);
    assert_eq!(none.admit(client, Some("gw"), Some("http://gw"), None), Ok(()));
    assert_eq!(none.admit(client, Some("gw"), Some("http://other"), None), Err(FilterRefusal::Origin));
}
