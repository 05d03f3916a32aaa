//! Starts the real gateway: one or several `wsgateway serve` nodes on free loopback ports with temporary data
//! directories, one endpoint on them, everything gone when the `Target` is dropped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, Context};
use serde_json::{json, Value};

use crate::certificate::{Certificate, Sessions};
use crate::client::handshake_through;
use crate::http1::call;
use crate::process::{die_with_parent, Owned};
use crate::push::PushDoor;
use crate::target::{Everyone, KafkaTopic, PushRoute, Target, PUSH_LOCAL, PUSH_REMOTE};
use crate::transport::Transport;

pub const PATH: &str = "/bench";
const PUSH_PREFIX: &str = "/api/v1/connections/";
/// From start to a cluster with a leader; generous, as the other nodes of it start at the same time on the same cores.
const READY_LONGEST: Duration = Duration::from_secs(60);
/// From the commit of the endpoint to its being served.
const LIVE_LONGEST: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// Of a node's log in an error message.
const LOG_TAIL_LINES: usize = 15;

struct Node {
    client: SocketAddr,
    admin: SocketAddr,
    process: Owned,
    log: PathBuf,
}

/// The endpoint under load: connect events go to `connect`, messages to `default`.
pub fn endpoint(connect: Value, default: Value) -> Value {
    json!({
        "path": PATH,
        "routes": [
            {"type": "connect", "name": "Connect", "backends": [connect]},
            {"type": "default", "name": "Default", "backends": [default]},
        ],
    })
}

pub fn http_backend(address: SocketAddr) -> Value {
    json!({"type": "http", "destination": format!("http://{address}/events")})
}

pub fn kafka_backend(kafka: &KafkaTopic) -> Value {
    json!({"type": "kafka", "topic": kafka.topic, "bootstrapServers": kafka.brokers})
}

/// Starts `count` nodes of `binary` and creates the endpoint. Clients belong on the first node.
pub async fn start(binary: &Path, count: usize, endpoint: &Value) -> anyhow::Result<Target> {
    start_with(binary, count, endpoint, None).await
}

/// The same, with a certificate behind TLS: clients of the target do full handshakes.
pub async fn start_with(
    binary: &Path,
    count: usize,
    endpoint: &Value,
    certificate: Option<&Certificate>,
) -> anyhow::Result<Target> {
    let transport = match certificate {
        Some(certificate) => Transport::Tls(certificate.connector(Sessions::Forgotten)?),
        None => Transport::Clear,
    };
    let files = tempfile::Builder::new().prefix("wsgateway-bench-").tempdir()?;
    let ports = free_ports(count)?;
    let seeds: Vec<String> = ports.iter().map(|ports| ports.cluster.to_string()).collect();
    let mut nodes = Vec::new();
    for (index, ports) in ports.iter().enumerate() {
        let mut command = Command::new(binary);
        if let Some(certificate) = certificate {
            command.env("WSGATEWAY__CLIENT__TLS__CERTIFICATE_FILE", certificate.certificate_file());
            command.env("WSGATEWAY__CLIENT__TLS__KEY_FILE", certificate.key_file());
        }
        nodes.push(spawn(command, files.path(), &format!("n{}", index + 1), ports, &seeds)?);
    }
    wait_ready(&mut nodes).await?;
    let endpoint_id = create(&nodes[0], endpoint).await?;
    for node in &nodes {
        wait_live(node, &transport).await?;
    }

    let owner = &nodes[0];
    let mut pushes = vec![PushRoute {
        loads: &[PUSH_LOCAL],
        door: PushDoor { address: owner.admin, prefix: PUSH_PREFIX },
        pids: vec![owner.process.pid()],
    }];
    if let Some(other) = nodes.get(1) {
        pushes.push(PushRoute {
            loads: &[PUSH_REMOTE],
            door: PushDoor { address: other.admin, prefix: PUSH_PREFIX },
            pids: vec![owner.process.pid(), other.process.pid()],
        });
    }
    Ok(Target {
        websocket: owner.client,
        transport,
        path: PATH,
        owner_pid: owner.process.pid(),
        pushes,
        everyone: Everyone {
            websockets: nodes.iter().map(|node| node.client).collect(),
            address: owner.admin,
            path: format!("/api/v1/endpoints/{endpoint_id}/broadcast"),
            pids: nodes.iter().map(|node| node.process.pid()).collect(),
        },
        _processes: nodes.into_iter().map(|node| node.process).collect(),
        _files: Some(files),
    })
}

