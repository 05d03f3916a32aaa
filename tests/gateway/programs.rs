//! Programs of other worlds that scenarios run, within a time: those of `tests/python/` in the environment that
//! `scripts/python.sh` makes. One that cannot be made fails the test: nothing is skipped.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Includes installing the packages on a machine that has none yet.
const INSTALL_WITHIN: Duration = Duration::from_secs(240);

/// The interpreter; the first caller makes sure that its packages are there.
pub async fn python() -> &'static str {
    static INTERPRETER: OnceCell<String> = OnceCell::const_new();
    INTERPRETER
        .get_or_init(|| async {
            let mut command = Command::new(Path::new(ROOT).join("scripts/python.sh"));
            command.arg("fetch");
            let made = ended(command, "scripts/python.sh", INSTALL_WITHIN).await;
            String::from_utf8_lossy(&made.stdout).trim().to_owned()
        })
        .await
}

/// The output of a program, however it ended.
pub async fn ran(mut command: Command, what: &str, within: Duration) -> Output {
    command.stdin(std::process::Stdio::null());
    let mut running = tokio::process::Command::from(command);
    let output = tokio::time::timeout(within, running.kill_on_drop(true).output()).await;
    output.unwrap_or_else(|_| panic!("{what} did not end within {within:?}")).expect("it starts")
}

/// The output of a program that must succeed.
pub async fn ended(command: Command, what: &str, within: Duration) -> Output {
    let output = ran(command, what, within).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}: {}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
    output
}

/// Runs `tests/python/<program>` with one JSON argument and reads the JSON that it prints.
pub async fn run_python(program: &str, argument: &Value, within: Duration) -> Value {
    let mut command = Command::new(python().await);
    command.arg(Path::new(ROOT).join("tests/python").join(program)).arg(argument.to_string());
    // Settings of whoever runs the tests, and files of theirs, are not ours.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_") || name.starts_with("PYTHON")) {
        command.env_remove(name);
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("PYTHONDONTWRITEBYTECODE", "1");
    let printed = ended(command, program, within).await.stdout;
    serde_json::from_slice(&printed)
        .unwrap_or_else(|error| panic!("{program} printed no JSON ({error}): {}", String::from_utf8_lossy(&printed)))
}

/// The folder with the packages that `folder/package-lock.json` pins; the first caller makes sure that they are there.
pub async fn node_packages(folder: &str) -> String {
    let mut command = Command::new(Path::new(ROOT).join("scripts/node.sh"));
    command.arg("fetch").arg(Path::new(ROOT).join(folder));
    let made = ended(command, "scripts/node.sh", INSTALL_WITHIN).await;
    String::from_utf8_lossy(&made.stdout).trim().to_owned()
}

/// Debian's Chromium, which `./test` installs.
pub fn chromium() -> &'static str {
    const CHROMIUM: &str = "/usr/bin/chromium";
    assert!(Path::new(CHROMIUM).exists(), "there is no {CHROMIUM}: apt-get install chromium");
    CHROMIUM
}
