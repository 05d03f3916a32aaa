//! apply, diff, get, rollback on real clusters: the walk-through of the documentation, run as it stands there, and what
//! goes wrong.

use std::path::Path;
use std::process::Command;

use serde_json::{json, Value};

use crate::cli::{err, out, run};
use crate::cli_files::file;
use crate::document::{document, route, with};
use crate::sandbox::{own_cluster_turn, run_folder, shared, unique_path, Cluster, Plan};
use crate::ws::Client;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The commands of a page's console blocks, each with the lines that it prints.
fn steps(page: &str) -> Vec<(String, Vec<String>)> {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => steps.push((command.to_owned(), Vec::new())),
                None => steps.last_mut().expect("a command before its output").1.push(line.to_owned()),
            },
            _ => {}
        }
    }
    steps
}

/// Does a line look as the page has it? `…` stands for any text, several blanks for any number of them.
fn line_fits(expected: &str, line: &str) -> bool {
    let blanks = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, line) = (blanks(expected), blanks(line));
    let mut rest = line.as_str();
    let parts: Vec<&str> = expected.split('…').collect();
    for (index, part) in parts.iter().enumerate() {
        match rest.find(part) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || parts.last() == Some(&"")
}

/// A line `…` stands for any number of lines.
fn fits(expected: &[String], printed: &[&str]) -> bool {
    match (expected.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "…" => {
            (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..]))
        }
        (Some((first, rest)), Some((line, lines))) => line_fits(first, line) && fits(rest, lines),
        _ => false,
    }
}

fn shell(command: &str, folder: &Path, server: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_wsgateway")).parent().expect("its folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let ran = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(folder)
        .env("PATH", path)
        .env("WSGATEWAY_SERVER", server)
        .output()
        .expect("a shell");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn the_page_is_compared_line_by_line() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(fits(&lines("a ep-… b\n…\nz"), &["a  ep-123 b", "x", "y", "z"]));
    assert!(fits(&lines("a\n…"), &["a"]));
    for (expected, printed) in
        [("a", vec!["b"]), ("a", vec!["a", "b"]), ("a\nb", vec!["a"]), ("a …x", vec!["a y"]), ("a", vec!["ab"])]
    {
        assert!(!fits(&lines(expected), &printed), "{expected:?} {printed:?}");
    }
}

#[tokio::test]
async fn the_walk_through_of_the_documentation_works_as_it_stands_there() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let folder = run_folder().join("walkthrough");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(format!("{ROOT}/docs/examples/shop.yaml"), folder.join("shop.yaml")).expect("the example");
    let page = std::fs::read_to_string(format!("{ROOT}/docs/walkthrough.md")).expect("the page");
    let steps = steps(&page);
    assert!(steps.len() >= 12, "{} commands", steps.len());
    let server = format!("http://{}", cluster.nodes[0].admin);
    for (command, expected) in &steps {
        let (command, folder, server) = (command.clone(), folder.clone(), server.clone());
        let shown = command.clone();
        let printed = tokio::task::spawn_blocking(move || shell(&command, &folder, &server)).await.expect("it ran");
        let lines: Vec<&str> = printed.lines().collect();
        assert!(
            fits(expected, &lines),
            "$ {shown}\n--- the page has\n{}\n--- printed was\n{printed}",
            expected.join("\n")
        );
    }
    // What was rolled out is what is served, on another node.
    let id = cluster.nodes[2].admin().get("/api/v1/endpoints").await.json()["items"][0]["id"].clone();
    let found =
        cluster.nodes[2].admin().get(&format!("/api/v1/endpoints/{}", id.as_str().expect("an id"))).await.json();
    assert_eq!((&found["activeVersion"], &found["latestVersion"]), (&json!(1), &json!(2)));
    assert!(found["document"].get("tests").is_none(), "tests are not sent");
    println!("{} commands of the walk-through printed what the page has", steps.len());
}