struct Ports {
    client: SocketAddr,
    admin: SocketAddr,
    cluster: SocketAddr,
}

/// Ports that were free a moment ago; all are held until the last one is found, so that they differ.
fn free_ports(nodes: usize) -> anyhow::Result<Vec<Ports>> {
    let mut held = Vec::new();
    let mut next = |udp_too: bool| -> anyhow::Result<SocketAddr> {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0")?;
            let address = tcp.local_addr()?;
            // The cluster listener gossips over UDP on the same number.
            let udp = UdpSocket::bind(address);
            if !udp_too || udp.is_ok() {
                held.push((tcp, udp));
                return Ok(address);
            }
        }
    };
    (0..nodes).map(|_| Ok(Ports { client: next(false)?, admin: next(false)?, cluster: next(true)? })).collect()
}

fn spawn(mut command: Command, files: &Path, name: &str, ports: &Ports, seeds: &[String]) -> anyhow::Result<Node> {
    let data = files.join(name);
    fs::create_dir(&data)?;
    let log = files.join(format!("{name}.log"));
    let output = File::create(&log)?;
    command.args(["serve", "--name", name, "--data-dir"]).arg(&data);
    command.args(["--client-listen", &ports.client.to_string(), "--admin-listen", &ports.admin.to_string()]);
    command.args(["--cluster-listen", &ports.cluster.to_string(), "--seeds", &seeds.join(",")]);
    command.args(["--bootstrap-expect", &seeds.len().to_string()]);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    die_with_parent(&mut command);
    let process = command.spawn().with_context(|| format!("starting {:?} (see --binary)", command.get_program()))?;
    Ok(Node { client: ports.client, admin: ports.admin, process: Owned(process), log })
}

async fn wait_ready(nodes: &mut [Node]) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_LONGEST;
    for node in nodes {
        loop {
            if matches!(call(node.admin, "GET", "/readyz", "").await, Ok((200, _))) {
                break;
            }
            if let Some(status) = node.process.0.try_wait()? {
                bail!("a node ended with {status}:\n{}", log_tail(&node.log));
            }
            if Instant::now() > deadline {
                bail!("a node was not ready within {READY_LONGEST:?}:\n{}", log_tail(&node.log));
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// Answers the endpoint's id.
async fn create(node: &Node, endpoint: &Value) -> anyhow::Result<String> {
    let (status, answer) = call(node.admin, "POST", "/api/v1/endpoints", &endpoint.to_string()).await?;
    anyhow::ensure!(status == 201, "creating the endpoint was answered {status}: {answer}\n{}", log_tail(&node.log));
    let created: Value = serde_json::from_str(&answer).context("the endpoint's creation was not answered with JSON")?;
    created["id"].as_str().map(str::to_owned).with_context(|| format!("no id in {answer}"))
}

/// Between commit and service a handshake is refused.
async fn wait_live(node: &Node, transport: &Transport) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIVE_LONGEST;
    loop {
        let error = match handshake_through(transport, node.client, PATH).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            bail!("no client got in within {LIVE_LONGEST:?} ({error:#}):\n{}", log_tail(&node.log));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn log_tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ() {
        let ports = free_ports(3).unwrap();
        let mut all: Vec<u16> =
            ports.iter().flat_map(|node| [node.client.port(), node.admin.port(), node.cluster.port()]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9);
    }

    #[test]
    fn the_endpoint_has_the_two_routes() {
        let kafka = KafkaTopic { brokers: "127.0.0.1:9092".to_owned(), topic: "t".to_owned() };
        let document = endpoint(http_backend("127.0.0.1:9".parse().unwrap()), kafka_backend(&kafka));
        assert_eq!(document["routes"][0]["backends"][0]["destination"], "http://127.0.0.1:9/events");
        assert_eq!(document["routes"][1]["type"], "default");
        assert_eq!(document["routes"][1]["backends"][0]["bootstrapServers"], "127.0.0.1:9092");
    }
}
