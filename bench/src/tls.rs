//! What TLS costs a node: memory of idle connections, handshakes and events of a node with a certificate, beside one in
//! the clear, as multiples of it in the same round. The load program's own part of TLS is in none of the figures but
//! latency.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustls::HandshakeKind;
use serde_json::json;
use tokio_rustls::TlsConnector;

use crate::certificate::{Certificate, Sessions};
use crate::client::{handshake_through, HANDSHAKE_LONGEST};
use crate::gateway;
use crate::load::{Flow, Rig, CPU_PER_EVENTS};
use crate::meter::Ends;
use crate::process::{accepted_sockets, cpu_seconds};
use crate::table::{Server, Table};
use crate::target::Target;
use crate::transport::{Line, Transport};

/// For a node to let go of connections that were closed, before something else is measured.
const CLOSED_LONGEST: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// One kind of handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Clear,
    Full,
    Resumed,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Clear => "handshakes in the clear",
            Kind::Full => "full TLS handshakes",
            Kind::Resumed => "resumed TLS handshakes",
        })
    }
}

impl Kind {
    /// Whether a handshake was of this kind, by what rustls says of it: nothing where there is no TLS.
    fn is(self, done: Option<HandshakeKind>) -> bool {
        match self {
            Kind::Clear => done.is_none(),
            Kind::Full => matches!(done, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)),
            Kind::Resumed => done == Some(HandshakeKind::Resumed),
        }
    }
}

/// A figure by the one of the clear in the same round, so that a slow minute is in both of them.
#[derive(Default)]
struct Multiples(HashMap<String, f64>);

impl Multiples {
    /// The first figure of a load is what the later ones are multiples of.
    fn of(&mut self, load: &str, figure: f64) -> Option<f64> {
        match self.0.get(load) {
            Some(base) => Some(figure / base),
            None => {
                self.0.insert(load.to_owned(), figure);
                None
            }
        }
    }
}

/// For all rounds.
pub struct Tls<'a> {
    pub rig: &'a Rig,
    pub binary: &'a Path,
    pub windows: &'a [usize],
    /// Handshakes of each kind in a round.
    pub handshakes: usize,
    pub certificate: Certificate,
}

/// Two nodes of one round.
struct Nodes {
    clear: Target,
    tls: Target,
}

impl Nodes {
    fn each(&self) -> [(&'static str, &Target); 2] {
        [("in the clear", &self.clear), ("by TLS", &self.tls)]
    }
}

impl Tls<'_> {
    /// Both nodes are new: memory comes first, as later their allocators have room that was used before.
    pub async fn round(&self, table: &mut Table) -> anyhow::Result<()> {
        let endpoint = json!({"path": gateway::PATH,
            "routes": [{"type": "default", "name": "Default", "backends": [{"type": "echo"}]}]});
        let nodes = Nodes {
            clear: gateway::start_with(self.binary, 1, &endpoint, None).await?,
            tls: gateway::start_with(self.binary, 1, &endpoint, Some(&self.certificate))
                .await
                .context("the node with a certificate")?,
        };
        self.idle(&nodes, table).await?;
        self.handshakes(&nodes, table).await?;
        for window in self.windows {
            self.echo(&nodes, *window, table).await?;
        }
        Ok(())
    }

    async fn idle(&self, nodes: &Nodes, table: &mut Table) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        for (how, target) in nodes.each() {
            let load = format!("{} idle connections {how}", self.rig.amounts.idle_connections);
            let each = self.rig.idle(target).await.with_context(|| load.clone())?;
            table.add(Server::Gateway, &load, "resident bytes each", each);
            bytes.push(each);
            until_closed(target).await?;
        }
        if let [clear, tls] = bytes[..] {
            table.add(Server::Gateway, "an idle connection, by TLS", "resident bytes more", tls - clear);
        }
        Ok(())
    }

    async fn handshakes(&self, nodes: &Nodes, table: &mut Table) -> anyhow::Result<()> {
        const CPU: &str = "CPU \u{b5}s per handshake";
        let mut multiples = Multiples::default();
        let full = self.certificate.connector(Sessions::Forgotten)?;
        let resuming = self.certificate.connector(Sessions::Resumed)?;
        // Leaves the first ticket.
        self.open(&nodes.tls, Kind::Full, Some(&resuming), 1).await?;
        for (kind, target, connector) in [
            (Kind::Clear, &nodes.clear, None),
            (Kind::Full, &nodes.tls, Some(&full)),
            (Kind::Resumed, &nodes.tls, Some(&resuming)),
        ] {
            let load = kind.to_string();
            let before = cpu_seconds(target.owner_pid)?;
            self.open(target, kind, connector, self.handshakes).await.with_context(|| load.clone())?;
            until_closed(target).await?;
            let cpu = (cpu_seconds(target.owner_pid)? - before) / self.handshakes as f64;
            table.add(Server::Gateway, &load, CPU, cpu * 1e6);
            if let Some(multiple) = multiples.of(CPU, cpu) {
                table.add(Server::Gateway, &load, "CPU, multiple of clear", multiple);
            }
        }
        Ok(())
    }

    /// Opens `count` connections, one after the other, and closes each when it is open.
    async fn open(
        &self,
        target: &Target,
        kind: Kind,
        connector: Option<&TlsConnector>,
        count: usize,
    ) -> anyhow::Result<()> {
        let transport = connector.cloned().map_or(Transport::Clear, Transport::Tls);
        let (address, path, longest) = (target.websocket, target.path, self.rig.amounts.longest);
        self.rig.clients.run(open_all(transport, kind, (address, path), count, longest)).await
    }

    async fn echo(&self, nodes: &Nodes, window: usize, table: &mut Table) -> anyhow::Result<()> {
        let mut multiples = Multiples::default();
        for (how, target) in nodes.each() {
            let load = format!("echo {how}, window {window}");
            let fleet = self.rig.connect(target, self.rig.amounts.connections).await?;
            let flow = self.rig.inbound(target, &fleet, window, Ends::Received).await?;
            drop(fleet);
            until_closed(target).await?;
            report(&flow, &load, &mut multiples, table);
        }
        for complaint in self.rig.board.take_complaints() {
            table.note(complaint);
        }
        Ok(())
    }
}

