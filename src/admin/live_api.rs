//! What happens now, as server-sent events: figures each second, changes of the cluster, and the tail of events. One stream
//! is one task; a reader that is slow gets less, one that is gone ends it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{web, HttpRequest, HttpResponse};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout, Instant, MissedTickBehavior};

use super::access::{Access, Shown};
use super::cluster_api::{hex, seen};
use super::live_state::{changed, Asked, Limit, Unheard};
use super::openapi::Text;
use super::operation::Operation;
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::access::Role;
use crate::backends::event::rfc3339;
use crate::model::json_path::JsonPath;
use crate::observe::{Heard, NodeStats, Tailed};
use crate::telemetry::history::{Range, Sample};
use crate::telemetry::tail::{Direction, Record, Wanted, PER_SECOND_MAX};

const EVENT_STREAM: &str = "text/event-stream";
/// Streams at once on one node.
const STREAMS_MAX: usize = 64;
/// Of them with one token, or, while the node asks for none, without.
const STREAMS_OF_ONE_MAX: usize = 16;
/// Chunks that wait for a reader; then the stream waits.
const CHUNKS_WAITING_MAX: usize = 16;
/// A reader that takes nothing for so long is given up.
const READER_PATIENCE: Duration = Duration::from_secs(30);
/// Proxies and browsers hear that it lives.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// Batches of nodes that wait for the stream.
const BATCHES_WAITING_MAX: usize = 8;
const PER_SECOND_DEFAULT: u32 = 100;
/// Figures that are older than this are told as a whole by `/api/v1/stats` only.
const SAMPLES_AGE_MAX: u64 = 5;

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/v1/live", || web::to(live), "live")
        .about(
            "What happens now",
            "Server-sent events. `samples`: each node's figures of a second. `cluster`: as getCluster, at the start and when it \
             changes. `event`: an event from or a message to a client, its payload redacted: keys are shown, and of the values \
             those that the endpoint's custom routes are chosen by. `skipped`: how many were left out for the limit. \
             `unreachable`: the nodes that cannot be heard, when that changes.",
        )
        .query::<LiveQuery>()
        .answers_as::<Text>(200, "A stream without an end, unless `seconds` says", EVENT_STREAM, &[])
        .problem(429, "too_many_streams")]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LiveQuery {
    /// Which events are wanted, separated by commas: samples, cluster, events. Default: all.
    #[schemars(length(max = 64))]
    topics: Option<String>,
    /// Only events of the endpoint with this id or path.
    endpoint: Option<String>,
    /// Only of this connection.
    connection: Option<String>,
    /// Only of this user's connections.
    user: Option<String>,
    /// Only those that this route took.
    route: Option<String>,
    /// in: from clients; out: to clients.
    direction: Option<DirectionName>,
    /// Only those with this outcome: delivered, queued, delivery_failed, no_route, …
    outcome: Option<String>,
    /// A JSONPath that must find something in what is shown of the payload.
    #[serde(rename = "match")]
    #[schemars(length(max = 512))]
    matches: Option<String>,
    /// The most events that are told in a second; default 100.
    #[schemars(range(min = 1, max = 500))]
    events_per_second: Option<u32>,
    /// The stream ends after so many seconds.
    #[schemars(range(min = 1, max = 86400))]
    seconds: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum DirectionName {
    In,
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Topics {
    samples: bool,
    cluster: bool,
    events: bool,
}

impl Topics {
    fn parse(text: Option<&str>) -> Result<Topics, Problem> {
        let Some(text) = text else { return Ok(Topics { samples: true, cluster: true, events: true }) };
        let mut topics = Topics { samples: false, cluster: false, events: false };
        for name in text.split(',') {
            match name {
                "samples" => topics.samples = true,
                "cluster" => topics.cluster = true,
                "events" => topics.events = true,
                other => {
                    return Err(invalid(format!("topics may have samples, cluster and events, not {other:?}")));
                }
            }
        }
        Ok(topics)
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(400, "invalid_query", detail)
}

impl LiveQuery {
    fn wanted(self) -> Result<Wanted, Problem> {
        let per_second = self.events_per_second.unwrap_or(PER_SECOND_DEFAULT);
        if !(1..=PER_SECOND_MAX).contains(&per_second) {
            return Err(invalid(format!("eventsPerSecond must be 1–{PER_SECOND_MAX}, is {per_second}")));
        }
        if let Some(path) = &self.matches {
            JsonPath::parse(path).map_err(|err| invalid(format!("match: {err}")))?;
        }
        Ok(Wanted {
            endpoint: self.endpoint,
            connection: self.connection,
            user: self.user,
            route: self.route,
            direction: self.direction.map(|direction| match direction {
                DirectionName::In => Direction::In,
                DirectionName::Out => Direction::Out,
            }),
            outcome: self.outcome,
            matches: self.matches,
            per_second,
        })
    }
}

/// How many streams there are, by who has them.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<HashMap<u64, usize>>>);

struct Place {
    streams: Streams,
    of: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.streams.lock();
        if let Some(count) = streams.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.of);
            }
        }
    }
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `of`: whose it is, so that nobody takes all places.
    fn enter(&self, of: u64) -> Result<Place, Problem> {
        let refused = |text: String| Err(Problem::new(429, "too_many_streams", text));
        let mut streams = self.lock();
        if streams.values().sum::<usize>() >= STREAMS_MAX {
            return refused(format!("this node has {STREAMS_MAX} streams already"));
        }
        let count = streams.entry(of).or_default();
        if *count >= STREAMS_OF_ONE_MAX {
            return refused(format!("this token has {STREAMS_OF_ONE_MAX} streams at this node already"));
        }
        *count += 1;
        Ok(Place { streams: self.clone(), of })
    }
}

