//! The nodes: child processes of the real binary, on loopback or in a network of their own, each with a folder and a log.
//! What is done to them is in `faults`. Dropping the cluster kills them; so does the end of this process, whatever its
//! cause. Imports http (the token), network, ports, durable and small_disks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, Context};
use rand::Rng;

use crate::durable::{Durable, Loss, Lost};
use crate::http::ADMIN_TOKEN;
use crate::network::Network;
use crate::ports;
use crate::small_disks::SmallDisks;

/// Nodes that are not on loopback want both; the others take them too.
const CLUSTER_SECRET: &str = "a-secret-that-only-chaos-uses";
/// In a network of its own, each node has all ports for itself.
const PORTS: [u16; 3] = [8080, 9000, 7000];
/// Worker threads of a node: more than one, so that connections and pushes meet across threads.
const WORKERS: &str = "2";
/// Time over which a leaving node closes its connections.
const DRAIN_SECONDS: &str = "1";
const POLL: Duration = Duration::from_millis(20);

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub client: SocketAddr,
    pub admin: SocketAddr,
    cluster: SocketAddr,
}

/// Which nodes clients and writers may use now; shared with the workloads.
pub struct Entrances {
    addresses: Vec<Address>,
    usable: Vec<AtomicBool>,
    /// Whether clients reach the node, as far as the network goes.
    client_side: Vec<AtomicBool>,
    /// Where clients call from; nothing: from anywhere.
    pub clients_from: Option<IpAddr>,
}

impl Entrances {
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    pub fn address(&self, node: usize) -> Address {
        self.addresses[node]
    }

    pub fn is_usable(&self, node: usize) -> bool {
        self.usable[node].load(Ordering::Relaxed)
    }

    pub fn set_usable(&self, node: usize, usable: bool) {
        self.usable[node].store(usable, Ordering::Relaxed);
    }

    pub fn has_client_side(&self, node: usize) -> bool {
        self.client_side[node].load(Ordering::Relaxed)
    }

    pub fn set_client_side(&self, node: usize, reached: bool) {
        self.client_side[node].store(reached, Ordering::Relaxed);
    }

    pub fn usable(&self) -> Vec<usize> {
        (0..self.len()).filter(|node| self.is_usable(*node)).collect()
    }

    /// A usable node by chance; any node when there is none.
    pub fn pick(&self, rng: &mut impl Rng) -> usize {
        let usable = self.usable();
        match usable.len() {
            0 => rng.random_range(0..self.len()),
            count => usable[rng.random_range(0..count)],
        }
    }
}

struct Node {
    binary: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    shim: ShimFiles,
    child: Option<Child>,
}

/// What the library in front of a node's libc writes and reads; beside the node's folder, which may be lost.
struct ShimFiles {
    /// What the node has made durable.
    durable: PathBuf,
    /// Files that were replaced by a rename.
    kept: PathBuf,
    /// By how many seconds its clock is off.
    clock: PathBuf,
}

pub struct Cluster {
    nodes: Vec<Node>,
    network: Option<Arc<Network>>,
    shim: Option<PathBuf>,
    small_disks: Option<Arc<SmallDisks>>,
    sync_millis: u32,
    pub entrances: Arc<Entrances>,
}

impl Cluster {
    /// Chooses addresses and folders; nothing is started. Without a network the nodes are on loopback.
    pub fn plan(binary: &Path, folder: &Path, size: usize, network: Option<Arc<Network>>) -> anyhow::Result<Cluster> {
        let at = |ip: IpAddr, ports: &[u16]| {
            let [client, admin, cluster] = [0, 1, 2].map(|at| SocketAddr::from((ip, ports[at])));
            Address { client, admin, cluster }
        };
        let addresses: Vec<Address> = match &network {
            Some(network) => (0..size).map(|node| at(network.node(node), &PORTS)).collect(),
            None => {
                let ports = ports::free(size * PORTS.len())?;
                ports.chunks_exact(PORTS.len()).map(|ports| at(Ipv4Addr::LOCALHOST.into(), ports)).collect()
            }
        };
        let node = |index: usize| Node {
            binary: binary.to_owned(),
            folder: folder.join(name(index)),
            log: folder.join(format!("{}.log", name(index))),
            shim: ShimFiles {
                durable: folder.join(format!("{}.durable", name(index))),
                kept: folder.join(format!("{}.kept", name(index))),
                clock: folder.join(format!("{}.clock", name(index))),
            },
            child: None,
        };
        let all = |are| (0..size).map(|_| AtomicBool::new(are)).collect();
        let clients_from = network.as_ref().map(|network| network.clients());
        let entrances = Entrances { addresses, usable: all(false), client_side: all(true), clients_from };
        Ok(Cluster {
            nodes: (0..size).map(node).collect(),
            network,
            shim: None,
            small_disks: None,
            sync_millis: 0,
            entrances: Arc::new(entrances),
        })
    }

