//! A real OpenID provider, started once per test run through `scripts/oidc.sh`, and what tests ask of it: tokens, new
//! keys, revocation. One that does not start fails the test: nothing is skipped.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{json, Value};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, OnceCell};

use crate::http::{call, Answer, JSON};
use crate::sandbox::{run_folder, Process};
use crate::wait::eventually_or_not;

/// Includes fetching the packages on a machine that has none yet.
const START_WITHIN: Duration = Duration::from_secs(120);

pub struct Provider {
    addr: SocketAddr,
    /// Ended when the test process exits.
    _process: Mutex<Process>,
}

/// The provider of this test run; the first caller starts it.
pub async fn provider() -> &'static Provider {
    static PROVIDER: OnceCell<Provider> = OnceCell::const_new();
    PROVIDER.get_or_init(start).await
}

/// Held by a test that changes the provider's keys: others would lose theirs.
pub async fn keys_turn() -> MutexGuard<'static, ()> {
    static TURN: AsyncMutex<()> = AsyncMutex::const_new(());
    TURN.lock().await
}

async fn start() -> Provider {
    let folder = run_folder().join("oidc");
    std::fs::create_dir_all(&folder).expect("a folder for the provider");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/oidc.sh");
    let mut command = Command::new(script);
    command.arg("exec").arg(&folder);
    let log = folder.join("log");
    let mut process = Process::start(command, &log, None).expect("scripts/oidc.sh starts");
    let show = || std::fs::read_to_string(&log).unwrap_or_default();
    let port = eventually_or_not(START_WITHIN, async || {
        if let Some(status) = process.exited() {
            panic!("the OpenID provider ended: {status}\n{}", show());
        }
        std::fs::read_to_string(folder.join("ready")).ok()
    });
    let Some(port) = port.await else { panic!("no OpenID provider within {START_WITHIN:?}\n{}", show()) };
    let addr = format!("127.0.0.1:{}", port.trim()).parse().expect("an address");
    Provider { addr, _process: Mutex::new(process) }
}

impl Provider {
    pub fn issuer(&self) -> String {
        format!("http://{}", self.addr)
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        call(self.addr, "POST", path, headers, body.as_bytes()).await.expect("the provider answers")
    }

    /// A form, by the client that tokens are made for.
    async fn form(&self, path: &str, form: &str) -> Answer {
        // service:service-secret
        let headers = [
            ("authorization", "Basic c2VydmljZTpzZXJ2aWNlLXNlY3JldA=="),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        self.post(path, &headers, form).await.expect(200)
    }

    async fn token(&self, resource: &str, scope: &str) -> String {
        let form = format!("grant_type=client_credentials&resource={resource}&scope={scope}");
        let answer = self.form("/token", &form).await.json();
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// A signed token for the audience "gateway" that lives for so many seconds.
    pub async fn jwt(&self, algorithm: &str, scope: &str, seconds: u64) -> String {
        self.token(&format!("urn:gateway:jwt:{algorithm}:{seconds}"), scope).await
    }

    /// A token that only the provider can read.
    pub async fn opaque(&self, scope: &str, seconds: u64) -> String {
        self.token(&format!("urn:gateway:opaque:{seconds}"), scope).await
    }

    pub async fn revoke(&self, token: &str) {
        self.form("/token/revocation", &format!("token={token}")).await;
    }

    /// Makes new signing keys; the old ones are published on, or withdrawn.
    pub async fn new_keys(&self, keep_old: bool) {
        self.post("/control/keys", JSON, &json!({"keep": keep_old}).to_string()).await.expect(204);
    }
}

#[tokio::test]
async fn the_provider_makes_tokens_and_new_keys() {
    let (provider, _turn) = (provider().await, keys_turn().await);
    let jwt = provider.jwt("ES256", "events", 60).await;
    assert_eq!(jwt.split('.').count(), 3, "{jwt}");
    let opaque = provider.opaque("events", 60).await;
    assert!(!opaque.contains('.'), "{opaque}");
    provider.revoke(&opaque).await;
    let keys = async || -> Vec<Value> {
        let answer = call(provider.addr, "GET", "/jwks", &[], b"").await.expect("an answer");
        answer.expect(200).json()["keys"].as_array().expect("keys").clone()
    };
    let before = keys().await;
    provider.new_keys(true).await;
    assert_eq!(keys().await.len(), before.len() + 2);
    provider.new_keys(false).await;
    assert_eq!(keys().await.len(), 2);
}
