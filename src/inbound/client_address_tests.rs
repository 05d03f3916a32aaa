//! Tests of who is calling.

use super::*;

const PEER: &str = "10.0.0.1";

fn trusted() -> TrustedProxies {
    let texts = ["10.0.0.0/8", "2001:db8:aaaa::/48"].map(str::to_owned);
    TrustedProxies::try_from(texts.to_vec()).unwrap()
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn resolve(peer: &str, lines: &[(&'static str, &str)], which: ForwardedHeader) -> Result<Caller, Contradiction> {
    caller(peer.parse().unwrap(), &headers(lines), &trusted(), which)
}

#[track_caller]
fn is(lines: &[(&'static str, &str)], expected: &str) {
    let found = resolve(PEER, lines, ForwardedHeader::Auto).map(|caller| caller.ip.to_string());
    assert_eq!(found.as_deref(), Ok(expected), "{lines:?}");
}

#[test]
fn untrusted_peers_are_not_listened_to() {
    for peer in ["192.0.2.9", "::ffff:192.0.2.9"] {
        let lines = [
            ("host", "gw:80"),
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", "for=2.2.2.2;host=evil;proto=https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "https"),
        ];
        let found = resolve(peer, &lines, ForwardedHeader::Auto).unwrap();
        let expected = Caller::new("192.0.2.9".parse().unwrap(), Some("gw:80".into()), None);
        assert_eq!(found, expected);
    }
}

#[test]
fn x_forwarded_for_is_read_from_the_right() {
    let xff = "x-forwarded-for";
    is(&[(xff, "192.0.2.1")], "192.0.2.1");
    is(&[(xff, "6.6.6.6, 192.0.2.1")], "192.0.2.1");
    is(&[(xff, "6.6.6.6, 192.0.2.1, 10.9.9.9,10.0.0.2")], "192.0.2.1");
    is(&[(xff, "6.6.6.6"), (xff, "192.0.2.1"), (xff, "10.0.0.2")], "192.0.2.1");
    is(&[(xff, "192.0.2.1:4711")], "192.0.2.1");
    is(&[(xff, "2001:db8::7")], "2001:db8::7");
    is(&[(xff, "[2001:db8::7]:443")], "2001:db8::7");
    is(&[(xff, "::ffff:192.0.2.1")], "192.0.2.1");
    is(&[(xff, "::ffff:10.0.0.3, 10.0.0.2")], "10.0.0.3");
    // Everybody is trusted, or nobody can be named: the last hop that is known.
    is(&[(xff, "10.1.1.1, 10.0.0.2")], "10.1.1.1");
    for nonsense in ["", "unknown", "_hidden", "1.2.3", "1.2.3.4:", "1.2.3.4:x", "[::1", "::1]", "fe80::1%eth0", "a\"b"]
    {
        is(&[(xff, nonsense)], PEER);
        is(&[(xff, &format!("6.6.6.6, {nonsense}, 10.0.0.2"))], "10.0.0.2");
        is(&[(xff, &format!("{nonsense}, 192.0.2.1"))], "192.0.2.1");
    }
    is(&[(xff, "6.6.6.6, \u{e9}, 10.0.0.2")], "10.0.0.2");
    is(&[], PEER);
}

#[test]
fn forwarded_is_read_from_the_right() {
    let fwd = "forwarded";
    is(&[(fwd, "for=192.0.2.60;proto=http;by=203.0.113.43")], "192.0.2.60");
    is(&[(fwd, "For=\"[2001:db8:cafe::17]:4711\"")], "2001:db8:cafe::17");
    is(&[(fwd, "for=6.6.6.6, for=192.0.2.43, for=\"[2001:db8:aaaa::1]\"")], "192.0.2.43");
    is(&[(fwd, "for=6.6.6.6"), (fwd, "for=192.0.2.43"), (fwd, "for=10.0.0.2")], "192.0.2.43");
    is(&[(fwd, "for=192.0.2.60:_port")], "192.0.2.60");
    is(&[(fwd, "by=\"a;for=6.6.6.6,for=6.6.6.6\"; for=192.0.2.60")], "192.0.2.60");
    is(&[(fwd, "for=\"192.0.2.\\60\"")], "192.0.2.60");
    for nonsense in [
        "for=unknown",
        "for=_SEVKISEK",
        "for=",
        "for",
        "",
        "by=1.2.3.4",
        "for=2001:db8::1:x",
        "for=\"[::1\"",
        "for=\"1.2.3.4",
        "for=1.2.3.4;for=5.6.7.8",
        "for=\"1.2.3.4\\\"",
    ] {
        is(&[(fwd, nonsense)], PEER);
        is(&[(fwd, &format!("for=6.6.6.6,{nonsense}")), (fwd, "for=10.0.0.2")], "10.0.0.2");
    }
    // A quote that the client leaves open does not swallow what the proxy wrote behind it.
    for opened in ["for=\"", "for=\"6.6.6.6, for=", "for=\"\\", "x=\"y\" \""] {
        is(&[(fwd, &format!("{opened}, for=192.0.2.1"))], "192.0.2.1");
        is(&[(fwd, &format!("{opened}, for=\"[2001:db8::1]\""))], "2001:db8::1");
    }
}

#[test]
fn both_headers_must_agree_unless_one_is_named() {
    let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(resolve(PEER, &both, ForwardedHeader::Auto), Err(Contradiction));
    let ip = |which| resolve(PEER, &both, which).unwrap().ip.to_string();
    assert_eq!(ip(ForwardedHeader::Forwarded), "6.6.6.6");
    assert_eq!(ip(ForwardedHeader::XForwardedFor), "192.0.2.1");
    is(&[("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "6.6.6.6, 192.0.2.1")], "192.0.2.1");
    let only_x = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-host", "h"), ("x-forwarded-proto", "https")];
    let found = resolve(PEER, &only_x, ForwardedHeader::Forwarded).unwrap();
    assert_eq!((found.ip.to_string().as_str(), found.host, found.scheme), (PEER, None, None));
}

#[test]
fn host_and_scheme_are_those_that_the_client_called() {
    let called = |lines: &[(&'static str, &str)]| {
        let found = resolve(PEER, lines, ForwardedHeader::Auto).unwrap();
        (found.host.unwrap_or_default(), found.scheme)
    };
    let host = ("host", "inner:8080");
    assert_eq!(called(&[host]), ("inner:8080".into(), None));
    let x = [host, ("x-forwarded-for", "192.0.2.1"), ("x-forwarded-host", "app"), ("x-forwarded-proto", "wss")];
    assert_eq!(called(&x), ("app".into(), Some(Scheme::Https)));
    assert_eq!(called(&x[..1]), ("inner:8080".into(), None));
    assert_eq!(called(&[host, x[2], x[3]]), ("app".into(), Some(Scheme::Https)));
    let lists =
        [host, ("x-forwarded-host", "evil, app"), ("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")];
    assert_eq!(called(&lists), ("app".into(), Some(Scheme::Https)));
    // The outermost proxy that is trusted knows; what is left of it is the client's invention.
    let chain = "for=6.6.6.6;host=evil;proto=http, for=192.0.2.1;host=\"app:443\";proto=https, for=10.0.0.2;host=inner";
    assert_eq!(called(&[host, ("forwarded", chain)]), ("app:443".into(), Some(Scheme::Https)));
    assert_eq!(called(&[host, ("forwarded", "for=192.0.2.1;proto=ftp")]), ("inner:8080".into(), None));
}
