//! Starts real nodes as child processes on loopback: free ports, temporary folders, logs kept and shown on failure.
//! Whatever way the test process ends, its children end with it and its folders are removed.

mod ports;
mod process;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard, OnceCell};

use crate::http::{Admin, JSON};
use crate::wait::{eventually, eventually_or_not};

pub use process::{run_folder, Process};

/// From the start of a process until it is ready, on two cores that also run other tests.
const START_WITHIN: Duration = Duration::from_secs(40);
/// Of every cluster whose plan has no other: without one, secrets that must stay readable cannot be stored.
const CLUSTER_SECRET: &str = "the cluster secret of the tests";
/// How much of a log a failure shows.
const LOG_TAIL_LINES: usize = 40;

/// One gateway node: its addresses and folder stay, its process comes and goes.
pub struct Node {
    pub name: String,
    pub client: SocketAddr,
    pub admin: SocketAddr,
    folder: PathBuf,
    arguments: Vec<String>,
    environment: Mutex<Vec<(String, String)>>,
    open_files_max: Option<u64>,
    token: Option<String>,
    process: Mutex<Option<Process>>,
}

impl Node {
    /// The admin API of this node, with the token it was started with.
    pub fn admin(&self) -> Admin {
        Admin { addr: self.admin, token: self.token.clone() }
    }

    /// Starts the process; with the same folder, so after a kill it is the same node.
    pub fn start(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsgateway"));
        // Settings of whoever runs the tests are not ours.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WSGATEWAY__")) {
            command.env_remove(name);
        }
        command
            .args(&self.arguments)
            .envs(self.environment.lock().unwrap().iter().cloned())
            .env_remove("RUST_BACKTRACE");
        let process =
            Process::start(command, &self.log_file(), self.open_files_max).expect("the gateway binary starts");
        let before = self.process.lock().unwrap().replace(process);
        assert!(before.is_none(), "{} runs already", self.name);
    }

    /// A variable of this node alone, from its next start on; the last one of a name counts.
    pub fn set_environment(&self, name: &str, value: &str) {
        self.environment.lock().unwrap().push((name.to_string(), value.to_string()));
    }

    pub async fn wait_ready(&self) {
        let ready = eventually_or_not(START_WITHIN, async || {
            if let Some(status) = self.exited() {
                panic!("{} ended while starting: {status}\n{}", self.name, self.log_tail());
            }
            let answer = self.admin().try_call("GET", "/readyz", &[], b"").await.ok()?;
            (answer.status == 200).then_some(())
        });
        if ready.await.is_none() {
            panic!("{} was not ready within {START_WITHIN:?}\n{}", self.name, self.log_tail());
        }
    }

    /// Empties the data folder, as a lost disk does.
    pub fn wipe(&self) {
        assert!(self.process.lock().unwrap().is_none(), "{} runs", self.name);
        std::fs::remove_dir_all(self.data_folder()).expect("a data folder");
    }

    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub async fn restart(&self) {
        self.start();
        self.wait_ready().await;
    }

    /// kill -9: no goodbye, nothing flushed by the process.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap().take().unwrap_or_else(|| panic!("{} does not run", self.name));
        process.kill();
    }

    /// SIGTERM, SIGSTOP, SIGCONT.
    pub fn signal(&self, signal: libc::c_int) {
        let process = self.process.lock().unwrap();
        process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).signal(signal);
    }

    /// Resident memory of the process, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let id = self.process.lock().unwrap().as_ref().expect("the node runs").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The status of a process that ended by itself.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.process.lock().unwrap().as_mut()?.exited()
    }

    pub async fn wait_exit(&self, within: Duration) -> ExitStatus {
        let status = eventually(&format!("the end of {}", self.name), within, async || self.exited()).await;
        *self.process.lock().unwrap() = None;
        status
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        format!("--- log of {} ({}):\n{}\n---", self.name, self.log_file().display(), tail.join("\n"))
    }
}

