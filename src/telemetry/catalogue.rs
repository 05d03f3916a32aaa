//! Every metric, one by one: the only place that names and describes them. `/metrics`, docs/metrics.md and the check that
//! they agree are made from this table. Plain data.

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows while the process lives.
    Counter,
    Gauge,
    /// Seconds, in buckets.
    Histogram,
}

impl Kind {
    /// As the exposition format has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Without the prefix `wsgateway_`; counters with their `_total`.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// As `# HELP` has it.
    pub help: &'static str,
    /// What else is to be known, in Markdown, seen from docs/.
    pub more: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str, more: &'static str) -> Entry {
    Entry { name, kind: Kind::Counter, labels, help, more }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str, more: &'static str) -> Entry {
    Entry { name, kind: Kind::Gauge, labels, help, more }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    more: &'static str,
) -> Entry {
    Entry { name, kind: Kind::Histogram, labels, help, more }
}

/// By what they are about.
pub const CATALOGUE: &[(&str, &[Entry])] = &[
    ("Clients", &[
        counter("connections_opened_total", &["endpoint"], "Connections upgraded", "Handshakes answered 101."),
        counter("connections_closed_total", &["endpoint", "code"], "Connections ended, by close code", "[Close codes](http-api.md#close-codes); 1005: closed without a code, 1006: lost; `3xxx`, `4xxx`: chosen by the client or a service."),
        counter("connections_cut_total", &["reason"], "Connections that the gateway closed for what the client did, by reason", "`protocol_error`, `binary`, `not_utf8`, `throttled`, `too_many_fragments`, `too_many_control_frames`, `too_big`, `slow_consumer`, `heartbeat_missed`."),
        gauge("connections_open", &[], "Open client connections", ""),
        gauge("connections_away", &[], "Of those, the ones without a socket whose client may come back", "[Resume](resume.md)."),
        gauge("endpoint_connections", &["endpoint"], "Open client connections by endpoint", ""),
        counter("resumes_total", &["endpoint", "outcome"], "Clients that came back with a resume token, by what became of it", "`resumed`, `overtaken` (another socket was faster), or [why not](resume.md)."),
        gauge("resume_bytes", &[], "Kept for clients that may come back, of client.resume_bytes_max", ""),
        counter("handshakes_refused_total", &["status", "reason"], "Handshakes answered otherwise than 101", "[Reasons](http-api.md#handshakes)."),
        counter("client_sockets_refused_total", &["reason"], "Sockets of clients closed before a handshake could be answered, by reason", "`timeout`, `tls`, `proxy_header`, and over TLS `address_connections`, `address_rate`."),
        counter("authentications_total", &["mode", "outcome"], "Credentials looked at, by mode and outcome", "[Authentication](authentication.md#calls-to-authentication-servers)."),
        histogram("authentication_call_seconds", &["purpose", "outcome"], "Calls to authentication servers, by purpose and outcome", ""),
        gauge("tls_certificate_not_after_seconds", &["listener"], "When the listener's certificate ends, Unix seconds", "Of `client`, `admin` and `cluster`: [certificates](tls.md#certificates)."),
        counter("tls_reloads_total", &["listener", "outcome"], "Changes of a listener's certificate files, by what became of them", "`reloaded`, `failed`."),
    ]),
    ("Events", &[
        counter("events_in_total", &["endpoint", "route", "type", "outcome"], "Events from clients and of connections, by route and outcome", "`delivered`, `failed`; with an empty route `invalid_json`, `no_route`, `throttled`; refused by a route `schema_violation`, `transform_failed`."),
        histogram("backend_seconds", &["endpoint", "backend", "outcome"], "Time until a backend answered an event", "0.5 ms to 10 s, from the first attempt to the last; `delivered`, `dropped`, or [why not](delivery.md#what-the-error-route-is-told). The backend is route type/name/place."),
        counter("backend_retries_total", &["endpoint", "backend", "outcome"], "Attempts after the first one, and those that the retry budget did not allow", "`retried`, `over_budget`: [retries](delivery.md#figures)."),
        gauge("backend_in_flight", &["endpoint", "backend"], "Requests to a backend under way", ""),
        gauge("backend_circuit", &["endpoint", "backend"], "Circuit breakers: 0 closed, 1 half open, 2 open", "[Circuit breaker](delivery.md#circuit-breaker)."),
        gauge("deliveries_pending", &[], "Connections with unfinished deliveries, closed ones included", "From their connect event until their last event is answered, open ones included."),
        counter("dead_letters_total", &["endpoint", "route", "outcome"], "Events that a backend had not taken for good, by what became of them", "`kept`, or why not: [dead letters](dead-letters.md)."),
        gauge("wills_kept", &[], "Other nodes' connections whose disconnect events are sent from here should their node die", "[Wills](adr/0050-wills.md)."),
        counter("wills_carried_out_total", &[], "Connections of dead nodes whose disconnect events were sent from here", ""),
    ]),
    ("Messages to clients", &[
        counter("events_out_total", &["endpoint"], "Messages taken for clients", ""),
        counter("outbox_dropped_total", &["endpoint", "reason"], "Messages that a full outbox has dropped (oldest, coalesced) or refused (newest)", "[Outbox](endpoint-document.md#outbox)."),
        counter("pushes_total", &["result"], "Pushes to connections, by result", "Asked of this node: `queued`, `gone`, `outbox_full`, `too_big`, `transform_failed`, `owner_unreachable`, `overloaded`, `invalid`; with [receipts](receipts.md) `written`, `confirmed`, `not_written`, `not_confirmed`, `expired`, `too_many_unconfirmed`."),
        counter("pushes_expired_total", &[], "Messages not sent within their time to live", "To this node's connections."),
        counter("pushes_repeated_total", &[], "Pushes answered from an earlier one of the same key", "To this node's connections."),
        counter("broadcasts_total", &["result"], "Pushes to users, groups and endpoints, by result", "[Asked of this node](push.md): `queued`, `nobody`, `partial` (some nodes were missed), `unreachable`, `invalid`."),
        counter("broadcast_messages_total", &["outcome"], "Messages of such pushes for single connections on all nodes, by what became of them", "`queued`, `outbox_full`, `too_big`, `gone`, `transform_failed`."),
        counter("broadcast_nodes_missed_total", &[], "Nodes that such a push could not be handed to", ""),
    ]),
    ("Limits", &[
        counter("throttled_total", &["endpoint", "limit"], "Handshakes and messages refused, dropped or answered with a close, by the limit that was exceeded", "[Limits](throttling.md): `maxConnections`, `connectionsPerSecond`, `messagesPerSecond`, `perConnection`, `perIdentity`."),
        gauge("throttle_share", &["endpoint", "limit"], "The part of a limit of scope cluster that this node gives, 0 to 1", ""),
        counter("admin_refused_total", &["status"], "Requests to the admin API without the right token, and refused writes", "Pushes not included."),
    ]),
    ("Kafka", &[
        counter("source_records_total", &["endpoint", "source", "outcome"], "Records that sources have read, by outcome", "[Sources](kafka.md#sources)."),
        counter("source_messages_total", &["endpoint", "source", "outcome"], "Messages of sources for connections, by what became of them", ""),
        counter("source_errors_total", &["endpoint", "source"], "What brokers have told sources is wrong", ""),
        gauge("source_partitions", &["endpoint", "source"], "Partitions that a source's group has given to this node", ""),
        gauge("kafka_producers", &[], "Kafka producers of this node", ""),
        counter("kafka_producers_opened_total", &[], "Kafka producers made by this node", ""),
    ]),
    ("Cluster", &[
        gauge("endpoints", &[], "Endpoints served", ""),
        gauge("endpoints_degraded", &[], "Endpoints not at their active version here", "Not 0 means: look at `/readyz?verbose`."),
        gauge("raft_is_leader", &[], "1 on the leader", ""),
        gauge("raft_has_leader", &[], "1 while a leader is heard that has a majority", "A leader that was not heard, or has had no answer from a majority, for three seconds counts as none."),
        gauge("raft_term", &[], "Raft term", ""),
        gauge("raft_last_log_index", &[], "Last log index", ""),
        gauge("raft_committed_index", &[], "Last committed log index known here", ""),
        gauge("raft_applied_index", &[], "Last applied log index", ""),
        gauge("raft_snapshot_index", &[], "Log index of the last snapshot", ""),
        gauge("raft_voters", &[], "Voters", ""),
        gauge("raft_learners", &[], "Learners", ""),
        gauge("gossip_nodes_live", &[], "Nodes that gossip says are live, this one included", ""),
        gauge("gossip_nodes_known", &[], "Nodes that gossip knows, dead ones included", "Dead ones for a day."),
        counter("gossip_refused_total", &["reason"], "Datagrams on the port of gossip that were not let in, by reason", "[Gossip](operations.md#gossip)."),
        gauge("cluster_links", &["tls"], "Open links that other nodes have opened to this one, with and without TLS", "`tls=\"false\"` at 0 on every node means that `required` is safe."),
        counter("cluster_links_refused_total", &["reason"], "Links between nodes that were not let in, by reason", "[TLS between nodes](tls.md#between-nodes)."),
    ]),
    ("The process", &[
        gauge("build_info", &["version"], "1, and the version that runs", ""),
        gauge("start_time_seconds", &[], "When the process started, Unix seconds", ""),
        gauge("memory_bytes", &[], "Resident memory of the process", ""),
        gauge("open_files", &[], "Open files and sockets of the process", "[File limits](operations.md#file-limits)."),
        gauge("disk_full", &[], "1 while the data folder has no room for changes", "[Full](operations.md#when-nodes-die) below 24 MiB."),
        gauge("disk_free_bytes", &[], "Room on the disk of the data folder", ""),
        counter("trace_spans_total", &["outcome"], "Spans of traces, by what became of them", "`exported`, `queue_full`, `failed` (the collector did not take them): [tracing](tracing.md)."),
        gauge("tail_watches", &[], "Watchers of the live tail on this node", "[The live tail](http-api.md#live)."),
    ]),
];

