//! The command line as a new user meets it: the demo with two console clients on two nodes, `check`, `settings`,
//! `version`, and a `serve` that is told nonsense.

use std::process::{Command, Output};
use std::time::Duration;

use crate::sandbox::{run_folder, Process};
use crate::wait::eventually;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/src/testdata/endpoint-config-sample.json");
const DEMO_UP_WITHIN: Duration = Duration::from_secs(60);

fn wsgateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgateway"));
    command.args(arguments);
    command
}

pub async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = wsgateway(arguments);
    command.envs(environment.iter().copied()).stdin(std::process::Stdio::null());
    let running = tokio::task::spawn_blocking(move || command.output());
    let ended = tokio::time::timeout(Duration::from_secs(20), running).await;
    ended.expect("the command ends").expect("it was waited for").expect("it starts")
}

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The first `prefix` and what follows it up to a blank.
fn word<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let at = text.find(prefix)?;
    text[at..].split_whitespace().next()
}

#[tokio::test]
async fn the_demo_lets_two_people_chat_through_two_nodes() {
    let log = run_folder().join("demo.log");
    let ports = ["--client-port", "24081", "--admin-port", "24901", "--cluster-port", "24701"];
    let mut demo = Process::start(wsgateway(&[&["demo"], &ports[..]].concat()), &log, None).expect("the demo starts");
    let said = || std::fs::read_to_string(&log).expect("the demo's output");
    let text =
        eventually("the demo is up", DEMO_UP_WITHIN, async || Some(said()).filter(|it| it.contains("Ctrl-C"))).await;
    let urls: Vec<String> = text
        .lines()
        .filter_map(|line| word(line.split_once(" ws '")?.1, "ws://").map(|url| url.trim_matches('\'').to_owned()))
        .collect();
    let (ann, bob) = (urls[0].clone(), urls[1].clone());
    assert_ne!(ann.split('/').nth(2), bob.split('/').nth(2), "two nodes");

    // Ann hears herself join, Bob join and Bob's words; Bob hears himself join and his words.
    let ann = tokio::spawn(async move { run(&["ws", &ann, "--receive", "3"], &[]).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let bob = run(&["ws", &bob, "--send", r#"{"text":"hello"}"#, "--receive", "2"], &[]).await;
    let ann = ann.await.expect("ann's client ends");
    for (who, heard) in [("ann", out(&ann)), ("bob", out(&bob))] {
        assert!(heard.contains(r#""from":"bob""#) && heard.contains("hello"), "{who} heard {heard}");
    }
    demo.signal(libc::SIGTERM);
    let status = eventually("the demo ends", Duration::from_secs(20), async || demo.exited()).await;
    assert!(status.success(), "{status}: {}", said());
    println!("two console clients chatted through two nodes of the demo");
}

#[tokio::test]
async fn check_says_what_is_wrong_with_a_document_and_where() {
    let fine = run(&["check", SAMPLE], &[]).await;
    assert!(fine.status.success() && out(&fine).contains("ok"), "{}{}", out(&fine), err(&fine));
    assert!(out(&fine).contains("warning"), "Kafka without brokers is warned about: {}", out(&fine));

    let broken = run_folder().join("broken.json");
    std::fs::write(&broken, r#"{"path":"/x","settings":{"heartbeatIntervalInSeconds":2},"routes":[{"type":"nope"}]}"#)
        .expect("the folder takes a file");
    let refused = run(&["check", &broken.display().to_string()], &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = out(&refused);
    assert!(text.contains("settings.heartbeatIntervalInSeconds") && text.contains("routes[0].type"), "{text}");
    assert_eq!(run(&["check"], &[]).await.status.code(), Some(2), "usage");
}

#[tokio::test]
async fn settings_name_their_origin_and_hide_secrets() {
    let environment = [("WSGATEWAY__ADMIN__TOKEN", "0123456789012345678"), ("WSGATEWAY__NODE__DRAIN_SECONDS", "9")];
    let shown = run(&["settings", "--name", "n7"], &environment).await;
    let text = out(&shown);
    assert!(shown.status.success(), "{}", err(&shown));
    for line in [
        r#"node.name = "n7"    # flag"#,
        "node.drain_seconds = 9    # ",
        "client.listen = \"127.0.0.1:8080\"    # default",
    ] {
        assert!(text.contains(line), "{line:?} is missing in {text}");
    }
    assert!(!text.contains("0123456789012345678"), "a secret is shown: {text}");
    assert!(out(&run(&["version"], &[]).await).starts_with("wsgateway "));
}

/// As `wsgateway settings | head`.
#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_fault() {
    for arguments in [&["settings"][..], &["metrics"], &["version"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = wsgateway(arguments);
        let ended = tokio::task::spawn_blocking(move || command.stdout(writer).output()).await.unwrap().unwrap();
        assert_eq!((ended.status.code(), err(&ended)), (Some(141), String::new()), "{arguments:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_printed_or_read_is_said_without_secrets() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = wsgateway(&["settings"]);
    let ended = tokio::task::spawn_blocking(move || command.stdout(full).output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", err(&ended));
    assert!(err(&ended).contains("standard output cannot be written"), "{}", err(&ended));

    let mut command = wsgateway(&["get"]);
    command.env("WSGATEWAY_TOKEN", <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"secret-\xff"));
    let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{}", err(&ended));
    assert!(err(&ended).contains("WSGATEWAY_TOKEN is not UTF-8") && !err(&ended).contains("secret"), "{}", err(&ended));
}

#[tokio::test]
async fn serve_refuses_nonsense_with_the_settings_name() {
    let cases: [(&[&str], &str); 3] = [
        (&["serve", "--admin-listen", "0.0.0.0:0"], "admin.listen"),
        (
            &["serve", "--seeds", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", "--bootstrap-expect", "2"],
            "cluster.bootstrap_expect",
        ),
        (&["serve", "--client-listen", "nowhere"], "client.listen"),
    ];
    for (arguments, setting) in cases {
        let refused = run(arguments, &[]).await;
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(err(&refused).contains(setting), "{arguments:?}: {}", err(&refused));
    }
    let secret = [("WSGATEWAY__CLUSTER__SECRETS", "not-a-list-but-secret")];
    let refused = run(&["serve"], &secret).await;
    assert!(err(&refused).contains("cluster.secrets"), "{}", err(&refused));
    assert!(!err(&refused).contains("not-a-list-but-secret"), "{}", err(&refused));
}