/// How to start nodes; see [`Cluster`] for the usual three.
#[derive(Clone, Default)]
pub struct Plan {
    /// Added to `serve`'s arguments.
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Hard limit of open files.
    pub open_files_max: Option<u64>,
    /// Becomes the setting admin.token and is sent along by [`Node::admin`].
    pub token: Option<String>,
    /// Replaces the address (not the port) of the admin listener.
    pub admin_host: Option<String>,
    /// The same of the client listener. Clients go to 127.0.0.1 all the same.
    pub client_host: Option<String>,
}

/// Nodes that know each other as seeds.
pub struct Cluster {
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// A cluster of its own, ready; ends with the value.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, Plan::default()).await
    }

    pub async fn start_with(count: usize, plan: Plan) -> Self {
        let cluster = Self::prepare(count, plan);
        cluster.begin().await;
        cluster
    }

    /// Starts what was prepared; then every node is ready.
    pub async fn begin(&self) {
        self.nodes.iter().for_each(Node::start);
        for node in &self.nodes {
            node.wait_ready().await;
        }
        if self.nodes.len() > 1 {
            self.wait_voters().await;
        }
    }

    /// Everything but the processes.
    pub fn prepare(count: usize, plan: Plan) -> Self {
        static CLUSTERS: AtomicUsize = AtomicUsize::new(0);
        let folder = run_folder().join(format!("cluster-{}", CLUSTERS.fetch_add(1, Ordering::Relaxed)));
        let cluster_addrs: Vec<SocketAddr> = (0..count).map(|_| ports::free_for_tcp_and_udp()).collect();
        let seeds = cluster_addrs.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        let nodes = cluster_addrs.iter().enumerate().map(|(index, cluster_addr)| {
            let name = format!("n{}", index + 1);
            node(&folder, name, *cluster_addr, &seeds, count, &plan)
        });
        Self { nodes: nodes.collect() }
    }

    /// Starts one more node, with the seeds of the others; ready when this returns.
    pub async fn add_node(&mut self) {
        let first = &self.nodes[0];
        let of = |flag: &str| first.arguments.iter().skip_while(|it| *it != flag).nth(1).expect("a value").clone();
        let (seeds, expect) = (of("--seeds"), of("--bootstrap-expect").parse().expect("a number"));
        let folder = first.folder.parent().expect("the cluster's folder").to_owned();
        let plan = Plan { token: first.token.clone(), ..Plan::default() };
        let name = format!("n{}", self.nodes.len() + 1);
        let added = node(&folder, name, ports::free_for_tcp_and_udp(), &seeds, expect, &plan);
        added.start();
        added.wait_ready().await;
        self.nodes.push(added);
    }

    /// Creates an endpoint through the first node and waits until every node serves it.
    pub async fn create(&self, document: &Value) -> Endpoint {
        self.create_text(&document.to_string()).await
    }

    /// The same with the very text of a document.
    pub async fn create_text(&self, document: &str) -> Endpoint {
        let answer = self.nodes[0].admin().call("POST", "/api/v1/endpoints", JSON, document.as_bytes()).await;
        let created = answer.expect(201).json();
        let endpoint = Endpoint {
            id: created["id"].as_str().expect("an id").to_string(),
            path: created["path"].as_str().expect("a path").to_string(),
        };
        self.wait_version(&endpoint.id, 1).await;
        endpoint
    }

    /// Waits until every running node serves this version of the endpoint, or says why it cannot.
    pub async fn wait_version(&self, id: &str, version: u64) {
        for node in self.nodes.iter().filter(|node| node.process.lock().unwrap().is_some()) {
            eventually(&format!("version {version} of {id} on {}", node.name), Duration::from_secs(15), async || {
                let target = format!("/api/v1/endpoints/{id}/rollout");
                let answer = node.admin().try_call("GET", &target, &[], b"").await.ok()?;
                let rollout = (answer.status == 200).then(|| answer.json())?;
                let own = rollout["nodes"].as_array()?.iter().find(|of| of["node"] == node.name.as_str())?;
                let serves = own["activeVersion"] == version || own["degraded"].is_string();
                (rollout["activeVersion"] == version && serves).then_some(())
            })
            .await;
        }
    }

    /// Waits until every node is a voter: right after its start a cluster has one, and the leader's autopilot promotes
    /// the others when they have been healthy for a while. Before that no node but the first can be missed.
    pub async fn wait_voters(&self) {
        eventually("every node to be a voter", START_WITHIN, async || {
            let answer = self.nodes[0].admin().try_call("GET", "/api/v1/cluster", &[], b"").await.ok()?;
            let cluster = answer.expect(200).json();
            let voters = |node: &&Value| matches!(node["role"].as_str(), Some("leader" | "voter"));
            (cluster["nodes"].as_array()?.iter().filter(voters).count() == self.nodes.len()).then_some(())
        })
        .await;
    }

    /// The index of the node that all others (of those that answer) take for the leader.
    pub async fn leader(&self) -> usize {
        eventually("a leader", Duration::from_secs(20), async || self.leader_now().await).await
    }

    async fn leader_now(&self) -> Option<usize> {
        for node in &self.nodes {
            if node.process.lock().unwrap().is_none() {
                continue;
            }
            let Ok(answer) = node.admin().try_call("GET", "/api/v1/cluster", &[], b"").await else { continue };
            let cluster = answer.expect(200).json();
            let leader = &cluster["leader"];
            let found =
                cluster["nodes"].as_array()?.iter().find(|node| &node["nodeId"] == leader && !leader.is_null())?;
            return self.nodes.iter().position(|node| found["name"] == node.name.as_str());
        }
        None
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                println!("{}", node.log_tail());
            }
        }
    }
}

