//! Tokens and their roles: who may do what on which route, on every node; made, expired, revoked, guessed; and what is
//! left of them after nodes were killed.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::cli::{err, out, run};
use crate::document::document;
use crate::http::{Admin, JSON};
use crate::sandbox::{own_cluster_turn, run_folder, shared, unique_path, Cluster, Node, Plan};
use crate::service::Service;
use crate::wait::eventually;
use crate::ws::Client;

const FIRST: &str = "the-first-token-of-this-cluster";
const ROLES: [&str; 4] = ["viewer", "publisher", "editor", "admin"];
/// From the answer to a revocation until every node goes by it.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);

fn with_token(node: &Node, token: &str) -> Admin {
    Admin { addr: node.admin, token: Some(token.to_owned()) }
}

/// Makes a token; its id and its text.
async fn make(admin: &Admin, name: &str, role: &str) -> (String, String) {
    let made = admin.post("/api/v1/tokens", &json!({"name": name, "role": role})).await.expect(201).json();
    let text = |field: &str| made[field].as_str().unwrap_or_else(|| panic!("{field} in {made}")).to_owned();
    (text("id"), text("token"))
}

/// Waits until the token is taken on all nodes.
async fn known_everywhere(cluster: &Cluster, token: &str) {
    for node in &cluster.nodes {
        let admin = with_token(node, token);
        eventually("the token on every node", Duration::from_secs(5), async || {
            (admin.get("/api/v1/endpoints").await.status == 200).then_some(())
        })
        .await;
    }
}

/// A route with the role that it needs and what it then answers. `{…}` are filled in anew for each call.
struct Route(&'static str, &'static str, &'static str, u16);

const ROUTES: &[Route] = &[
    Route("GET", "/metrics", "viewer", 200),
    Route("GET", "/api/v1/schemas/endpoint", "viewer", 200),
    Route("GET", "/api/v1/endpoints", "viewer", 200),
    Route("GET", "/api/v1/endpoints/{endpoint}", "viewer", 200),
    Route("GET", "/api/v1/endpoints/{endpoint}/versions", "viewer", 200),
    Route("GET", "/api/v1/endpoints/{endpoint}/versions/1", "viewer", 200),
    Route("GET", "/api/v1/endpoints/{endpoint}/diff?from=1&to=1", "viewer", 200),
    Route("POST", "/api/v1/endpoints/{endpoint}/explain", "viewer", 200),
    Route("GET", "/api/v1/endpoints/{endpoint}/rollout", "viewer", 200),
    Route("GET", "/api/v1/cluster", "viewer", 200),
    Route("GET", "/api/v1/connections/{connection}", "viewer", 200),
    Route("POST", "/api/v1/connections/{connection}", "publisher", 202),
    Route("DELETE", "/api/v1/connections/{connection}", "editor", 204),
    Route("POST", "/api/v1/endpoints", "editor", 201),
    Route("PUT", "/api/v1/endpoints/{endpoint}", "editor", 200),
    Route("POST", "/api/v1/endpoints/{endpoint}/diff", "editor", 200),
    Route("POST", "/api/v1/endpoints/{endpoint}/versions/1/activate", "editor", 200),
    Route("DELETE", "/api/v1/endpoints/{spare}", "editor", 204),
    Route("GET", "/api/v1/tokens", "admin", 200),
    Route("POST", "/api/v1/tokens", "admin", 201),
    Route("GET", "/api/v1/tokens/{token}", "admin", 200),
    Route("DELETE", "/api/v1/tokens/{token}", "admin", 204),
    Route("GET", "/api/v1/audit", "admin", 200),
];

/// What the routes are about.
struct World<'c> {
    cluster: &'c Cluster,
    service: Service,
    path: String,
    endpoint: String,
    administrator: Admin,
}