async fn live(api: web::Data<Api>, access: web::Data<Access>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let options: LiveQuery = query(&request)?;
    let topics = Topics::parse(options.topics.as_deref())?;
    let seconds = options.seconds;
    if seconds.is_some_and(|seconds| !(1..=86_400).contains(&seconds)) {
        return Err(invalid("seconds must be 1–86400".to_owned()));
    }
    let wanted = options.wanted()?;
    let shown = access.shown(&request);
    let place = api.streams.enter(shown.whose())?;
    let (chunks, mut taken) = mpsc::channel::<Bytes>(CHUNKS_WAITING_MAX);
    let stream = Stream { api: api.into_inner(), shown, topics, chunks, told_at: 0, unheard: Unheard::default() };
    actix_rt::spawn(async move {
        let run = stream.run(wanted);
        match seconds {
            None => run.await,
            // An error: its time is over.
            Some(seconds) => drop(timeout(Duration::from_secs(seconds.into()), run).await),
        }
        drop(place);
    });
    let body = futures::stream::poll_fn(move |context| {
        taken.poll_recv(context).map(|chunk| chunk.map(Ok::<_, std::convert::Infallible>))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, EVENT_STREAM))
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would keep it back.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(body))
}

/// The reader is gone, or the node goes.
struct Over;