/// An endpoint that a test created.
pub struct Endpoint {
    pub id: String,
    pub path: String,
}

fn node(folder: &Path, name: String, cluster: SocketAddr, seeds: &str, count: usize, plan: &Plan) -> Node {
    let (client, admin) = (ports::free_for_tcp(), ports::free_for_tcp());
    let folder = folder.join(&name);
    std::fs::create_dir_all(&folder).expect("a folder for the node");
    let admin_listen = match &plan.admin_host {
        Some(host) => format!("{host}:{}", admin.port()),
        None => admin.to_string(),
    };
    let client_listen = match &plan.client_host {
        Some(host) => format!("{host}:{}", client.port()),
        None => client.to_string(),
    };
    let mut arguments = vec!["serve".to_string()];
    let settings = [
        ("--name", name.clone()),
        ("--data-dir", folder.join("data").display().to_string()),
        ("--client-listen", client_listen),
        ("--admin-listen", admin_listen),
        ("--cluster-listen", cluster.to_string()),
        ("--seeds", seeds.to_string()),
        ("--bootstrap-expect", count.to_string()),
    ];
    arguments.extend(settings.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]));
    arguments.extend(plan.arguments.iter().cloned());
    let mut environment = vec![("WSGATEWAY__CLUSTER__SECRETS".into(), format!("[\"{CLUSTER_SECRET}\"]"))];
    environment.extend(plan.environment.iter().cloned());
    if let Some(token) = &plan.token {
        environment.push(("WSGATEWAY__ADMIN__TOKEN".into(), token.clone()));
    }
    Node {
        name,
        client,
        admin,
        folder,
        arguments,
        environment: Mutex::new(environment),
        open_files_max: plan.open_files_max,
        token: plan.token.clone(),
        process: Mutex::new(None),
    }
}

/// Three nodes for all tests that neither kill nor fill them; started by the first that asks. They trust proxies at two
/// addresses of loopback that no other client has, and the tests' own certificate authority.
pub async fn shared() -> &'static Cluster {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    let arguments = vec!["--trusted-proxies".into(), "127.0.0.8,127.0.0.9".into()];
    let ca_file = crate::tls::ca_file().display().to_string();
    let environment = vec![("WSGATEWAY__OUTBOUND__CA_FILE".into(), ca_file)];
    SHARED.get_or_init(|| Cluster::start_with(3, Plan { arguments, environment, ..Plan::default() })).await
}

/// Tests with a cluster of their own take turns, so that two cores are not asked to run a dozen nodes.
pub async fn own_cluster_turn() -> MutexGuard<'static, ()> {
    static TURN: AsyncMutex<()> = AsyncMutex::const_new(());
    TURN.lock().await
}

/// A path that no other test uses.
pub fn unique_path(theme: &str) -> String {
    static PATHS: AtomicUsize = AtomicUsize::new(1);
    format!("/{theme}-{}", PATHS.fetch_add(1, Ordering::Relaxed))
}