    /// Puts a library in front of each node's libc; before any is started.
    pub fn set_shim(&mut self, library: &Path) -> anyhow::Result<()> {
        for Node { shim, .. } in &self.nodes {
            std::fs::create_dir_all(&shim.kept).with_context(|| shim.kept.display().to_string())?;
            std::fs::write(&shim.clock, 0_i64.to_ne_bytes()).with_context(|| shim.clock.display().to_string())?;
        }
        self.shim = Some(library.to_owned());
        Ok(())
    }

    /// Makes each sync of a file take so much longer, for nodes from their next start on. Needs the library.
    pub fn set_sync_millis(&mut self, millis: u32) {
        self.sync_millis = millis;
    }

    /// Gives each node a small disk of its own; before any is started.
    pub fn set_small_disks(&mut self, disks: Arc<SmallDisks>) -> anyhow::Result<()> {
        for node in &self.nodes {
            std::fs::create_dir_all(&node.folder).with_context(|| node.folder.display().to_string())?;
            disks.mount(&node.folder)?;
        }
        self.small_disks = Some(disks);
        Ok(())
    }

    /// Where a node's data lies.
    pub fn folder(&self, node: usize) -> &Path {
        &self.nodes[node].folder
    }

    /// Makes a power failure of the end of a node that was killed.
    pub fn lose_what_is_not_durable(&self, node: usize, loss: &mut Loss) -> anyhow::Result<Lost> {
        let place = &self.nodes[node];
        if place.child.is_some() {
            bail!("{} is running", name(node));
        }
        self.shim.as_ref().context("nobody has noted what is durable")?;
        let durable = Durable::read(&place.shim.durable)?;
        durable.lose_the_rest(&place.folder, &place.shim.kept, loss)
    }

    /// Moves the clock of a node, from now on, running or not.
    pub fn set_clock(&self, node: usize, seconds: i64) -> anyhow::Result<()> {
        let path = &self.nodes[node].shim.clock;
        let file = std::fs::OpenOptions::new().write(true).open(path);
        let file = file.with_context(|| format!("the clock {}", path.display()))?;
        // In place, and in one piece: the node has it mapped.
        Ok(file.write_all_at(&seconds.to_ne_bytes(), 0)?)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn address(&self, node: usize) -> Address {
        self.entrances.address(node)
    }

    /// What can be cut; an error on loopback.
    pub fn network(&self) -> anyhow::Result<&Network> {
        self.network.as_deref().context("nodes on loopback cannot be cut off from each other")
    }

    /// Which program the node runs from its next start on.
    pub fn set_binary(&mut self, node: usize, binary: &Path) {
        binary.clone_into(&mut self.nodes[node].binary);
    }

    /// Starts a node on its disk.
    pub fn start(&mut self, node: usize) -> anyhow::Result<()> {
        let address = self.address(node);
        let seeds: Vec<String> = (0..self.len()).map(|node| self.address(node).cluster.to_string()).collect();
        let place = &mut self.nodes[node];
        if place.child.is_some() {
            bail!("{} is running already", name(node));
        }
        std::fs::create_dir_all(&place.folder).with_context(|| place.folder.display().to_string())?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&place.log);
        let log = log.with_context(|| place.log.display().to_string())?;
        let mut command = Command::new(&place.binary);
        command.args(["serve", "--name", &name(node), "--workers", WORKERS, "--drain-seconds", DRAIN_SECONDS]);
        command.args(["--client-listen", &address.client.to_string(), "--admin-listen", &address.admin.to_string()]);
        command.args(["--cluster-listen", &address.cluster.to_string(), "--seeds", &seeds.join(",")]);
        command.args(["--bootstrap-expect", &seeds.len().to_string(), "--data-dir"]).arg(&place.folder);
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("WSGATEWAY__")) {
            command.env_remove(key); // only what is said above may steer it
        }
        command.env("WSGATEWAY__ADMIN__TOKEN", ADMIN_TOKEN);
        command.env("WSGATEWAY__CLUSTER__SECRETS", format!("[{CLUSTER_SECRET:?}]"));
        if let Some(library) = &self.shim {
            command.env("LD_PRELOAD", library).env("CHAOS_SHIM_DURABLE", &place.shim.durable);
            command.env("CHAOS_SHIM_SYNC_MILLIS", self.sync_millis.to_string());
            command.env("CHAOS_SHIM_KEPT", &place.shim.kept).env("CHAOS_SHIM_CLOCK", &place.shim.clock);
        }
        if let Some(network) = &self.network {
            network.place(node, &mut command);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        // SAFETY: prctl is async-signal-safe; the child dies with this process even when that is killed.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        place.child = Some(command.spawn().with_context(|| format!("starting {}", place.binary.display()))?);
        Ok(())
    }

