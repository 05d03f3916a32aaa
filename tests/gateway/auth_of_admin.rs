//! Who may call the admin listener: with a token set, nobody without one; without a token, loopback only.

use std::time::Duration;

use crate::document::document;
use crate::http::Admin;
use crate::sandbox::{own_cluster_turn, unique_path, Cluster, Plan};

/// Everything that docs/http-api.md lists, with ids that need not exist: who may not call learns nothing else.
const ROUTES: &[(&str, &str)] = &[
    ("GET", "/api/v1/endpoints"),
    ("POST", "/api/v1/endpoints"),
    ("GET", "/api/v1/endpoints/x"),
    ("PUT", "/api/v1/endpoints/x"),
    ("DELETE", "/api/v1/endpoints/x"),
    ("GET", "/api/v1/endpoints/x/versions"),
    ("GET", "/api/v1/endpoints/x/versions/1"),
    ("POST", "/api/v1/endpoints/x/versions/1/activate"),
    ("GET", "/api/v1/endpoints/x/diff?from=1&to=2"),
    ("POST", "/api/v1/endpoints/x/diff"),
    ("GET", "/api/v1/endpoints/x/rollout"),
    ("POST", "/api/v1/endpoints/x/explain"),
    ("POST", "/api/v1/endpoints/x/broadcast"),
    ("GET", "/api/v1/connections"),
    ("GET", "/api/v1/connections/x"),
    ("POST", "/api/v1/connections/x"),
    ("DELETE", "/api/v1/connections/x"),
    ("POST", "/api/v1/users/x"),
    ("POST", "/api/v1/groups/x"),
    ("PUT", "/api/v1/groups/x/connections/y"),
    ("POST", "/api/v1/push"),
    ("GET", "/api/v1/cluster"),
    ("POST", "/api/v1/cluster/nodes/1/drain"),
    ("DELETE", "/api/v1/cluster/nodes/1"),
    ("GET", "/api/v1/backup"),
    ("POST", "/api/v1/restore"),
    ("GET", "/api/v1/stats"),
    ("GET", "/api/v1/live"),
    ("GET", "/api/v1/tokens"),
    ("POST", "/api/v1/tokens"),
    ("GET", "/api/v1/tokens/x"),
    ("DELETE", "/api/v1/tokens/x"),
    ("GET", "/api/v1/audit"),
    ("GET", "/api/v1/schemas/endpoint"),
    ("GET", "/api/v1/there/is/no/such/route"),
    ("PATCH", "/api/v1/endpoints"),
    ("GET", "/metrics"),
];

#[tokio::test]
async fn with_a_token_set_nothing_but_health_answers_without_it() {
    let _turn = own_cluster_turn().await;
    let plan = Plan { token: Some("the-first-token-of-all".into()), ..Plan::default() };
    let cluster = Cluster::start_with(1, plan).await;
    let node = &cluster.nodes[0];
    cluster.create(&document(&unique_path("token"), &[])).await;

    for token in [None, Some("the-first-token-of-al"), Some("the-first-token-of-all2"), Some("")] {
        let stranger = Admin { addr: node.admin, token: token.map(String::from) };
        for (method, target) in ROUTES {
            let answer = stranger.call(method, target, &[], b"").await;
            assert_eq!(answer.status, 401, "{method} {target} with {token:?}: {}", answer.text());
        }
        for target in ["/livez", "/readyz"] {
            stranger.get(target).await.expect(200);
        }
    }
    // X-Api-Key does as well, and counts when both are there: AWS SDKs put a signature of their own into Authorization.
    let keys: &[(&[(&str, &str)], u16)] = &[
        (&[("x-api-key", "the-first-token-of-all")], 200),
        (&[("x-api-key", "the-first-token-of-al")], 401),
        (&[("x-api-key", "the-first-token-of-all"), ("authorization", "AWS4-HMAC-SHA256 Credential=x")], 200),
        (&[("x-api-key", ""), ("authorization", "Bearer the-first-token-of-all")], 401),
        (&[("authorization", "bearer the-first-token-of-all")], 200),
        (&[("authorization", "Basic dGhlLWZpcnN0LXRva2VuLW9mLWFsbA==")], 401),
        (&[("authorization", "the-first-token-of-all")], 401),
    ];
    let stranger = Admin { addr: node.admin, token: None };
    for (headers, expected) in keys {
        let answer = stranger.call("GET", "/api/v1/endpoints", headers, b"").await;
        assert_eq!(answer.status, *expected, "{headers:?}: {}", answer.text());
        assert_eq!(answer.header("www-authenticate"), (*expected == 401).then_some("Bearer"));
    }
    assert!(!node.log().contains("the-first-token-of-all"), "the token is not logged");
    println!("{} routes, 4 wrong tokens: 401 each", ROUTES.len());
}

#[tokio::test]
async fn without_a_token_only_loopback_is_served() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::prepare(1, Plan { admin_host: Some("0.0.0.0".into()), ..Plan::default() });
    let node = &cluster.nodes[0];
    node.start();
    let status = node.wait_exit(Duration::from_secs(20)).await;
    assert!(!status.success());
    let log = node.log();
    assert!(log.contains("admin.token"), "it says what to set: {log}");
    println!("{status}: {}", log.lines().last().unwrap_or_default());
}