impl World<'_> {
    /// The route with what it names made for it, the body for it, and a connection to keep open.
    async fn fill_in(&self, route: &Route, allowed: bool) -> (String, Value, Option<Client>) {
        let mut target = route.1.replace("{endpoint}", &self.endpoint);
        let mut client = None;
        if target.contains("{connection}") {
            let node = &self.cluster.nodes[2];
            let (open, visit) = Client::connect_known(node, &self.path, &self.service).await;
            target = target.replace("{connection}", &visit.id);
            client = Some(open);
        }
        if target.contains("{spare}") {
            let spare = match allowed {
                true => self.cluster.create(&document(&unique_path("spare"), &[])).await.id,
                false => self.endpoint.clone(),
            };
            target = target.replace("{spare}", &spare);
        }
        if target.contains("{token}") {
            let name = unique_path("spare").trim_start_matches('/').to_owned();
            let (id, text) = make(&self.administrator, &name, "viewer").await;
            known_everywhere(self.cluster, &text).await;
            target = target.replace("{token}", &id);
        }
        let body = match (route.0, route.1) {
            (_, "/api/v1/tokens") => json!({"name": unique_path("made").trim_start_matches('/'), "role": "viewer"}),
            (_, "/api/v1/endpoints") => document(&unique_path("made"), &[]),
            (_, path) if path.ends_with("/explain") => json!({"event": {"a": 1}}),
            _ => self.document(),
        };
        (target, body, client)
    }

    fn document(&self) -> Value {
        let connect = crate::document::route("connect", &[crate::document::http(&self.service, "/connect")]);
        document(&self.path, &[connect])
    }
}

#[tokio::test]
async fn each_role_may_do_what_the_table_says_on_any_node_and_survives_kills() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start_with(3, Plan { token: Some(FIRST.into()), ..Plan::default() }).await;
    let administrator = cluster.nodes[0].admin();
    let mut tokens = Vec::new();
    for role in ROLES {
        tokens.push(make(&administrator, &format!("the-{role}"), role).await);
    }
    known_everywhere(&cluster, &tokens[3].1).await;
    let service = Service::start().await;
    let path = unique_path("roles");
    let connect = crate::document::route("connect", &[crate::document::http(&service, "/connect")]);
    let endpoint = cluster.create(&document(&path, &[connect])).await.id;
    let world = World { cluster: &cluster, service, path, endpoint, administrator: administrator.clone() };
    roles_by_routes(&world, &tokens).await;
    its_name_is_the_author(&world, &tokens[2].1).await;
    revoking_reaches_every_node(&world).await;
    a_repeated_creation_does_not_show_it_again(&world).await;
    wrong_input_names_its_field(&administrator).await;

    // The leader dies with its disk intact; then all nodes at once.
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let survivor = &cluster.nodes[(leader + 1) % 3];
    with_token(survivor, &tokens[0].1).get("/api/v1/endpoints").await.expect(200);
    cluster.nodes[leader].restart().await;
    let (late, _) = make(&with_token(survivor, &tokens[3].1), "made-after-the-leader-died", "viewer").await;
    let revoked = make(&with_token(survivor, &tokens[3].1), "revoked-before-the-restart", "viewer").await;
    with_token(survivor, &tokens[3].1).delete(&format!("/api/v1/tokens/{}", revoked.0)).await.expect(204);
    cluster.nodes.iter().for_each(Node::kill);
    cluster.nodes.iter().for_each(Node::start);
    for node in &cluster.nodes {
        node.wait_ready().await;
        for (token, role) in tokens.iter().zip(ROLES) {
            let status = with_token(node, &token.1).get("/api/v1/tokens").await.status;
            assert_eq!(status, if role == "admin" { 200 } else { 403 }, "{role} on {}", node.name);
        }
        with_token(node, &tokens[3].1).get(&format!("/api/v1/tokens/{late}")).await.expect(200);
        let audit =
            with_token(node, &tokens[3].1).get(&format!("/api/v1/audit?target={}", revoked.0)).await.expect(200).json();
        let deeds: Vec<_> = audit["items"].as_array().expect("items").iter().map(|it| &it["method"]).collect();
        assert_eq!(deeds, ["DELETE", "POST"], "the audit log survives too");
        with_token(node, &revoked.1).get("/api/v1/endpoints").await.expect_problem(401, "unauthenticated");
    }
    guessing_is_slowed_down(&cluster.nodes[2], &tokens[0].1).await;
    let mut secrets: Vec<&str> = tokens.iter().map(|token| token.1.as_str()).collect();
    secrets.push(&revoked.1);
    no_text_is_kept(&cluster, &secrets);
}