struct Stream {
    api: Arc<Api>,
    /// By what it was let in.
    shown: Shown,
    topics: Topics,
    chunks: mpsc::Sender<Bytes>,
    /// Unix seconds of the last step whose figures were told.
    told_at: u64,
    unheard: Unheard,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventBody<'a> {
    at: String,
    node: &'a str,
    endpoint_id: &'a str,
    path: &'a str,
    connection_id: &'a str,
    user: Option<&'a str>,
    direction: &'static str,
    kind: &'a str,
    route: Option<&'a str>,
    outcome: &'a str,
    detail: Option<&'a str>,
    event_id: Option<&'a str>,
    sequence: Option<u64>,
    bytes: u64,
    took_millis: Option<u64>,
    data: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SampleBody {
    node_id: String,
    name: String,
    reachable: bool,
    #[serde(flatten)]
    sample: Option<FiguresBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FiguresBody {
    connections: u64,
    opened: u64,
    closed: u64,
    events_in: u64,
    events_out: u64,
    throttled: u64,
    errors: BTreeMap<String, u64>,
    backend_p50_millis: Option<f32>,
    backend_p99_millis: Option<f32>,
    memory_bytes: u64,
}

impl From<&Sample> for FiguresBody {
    fn from(sample: &Sample) -> FiguresBody {
        FiguresBody {
            connections: sample.connections,
            opened: sample.opened,
            closed: sample.closed,
            events_in: sample.events_in,
            events_out: sample.events_out,
            throttled: sample.throttled,
            errors: sample.errors.iter().cloned().collect(),
            backend_p50_millis: sample.backend_p50_millis,
            backend_p99_millis: sample.backend_p99_millis,
            memory_bytes: sample.memory_bytes,
        }
    }
}

pub(super) fn chunk(into: &mut String, name: &str, data: &impl Serialize) {
    // Maps with text keys, texts and numbers: cannot fail.
    let Ok(data) = serde_json::to_string(data) else { return };
    into.push_str("event: ");
    into.push_str(name);
    into.push_str("\ndata: ");
    into.push_str(&data);
    into.push_str("\n\n");
}

fn event(record: &Record, node: &str) -> String {
    let mut text = String::new();
    let body = EventBody {
        at: rfc3339(record.at_millis),
        node,
        endpoint_id: &record.endpoint_id,
        path: &record.path,
        connection_id: &record.connection,
        user: record.user.as_deref(),
        direction: record.direction.as_str(),
        kind: &record.kind,
        route: record.route.as_deref(),
        outcome: &record.outcome,
        detail: record.detail.as_deref(),
        event_id: record.event_id.as_deref(),
        sequence: record.sequence,
        bytes: record.bytes,
        took_millis: record.took_millis,
        // Made from a tree: it parses.
        data: record.data.as_ref().and_then(|data| RawValue::from_string(data.clone()).ok()),
    };
    chunk(&mut text, "event", &body);
    text
}

/// The figures of the steps after `told_at` that every node which answers has, and the last of these steps.
fn samples(heard: &[Heard<NodeStats>], told_at: u64, now: u64) -> (u64, Vec<(u64, Vec<SampleBody>)>) {
    let end = |stats: &NodeStats| stats.samples.from + stats.samples.samples.len() as u64;
    // One whose clock is ahead is in another time than the others.
    let ends = heard
        .iter()
        .filter_map(|node| node.said.as_ref().ok())
        .filter(|stats| !stats.samples.samples.is_empty() && end(stats) <= now + SAMPLES_AGE_MAX);
    let newest = ends.clone().map(end).max().unwrap_or(0);
    // A node that is behind is not waited for; its clock may be.
    let Some(common) = ends.map(end).filter(|end| end + SAMPLES_AGE_MAX > newest).min() else {
        return (told_at, Vec::new());
    };
    let first = (told_at + 1).max(common.saturating_sub(SAMPLES_AGE_MAX));
    let mut told = Vec::new();
    for at in first..common {
        let nodes = heard.iter().map(|node| {
            let stats = node.said.as_ref().ok();
            let sample = stats.and_then(|stats| {
                let place = at.checked_sub(stats.samples.from)?;
                stats.samples.samples.get(usize::try_from(place).ok()?)?.as_ref()
            });
            let (node_id, name) = (hex(node.node_id), node.name.clone());
            SampleBody { node_id, name, reachable: stats.is_some(), sample: sample.map(FiguresBody::from) }
        });
        let nodes: Vec<SampleBody> = nodes.collect();
        // Before the first sample of all.
        if nodes.iter().any(|node| node.sample.is_some()) {
            told.push((at, nodes));
        }
    }
    (told.last().map_or(told_at, |(at, _)| *at), told)
}

/// Asks all nodes for their figures once a second. On its own: a node that hangs holds up the figures, and nothing else.
async fn gather(api: Arc<Api>, told: mpsc::Sender<Vec<Heard<NodeStats>>>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => {}
            () = told.closed() => return,
        }
        let heard = api.observer.stats(Range::FiveMinutes, unix_seconds().saturating_sub(SAMPLES_AGE_MAX)).await;
        if told.send(heard).await.is_err() {
            return;
        }
    }
}

