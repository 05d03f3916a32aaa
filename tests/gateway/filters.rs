//! From where one may connect: each kind of rule of `filters` against real sockets of several addresses, and the client's
//! address and host behind proxies. Loopback has a whole block of IPv4 addresses; 127.0.0.8 and 127.0.0.9 are the shared
//! cluster's trusted proxies.

use std::net::Ipv6Addr;

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, with};
use crate::handshake::{to, Handshake};
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Plan};
use crate::service::Service;

const PROXY: &str = "127.0.0.9";
const SECOND_PROXY: &str = "127.0.0.8";

async fn filtered(cluster: &Cluster, filters: &Value) -> String {
    let wanted = with(document(&unique_path("filtered"), &[]), "filters", filters.clone());
    cluster.create(&wanted).await.path
}

type Headers<'a> = &'a [(&'a str, &'a str)];
/// Host, Origin and whether that may connect.
type Visits<'a> = &'a [(&'a str, &'a str, bool)];

const YES: bool = true;
const NO: bool = false;

#[track_caller]
fn check(outcome: &(u16, String), admitted: bool, case: &str) {
    let expected = if admitted { (101, "") } else { (403, "filtered") };
    assert_eq!((outcome.0, outcome.1.as_str()), expected, "{case}");
}

#[tokio::test]
async fn addresses_blocks_and_prefixes() {
    let cluster = shared().await;
    let cases: &[(Value, &[(&str, bool)])] = &[
        (json!({"whitelistIps": ["127.0.0.5"]}), &[("127.0.0.5", YES), ("127.0.0.6", NO), ("127.0.0.50", NO)]),
        (json!({"blacklistIps": ["127.0.0.5"]}), &[("127.0.0.5", NO), ("127.0.0.6", YES)]),
        (json!({"whitelistIps": ["127.0.4.0/22"]}), &[("127.0.7.255", YES), ("127.0.8.0", NO), ("127.0.3.255", NO)]),
        (json!({"blacklistIps": ["127.0.4.0/22"]}), &[("127.0.7.255", NO), ("127.0.8.1", YES)]),
        (json!({"whitelistIps": ["127.0.1"]}), &[("127.0.1.77", YES), ("127.0.10.1", NO), ("127.0.0.1", NO)]),
        (json!({"blacklistIps": ["127.0.1."]}), &[("127.0.1.77", NO), ("127.0.10.1", YES)]),
        (json!({"whitelistIps": ["127"]}), &[("127.200.0.1", YES)]),
        (json!({"whitelistIps": ["::ffff:127.0.0.5"]}), &[("127.0.0.5", YES), ("127.0.0.6", NO)]),
        (json!({"whitelistIps": ["::1", "10.0.0.0/8"]}), &[("127.0.0.1", NO)]),
        (json!({"whitelistIps": ["127"], "blacklistIps": ["127.0.0.5"]}), &[("127.0.0.5", NO), ("127.0.0.6", YES)]),
        (json!({"whitelistIps": [], "blacklistIps": []}), &[("127.0.0.5", YES)]),
    ];
    for (index, (filters, visits)) in cases.iter().enumerate() {
        let path = filtered(cluster, filters).await;
        for (from, admitted) in *visits {
            let handshake = Handshake { from, ..to(&cluster.nodes[index % 3]) };
            check(&handshake.outcome(&path).await, *admitted, &format!("{filters} from {from}"));
        }
    }
}

#[tokio::test]
async fn hosts_with_and_without_port() {
    let cluster = shared().await;
    let cases: &[(Value, &[(&str, bool)])] = &[
        (
            json!({"whitelistHosts": ["app.example.com"]}),
            &[
                ("app.example.com", YES),
                ("APP.example.com:8080", YES),
                ("app.example.com.", YES),
                ("www.example.com", NO),
                ("app.example.com.evil", NO),
            ],
        ),
        (
            json!({"whitelistHosts": ["app.example.com:8443"]}),
            &[("app.example.com:8443", YES), ("app.example.com", NO), ("app.example.com:80", NO)],
        ),
        (
            json!({"blacklistHosts": ["old.example.com"]}),
            &[("old.example.com", NO), ("old.example.com:81", NO), ("new.example.com", YES)],
        ),
        (json!({"blacklistHosts": ["old.example.com:81"]}), &[("old.example.com:81", NO), ("old.example.com", YES)]),
        (json!({"whitelistHosts": ["::1"]}), &[("[::1]:8080", YES), ("[::1]", YES), ("[::2]", NO)]),
        (
            json!({"whitelistHosts": ["a.example", "b.example"], "blacklistHosts": ["b.example:80"]}),
            &[("a.example", YES), ("b.example", YES), ("b.example:80", NO)],
        ),
    ];
    for (index, (filters, visits)) in cases.iter().enumerate() {
        let path = filtered(cluster, filters).await;
        for (host, admitted) in *visits {
            let headers = [("Host", *host)];
            let handshake = Handshake { headers: &headers, ..to(&cluster.nodes[index % 3]) };
            check(&handshake.outcome(&path).await, *admitted, &format!("{filters} and Host {host}"));
        }
    }
}