async fn roles_by_routes(world: &World<'_>, tokens: &[(String, String)]) {
    let mut answers = 0;
    for (number, route) in ROUTES.iter().enumerate() {
        let needed = ROLES.iter().position(|role| *role == route.2).expect("a role");
        for (rank, (_, token)) in tokens.iter().enumerate() {
            let allowed = rank >= needed;
            let (target, body, _client) = world.fill_in(route, allowed).await;
            let admin = with_token(&world.cluster.nodes[number % 3], token);
            let answer = admin.call(route.0, &target, JSON, body.to_string().as_bytes()).await;
            match allowed {
                true => {
                    assert_eq!(answer.status, route.3, "{} {target} as {}: {}", route.0, ROLES[rank], answer.text())
                }
                false => {
                    let problem = answer.expect_problem(403, "forbidden");
                    let detail = problem["detail"].as_str().unwrap_or_default();
                    assert!(detail.contains(&format!("role {}", route.2)), "it says the role needed: {detail}");
                }
            }
            answers += 1;
        }
        let (target, body, _client) = world.fill_in(route, false).await;
        for (header, value) in [("x-other", ""), ("authorization", "Bearer wrong"), ("x-api-key", "wrong")] {
            let stranger = Admin { addr: world.cluster.nodes[number % 3].admin, token: None };
            let headers = [("content-type", "application/json"), (header, value)];
            let answer = stranger.call(route.0, &target, &headers, body.to_string().as_bytes()).await;
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{} {target}", route.0);
            answer.expect_problem(401, "unauthenticated");
            answers += 1;
        }
    }
    // A document of one's own may be explained by an editor only; a key in X-Api-Key is a token too.
    let explain = format!("/api/v1/endpoints/{}/explain", world.endpoint);
    let question = json!({"event": 1, "document": world.document()}).to_string();
    for (rank, expected) in [(1, 403), (2, 200)] {
        let stranger = Admin { addr: world.cluster.nodes[0].admin, token: None };
        let headers = [("content-type", "application/json"), ("x-api-key", tokens[rank].1.as_str())];
        stranger.call("POST", &explain, &headers, question.as_bytes()).await.expect(expected);
    }
    let viewer = with_token(&world.cluster.nodes[0], &tokens[0].1);
    viewer.get("/api/v1/there-is-no-such-thing").await.expect_problem(404, "not_found");
    viewer.call("PATCH", "/api/v1/endpoints", &[], b"").await.expect_problem(405, "method_not_allowed");
    viewer.get("/api/v1/%74okens").await.expect_problem(403, "forbidden");
    println!("{} routes, 4 roles and 3 kinds of strangers: {answers} answers as the table says", ROUTES.len());
}

async fn its_name_is_the_author(world: &World<'_>, editor: &str) {
    let uri = format!("/api/v1/endpoints/{}", world.endpoint);
    let admin = with_token(&world.cluster.nodes[1], editor);
    let changed = admin.put(&format!("{uri}?message=why"), &world.document()).await.expect(200).json();
    let version = admin.get(&format!("{uri}/versions/{}", changed["latestVersion"])).await.expect(200).json();
    assert_eq!((&version["author"], &version["message"]), (&json!("the-editor"), &json!("why")));
}

