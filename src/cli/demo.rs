//! `wsgateway demo`: a cluster on loopback in child processes, a sample chat service, and what to paste to see a
//! message travel. Ctrl-C ends them all.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, Context};
use clap::Args;
use serde_json::json;

use super::http::{client, is_ok, post};

/// A cluster of three is there within a few seconds; a loaded machine may take longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Args)]
#[command(after_help = "Example:\n  wsgateway demo --nodes 3")]
pub struct Demo {
    /// Nodes to start, 1–5
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=5))]
    nodes: u16,
    /// Brokers of a Kafka cluster; adds an endpoint that writes to a topic
    #[arg(long)]
    kafka: Option<String>,
    /// First ports of clients, admin and cluster listeners; the next free ones are taken
    #[arg(long, default_value_t = 8081)]
    client_port: u16,
    #[arg(long, default_value_t = 9001)]
    admin_port: u16,
    #[arg(long, default_value_t = 7001)]
    cluster_port: u16,
    /// Keep data here; default: a temporary folder that is removed at the end
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

struct DemoNode {
    client: u16,
    admin: u16,
    cluster: u16,
}

/// The children; ended when dropped, whatever happens.
struct Children {
    running: Vec<(String, Child)>,
    /// Removed at the end.
    folder: Option<PathBuf>,
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            // SAFETY: kill takes plain numbers; the child has not been waited for, so its id is still its own.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        }
        let deadline = Instant::now() + Duration::from_secs(8);
        for (name, child) in &mut self.running {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                #[allow(clippy::disallowed_methods)] // a command's own thread, at its end
                std::thread::sleep(Duration::from_millis(20));
            }
            if matches!(child.try_wait(), Ok(None)) {
                eprintln!("{name} did not end in time and is killed");
                let _ended = child.kill();
                let _reaped = child.wait();
            }
        }
        if let Some(folder) = &self.folder {
            if let Err(err) = std::fs::remove_dir_all(folder) {
                eprintln!("{}: {err}", folder.display());
            }
        }
    }
}

impl Demo {
    pub fn run(self) -> anyhow::Result<()> {
        actix_rt::System::new().block_on(self.play())
    }

    async fn play(self) -> anyhow::Result<()> {
        let folder = self
            .data_dir
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("wsgateway-demo-{}", std::process::id())));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let temporary = self.data_dir.is_none().then(|| folder.clone());
        let mut children = Children { running: Vec::new(), folder: temporary };
        let nodes = self.ports()?;
        let secret = cluster_secret(&folder)?;
        let seeds: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.cluster)).collect();
        for (index, node) in nodes.iter().enumerate() {
            let name = format!("n{}", index + 1);
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["serve", "--name", &name, "--bootstrap-expect", &nodes.len().to_string()]);
            command.args(["--client-listen", &format!("127.0.0.1:{}", node.client)]);
            command.args(["--admin-listen", &format!("127.0.0.1:{}", node.admin)]);
            command.args(["--cluster-listen", &format!("127.0.0.1:{}", node.cluster)]);
            command.args(["--seeds", &seeds.join(","), "--drain-seconds", "1"]);
            command.arg("--data-dir").arg(folder.join(&name));
            command.env("WSGATEWAY__CLUSTER__SECRETS", &secret);
            if let Some(kafka) = &self.kafka {
                command.args(["--kafka-bootstrap-servers", kafka]);
            }
            children.start(&name, command, &folder)?;
        }
        let service = free_port(9101)?;
        let gateways: Vec<String> = nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.admin)).collect();
        let mut command = Command::new(std::env::current_exe()?);
        let listen = format!("127.0.0.1:{service}");
        command.args(["sample-chat", "--listen", &listen, "--gateways", &gateways.join(",")]);
        children.start("sample-chat", command, &folder)?;

        println!("starting {} nodes on loopback; logs in {}", nodes.len(), folder.display());
        let begun = async {
            children.wait_ready(&gateways).await?;
            self.create_endpoints(&gateways[0], service).await
        };
        if let Err(err) = begun.await {
            children.folder = None; // its logs say why
            return Err(err.context(format!("logs in {}", folder.display())));
        }
        self.explain(&nodes);
        children.watch().await
    }

    fn ports(&self) -> anyhow::Result<Vec<DemoNode>> {
        let (mut client, mut admin, mut cluster) = (self.client_port, self.admin_port, self.cluster_port);
        let mut nodes = Vec::new();
        for _ in 0..self.nodes {
            let node = DemoNode { client: free_port(client)?, admin: free_port(admin)?, cluster: free_port(cluster)? };
            (client, admin, cluster) = (node.client + 1, node.admin + 1, node.cluster + 1);
            nodes.push(node);
        }
        Ok(nodes)
    }

    async fn create_endpoints(&self, gateway: &str, service: u16) -> anyhow::Result<()> {
        let to = |path: &str| json!({"type": "http", "destination": format!("http://127.0.0.1:{service}/{path}")});
        let mut documents = vec![
            json!({"path": "/chat/{room}", "name": "chat", "routes": [
                {"type": "connect", "name": "Connect", "backends": [to("connect")]},
                {"type": "disconnect", "name": "Disconnect", "backends": [to("disconnect")]},
                {"type": "default", "name": "Message", "backends": [to("message")]}]}),
            json!({"path": "/echo", "name": "echo", "routes": [
                {"type": "default", "name": "Echo", "backends": [{"type": "echo"}]}]}),
        ];
        if self.kafka.is_some() {
            documents.push(json!({"path": "/orders", "name": "orders", "routes": [
                {"type": "default", "name": "Orders", "backends": [{"type": "kafka", "topic": "orders"}]}]}));
        }
        let client = client();
        for document in documents {
            let url = format!("{gateway}/api/v1/endpoints?message=demo");
            let (status, body) = post(&client, &url, document.to_string()).await?;
            // 409: a kept data folder has it already.
            if status != 201 && status != 409 {
                bail!("creating {}: {status} {body}", document["path"]);
            }
        }
        Ok(())
    }

    fn explain(&self, nodes: &[DemoNode]) {
        let me = std::env::current_exe().map_or("wsgateway".to_owned(), |path| path.display().to_string());
        println!("\n{} nodes are up:", nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            println!(
                "  n{}  clients ws://127.0.0.1:{}   admin http://127.0.0.1:{}",
                index + 1,
                node.client,
                node.admin
            );
        }
        println!("\nAll of it in a browser: http://127.0.0.1:{}/ui/", nodes[0].admin);
        let (first, last) = (&nodes[0], &nodes[nodes.len() - 1]);
        let second = nodes.get(1).unwrap_or(first);
        println!(
            "\nTwo people chat through two different nodes; paste each line into a terminal of its own and type:\n"
        );
        println!("  {me} ws 'ws://127.0.0.1:{}/chat/lobby?name=ann'", first.client);
        println!("  {me} ws 'ws://127.0.0.1:{}/chat/lobby?name=bob'", second.client);
        println!("  {{\"text\": \"hello\"}}");
        println!("\nAnd the cluster:\n");
        println!("  curl -s http://127.0.0.1:{}/api/v1/cluster", last.admin);
        println!("  curl -s http://127.0.0.1:{}/api/v1/endpoints", second.admin);
        println!("  curl -s http://127.0.0.1:{}/metrics", first.admin);
        if let Some(kafka) = &self.kafka {
            println!("\nEvents to the Kafka topic 'orders' (brokers {kafka}):\n");
            println!("  {me} ws 'ws://127.0.0.1:{}/orders' --send '{{\"order\": 1}}'", last.client);
        }
        println!("\nCtrl-C ends everything.");
    }
}