#[tokio::test]
async fn origins_and_the_endpoints_own() {
    let cluster = shared().await;
    let cases: &[(Value, Visits)] = &[
        // The default is everybody.
        (json!({}), &[("gw", "https://evil.example", YES), ("gw", "null", YES)]),
        (json!({"allowedOrigins": ["*"]}), &[("gw", "https://evil.example", YES)]),
        (
            json!({"allowedOrigins": ["https://app.example", "http://dev.example:3000"]}),
            &[
                ("gw", "https://app.example", YES),
                ("gw", "HTTPS://App.example", YES),
                ("gw", "http://app.example", NO),
                ("gw", "https://app.example:444", NO),
                ("gw", "http://dev.example:3000", YES),
                ("gw", "http://dev.example", NO),
                ("gw", "null", NO),
                ("gw", "", YES),
                ("gw:8080", "http://gw:8080", YES),
                ("gw:8080", "http://gw:8081", NO),
            ],
        ),
        // Nobody but the endpoint's own pages, and who is no browser.
        (
            json!({"allowedOrigins": []}),
            &[
                ("gw", "http://gw", YES),
                ("gw", "https://gw", YES),
                ("gw:443", "https://gw", YES),
                ("gw", "http://other", NO),
                ("gw", "", YES),
            ],
        ),
    ];
    for (index, (filters, visits)) in cases.iter().enumerate() {
        let path = filtered(cluster, filters).await;
        for (host, origin, admitted) in *visits {
            let headers = [("Host", *host), ("Origin", *origin)];
            let headers = if origin.is_empty() { &headers[..1] } else { &headers[..] };
            let handshake = Handshake { headers, ..to(&cluster.nodes[index % 3]) };
            check(&handshake.outcome(&path).await, *admitted, &format!("{filters}, Host {host}, Origin {origin:?}"));
        }
    }
}

#[tokio::test]
async fn a_proxy_says_who_the_client_is() {
    let cluster = shared().await;
    let service = Service::start().await;
    let allow = json!({"whitelistIps": ["192.0.2.1", "2001:db8::7", "127.0.0"]});
    let path =
        cluster.create(&with(document(&unique_path("proxied"), &all_routes_to(&service)), "filters", allow)).await;
    let (xff, fwd) = ("X-Forwarded-For", "Forwarded");
    // From where, with which headers, and which address the services are told; empty: refused.
    let cases: &[(&str, Headers, &str)] = &[
        (PROXY, &[(xff, "192.0.2.1")], "192.0.2.1"),
        (PROXY, &[(xff, "6.6.6.6, 192.0.2.1")], "192.0.2.1"),
        (PROXY, &[(xff, "192.0.2.1, 6.6.6.6")], ""),
        (PROXY, &[(xff, "6.6.6.6"), (xff, "192.0.2.1"), (xff, SECOND_PROXY)], "192.0.2.1"),
        (PROXY, &[(xff, "[2001:db8::7]:4711")], "2001:db8::7"),
        (PROXY, &[(xff, "::ffff:192.0.2.1")], "192.0.2.1"),
        (PROXY, &[(xff, "192.0.2.1, nonsense")], PROXY),
        (PROXY, &[(xff, "192.0.2.1, unknown, 127.0.0.8")], SECOND_PROXY),
        (PROXY, &[(fwd, "for=6.6.6.6, for=192.0.2.1;proto=https;by=_gw")], "192.0.2.1"),
        (PROXY, &[(fwd, "for=\"[2001:db8::7]:4711\"")], "2001:db8::7"),
        (PROXY, &[(fwd, "for=192.0.2.1"), (fwd, "for=6.6.6.6")], ""),
        (PROXY, &[(fwd, "for=192.0.2.1, for=_hidden, for=\"127.0.0.8:99\"")], SECOND_PROXY),
        (PROXY, &[(fwd, "for=\", for=192.0.2.1")], "192.0.2.1"),
        (PROXY, &[(fwd, "for=192.0.2.1"), (xff, "192.0.2.1")], "192.0.2.1"),
        (PROXY, &[], PROXY),
        // Who is no proxy is not believed.
        ("127.0.0.3", &[(xff, "192.0.2.1"), (fwd, "for=192.0.2.1")], "127.0.0.3"),
        ("127.0.1.3", &[(xff, "192.0.2.1"), (fwd, "for=192.0.2.1")], ""),
    ];
    for (index, (from, headers, expected)) in cases.iter().enumerate() {
        let handshake = Handshake { from, headers, ..to(&cluster.nodes[index % 3]) };
        let case = format!("from {from} with {headers:?}");
        if expected.is_empty() {
            check(&handshake.outcome(&path.path).await, NO, &case);
            continue;
        }
        let answered = handshake.at(&path.path).await;
        assert_eq!(answered.answer.status, 101, "{case}: {}", answered.answer.text());
        assert_eq!(service.next("/connect").await.json()["sourceIp"], *expected, "{case}");
    }
    let both: &[(&str, &str)] = &[(fwd, "for=192.0.2.1"), (xff, "6.6.6.6")];
    let handshake = Handshake { from: PROXY, headers: both, ..to(&cluster.nodes[0]) };
    assert_eq!(handshake.outcome(&path.path).await, (400, "proxy_headers".into()), "one of them is the client's own");
}