async fn revoking_reaches_every_node(world: &World<'_>) {
    let (id, token) = make(&world.administrator, "short-lived", "publisher").await;
    known_everywhere(world.cluster, &token).await;
    let listed = world.cluster.nodes[1].admin().get("/api/v1/tokens?limit=1000").await.expect(200).json();
    let shown = listed["items"].as_array().expect("items").iter().find(|item| item["id"] == id).expect("it is listed");
    assert_eq!((&shown["name"], &shown["role"]), (&json!("short-lived"), &json!("publisher")));
    assert_eq!((&shown["createdBy"], &shown["expiresAt"]), (&json!("admin"), &Value::Null));
    assert!(shown["createdAt"].is_string() && shown.get("token").is_none() && shown.get("hash").is_none(), "{shown}");
    let page = world.administrator.get("/api/v1/tokens?limit=1").await.expect(200).json();
    let rest = format!("/api/v1/tokens?limit=1000&cursor={}", page["nextCursor"].as_str().expect("there are more"));
    let rest = world.administrator.get(&rest).await.expect(200).json();
    let all = listed["items"].as_array().map(Vec::len);
    assert_eq!(rest["items"].as_array().map(|items| items.len() + 1), all, "page by page, each once");
    world.administrator.get("/api/v1/tokens?limit=0").await.expect_problem(400, "invalid_query");

    world.cluster.nodes[2].admin().delete(&format!("/api/v1/tokens/{id}")).await.expect(204);
    let revoked = Instant::now();
    for node in &world.cluster.nodes {
        let admin = with_token(node, &token);
        eventually("401 on every node", Duration::from_secs(5), async || {
            (admin.push("x", "1").await.status == 401).then_some(())
        })
        .await;
    }
    assert!(revoked.elapsed() < REVOKED_WITHIN, "it took {:?}", revoked.elapsed());
    println!("a revoked token was refused on all nodes after {:?}", revoked.elapsed());
    world.administrator.delete(&format!("/api/v1/tokens/{id}")).await.expect_problem(404, "token_not_found");
    world.administrator.get(&format!("/api/v1/tokens/{id}")).await.expect_problem(404, "token_not_found");

    let body = json!({"name": "for-a-second", "role": "viewer", "expiresInSeconds": 1});
    let made = world.administrator.post("/api/v1/tokens", &body).await.expect(201).json();
    assert!(made["expiresAt"].is_string(), "{made}");
    let expiring = with_token(&world.cluster.nodes[1], made["token"].as_str().expect("its text"));
    // Before this node has heard of the token it is "not valid"; in the end it must be "expired".
    eventually("the end of its second, told as such", Duration::from_secs(5), async || {
        let answer = expiring.get("/api/v1/endpoints").await;
        let expired = || answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("expired"));
        (answer.status == 401 && expired()).then_some(())
    })
    .await;
}

async fn a_repeated_creation_does_not_show_it_again(world: &World<'_>) {
    let body = json!({"name": "once", "role": "viewer"}).to_string();
    let headers = [("content-type", "application/json"), ("idempotency-key", "make-it-once")];
    let first = world.administrator.call("POST", "/api/v1/tokens", &headers, body.as_bytes()).await.expect(201);
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert!(first.header("location").is_some_and(|location| location.starts_with("/api/v1/tokens/tok-")));
    let first = first.json();
    assert!(first["token"].as_str().is_some_and(|text| text.starts_with("wsg_") && text.len() == 47), "{first}");
    let again = world.cluster.nodes[1].admin().call("POST", "/api/v1/tokens", &headers, body.as_bytes()).await;
    let problem = again.expect_problem(409, "token_shown_already");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(first["id"].as_str().unwrap_or("?"))));
    let twice = world.administrator.call("POST", "/api/v1/tokens", JSON, body.as_bytes()).await;
    twice.expect_problem(409, "name_taken");
}

async fn wrong_input_names_its_field(administrator: &Admin) {
    let wrong = [
        (json!({"role": "viewer"}), "", "name"),
        (json!({"name": "x"}), "", "role"),
        (json!({"name": "x", "role": "owner"}), "role", "owner"),
        (json!({"name": "a b", "role": "viewer"}), "name", "a b"),
        (json!({"name": "admin", "role": "viewer"}), "name", "admin"),
        (json!({"name": "anonymous", "role": "viewer"}), "name", "anonymous"),
        (json!({"name": "x", "role": "viewer", "expiresInSeconds": 0}), "expiresInSeconds", "0"),
        (json!({"name": "x", "role": "viewer", "expiresInSeconds": -1}), "expiresInSeconds", "-1"),
        (json!({"name": "x", "role": "viewer", "hash": "x"}), "hash", "unknown"),
        (json!([]), "", "missing"),
    ];
    for (body, path, word) in wrong {
        let problem = administrator.post("/api/v1/tokens", &body).await.expect_problem(400, "invalid_request");
        let error = &problem["errors"][0];
        let says = error["path"] == path || word == "missing";
        assert!(
            says && error["message"].as_str().is_some_and(|it| word == "missing" || it.contains(word)),
            "{problem}"
        );
    }
    administrator.call("POST", "/api/v1/tokens", JSON, &[b'x'; 5000]).await.expect_problem(413, "too_big");
}