impl Children {
    fn start(&mut self, name: &str, mut command: Command, folder: &std::path::Path) -> anyhow::Result<()> {
        let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C in the terminal is for the demo, which ends its children in order.
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe; the child dies with this process even when that is killed.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        self.running.push((name.to_owned(), command.spawn().with_context(|| format!("starting {name}"))?));
        Ok(())
    }

    fn ended(&mut self) -> Option<String> {
        self.running.iter_mut().find_map(|(name, child)| match child.try_wait() {
            Ok(Some(status)) => Some(format!("{name} has ended: {status}")),
            _ => None,
        })
    }

    async fn wait_ready(&mut self, gateways: &[String]) -> anyhow::Result<()> {
        let client = client();
        let deadline = Instant::now() + READY_WITHIN;
        for gateway in gateways {
            while !is_ok(&client, &format!("{gateway}/readyz")).await {
                if let Some(ended) = self.ended() {
                    bail!("{ended}");
                }
                if Instant::now() > deadline {
                    bail!("{gateway} is not ready after {} s", READY_WITHIN.as_secs());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// Until Ctrl-C or SIGTERM. That a node ends is part of the play (try `kill -9`): it is said, not repaired.
    async fn watch(mut self) -> anyhow::Result<()> {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => break,
                _ = terminate.recv() => break,
                _ = ticks.tick() => {
                    if let Some(ended) = self.ended() {
                        println!("{ended}");
                        self.running.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
                    }
                }
            }
        }
        println!("\nending");
        Ok(())
    }
}

/// As the setting wants it. Without one, secrets in documents that must stay readable could not be stored. Kept with the data.
fn cluster_secret(folder: &Path) -> anyhow::Result<String> {
    let file = folder.join("cluster.secret");
    let secret = match std::fs::read_to_string(&file) {
        Ok(secret) => secret,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            let secret = format!("{:032x}", rand::random::<u128>());
            let mut options = std::fs::OpenOptions::new();
            let created = options.write(true).create_new(true).mode(0o600).open(&file);
            created
                .and_then(|mut file| file.write_all(secret.as_bytes()))
                .with_context(|| file.display().to_string())?;
            secret
        }
        Err(err) => return Err(err).with_context(|| file.display().to_string()),
    };
    Ok(format!("[{secret:?}]"))
}

/// The first port from `from` on that nothing listens on.
fn free_port(from: u16) -> anyhow::Result<u16> {
    (from..=from.saturating_add(200))
        .find(|port| {
            TcpListener::bind(("127.0.0.1", *port)).is_ok() && std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok()
        })
        .with_context(|| format!("no free port from {from} on"))
}
