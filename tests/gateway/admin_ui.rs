//! The admin UI as the nodes serve it: what comes with the files, the path of a first visit, and every page with every act
//! of it in Chromium while clients send events, against three nodes that are closed by a token. Of `./test ui`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::http::{Admin, Answer};
use crate::programs::{chromium, ended, ROOT};
use crate::sandbox::{own_cluster_turn, Cluster, Node, Plan};

/// Its own limit is 180 seconds; the rest is for the browser to start.
const FIRST_PATH_WITHIN: Duration = Duration::from_secs(220);
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

#[tokio::test]
async fn every_page_and_every_act_in_a_browser() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start_with(3, Plan { token: Some(TOKEN.into()), ..Plan::default() }).await;
    let mut command = Command::new(Path::new(ROOT).join("scripts/ui.sh"));
    command.arg("folder");
    let made = ended(command, "scripts/ui.sh folder", INSTALL_WITHIN).await;
    let folder = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    // The first visit is to a cluster without endpoints.
    for (script, within) in [("tests/first_path.mjs", FIRST_PATH_WITHIN), ("tests/pages.mjs", PAGES_WITHIN)] {
        let mut command = Command::new("node");
        command.arg(script).current_dir(&folder).env("CHROMIUM", chromium());
        command.env("UI_URL", format!("http://{}", cluster.nodes[0].admin)).env("ADMIN_TOKEN", TOKEN);
        command.env("DRAIN_NODE", &cluster.nodes[2].name);
        let ran = ended(command, script, within).await;
        print!("{}", String::from_utf8_lossy(&ran.stdout));
    }
}
