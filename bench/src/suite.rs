//! Which loads run against what, in which order: interleaved rounds – floor, gateway, floor, gateway – with servers
//! started afresh for each, so that neither gets the warmer machine or the other's leftovers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::broadcast;
use crate::certificate::Certificate;
use crate::gateway::{self, endpoint, http_backend, kafka_backend};
use crate::handshakes::Handshakes;
use crate::kafka::Consumer;
use crate::load::{Flow, Rig, CPU_PER_EVENTS};
use crate::meter::Ends;
use crate::reconnects;
use crate::sources;
use crate::stalled::{self, Crowd};
use crate::table::{Server, Table};
use crate::target::{producer_alone, start_floor, KafkaTopic, Target};
use crate::tls::Tls;
use crate::variants::{self, Comparison, Variant};
use crate::watchers::Watchers;

/// Endpoints that are measured by each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    Rules,
    Acks,
    Watched,
    Batches,
    /// Kafka's records to many connections; by nothing.
    Sources,
}

/// Loads of many connections, floor and gateway.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Crowds {
    /// Receivers of a broadcast, each number a load.
    pub broadcast: Vec<usize>,
    /// Clients that come back at once.
    pub reconnects: Option<usize>,
    pub stalled: Option<Crowd>,
}

pub struct Suite {
    pub rig: Rig,
    pub crowds: Crowds,
    pub idle: bool,
    pub inbound: bool,
    pub push: bool,
    /// Endpoints of the gateway by each other; none: the gateway by the floor.
    pub compared: Option<Compared>,
    /// Handshakes of each kind in a round; none: they are not measured.
    pub handshakes: Option<usize>,
    /// Handshakes of each kind in a round, with TLS and without; none: TLS is not measured.
    pub tls: Option<usize>,
    /// `None`: no Kafka load.
    pub kafka: Option<KafkaTopic>,
    pub windows: Vec<usize>,
    pub rounds: usize,
    /// Worker threads of the floor.
    pub workers: usize,
    /// Nodes of the gateway's cluster under pushes and broadcasts; everything else runs on one node.
    pub nodes: usize,
    /// `None`: floor only.
    pub binary: Option<PathBuf>,
}

impl Suite {
    pub async fn run(&self) -> anyhow::Result<Table> {
        let mut table = Table::default();
        if let Some(compared) = self.compared {
            let binary = self
                .binary
                .as_deref()
                .context("what is compared is the gateway's: there is nothing to measure with --floor-only")?;
            for round in 1..=self.rounds {
                eprintln!("round {round} of {}", self.rounds);
                self.compare(compared, binary, &mut table).await.with_context(|| format!("round {round}"))?;
            }
            return Ok(table);
        }
        if let Some(count) = self.handshakes {
            self.handshakes(count, &mut table).await?;
            return Ok(table);
        }
        if let Some(count) = self.tls {
            self.tls(count, &mut table).await?;
            return Ok(table);
        }
        for round in 1..=self.rounds {
            for server in [Server::Floor, Server::Gateway] {
                if server == Server::Gateway && self.binary.is_none() {
                    continue;
                }
                eprintln!("round {round} of {}: {server:?}", self.rounds);
                self.round(server, &mut table).await.with_context(|| format!("round {round}, {server:?}"))?;
                for complaint in self.rig.board.take_complaints() {
                    table.note(format!("{server:?}: {complaint}"));
                }
            }
        }
        Ok(table)
    }

    async fn round(&self, server: Server, table: &mut Table) -> anyhow::Result<()> {
        if self.idle {
            let target = self.start(server, 1, None).await?;
            let load = format!("{} idle connections", self.rig.amounts.idle_connections);
            table.add(server, &load, "resident bytes each", self.rig.idle(&target).await?);
        }
        if self.inbound {
            let target = self.start(server, 1, None).await?;
            drop(self.events(server, &target, "HTTP", table).await?);
        }
        if let Some(kafka) = &self.kafka {
            self.kafka(server, kafka, table).await?;
        }
        if self.push {
            let target = self.start(server, self.nodes, None).await?;
            let fleet = self.rig.connect(&target, self.rig.amounts.connections).await?;
            let ids = Arc::new(fleet.introduce(&self.rig.clients.handle, &self.rig.board).await?);
            for route in &target.pushes {
                let flow = self.rig.push(route, &ids).await?;
                for load in route.loads {
                    record(table, server, load, "pushes/s", &flow);
                }
            }
        }
        self.crowds(server, table).await
    }

