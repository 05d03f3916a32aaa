//! `wsgateway top`: what goes through the cluster now, in a terminal.

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::api::{text, Api, Connect, Output};
use super::block_on;
use super::table::table;

/// Rates are those of so many seconds.
const OVER_SECONDS: usize = 5;
/// The small picture shows so many seconds.
const PICTURE_SECONDS: usize = 60;

#[derive(Args)]
#[command(
    after_help = "Where the output is no terminal, it is printed once, unless --count says otherwise.\n\nExamples:\n  wsgateway top\n  wsgateway top --interval 5\n  wsgateway top --count 1 --output json"
)]
pub struct Top {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// End after so many looks
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// The most endpoints that are listed, the busiest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    endpoints: usize,
    #[command(flatten)]
    connect: Connect,
}

/// What was seen in one look.
struct Seen {
    cluster: Value,
    stats: Value,
    traffic: Value,
}

impl Top {
    pub fn run(self) -> anyhow::Result<()> {
        block_on(async {
            let api = self.connect.api()?;
            let is_terminal = std::io::stdout().is_terminal();
            let count = self.count.or((!is_terminal).then_some(1));
            let mut looks = 0;
            loop {
                let shown = match self.look(&api).await {
                    Ok(seen) => self.shown(&seen),
                    // Whoever watches an outage wants to see its end.
                    Err(err) if looks > 0 && is_terminal => format!("error: {err:#}\n"),
                    Err(err) => return Err(err),
                };
                let mut out = std::io::stdout();
                // ECMA-48: to the upper left corner, and nothing behind it.
                let clear = if is_terminal && count != Some(1) { "\u{1b}[H\u{1b}[2J" } else { "" };
                match write!(out, "{clear}{shown}").and_then(|()| out.flush()) {
                    Err(err) if err.kind() == ErrorKind::BrokenPipe => return Ok(()),
                    written => written?,
                }
                looks += 1;
                if count.is_some_and(|count| looks >= count) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_secs(self.interval)).await;
            }
        })
    }

    async fn look(&self, api: &Api) -> anyhow::Result<Seen> {
        let asked =
            futures::join!(api.get("/api/v1/cluster"), api.get("/api/v1/stats?range=5m"), api.get("/api/v1/traffic"));
        Ok(Seen { cluster: asked.0?, stats: asked.1?, traffic: asked.2? })
    }

    fn shown(&self, seen: &Seen) -> String {
        match self.connect.output {
            Output::Json => {
                let Seen { cluster, stats, traffic } = seen;
                format!("{}\n", serde_json::json!({"cluster": cluster, "stats": stats, "traffic": traffic}))
            }
            Output::Text => format!("{}\n{}\n{}", summary(seen), nodes(seen), endpoints(seen, self.endpoints)),
        }
    }
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// The last samples of one figure.
fn last(samples: &Value, count: usize) -> impl Iterator<Item = f64> + '_ {
    let all = samples.as_array().map_or(&[][..], Vec::as_slice);
    all[all.len().saturating_sub(count)..].iter().filter_map(Value::as_f64)
}

/// Per second; None: there is none.
fn rate(samples: &Value) -> Option<f64> {
    let (sum, count) = last(samples, OVER_SECONDS).fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn errors_rate(node: &Value) -> Option<f64> {
    let codes = node["samples"]["errors"].as_object()?;
    Some(codes.values().filter_map(rate).sum())
}

fn decimal(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() < 0.05 => "0".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}"),
    }
}

fn mebibytes(bytes: Option<f64>) -> String {
    bytes.map_or("-".to_owned(), |bytes| format!("{:.0} MiB", bytes / 1024.0 / 1024.0))
}

fn newest(seconds: &[f64]) -> &[f64] {
    &seconds[seconds.len().saturating_sub(PICTURE_SECONDS)..]
}