fn unix_seconds() -> u64 {
    // A clock before 1970 has no history.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Stream {
    async fn run(mut self, wanted: Wanted) {
        let (tail, mut batches) = mpsc::channel::<Tailed>(BATCHES_WAITING_MAX);
        let (figures, mut gathered) = mpsc::channel(1);
        let mut limit = Limit::new(wanted.per_second);
        // Held where nobody else has them, so that the channels stay open.
        let mut unused = (None, None);
        match self.topics.events {
            true => self.api.observer.tail(&wanted, tail),
            false => unused.0 = Some(tail),
        }
        match self.topics.samples {
            true => drop(actix_rt::spawn(gather(self.api.clone(), figures))),
            false => unused.1 = Some(figures),
        }
        // Readers see that they are heard.
        let mut over = self.send(": hello\n\n".to_owned()).await.is_err();
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut commented = Instant::now();
        let mut cluster = String::new();
        while !over {
            let told = tokio::select! {
                _ = seconds.tick() => {
                    limit.second();
                    self.second(&mut cluster, &mut limit, &mut commented).await
                }
                batch = batches.recv() => match batch {
                    Some(tailed) => self.batch(tailed, &mut limit).await,
                    None => Err(Over),
                },
                heard = gathered.recv() => match heard {
                    Some(heard) => self.figures(&heard).await,
                    None => Err(Over),
                },
                () = self.chunks.closed() => Err(Over),
            };
            let leaves = self.api.hub.is_draining() || !self.shown.still_allows(Role::Viewer);
            over = told.is_err() || leaves;
        }
        drop(unused);
    }

    async fn send(&self, text: String) -> Result<(), Over> {
        match timeout(READER_PATIENCE, self.chunks.send(text.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over),
        }
    }

    /// Once a second: what has changed since.
    async fn second(&mut self, cluster: &mut String, limit: &mut Limit, commented: &mut Instant) -> Result<(), Over> {
        let mut text = String::new();
        if self.topics.cluster {
            let now = serde_json::to_string(&seen(&self.api)).unwrap_or_default();
            if changed(&now, cluster) {
                text.push_str(&format!("event: cluster\ndata: {now}\n\n"));
                *cluster = now;
            }
        }
        if self.unheard.retain(&self.api.observer.node_ids()) {
            self.unheard.tell(&mut text);
        }
        let skipped = limit.take_skipped();
        if skipped > 0 {
            chunk(&mut text, "skipped", &serde_json::json!({"events": skipped}));
        }
        if text.is_empty() && commented.elapsed() >= COMMENT_INTERVAL {
            text.push_str(": still here\n\n");
        }
        if text.is_empty() {
            return Ok(());
        }
        *commented = Instant::now();
        self.send(text).await
    }

    async fn figures(&mut self, heard: &[Heard<NodeStats>]) -> Result<(), Over> {
        let mut text = String::new();
        let now = unix_seconds();
        for node in heard {
            if self.unheard.note(Asked::Figures, node) {
                self.unheard.tell(&mut text);
            }
        }
        if self.told_at > now + SAMPLES_AGE_MAX {
            // The clock was set back.
            self.told_at = 0;
        }
        let (told_at, told) = samples(heard, self.told_at, now);
        self.told_at = told_at;
        for (at, nodes) in told {
            chunk(&mut text, "samples", &serde_json::json!({"at": at, "nodes": nodes}));
        }
        self.send_some(text).await
    }

    async fn batch(&mut self, tailed: Tailed, limit: &mut Limit) -> Result<(), Over> {
        let mut text = String::new();
        if self.unheard.note(Asked::Tail, &tailed) {
            self.unheard.tell(&mut text);
        }
        if let Ok(batch) = tailed.said {
            limit.skipped += batch.skipped;
            for record in &batch.records {
                if limit.take() {
                    text.push_str(&event(record, &tailed.name));
                }
            }
        }
        self.send_some(text).await
    }

    async fn send_some(&self, text: String) -> Result<(), Over> {
        match text.is_empty() {
            true => Ok(()),
            false => self.send(text).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::history::Samples;

    fn heard(name: &str, from: u64, count: usize) -> Heard<NodeStats> {
        let samples = vec![Some(Sample { connections: 3, ..Sample::default() }); count];
        let samples = Samples { step_seconds: 1, from, samples, latency: Default::default() };
        Heard { node_id: 1, name: name.to_owned(), said: Ok(NodeStats { connections_max: 10, samples }) }
    }

    #[test]
    fn a_second_is_told_once_and_when_every_node_has_it() {
        let dead = Heard { node_id: 2, name: "n2".to_owned(), said: Err("no".to_owned()) };
        let both = [heard("n1", 100, 3), heard("n3", 100, 2), dead];
        let (told_at, told) = samples(&both, 99, 104);
        assert_eq!((told_at, told.iter().map(|(at, _)| *at).collect::<Vec<_>>()), (101, vec![100, 101]));
        let seen: Vec<_> = told[0].1.iter().map(|node| (node.reachable, node.sample.is_some())).collect();
        assert_eq!(seen, [(true, true), (true, true), (false, false)]);
        assert_eq!(samples(&both, 101, 104).1.len(), 0);
        // One whose clock is behind is not waited for.
        let (told_at, _) = samples(&[heard("n1", 100, 3), heard("n3", 50, 2)], 100, 104);
        assert_eq!(told_at, 102);
        // One whose clock is ahead does not push the others out.
        let (told_at, told) = samples(&[heard("n1", 100, 3), heard("n3", 200, 2)], 100, 104);
        assert_eq!((told_at, told[0].1[0].sample.is_some(), told[0].1[1].sample.is_some()), (102, true, false));
    }

    #[test]
    fn topics_are_named() {
        assert_eq!(Topics::parse(Some("events")).ok(), Some(Topics { samples: false, cluster: false, events: true }));
        assert!(Topics::parse(Some("events,sample")).is_err() && Topics::parse(Some("")).is_err());
    }
}