/// What a metric is described as; `name` without `_total`, as the registry takes it.
pub fn help(name: &str) -> &'static str {
    // That each has one is looked at by a test.
    entry(name).map_or("", |entry| entry.help)
}

/// `name` with or without `_total`.
pub fn entry(name: &str) -> Option<&'static Entry> {
    let all = CATALOGUE.iter().flat_map(|(_, entries)| *entries);
    let mut all = all.filter(|entry| {
        entry.name.strip_suffix("_total").unwrap_or(entry.name) == name.strip_suffix("_total").unwrap_or(name)
    });
    all.next()
}

/// docs/metrics.md.
pub fn page() -> String {
    let mut page = String::from(PAGE_HEAD);
    for (section, entries) in CATALOGUE {
        page.push_str(&format!("\n## {section}\n\n| name | kind | labels | what |\n|---|---|---|---|\n"));
        for Entry { name, kind, labels, help, more } in *entries {
            let between = if more.is_empty() { "" } else { ". " };
            let labels = labels.join(", ");
            page.push_str(&format!("| `wsgateway_{name}` | {} | {labels} | {help}{between}{more} |\n", kind.as_str()));
        }
    }
    page
}

const PAGE_HEAD: &str = "\
# Metrics

`GET /metrics` on the admin listener of each node, in OpenMetrics text, for [tokens](access.md) with the role viewer. Names
follow Prometheus: the unit is in the name, counters end in `_total`. Labels are endpoint paths, names of routes and backends,
and outcomes; never a connection or a user. A family appears when it first has something to say. [Monitoring](monitoring.md) has a
dashboard and alerts.

This page is printed by `wsgateway metrics`, from the table that the program itself registers its metrics by.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_prometheus_has_them() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in CATALOGUE.iter().flat_map(|(_, entries)| *entries) {
            assert!(seen.insert(entry.name), "{} twice", entry.name);
            assert_eq!(entry.name.ends_with("_total"), entry.kind == Kind::Counter, "{}", entry.name);
            assert!(!entry.help.is_empty() && !entry.help.ends_with('.'), "{}", entry.name);
            let fits = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(fits(entry.name) && entry.labels.iter().all(|label| fits(label)), "{}", entry.name);
            for label in entry.labels {
                assert!(!["connection", "connection_id", "user", "user_id"].contains(label), "{}", entry.name);
            }
        }
        assert_eq!(help("events_in"), help("events_in_total"));
    }

    #[test]
    fn the_documents_page_is_this_one() {
        let written = include_str!("../../docs/metrics.md");
        assert!(written == page(), "docs/metrics.md is not what `wsgateway metrics` prints");
    }
}
