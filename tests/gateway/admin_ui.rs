//! The admin UI as the nodes serve it: what comes with the files, the path of a first visit, and every page with every act
//! of it in Chromium while clients send events, against nodes that are closed by a token; and the first visit to the demo,
//! as `./run` starts it. Of `./test ui`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::http::{Admin, Answer};
use crate::programs::{chromium, ended, ROOT};
use crate::sandbox::{own_cluster_turn, run_folder, Cluster, Node, Plan, Process};
use crate::wait::eventually;

/// Its own limit is 180 seconds; the rest is for the browser to start.
const FIRST_PATH_WITHIN: Duration = Duration::from_secs(220);
/// From the command on: somebody who tries the gateway for the first time should need minutes, so a script must not take
/// as long.
const FIRST_VISIT_OF_DEMO_WITHIN: Duration = Duration::from_secs(180);
const DEMO_UP_WITHIN: Duration = Duration::from_secs(60);
const EDITING_WITHIN: Duration = Duration::from_secs(300);
const PAGES_WITHIN: Duration = Duration::from_secs(600);
const INSTALL_WITHIN: Duration = Duration::from_secs(240);
const TOKEN: &str = "the-admin-token-of-the-ui-tests";

async fn get(node: &Node, target: &str, headers: &[(&str, &str)]) -> Answer {
    let nobody = Admin { addr: node.admin, token: None };
    nobody.try_call("GET", target, headers, b"").await.expect("an answer")
}

#[tokio::test]
async fn files_come_without_a_token_and_with_the_right_headers() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start_with(1, Plan { token: Some(TOKEN.into()), ..Plan::default() }).await;
    let node = &cluster.nodes[0];
    let home = get(node, "/ui/", &[]).await;
    assert_eq!(home.status, 200, "{}: was it built with the UI?", home.text());
    let header = |answer: &Answer, name: &str| answer.header(name).unwrap_or_default().to_owned();
    assert_eq!(header(&home, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&home, "cache-control"), "no-cache");
    assert!(header(&home, "content-security-policy").starts_with("default-src 'self'; "));
    let page = home.text();
    let script =
        page.split('"').find(|part| part.starts_with("/ui/assets/") && part.ends_with(".js")).expect("a script");
    let plain = get(node, script, &[]).await;
    assert_eq!((plain.status, header(&plain, "content-encoding")), (200, String::new()));
    assert!(header(&plain, "cache-control").ends_with("immutable"));
    let zipped = get(node, script, &[("accept-encoding", "br, gzip")]).await;
    assert_eq!((zipped.status, header(&zipped, "content-encoding").as_str()), (200, "gzip"));
    assert!(zipped.body.len() < plain.body.len() && zipped.body.starts_with(&[0x1f, 0x8b]));
    for home in ["/", "/ui"] {
        let answer = get(node, home, &[]).await;
        assert_eq!((answer.status, header(&answer, "location").as_str()), (302, "/ui/"));
    }
    for nothing in ["/ui/nothing.js", "/ui/../Cargo.toml", "/ui/%2e%2e/Cargo.toml", "/ui/index.html.gz", "/ui/assets/"]
    {
        assert_eq!(get(node, nothing, &[]).await.status, 404, "{nothing}");
    }
    let posted = Admin { addr: node.admin, token: None }.try_call("POST", "/ui/", &[], b"").await.expect("an answer");
    assert_eq!((posted.status, header(&posted, "allow").as_str()), (405, "GET, HEAD"));
    assert_eq!(get(node, "/api/v1/endpoints", &[]).await.status, 401, "the API asks for a token all the same");
}

/// A folder with the sources of the UI and their packages.
async fn sources() -> String {
    let mut command = Command::new(Path::new(ROOT).join("scripts/ui.sh"));
    command.arg("folder");
    let made = ended(command, "scripts/ui.sh folder", INSTALL_WITHIN).await;
    String::from_utf8_lossy(&made.stdout).trim().to_owned()
}

/// Runs a script of the UI's tests against the node at `url`; returns what it has printed.
async fn drive(script: &str, url: &str, environment: &[(&str, &str)], within: Duration) -> String {
    let mut command = Command::new("node");
    command.arg(script).current_dir(sources().await).env("CHROMIUM", chromium()).env("UI_URL", url);
    command.env_remove("ADMIN_TOKEN").env_remove("DRAIN_NODE").envs(environment.iter().copied());
    let ran = ended(command, script, within).await;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    print!("{said}");
    said
}

#[tokio::test]
async fn every_page_and_every_act_in_a_browser() {
    let _turn = own_cluster_turn().await;
    let mut cluster = Cluster::start_with(3, Plan { token: Some(TOKEN.into()), ..Plan::default() }).await;
    // The third is drained and removed; its vote goes to the fourth.
    cluster.add_node().await;
    let url = format!("http://{}", cluster.nodes[0].admin);
    // The first visit is to a cluster without endpoints.
    let said = drive("tests/first_path.mjs", &url, &[("ADMIN_TOKEN", TOKEN)], FIRST_PATH_WITHIN).await;
    assert!(said.contains("the empty overview offers the first endpoint"), "{said}");
    drive("tests/editing.mjs", &url, &[("ADMIN_TOKEN", TOKEN)], EDITING_WITHIN).await;
    let environment = [("ADMIN_TOKEN", TOKEN), ("DRAIN_NODE", cluster.nodes[2].name.as_str())];
    drive("tests/pages.mjs", &url, &environment, PAGES_WITHIN).await;
}

#[tokio::test]
async fn a_first_visit_to_the_demo() {
    let _turn = own_cluster_turn().await;
    // Whoever has the demo has what it is made of.
    sources().await;
    let log = run_folder().join("demo-of-the-ui.log");
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgateway"));
    command.args(["demo", "--client-port", "24181", "--admin-port", "24951", "--cluster-port", "24751"]);
    let mut demo = Process::start(command, &log, None).expect("the demo starts");
    let said = || std::fs::read_to_string(&log).expect("the demo's output");
    let text =
        eventually("the demo is up", DEMO_UP_WITHIN, async || Some(said()).filter(|it| it.contains("Ctrl-C"))).await;
    let page = text.lines().find_map(|line| line.strip_prefix("All of it in a browser: "));
    let url = page.and_then(|url| url.strip_suffix("/ui/")).unwrap_or_else(|| panic!("it names no page: {text}"));
    let path = drive("tests/first_path.mjs", url, &[], FIRST_PATH_WITHIN).await;
    let took = began.elapsed();
    assert!(path.contains("there are endpoints already: a new one"), "{path}");
    assert!(took < FIRST_VISIT_OF_DEMO_WITHIN, "from the command to the client that has the message: {took:?}");
    println!("a first visit to the demo, its start included: {took:?}");
    demo.signal(libc::SIGTERM);
    let status = eventually("the demo ends", Duration::from_secs(20), async || demo.exited()).await;
    assert!(status.success(), "{status}: {}", said());
}
