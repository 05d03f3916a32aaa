//! A small network of this process's own: a switch in a namespace that the process enters before it does anything else,
//! and a namespace per node behind a cable. Nothing has a name outside: the kernel takes all of it away when the last
//! process in it ends, however that ends. What passes the switch from node to node can be cut; clients, the service and
//! whoever asks sit at the switch itself, and always get through. Imports nothing of the crate.

mod cuts;
mod namespace;

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{bail, Context};

pub use cuts::Cuts;
pub use namespace::unshare;
use namespace::Namespace;

/// Nobody else is in this network, so any addresses do.
const SUBNET: [u8; 3] = [10, 77, 0];
const PREFIX: u8 = 24;
const SWITCH_HOST: u8 = 254;
const SWITCH: &str = "switch";

pub struct Network {
    nodes: Vec<Namespace>,
    cuts: Mutex<Cuts>,
}

impl Network {
    /// Moves this process into a namespace of its own and makes the network in it. Only while the process has a single
    /// thread: threads that exist stay where they are. An error says why it cannot be done here.
    pub fn enter(nodes: usize) -> anyhow::Result<Network> {
        for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
            let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !found.is_ok_and(|status| status.success()) {
                bail!("there is no {program} (the package {package})");
            }
        }
        unshare(libc::CLONE_NEWNET).context("making a network namespace needs root, or user namespaces")?;
        let network = Network {
            nodes: (0..nodes).map(|_| Namespace::new()).collect::<Result<_, _>>().context("a node's namespace")?,
            cuts: Mutex::default(),
        };
        network.wire().context("wiring the namespaces")?;
        network.apply(&Cuts::default()).context("a first set of rules for the switch")?;
        Ok(network)
    }

    fn wire(&self) -> anyhow::Result<()> {
        let mut script = format!(
            "link set lo up\nlink add {SWITCH} type bridge\naddr add {}/{PREFIX} dev {SWITCH}\nlink set {SWITCH} up\n",
            self.switch()
        );
        for (node, namespace) in self.nodes.iter().enumerate() {
            let port = cuts::port(node);
            script += &format!("link add {port} type veth peer name eth0 netns {}\n", namespace.path());
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

    pub fn node(&self, node: usize) -> IpAddr {
        address(u8::try_from(node + 1).unwrap_or(SWITCH_HOST - 1))
    }

    /// Makes a command start in a node's namespace.
    pub fn place(&self, node: usize, command: &mut Command) {
        self.nodes[node].enter(command);
    }

    /// Changes what is cut; in force when this returns.
    pub fn change(&self, change: impl FnOnce(&mut Cuts)) -> anyhow::Result<()> {
        let mut cuts = self.lock();
        let mut changed = cuts.clone();
        change(&mut changed);
        self.apply(&changed)?;
        *cuts = changed;
        Ok(())
    }

    fn apply(&self, cuts: &Cuts) -> anyhow::Result<()> {
        pipe(Command::new("nft").args(["-f", "-"]), &cuts.rules())
    }

    fn lock(&self) -> MutexGuard<'_, Cuts> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(host: u8) -> IpAddr {
    let [a, b, c] = SUBNET;
    IpAddr::V4(Ipv4Addr::new(a, b, c, host))
}

/// Runs a command with something on its standard input.
fn pipe(command: &mut Command, script: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let named = format!("{command:?}");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{named}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    const ARRIVES_WITHIN: Duration = Duration::from_millis(500);

    /// Whether something that is sent now arrives.
    fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
        static NUMBERS: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
        let number = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        from.send_to(&[number], to.local_addr().unwrap()).unwrap();
        let mut got = [0];
        // What was sent before may come late.
        while to.recv(&mut got).is_ok() {
            if got[0] == number {
                return true;
            }
        }
        false
    }

    #[test]
    fn what_is_cut_is_cut_and_the_switch_reaches_all() {
        // On a thread of its own: it stays in the network that it enters.
        let network = match Network::enter(2) {
            Ok(network) => network,
            Err(err) => {
                let said = format!("{err:#}");
                assert!(said.contains("needs root") || said.contains("there is no"), "not here, and why: {said}");
                return;
            }
        };
        let socket = |address: IpAddr| {
            let socket = UdpSocket::bind((address, 0)).unwrap();
            socket.set_read_timeout(Some(ARRIVES_WITHIN)).unwrap();
            socket
        };
        let [one, two] = [0, 1].map(|node| network.nodes[node].within(|| socket(network.node(node))));
        let suite = socket(network.switch());
        let seen = || [arrives(&one, &two), arrives(&two, &one), arrives(&suite, &one), arrives(&one, &suite)];
        // The first question for a hardware address may come before a cable is up, and is asked again after a second.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while seen() != [true; 4] {
            assert!(std::time::Instant::now() < deadline, "not all reach each other");
        }
        network.change(|cuts| assert!(cuts.mute.insert(0))).unwrap();
        assert_eq!(seen(), [false, true, true, true], "mute");
        network.change(|cuts| assert!(cuts.deaf.insert(0))).unwrap();
        assert_eq!(seen(), [false, false, true, true], "mute and deaf");
        network.change(|cuts| assert!(cuts.mute.remove(&0))).unwrap();
        assert_eq!(seen(), [true, false, true, true], "deaf");
        network.change(|cuts| *cuts = Cuts { loss_percent: 40, ..Cuts::default() }).unwrap();
        for _ in 0..100 {
            one.send_to(&[0], two.local_addr().unwrap()).unwrap();
        }
        let through = std::iter::from_fn(|| two.recv(&mut [0]).ok()).count();
        assert!((30..90).contains(&through), "{through} of 100 with a loss of 40 %");
        network.change(|cuts| *cuts = Cuts::default()).unwrap();
        assert_eq!(seen(), [true; 4]);
    }
}
