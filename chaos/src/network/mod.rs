//! A small network of this process's own: a switch in a namespace that the process enters before it does anything else,
//! and a namespace per node behind a cable. Nothing has a name outside: the kernel takes all of it away when the last
//! process in it ends, however that ends. What passes the switch from node to node can be cut and made slow, and
//! connections between nodes can be reset; clients, the service and whoever asks sit at the switch itself, and get through
//! unless it is said of clients that they do not. Imports nothing of the crate.

mod cuts;
mod delay;
mod namespace;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{bail, Context};

pub use cuts::{Cuts, Slow};
use delay::{Counts, Delay};
pub use namespace::unshare;
use namespace::Namespace;

/// Nobody else is in this network, so any addresses do.
const SUBNET: [u8; 3] = [10, 77, 0];
const PREFIX: u8 = 24;
const SWITCH_HOST: u8 = 254;
/// Clients call from an address of their own, so that they can be cut off without those who ask.
const CLIENTS_HOST: u8 = 253;
const SWITCH: &str = "switch";

pub struct Network {
    nodes: Vec<Namespace>,
    /// What is in force; `delay` looks at it with each frame.
    cuts: Arc<RwLock<Cuts>>,
    /// While there are slow lines. Locked during each change, so that these come one after the other.
    delay: Mutex<Option<Delay>>,
    frames: Arc<Counts>,
}

impl Network {
    /// Moves this process into a namespace of its own and makes the network in it. Only while the process has a single
    /// thread: threads that exist stay where they are. An error says why it cannot be done here.
    pub fn enter(nodes: usize) -> anyhow::Result<Network> {
        for (program, package) in [("ip", "iproute2"), ("ss", "iproute2"), ("nft", "nftables")] {
            let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !found.is_ok_and(|status| status.success()) {
                bail!("there is no {program} (the package {package})");
            }
        }
        unshare(libc::CLONE_NEWNET).context("making a network namespace needs root, or user namespaces")?;
        let network = Network {
            nodes: (0..nodes).map(|_| Namespace::new()).collect::<Result<_, _>>().context("a node's namespace")?,
            cuts: Arc::default(),
            delay: Mutex::default(),
            frames: Arc::default(),
        };
        network.wire().context("wiring the namespaces")?;
        network.apply(&Cuts::default()).context("a first set of rules for the switch")?;
        Ok(network)
    }

    fn wire(&self) -> anyhow::Result<()> {
        let mut script = format!(
            "link set lo up\nlink add {SWITCH} type bridge\naddr add {}/{PREFIX} dev {SWITCH}\n\
             addr add {}/{PREFIX} dev {SWITCH}\nlink set {SWITCH} up\n",
            self.switch(),
            self.clients(),
        );
        for (node, namespace) in self.nodes.iter().enumerate() {
            let port = cuts::port(node);
            let address = delay::hardware_address(node).map(|byte| format!("{byte:02x}")).join(":");
            let path = namespace.path();
            script += &format!("link add {port} type veth peer name eth0 address {address} netns {path}\n");
            script += &format!("link set {port} master {SWITCH}\nlink set {port} up\n");
        }
        pipe(Command::new("ip").args(["-batch", "-"]), &script)?;
        for (node, namespace) in self.nodes.iter().enumerate() {
            let script = format!("link set lo up\naddr add {}/{PREFIX} dev eth0\nlink set eth0 up\n", self.node(node));
            let mut command = Command::new("ip");
            namespace.enter(&mut command);
            pipe(command.args(["-batch", "-"]), &script)?;
        }
        Ok(())
    }

    /// The address at which this process is reached, and from which it calls.
    pub fn switch(&self) -> IpAddr {
        address(SWITCH_HOST)
    }

    /// The address from which its clients call.
    pub fn clients(&self) -> IpAddr {
        address(CLIENTS_HOST)
    }

    pub fn node(&self, node: usize) -> IpAddr {
        address(u8::try_from(node + 1).unwrap_or(CLIENTS_HOST - 1))
    }

    /// Makes a command start in a node's namespace.
    pub fn place(&self, node: usize, command: &mut Command) {
        self.nodes[node].enter(command);
    }

    /// Changes what is cut; in force when this returns.
    pub fn change(&self, change: impl FnOnce(&mut Cuts)) -> anyhow::Result<()> {
        let mut delay = self.delay.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.cuts.read().unwrap_or_else(PoisonError::into_inner).clone();
        change(&mut changed);
        self.apply(&changed)?;
        let is_slow = changed.slow.is_some();
        *self.cuts.write().unwrap_or_else(PoisonError::into_inner) = changed;
        match (is_slow, delay.is_some()) {
            // After the rules: before them, each frame would go both ways.
            (true, false) => {
                let started = Delay::start(self.nodes.len(), self.cuts.clone(), self.frames.clone());
                *delay = Some(started.context("taking frames off the switch's ports")?);
            }
            (false, true) => *delay = None,
            _ => {}
        }
        Ok(())
    }

    fn apply(&self, cuts: &Cuts) -> anyhow::Result<()> {
        pipe(Command::new("nft").args(["-f", "-"]), &cuts.rules(self.clients())).map(|_said| ())
    }

    /// Of all that went over slow lines: frames that were carried, and those that got lost although nobody asked for that.
    pub fn delayed(&self) -> (u64, u64) {
        (self.frames.carried.load(Ordering::Relaxed), self.frames.lost.load(Ordering::Relaxed))
    }

    /// Resets all TCP connections between two nodes, whatever is under way on them; both ends are told. How many.
    pub fn reset(&self, one: usize, other: usize) -> anyhow::Result<usize> {
        let mut command = Command::new("ss");
        self.nodes[one].enter(&mut command);
        let said = pipe(command.args(["-KHtn", "state", "established", "dst", &self.node(other).to_string()]), "")?;
        Ok(said.lines().count())
    }
}

fn address(host: u8) -> IpAddr {
    let [a, b, c] = SUBNET;
    IpAddr::V4(Ipv4Addr::new(a, b, c, host))
}

/// Runs a command with something on its standard input; what it says.
fn pipe(command: &mut Command, script: &str) -> anyhow::Result<String> {
    use std::io::Write as _;
    let named = format!("{command:?}");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{named}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