#[tokio::test]
async fn apply_changes_all_or_nothing_that_is_wrong_and_prunes_with_care() {
    let _turn = own_cluster_turn().await;
    let token = "a-token-of-some-length".to_owned();
    let cluster = Cluster::start_with(1, Plan { token: Some(token.clone()), ..Plan::default() }).await;
    let server = format!("http://{}", cluster.nodes[0].admin);
    let token_file = file("apply-token", "token", &format!("{token}\n")).display().to_string();
    let ours = async |arguments: &[&str]| {
        run(&[arguments, &["--server", &server, "--token-file", &token_file]].concat(), &[]).await
    };

    for (environment, word) in [(vec![], "WSGATEWAY_TOKEN"), (vec![("WSGATEWAY_TOKEN", "wrong")], "not valid")] {
        let refused = run(&["get", "--server", &server], &environment).await;
        assert_eq!(refused.status.code(), Some(1));
        assert!(err(&refused).contains("401") && err(&refused).contains(word), "{}", err(&refused));
    }
    let nobody = run(&["get", "--server", "http://127.0.0.1:1"], &[]).await;
    assert!(nobody.status.code() == Some(1) && err(&nobody).contains("no node can be reached"), "{}", err(&nobody));
    assert_eq!(run(&["get", "--server", "ftp://x"], &[]).await.status.code(), Some(2));

    let a = file("apply", "a.yaml", "path: /a\n");
    file("apply", "b.json", "{\"path\": \"/b\"}");
    let folder = a.parent().expect("its folder").display().to_string();
    let wrong = file("apply", "c.yaml", "path: /c\nroutes:\n  - {type: default, name: d, backends: [{type: nope}]}\n");
    let refused = ours(&["apply", "-f", &folder]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains(&format!("{}:3:", wrong.display())), "{}", err(&refused));
    assert!(err(&refused).contains("routes[0].backends[0].type"), "{}", err(&refused));
    assert_eq!(out(&ours(&["get", "--output", "json"]).await).trim(), "[]", "nothing was written");

    for (text, line) in
        [("path: [\n", "not YAML"), ("path: /a\n", "the path /a is that of"), ("name: x\n", "needs the field")]
    {
        file("apply", "c.yaml", text);
        let refused = ours(&["apply", "-f", &folder]).await;
        assert!(refused.status.code() == Some(1) && err(&refused).contains(line), "{line}: {}", err(&refused));
    }
    std::fs::remove_file(&wrong).expect("it was there");
    let drift = ours(&["apply", "-f", &folder, "--dry-run", "--output", "json"]).await;
    assert_eq!(drift.status.code(), Some(2));
    let planned: Value = serde_json::from_str(&out(&drift)).expect("JSON");
    assert_eq!(planned["endpoints"][1]["action"], "create", "{planned}");
    assert!(ours(&["apply", "-f", &folder, "-m", "both"]).await.status.success());
    assert!(ours(&["apply", "-f", &folder, "--dry-run"]).await.status.success(), "no drift any more");

    // Pruning: one of three is fine, two of three needs to be meant.
    file("apply-more", "c.yaml", "path: /c\n");
    let more = run_folder().join("apply-more").display().to_string();
    assert!(ours(&["apply", "-f", &more]).await.status.success());
    let refused = ours(&["apply", "-f", &more, "--prune"]).await;
    assert!(refused.status.code() == Some(1) && err(&refused).contains("--prune-most"), "{}", err(&refused));
    assert_eq!(out(&ours(&["get"]).await).lines().count(), 4, "nothing was deleted");
    let dry = ours(&["apply", "-f", &folder, "--prune", "--dry-run"]).await;
    assert!(dry.status.code() == Some(2) && out(&dry).contains("- /c: delete ep-"), "{}", out(&dry));
    assert!(ours(&["apply", "-f", &folder, "--prune"]).await.status.success());
    assert!(!out(&ours(&["get"]).await).contains("/c "));
    assert!(ours(&["apply", "-f", &more, "--prune", "--prune-most"]).await.status.success());
    assert_eq!(out(&ours(&["get"]).await).lines().count(), 2);
}

