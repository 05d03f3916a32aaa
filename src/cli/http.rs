//! A few JSON requests to admin listeners, for the commands.

use std::time::Duration;

use anyhow::Context;
use awc::Client;

const TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP client for commands: one per thread.
pub fn client() -> Client {
    Client::builder().timeout(TIMEOUT).finish()
}

/// Sends a JSON body; answers status and body.
pub async fn post(client: &Client, url: &str, body: String) -> anyhow::Result<(u16, String)> {
    let sent = client.post(url).content_type("application/json").send_body(body).await;
    let mut answer = sent.map_err(|err| anyhow::anyhow!("{url}: {err}"))?;
    let body = answer.body().await.with_context(|| url.to_owned())?;
    Ok((answer.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
}

/// Whether a GET is answered 200.
pub async fn is_ok(client: &Client, url: &str) -> bool {
    client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
}