/// After ten different wrong tokens nothing that can be guessed is looked at: admin.token neither. Tokens that were made
/// here cannot be guessed and go on.
async fn guessing_is_slowed_down(node: &Node, viewer: &str) {
    let administrator = node.admin();
    administrator.get("/api/v1/endpoints").await.expect(200);
    for round in 0..3 {
        for number in 0..8 {
            let guess = with_token(node, &format!("guess-{number}"));
            let answer = guess.get("/api/v1/endpoints").await;
            assert_eq!(answer.status, 401, "round {round}, guess {number}: {}", answer.text());
        }
    }
    with_token(node, "guess-9").get("/api/v1/endpoints").await.expect_problem(401, "unauthenticated");
    for refused in [&with_token(node, "guess-10"), &administrator] {
        let answer = refused.get("/api/v1/endpoints").await;
        let seconds: u64 = answer.header("retry-after").and_then(|it| it.parse().ok()).expect("Retry-After");
        assert!((1..=60).contains(&seconds), "{seconds}");
        answer.expect_problem(429, "too_many_guesses");
    }
    with_token(node, viewer).get("/api/v1/endpoints").await.expect(200);
    let nobody = Admin { addr: node.admin, token: None };
    nobody.get("/api/v1/endpoints").await.expect_problem(401, "unauthenticated");
    let metrics = with_token(node, viewer).get("/metrics").await.expect(200).text();
    assert!(metrics.contains("wsgateway_admin_refused_total{status=\"429\"} 2"), "{metrics}");
}

fn no_text_is_kept(cluster: &Cluster, tokens: &[&str]) {
    let mut files = 0;
    for node in &cluster.nodes {
        let mut folders = vec![node.log_file().parent().expect("the node's folder").to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                // A log file of the database may be removed while we look.
                let Ok(bytes) = std::fs::read(&path) else { continue };
                files += 1;
                for token in tokens.iter().chain(&[FIRST]) {
                    let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
                    assert!(!found, "a token is in {}", path.display());
                }
            }
        }
    }
    assert!(files > 10, "only {files} files were looked at");
    println!("no token in {files} files of nodes");
}

#[tokio::test]
async fn without_admin_token_everyone_is_admin_until_there_is_an_admin_token() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let anyone = node.admin();
    let warning = |made: &Value| made["warnings"][0]["message"].as_str().unwrap_or_default().to_owned();

    let made = anyone.post("/api/v1/tokens", &json!({"name": "look", "role": "viewer"})).await.expect(201).json();
    assert!(warning(&made).contains("without a token"), "it says that the door is open: {made}");
    assert_eq!(made["createdBy"], "anonymous");
    let viewer = with_token(node, made["token"].as_str().expect("its text"));
    viewer.get("/api/v1/endpoints").await.expect(200);
    viewer.get("/api/v1/tokens").await.expect_problem(403, "forbidden");
    anyone.get("/api/v1/tokens").await.expect(200);
    with_token(node, "wsg_that-is-none").get("/api/v1/endpoints").await.expect_problem(401, "unauthenticated");

    let expiring = json!({"name": "root", "role": "admin", "expiresInSeconds": 3600});
    let problem = anyone.post("/api/v1/tokens", &expiring).await.expect_problem(400, "invalid_request");
    assert_eq!(problem["errors"][0]["path"], "expiresInSeconds");
    let made = anyone.post("/api/v1/tokens", &json!({"name": "root", "role": "admin"})).await.expect(201).json();
    assert!(warning(&made).contains("from now on every call needs a token"), "{made}");
    let root = with_token(node, made["token"].as_str().expect("its text"));
    anyone.get("/api/v1/endpoints").await.expect_problem(401, "unauthenticated");
    anyone.push("x", "1").await.expect_problem(401, "unauthenticated");
    anyone.get("/readyz").await.expect(200);

    // Nobody is locked out by a slip.
    let uri = format!("/api/v1/tokens/{}", made["id"].as_str().expect("its id"));
    root.delete(&uri).await.expect_problem(409, "last_admin_token");
    let (_, second) = make(&root, "root-2", "admin").await;
    root.delete(&uri).await.expect(204);
    root.get("/api/v1/endpoints").await.expect_problem(401, "unauthenticated");
    let second = with_token(node, &second);
    second.get("/api/v1/tokens").await.expect(200);

    node.kill();
    node.restart().await;
    anyone.get("/api/v1/endpoints").await.expect_problem(401, "unauthenticated");
    second.get("/api/v1/tokens").await.expect(200);
    println!("open until the first admin token, then closed for good");
}