#[tokio::test]
async fn versions_are_compared_gone_back_to_and_their_keys_stay_hidden() {
    let cluster = shared().await;
    let path = unique_path("versions");
    let echo = |name: &str| {
        route("default", &[json!({"type": "echo"})]).as_object_mut().map(|it| {
            it.insert("name".into(), json!(name));
            Value::from(it.clone())
        })
    };
    let keys = |key: &str| json!({"mode": "apiKey", "in": "query", "name": "k", "keys": [{"id": "ann", "key": key}]});
    let made =
        |name: &str, key: &str| with(document(&path, &[echo(name).expect("a route")]), "authentication", keys(key));
    let endpoint = cluster.create(&made("one", "first-secret-key-000")).await;
    let server = format!("http://{}", cluster.nodes[1].admin);
    let ours = async |arguments: &[&str]| run(&[arguments, &["--server", &server]].concat(), &[]).await;
    let same = file("versions", "same.json", &made("one", "first-secret-key-000").to_string()).display().to_string();
    let no_change = ours(&["diff", "-f", &same]).await;
    assert!(no_change.status.success() && out(&no_change).contains("no difference"), "{}", out(&no_change));
    let other = file("versions", "other.json", &made("two", "second-secret-key-00").to_string()).display().to_string();
    let differs = ours(&["diff", "-f", &other]).await;
    assert_eq!(differs.status.code(), Some(2));
    let text = out(&differs);
    assert!(text.contains("~ authentication.keys[0].keyHash: \"(hidden)\" -> \"(hidden)\""), "{text}");
    assert!(text.contains("+ routes[0]: ") && text.contains("- routes[0]: "), "another name is another route: {text}");
    assert!(!text.contains("secret") && !text.contains("sha256"), "{text}");
    let applied = ours(&["apply", "-f", &other, "-m", "other keys", "--wait"]).await;
    assert!(applied.status.success(), "{}", err(&applied));
    cluster.wait_version(&endpoint.id, 2).await;
    assert!(Client::try_connect(&cluster.nodes[2], &format!("{path}?k=first-secret-key-000"), &[]).await.is_err());
    let back = ours(&["rollback", &path, "-m", "the old keys"]).await;
    assert!(back.status.success() && out(&back).contains("version 2 -> 1"), "{}{}", out(&back), err(&back));
    cluster.wait_version(&endpoint.id, 1).await;
    let mut client = Client::connect(&cluster.nodes[2], &format!("{path}?k=first-secret-key-000")).await;
    client.send("1").await;
    assert_eq!(client.text().await, "1");
    for (arguments, word) in [
        (vec!["rollback", &path], "none before it"),
        (vec!["rollback", &path, "--to", "9"], "version_not_found"),
        (vec!["get", "/nowhere"], "no endpoint with the path"),
        (vec!["get", "ep-nothing"], "endpoint_not_found"),
        (vec!["diff", &path, "--to", "7"], "version_not_found"),
        (vec!["push", "nonsense", "{}"], "malformed_connection_id"),
    ] {
        let refused = ours(&arguments).await;
        assert!(refused.status.code() == Some(1) && err(&refused).contains(word), "{arguments:?}: {}", err(&refused));
    }
    assert_eq!(ours(&["push", "nonsense", "{"]).await.status.code(), Some(2));
    let shown = ours(&["get", &path, "--version", "2"]).await;
    assert!(out(&shown).contains("\"two\"") && !out(&shown).contains("secret-key"), "{}", out(&shown));
    for target in ["?from=1&to=2&x=1", "?from=x"] {
        let target = format!("/api/v1/endpoints/{}/diff{target}", endpoint.id);
        cluster.nodes[0].admin().get(&target).await.expect_problem(400, "invalid_query");
    }
}

#[tokio::test]
async fn the_console_client_and_completions() {
    let cluster = shared().await;
    let path = unique_path("console");
    cluster.create(&document(&path, &[route("default", &[json!({"type": "echo"})])])).await;
    let url = format!("ws://{}{path}?a=1", cluster.nodes[0].client);
    let began = std::time::Instant::now();
    let ended =
        run(&["ws", &url, "--query", "token=a b&c", "-s", "[1]", "--receive", "9", "--exit-after", "1"], &[]).await;
    assert!(ended.status.success() && out(&ended).contains("[1]"), "{}{}", out(&ended), err(&ended));
    assert!(began.elapsed() >= std::time::Duration::from_secs(1), "it waited for more");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let printed = run(&["completions", shell], &[]).await;
        assert!(printed.status.success() && out(&printed).contains("rollback"), "{shell}");
    }
}