#[tokio::test]
async fn same_origin_behind_a_proxy_that_ends_tls() {
    let cluster = shared().await;
    let path = filtered(cluster, &json!({"allowedOrigins": [], "whitelistHosts": ["app.example.com", "inner"]})).await;
    let origin = ("Origin", "https://app.example.com");
    let host = ("Host", "inner:8080");
    let fwd = |host, proto| format!("for=192.0.2.1;host={host};proto={proto}");
    let (https, http) = (fwd("app.example.com", "https"), fwd("app.example.com", "http"));
    let other = fwd("\"evil.example:443\"", "https");
    let x_host = ("X-Forwarded-Host", "app.example.com");
    let cases: &[(&str, Headers, bool)] = &[
        (PROXY, &[host, origin, ("X-Forwarded-For", "192.0.2.1"), x_host, ("X-Forwarded-Proto", "https")], YES),
        (PROXY, &[host, origin, x_host, ("X-Forwarded-Proto", "wss")], YES),
        (PROXY, &[host, origin, x_host, ("X-Forwarded-Proto", "http")], NO),
        (PROXY, &[host, origin, x_host], YES),
        (PROXY, &[host, origin, ("X-Forwarded-Host", "app.example.com, inner")], NO),
        (PROXY, &[host, origin, ("Forwarded", &https)], YES),
        (PROXY, &[host, origin, ("Forwarded", &http)], NO),
        (PROXY, &[host, origin, ("Forwarded", &other)], NO),
        // The proxy kept the Host header.
        (PROXY, &[("Host", "app.example.com"), origin, ("X-Forwarded-Proto", "https")], YES),
        ("127.0.0.3", &[("Host", "app.example.com"), origin], YES),
        // Nobody else's word counts.
        ("127.0.0.3", &[host, origin, x_host, ("X-Forwarded-Proto", "https")], NO),
        ("127.0.0.3", &[host, origin, ("Forwarded", &https)], NO),
    ];
    for (from, headers, admitted) in cases {
        let handshake = Handshake { from, headers, ..to(&cluster.nodes[1]) };
        check(&handshake.outcome(&path).await, *admitted, &format!("from {from} with {headers:?}"));
    }
}

#[tokio::test]
async fn both_families_on_one_listener() {
    let _turn = own_cluster_turn().await;
    let plan = Plan {
        client_host: Some("[::]".into()),
        environment: vec![
            ("WSGATEWAY__CLIENT__TRUSTED_PROXIES".into(), "[\"::1\"]".into()),
            ("WSGATEWAY__CLIENT__FORWARDED_HEADER".into(), "forwarded".into()),
        ],
        ..Plan::default()
    };
    let cluster = Cluster::start_with(1, plan).await;
    let service = Service::start().await;
    let node = &cluster.nodes[0];
    let v6 = Handshake { to: (Ipv6Addr::LOCALHOST, node.client.port()).into(), from: "::1", headers: &[] };
    let mapped = to(node);
    let cases: &[(Value, bool, bool)] = &[
        (json!({"whitelistIps": ["::1"]}), YES, NO),
        (json!({"whitelistIps": ["::/64"]}), YES, NO),
        (json!({"blacklistIps": ["::1/128"]}), NO, YES),
        (json!({"whitelistIps": ["2001:db8::/32"]}), NO, NO),
        // An IPv4 client on such a listener is an IPv4 client.
        (json!({"whitelistIps": ["127.0.0"]}), NO, YES),
        (json!({"whitelistIps": ["127.0.0.1"]}), NO, YES),
        (json!({"blacklistIps": ["::ffff:127.0.0.0/104"]}), YES, NO),
        (json!({"blacklistIps": ["0.0.0.0/0"]}), YES, NO),
    ];
    for (filters, of_v6, of_v4) in cases {
        let path = filtered(&cluster, filters).await;
        check(&v6.outcome(&path).await, *of_v6, &format!("{filters} from ::1"));
        check(&mapped.outcome(&path).await, *of_v4, &format!("{filters} from ::ffff:127.0.0.1"));
    }
    let path = cluster.create(&document(&unique_path("families"), &all_routes_to(&service))).await.path;
    let headers = [("Forwarded", "for=\"[2001:db8::9]\""), ("X-Forwarded-For", "6.6.6.6")];
    let _open = (v6.at(&path).await, mapped.at(&path).await, Handshake { headers: &headers, ..v6 }.at(&path).await);
    for expected in ["::1", "127.0.0.1", "2001:db8::9"] {
        assert_eq!(service.next("/connect").await.json()["sourceIp"], expected);
    }
}