#[tokio::test]
async fn the_command_line_makes_lists_and_revokes_tokens_and_shows_the_audit_log() {
    let cluster = shared().await;
    let server = format!("http://{}", cluster.nodes[1].admin);
    let ours = async |arguments: &[&str]| run(&[arguments, &["--server", &server]].concat(), &[]).await;
    let name = unique_path("cli").trim_start_matches('/').to_owned();
    let made = ours(&["token", "create", &name, "--role", "publisher", "--expires", "2h"]).await;
    assert!(made.status.success(), "{}", err(&made));
    let token = out(&made).trim().to_owned();
    assert!(token.starts_with("wsg_") && !token.contains(char::is_whitespace), "{token}");
    assert!(err(&made).contains("without a token"), "it warns that the door is open: {}", err(&made));
    let node = &cluster.nodes[1];
    with_token(node, &token).get("/api/v1/endpoints").await.expect(200);
    let refused = run(&["token", "list", "--server", &server], &[("WSGATEWAY_TOKEN", &token)]).await;
    assert!(refused.status.code() == Some(1) && err(&refused).contains("needs the role admin"), "{}", err(&refused));

    let listed = ours(&["token", "list"]).await;
    let line = out(&listed).lines().find(|line| line.starts_with(&name)).map(str::to_owned).expect("it is listed");
    assert!(line.contains("publisher") && line.contains("tok-") && line.contains("anonymous"), "{line}");
    let listed: Value = serde_json::from_str(&out(&ours(&["token", "list", "--output", "json"]).await)).expect("JSON");
    let id =
        listed.as_array().expect("a list").iter().find(|it| it["name"] == name.as_str()).expect("it")["id"].clone();

    let file = run_folder().join("cli.token");
    let file = file.display().to_string();
    let second = format!("{name}-2");
    let written = ours(&["token", "create", &second, "--role", "viewer", "--write-to", &file]).await;
    assert!(written.status.success() && !out(&written).contains("wsg_"), "{} {}", out(&written), err(&written));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("the file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    // A file on the command line goes before what the environment has.
    let another = [("WSGATEWAY_TOKEN", "wsg_of_another_cluster")];
    let looked = run(&["get", "--server", &server, "--token-file", &file], &another).await;
    assert!(looked.status.success(), "{}", err(&looked));
    let taken = ours(&["token", "create", &second, "--role", "viewer"]).await;
    assert!(taken.status.code() == Some(1) && err(&taken).contains("name_taken"), "{}", err(&taken));
    for wrong in [&["--role", "owner"], &["--expires", "soon"]] {
        let wrong = ours(&[&["token", "create", "x", "--role", "viewer"][..3], wrong].concat()).await;
        assert_eq!(wrong.status.code(), Some(2), "{}", err(&wrong));
    }

    for (named, is_there) in [(name.as_str(), true), (second.as_str(), true), (name.as_str(), false)] {
        let revoked = ours(&["token", "revoke", named]).await;
        assert_eq!(revoked.status.success(), is_there, "{named}: {}", err(&revoked));
    }
    with_token(node, &token).get("/api/v1/endpoints").await.expect_problem(401, "unauthenticated");
    let id = id.as_str().expect("an id");
    let audit = out(&ours(&["audit", "--target", id]).await);
    let lines: Vec<&str> = audit.lines().collect();
    assert!(lines[0].starts_with("TIME") && lines.len() == 3, "{audit}");
    assert!(lines[1].contains("DELETE /tokens/{id}") && lines[2].contains("POST /tokens"), "{audit}");
    let help = out(&run(&["token", "create", "--help"], &[]).await);
    assert!(help.contains("Examples:") && help.contains("publisher"), "{help}");
}