    async fn crowds(&self, server: Server, table: &mut Table) -> anyhow::Result<()> {
        for receivers in &self.crowds.broadcast {
            let target = self.start(server, self.nodes, None).await?;
            broadcast::round(&self.rig, &target, *receivers, server, table).await?;
        }
        if let Some(count) = self.crowds.reconnects {
            let target = self.start(server, 1, None).await?;
            reconnects::round(&self.rig, &target, count, server, table).await?;
        }
        if let Some(crowd) = self.crowds.stalled {
            let target = self.start(server, 1, None).await?;
            stalled::round(&self.rig, &target, crowd, server, table).await?;
        }
        Ok(())
    }

    /// Two floors: the codec with Kafka's producer behind it, and that producer alone with as many records outstanding.
    async fn kafka(&self, server: Server, kafka: &KafkaTopic, table: &mut Table) -> anyhow::Result<()> {
        const CPU: &str = "server CPU s per 100,000";
        let consumer = Consumer::start(&kafka.brokers, &kafka.topic, self.rig.board.clone())?;
        let target = self.start(server, 1, Some(kafka)).await?;
        for (window, flow) in self.events(server, &target, "Kafka", table).await? {
            let in_flight = window * self.rig.amounts.connections;
            let load = format!("the producer alone, {in_flight} outstanding");
            if server == Server::Gateway {
                table.add(server, &load, CPU, flow.cpu_seconds / flow.outcome.completed as f64 * CPU_PER_EVENTS);
                table.add(server, "a record to Kafka", "bytes", consumer.record_bytes() as f64);
                continue;
            }
            let alone = producer_alone(kafka, &self.rig.amounts, in_flight).await?;
            table.add(server, &load, CPU, alone.cpu_seconds / alone.events as f64 * CPU_PER_EVENTS);
            table.add(server, &load, "records/s", alone.events as f64 / alone.seconds);
            table.add(server, &load, "p50 ms", alone.p50_millis);
            table.add(server, &load, "p99 ms", alone.p99_millis);
            table.add(server, "a record to Kafka", "bytes", consumer.record_bytes() as f64);
        }
        Ok(())
    }

    async fn compare(&self, compared: Compared, binary: &Path, table: &mut Table) -> anyhow::Result<()> {
        let backend = self.rig.backend;
        match compared {
            Compared::Rules => self.comparison(binary, variants::rules(backend), table).await,
            Compared::Sources => {
                let kafka = self.kafka.as_ref().context("which Kafka? Give --kafka and --topic")?;
                sources::round(&self.rig, binary, kafka, &self.windows, table).await
            }
            Compared::Watched => self.comparison(binary, variants::watched(backend), table).await,
            Compared::Batches => self.comparison(binary, variants::batches(backend), table).await,
            Compared::Acks => {
                let http = variants::acks(backend, "HTTP", &http_backend(backend));
                self.comparison(binary, http, table).await?;
                let Some(kafka) = &self.kafka else { return Ok(()) };
                let _consumer = Consumer::start(&kafka.brokers, &kafka.topic, self.rig.board.clone())?;
                self.comparison(binary, variants::acks(backend, "Kafka", &kafka_backend(kafka)), table).await
            }
        }
    }