/// A line of blocks as high as the values.
fn picture(values: &[f64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().copied().fold(0.0, f64::max);
    let block = |value: &f64| match highest > 0.0 {
        true => BLOCKS[((value / highest * 7.0).round() as usize).min(7)],
        false => BLOCKS[0],
    };
    values.iter().map(block).collect()
}

/// Of all nodes, second by second; the newest seconds that all of them have.
fn events_in(stats: &Value) -> Vec<f64> {
    let mut by_second = std::collections::BTreeMap::<u64, (f64, usize)>::new();
    let heard: Vec<&Value> = list(stats, "nodes").iter().filter(|node| node["reachable"] == true).collect();
    for node in &heard {
        let from = node["from"].as_u64().unwrap_or(0);
        for (at, value) in (from..).zip(list(&node["samples"], "eventsIn")) {
            if let Some(value) = value.as_f64() {
                let (sum, nodes) = by_second.entry(at).or_default();
                *sum += value;
                *nodes += 1;
            }
        }
    }
    by_second.into_values().filter(|(_, nodes)| *nodes == heard.len()).map(|(sum, _)| sum).collect()
}

fn summary(seen: &Seen) -> String {
    let Seen { cluster, stats, traffic } = seen;
    let nodes = list(stats, "nodes");
    let total = |figure: &str| nodes.iter().filter_map(|node| rate(&node["samples"][figure])).sum::<f64>();
    let open: f64 = nodes.iter().filter_map(|node| last(&node["samples"]["connections"], 1).next()).sum();
    let leader = list(cluster, "nodes").iter().find(|node| node["role"] == "leader");
    let leader = leader.map_or("no leader".to_owned(), |node| format!("leader {}", text(node, "name")));
    let heard = nodes.iter().filter(|node| node["reachable"] == true).count();
    let errors: f64 = nodes.iter().filter_map(errors_rate).sum();
    format!(
        "{heard} of {} nodes, {leader}, {} endpoints\n{open} connections, {} events/s in, {} out, {} errors/s, {} throttled/s\n{}\n",
        nodes.len(),
        list(traffic, "items").len(),
        decimal(Some(total("eventsIn"))),
        decimal(Some(total("eventsOut"))),
        decimal(Some(errors)),
        decimal(Some(total("throttled"))),
        picture(newest(&events_in(stats))),
    )
}

fn nodes(seen: &Seen) -> String {
    let rows = list(&seen.stats, "nodes").iter().map(|node| {
        let known = list(&seen.cluster, "nodes").iter().find(|other| other["nodeId"] == node["nodeId"]);
        let state = match (node["reachable"] == true, known) {
            (false, _) => "not heard",
            (true, Some(known)) => text(known, "role"),
            (true, None) => "",
        };
        let samples = &node["samples"];
        let newest = |figure: &str| last(&samples[figure], 1).next();
        let worst = |figure: &str| last(&samples[figure], OVER_SECONDS).reduce(f64::max);
        vec![
            text(node, "name").to_owned(),
            state.to_owned(),
            newest("connections").map_or("-".to_owned(), |open| format!("{open:.0}")),
            decimal(rate(&samples["opened"])),
            decimal(rate(&samples["closed"])),
            decimal(rate(&samples["eventsIn"])),
            decimal(rate(&samples["eventsOut"])),
            decimal(errors_rate(node)),
            decimal(worst("backendP50Millis")),
            decimal(worst("backendP99Millis")),
            mebibytes(newest("memoryBytes")),
        ]
    });
    let head =
        ["NODE", "STATE", "OPEN", "OPENED/S", "CLOSED/S", "IN/S", "OUT/S", "ERRORS/S", "P50 MS", "P99 MS", "MEMORY"];
    table(&head, rows.collect())
}

fn endpoints(seen: &Seen, most: usize) -> String {
    let mut items: Vec<&Value> = list(&seen.traffic, "items").iter().collect();
    let busy = |item: &Value| {
        let rate = |name: &str| item[name].as_f64().unwrap_or(0.0);
        (rate("eventsInPerSecond") + rate("eventsOutPerSecond"), rate("connections"))
    };
    items.sort_by(|a, b| busy(b).partial_cmp(&busy(a)).unwrap_or(std::cmp::Ordering::Equal));
    let rows = items.iter().take(most).map(|item| {
        let served = &item["served"];
        let mut state = format!("{}/{}", served["complete"], served["of"]);
        if served["degraded"].as_u64() > Some(0) {
            state.push_str(&format!(", {} degraded", served["degraded"]));
        }
        vec![
            text(item, "path").to_owned(),
            state,
            item["connections"].to_string(),
            decimal(item["eventsInPerSecond"].as_f64()),
            decimal(item["eventsOutPerSecond"].as_f64()),
            decimal(item["errorsPerSecond"].as_f64()),
            decimal(item["throttledPerSecond"].as_f64()),
        ]
    });
    let mut shown = table(&["ENDPOINT", "SERVED", "OPEN", "IN/S", "OUT/S", "ERRORS/S", "THROTTLED/S"], rows.collect());
    if items.len() > most {
        shown.push_str(&format!("… and {} more\n", items.len() - most));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn holes_are_no_zeroes() {
        assert_eq!(rate(&json!([100, 100, null, 4, 6, null, null])), Some(5.0));
        assert_eq!(rate(&json!([null, null])), None);
        assert_eq!(
            (decimal(None), decimal(Some(0.0)), decimal(Some(1.25)), decimal(Some(1234.5))),
            ("-".into(), "0".into(), "1.2".into(), "1234".into())
        );
    }

    #[test]
    fn the_picture_has_the_seconds_that_all_nodes_have() {
        let node = |from: u64, values: Value| json!({"reachable": true, "from": from, "samples": {"eventsIn": values}});
        let stats = json!({"nodes": [node(10, json!([1, 2, 3])), node(11, json!([4, null])), {"reachable": false}]});
        assert_eq!(events_in(&stats), [6.0]);
        assert_eq!(picture(&[0.0, 5.0, 10.0]), "▁▅█");
        assert_eq!(picture(&[0.0]), "▁");
    }

    #[test]
    fn a_node_that_is_not_heard_has_no_figures() {
        let stats = json!({"nodes": [{"nodeId": "1", "name": "n1", "reachable": false}]});
        let seen = Seen {
            cluster: json!({}),
            traffic: json!({"items": [{"path": "/a", "served": {"complete": 1, "of": 3, "degraded": 1}, "connections": 4}]}),
            stats,
        };
        let shown = format!("{}{}{}", summary(&seen), nodes(&seen), endpoints(&seen, 5));
        assert!(shown.contains("0 of 1 nodes, no leader") && shown.contains("n1    not heard  -"), "{shown}");
        assert!(shown.contains("/a        1/3, 1 degraded  4"), "{shown}");
    }
}