fn report(flow: &Flow, load: &str, multiples: &mut Multiples, table: &mut Table) {
    const CPU: &str = "server CPU s per 100,000";
    const P99: &str = "p99 ms";
    let outcome = &flow.outcome;
    let completed = outcome.completed as f64;
    table.add(Server::Gateway, load, "events/s", completed / outcome.seconds);
    table.add(Server::Gateway, load, "p50 ms", outcome.latencies.p50_nanos / 1e6);
    for (figure, sample, multiple) in [
        (CPU, flow.cpu_seconds / completed * CPU_PER_EVENTS, "CPU, multiple of clear"),
        (P99, outcome.latencies.p99_nanos / 1e6, "p99, multiple of clear"),
    ] {
        table.add(Server::Gateway, load, figure, sample);
        if let Some(of_clear) = multiples.of(figure, sample) {
            table.add(Server::Gateway, load, multiple, of_clear);
        }
    }
    if outcome.failed + outcome.missing > 0 {
        table.note(format!("{load}: {completed} completed, {} missing when the time was up", outcome.missing));
    }
}

async fn open_all(
    transport: Transport,
    kind: Kind,
    (address, path): (SocketAddr, &'static str),
    count: usize,
    longest: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + longest;
    for number in 0..count {
        anyhow::ensure!(
            Instant::now() < deadline,
            "{number} of {count} were made within {longest:?}: give a lower --count or a higher --seconds-max"
        );
        let opened = tokio::time::timeout(HANDSHAKE_LONGEST, handshake_through(&transport, address, path)).await;
        let (line, _) = opened.context("handshake timed out")??;
        let done = match &line {
            Line::Clear(_) => None,
            Line::Tls(stream) => stream.get_ref().1.handshake_kind(),
        };
        anyhow::ensure!(kind.is(done), "handshake {number} was {done:?}");
    }
    Ok(())
}

/// What closing connections costs belongs to them, not to what is measured next.
async fn until_closed(target: &Target) -> anyhow::Result<()> {
    let deadline = Instant::now() + CLOSED_LONGEST;
    while accepted_sockets(target.websocket)? > 0 {
        anyhow::ensure!(
            Instant::now() < deadline,
            "the node still holds connections {CLOSED_LONGEST:?} after they were closed"
        );
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_of_one_kind_by_what_was_done() {
        for (done, kind) in [
            (None, Kind::Clear),
            (Some(HandshakeKind::Full), Kind::Full),
            (Some(HandshakeKind::FullWithHelloRetryRequest), Kind::Full),
            (Some(HandshakeKind::Resumed), Kind::Resumed),
        ] {
            for other in [Kind::Clear, Kind::Full, Kind::Resumed] {
                assert_eq!(other.is(done), other == kind, "{done:?} {other}");
            }
        }
    }

    #[test]
    fn later_figures_are_multiples_of_the_first_of_their_name() {
        let mut multiples = Multiples::default();
        assert_eq!(multiples.of("a", 2.0), None);
        assert_eq!(multiples.of("b", 10.0), None);
        assert_eq!(multiples.of("a", 3.0), Some(1.5));
        assert_eq!(multiples.of("a", 4.0), Some(2.0));
        assert_eq!(multiples.of("b", 5.0), Some(0.5));
    }
}