    /// Sends a signal to a node's process, by its id.
    pub fn signal(&self, node: usize, signal: libc::c_int) -> anyhow::Result<()> {
        let child = self.nodes[node].child.as_ref().with_context(|| format!("{} is not running", name(node)))?;
        // SAFETY: kill takes plain numbers; the child has not been waited for, so its id is still its own.
        if unsafe { libc::kill(child.id() as libc::pid_t, signal) } != 0 {
            return Err(std::io::Error::last_os_error()).with_context(|| format!("signal {signal} to {}", name(node)));
        }
        Ok(())
    }

    /// Waits until a node's process has ended.
    pub async fn ended(&mut self, node: usize, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            let child = self.nodes[node].child.as_mut().with_context(|| format!("{} is not running", name(node)))?;
            if let Some(status) = child.try_wait()? {
                self.nodes[node].child = None;
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} has not ended within {within:?}", name(node));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// How a node's process has ended, if it has.
    pub fn has_ended(&mut self, node: usize) -> anyhow::Result<Option<ExitStatus>> {
        let Some(child) = self.nodes[node].child.as_mut() else { bail!("{} is not running", name(node)) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.nodes[node].child = None;
        }
        Ok(status)
    }

    /// Removes a node's disk. It must not be running.
    pub fn wipe(&self, node: usize) -> anyhow::Result<()> {
        let place = &self.nodes[node];
        if place.child.is_some() {
            bail!("{} is running", name(node));
        }
        std::fs::remove_dir_all(&place.folder).with_context(|| place.folder.display().to_string())
    }

    /// Nodes whose process has ended although nobody asked for it, with how.
    pub fn ended_by_themselves(&mut self) -> Vec<String> {
        let ended = |(index, node): (usize, &mut Node)| {
            let status = node.child.as_mut()?.try_wait().ok()??;
            let how = status.signal().map_or(format!("{status}"), |signal| format!("signal {signal}"));
            Some(format!("{} has ended by itself: {how}", name(index)))
        };
        self.nodes.iter_mut().enumerate().filter_map(ended).collect()
    }

    /// The nodes' logs: name and text.
    pub fn logs(&self) -> Vec<(String, String)> {
        let text = |node: &Node| String::from_utf8_lossy(&std::fs::read(&node.log).unwrap_or_default()).into_owned();
        self.nodes.iter().enumerate().map(|(index, node)| (name(index), text(node))).collect()
    }

    /// The end of the scenario: no process, and nothing mounted, is left.
    pub fn end(&mut self) {
        self.kill_all();
        if let Some(disks) = self.small_disks.take() {
            for node in &self.nodes {
                disks.unmount(&node.folder);
            }
        }
    }

    /// A node's log: its text from `from` on, and its length now.
    pub fn log_from(&self, node: usize, from: usize) -> (String, usize) {
        let bytes = std::fs::read(&self.nodes[node].log).unwrap_or_default();
        (String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned(), bytes.len())
    }

    /// Ends all nodes at once.
    pub fn kill_all(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            // Errors mean that it has ended already.
            let _ended = child.kill();
        }
        for mut child in self.nodes.iter_mut().filter_map(|node| node.child.take()) {
            let _reaped = child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
    }
}

/// A node's label.
pub fn name(node: usize) -> String {
    format!("n{}", node + 1)
}

/// The node of a label.
pub fn index(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse::<usize>().ok()?.checked_sub(1)
}