    /// One round over all endpoints. The ratios are of this round, so that a slow minute is in both of their parts.
    async fn comparison(&self, binary: &Path, comparison: Comparison, table: &mut Table) -> anyhow::Result<()> {
        let mut bases = HashMap::new();
        for (index, Variant { name, endpoint, ends, watchers }) in comparison.variants.into_iter().enumerate() {
            let target = gateway::start(binary, 1, &endpoint).await?;
            let fleet = self.rig.connect(&target, self.rig.amounts.connections).await?;
            let watchers = Watchers::start(target.everyone.address, watchers).await;
            for window in &self.windows {
                let flow = self.rig.inbound(&target, &fleet, *window, ends).await?;
                anyhow::ensure!(watchers.all_there(), "{name}: who watches has gone");
                let load = format!("{name}, window {window}");
                record(table, Server::Gateway, &load, "events/s", &flow);
                let completed = flow.outcome.completed as f64;
                let cpu = flow.cpu_seconds / completed;
                let base = *bases.entry(*window).or_insert(cpu);
                if index > 0 {
                    table.add(Server::Gateway, &load, comparison.figure, cpu / base);
                }
                if comparison.requests {
                    table.add(Server::Gateway, &load, "events of a request", completed / flow.requests as f64);
                }
            }
            for complaint in self.rig.board.take_complaints() {
                table.note(format!("{name}: {complaint}"));
            }
        }
        Ok(())
    }

    async fn handshakes(&self, count: usize, table: &mut Table) -> anyhow::Result<()> {
        let binary = self
            .binary
            .as_deref()
            .context("handshakes are the gateway's: there is nothing to measure with --floor-only")?;
        let handshakes = Handshakes::start(binary, &self.rig.services).await?;
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}", self.rounds);
            let run = handshakes.round(&self.rig.clients, (round, count), table).await;
            run.with_context(|| format!("round {round}"))?;
        }
        Ok(())
    }

    async fn tls(&self, handshakes: usize, table: &mut Table) -> anyhow::Result<()> {
        let binary =
            self.binary.as_deref().context("TLS is the gateway's: there is nothing to measure with --floor-only")?;
        let certificate = Certificate::make()?;
        let tls = Tls { rig: &self.rig, binary, windows: &self.windows, handshakes, certificate };
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}", self.rounds);
            tls.round(table).await.with_context(|| format!("round {round}"))?;
        }
        Ok(())
    }

    /// Each window, and what it came to.
    async fn events(
        &self,
        server: Server,
        target: &Target,
        to: &str,
        table: &mut Table,
    ) -> anyhow::Result<Vec<(usize, Flow)>> {
        let mut flows = Vec::new();
        let fleet = self.rig.connect(target, self.rig.amounts.connections).await?;
        for window in &self.windows {
            let flow = self.rig.inbound(target, &fleet, *window, Ends::Received).await?;
            record(table, server, &format!("events to {to}, window {window}"), "events/s", &flow);
            flows.push((*window, flow));
        }
        Ok(flows)
    }

    /// A server whose events go to `kafka`, or else to the HTTP backend, where connect events go in any case.
    async fn start(&self, server: Server, nodes: usize, kafka: Option<&KafkaTopic>) -> anyhow::Result<Target> {
        match (server, &self.binary) {
            (Server::Gateway, Some(binary)) => {
                let http = http_backend(self.rig.backend);
                let default = kafka.map_or_else(|| http.clone(), kafka_backend);
                gateway::start(binary, nodes, &endpoint(http, default)).await
            }
            _ => start_floor(self.rig.backend, kafka, self.workers),
        }
    }
}

fn record(table: &mut Table, server: Server, load: &str, rate: &'static str, flow: &Flow) {
    let outcome = &flow.outcome;
    let completed = outcome.completed as f64;
    table.add(server, load, rate, completed / outcome.seconds);
    table.add(server, load, "server CPU s per 100,000", flow.cpu_seconds / completed * CPU_PER_EVENTS);
    table.add(server, load, "p50 ms", outcome.latencies.p50_nanos / 1e6);
    table.add(server, load, "p99 ms", outcome.latencies.p99_nanos / 1e6);
    if outcome.failed + outcome.missing > 0 {
        table.note(format!(
            "{server:?}: {load}: {} completed, {} refused, {} missing when the time was up",
            outcome.completed, outcome.failed, outcome.missing
        ));
    }
}
