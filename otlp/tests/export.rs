//! Spans on their way to a collector that takes them, is slow, refuses, is full, is not there.

mod collector;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use collector::{until, Collector, Say};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use wsgateway_otlp::{Counters, Exporting, Kind, Node, Pace, Span, Started, TraceContext, Tracer};

/// In more of a hurry than production, and quiet.
const HURRY: Pace = Pace {
    batch_within: Duration::from_millis(50),
    backoff: Duration::from_millis(20),
    backoff_max: Duration::from_millis(40),
    complain_every: Duration::from_secs(60),
};

const NODE: Node<'static> = Node { instance_id: "node-1", version: "0.1.0" };

fn tls(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn start(settings: serde_json::Value, pace: Pace) -> (Tracer, Exporting) {
    LazyLock::force(&LOG);
    let settings = serde_json::from_value(settings).unwrap();
    Tracer::start_at(&settings, NODE, tls(RootCertStore::empty()), &Handle::current(), pace).unwrap()
}

fn send(tracer: &Tracer, spans: usize) {
    for _ in 0..spans {
        let context = tracer.sample(Some(&TraceContext::root(true)));
        tracer.export(Span::new(&context, "event chat", Kind::Consumer, &Started::now()));
    }
}

/// Exported, dropped for want of room, dropped for other reasons.
fn counts(counters: &Counters) -> [u64; 3] {
    let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    [read(&counters.exported), read(&counters.dropped_queue_full), read(&counters.dropped_failed)]
}

fn partial_success(rejected_spans: u64, message: &str) -> Vec<u8> {
    let mut answer = wsgateway_otlp::wire::Writer::default();
    answer.message(1, |partial| {
        partial.varint(1, rejected_spans);
        partial.bytes(2, message.as_bytes());
    });
    answer.into_bytes()
}

#[tokio::test]
async fn spans_arrive_as_they_were_made() {
    let collector = Collector::start(|_| Say::ok()).await;
    let settings = json!({
        "endpoint": collector.url(),
        "sample_ratio": 1.0,
        "headers": { "authorization": "Bearer hunter2" },
        "attributes": { "deployment.environment.name": "test" },
    });
    let (tracer, exporting) = start(settings, HURRY);
    let contexts: Vec<_> = (0..3).map(|_| tracer.sample(None)).collect();
    for context in &contexts {
        assert!(context.sampled);
        tracer.export(Span::new(context, "event chat", Kind::Consumer, &Started::now()));
        let sent =
            || collector.look(|all| all.iter().any(|one| one.spans()[0].trace_id == context.trace_id.to_bytes()));
        until("the span is there", sent).await;
    }
    assert_eq!(collector.connections(), 1, "it is kept open");
    collector.look(|all| {
        let head = &all[0].head;
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        for line in [
            format!("host: {}", collector.addr),
            "content-type: application/x-protobuf".to_owned(),
            format!("user-agent: wsgateway-otlp/{}", env!("CARGO_PKG_VERSION")),
            "authorization: Bearer hunter2".to_owned(),
        ] {
            assert!(head.lines().any(|one| one == line), "{line} in {head}");
        }
        assert_eq!(all[0].resource_attributes(), 4);
        assert_eq!(all[0].spans()[0].name, "event chat");
    });
    until("they are counted", || counts(&exporting.counters) == [3, 0, 0]).await;
}

#[tokio::test]
async fn a_batch_has_512_spans_or_what_there_is_after_a_while() {
    let collector = Collector::start(|_| Say::ok()).await;
    let slow = Pace { batch_within: Duration::from_secs(2), ..HURRY };
    let (tracer, exporting) = start(json!({ "endpoint": collector.url() }), slow);
    let began = Instant::now();
    send(&tracer, 1_200);
    until("two batches are there", || collector.sizes().len() >= 2).await;
    assert!(began.elapsed() < Duration::from_millis(1_900), "a full batch does not wait: {:?}", began.elapsed());
    until("the rest is there", || collector.sizes() == [512, 512, 176]).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    until("all are counted", || counts(&exporting.counters) == [1_200, 0, 0]).await;
}

#[tokio::test]
async fn a_503_is_tried_again_when_it_says() {
    let busy = || Say::Answer(503, "retry-after: 1\r\n", Vec::new());
    let collector = Collector::start(move |number| if number == 0 { busy() } else { Say::ok() }).await;
    let (tracer, exporting) = start(json!({ "endpoint": collector.url() }), HURRY);
    send(&tracer, 5);
    until("it was taken", || counts(&exporting.counters) == [5, 0, 0]).await;
    collector.look(|all| {
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].body, all[1].body, "it is the same batch");
        let waited = all[1].at - all[0].at;
        assert!(waited >= Duration::from_millis(990), "{waited:?}");
    });
}

#[tokio::test]
async fn a_batch_is_given_up_after_five_attempts_and_the_next_goes_its_way() {
    let bad_gateway = |number| if number < 5 { Say::Answer(502, "", Vec::new()) } else { Say::ok() };
    let collector = Collector::start(bad_gateway).await;
    let (tracer, exporting) = start(json!({ "endpoint": collector.url() }), HURRY);
    send(&tracer, 3);
    until("it was given up", || counts(&exporting.counters) == [0, 0, 3]).await;
    send(&tracer, 4);
    until("the next is taken", || counts(&exporting.counters) == [4, 0, 3]).await;
    assert_eq!(collector.sizes(), [3, 3, 3, 3, 3, 4]);
}

#[tokio::test]
async fn other_answers_are_final_and_partial_success_is_counted() {
    let partial = partial_success(2, "too old");
    let script = move |number| match number {
        0 => Say::Answer(400, "", Vec::new()),
        _ => Say::Answer(200, "content-type: application/x-protobuf\r\n", partial.clone()),
    };
    let collector = Collector::start(script).await;
    let (tracer, exporting) = start(json!({ "endpoint": collector.url() }), HURRY);
    send(&tracer, 3);
    until("it was dropped", || counts(&exporting.counters) == [0, 0, 3]).await;
    send(&tracer, 10);
    until("most were taken", || counts(&exporting.counters) == [8, 0, 5]).await;
    assert_eq!(collector.sizes(), [3, 10]);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_nobody_waits() {
    let collector = Collector::start(|_| Say::Silence).await;
    let (tracer, exporting) = start(json!({ "endpoint": collector.url(), "spans_queued_max": 64 }), HURRY);
    send(&tracer, 10);
    until("one batch is under way", || collector.sizes() == [10]).await;
    let began = Instant::now();
    send(&tracer, 1_000);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(counts(&exporting.counters), [0, 1_000 - 64, 0]);
    // And the end comes in time, with everything accounted for.
    let began = Instant::now();
    let counters = exporting.counters.clone();
    exporting.shutdown(Duration::from_millis(200)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    send(&tracer, 1);
    assert_eq!(counts(&counters), [0, 1_000 - 64, 10 + 64 + 1]);
}

#[tokio::test]
async fn the_end_sends_what_waits() {
    let collector =
        Collector::start(|number| if number == 0 { Say::Answer(503, "", Vec::new()) } else { Say::ok() }).await;
    let never = Pace { batch_within: Duration::from_secs(600), ..HURRY };
    let (tracer, exporting) = start(json!({ "endpoint": collector.url() }), never);
    send(&tracer, 700);
    let counters = exporting.counters.clone();
    exporting.shutdown(Duration::from_secs(10)).await;
    assert_eq!(counts(&counters), [700, 0, 0]);
    assert_eq!(collector.sizes(), [512, 512, 188]);
}

#[tokio::test]
async fn a_pause_ends_when_the_node_does() {
    let much_later = || Say::Answer(429, "retry-after: 200\r\n", Vec::new());
    let collector = Collector::start(move |number| if number == 0 { much_later() } else { Say::ok() }).await;
    let (tracer, exporting) = start(json!({ "endpoint": collector.url() }), HURRY);
    send(&tracer, 1);
    until("it is asked for patience", || collector.sizes() == [1]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let counters = exporting.counters.clone();
    exporting.shutdown(Duration::from_secs(10)).await;
    assert_eq!(counts(&counters), [1, 0, 0]);
}

#[tokio::test]
async fn a_collector_that_closes_idle_connections_or_says_nothing() {
    let script = |number| match number {
        0 => Say::ThenClose,
        1 => Say::Silence,
        _ => Say::ok(),
    };
    let collector = Collector::start(script).await;
    let (tracer, exporting) = start(json!({ "endpoint": collector.url(), "timeout_millis": 200 }), HURRY);
    for already in 0..2 {
        send(&tracer, 1);
        until("it is taken", || counts(&exporting.counters) == [already + 1, 0, 0]).await;
    }
    assert_eq!((collector.sizes(), collector.connections()), (vec![1, 1, 1], 3));
}

/// What all tests of this program log. A subscriber of one thread would not do: what another thread without one has logged
/// first is taken to be of no interest to anybody.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    log
});

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Lines about the collector with this port that have these words.
    fn lines(&self, port: u16, words: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let about = format!(":{port}/v1/traces");
        text.lines().filter(|line| line.contains(&about) && line.contains(words)).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn a_dead_collector_costs_one_warning_and_a_live_one_is_welcome() {
    // A port that nobody listens on, and nobody else can have.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let settings = json!({ "endpoint": format!("http://{addr}"), "headers": { "x-key": "hunter2" } });
    let (tracer, exporting) = start(settings, HURRY);
    for batch in 1..=3 {
        send(&tracer, 100);
        until("a batch is given up", || counts(&exporting.counters) == [0, 0, batch * 100]).await;
    }
    let warnings = LOG.lines(addr.port(), "WARN");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("Connection refused") && warnings[0].contains(&addr.to_string()), "{warnings:?}");
    let _collector = Collector::serve_on(socket.listen(16).unwrap(), |_| Say::ok(), None);
    send(&tracer, 100);
    until("it is taken", || counts(&exporting.counters) == [100, 0, 300]).await;
    until("that is said", || !LOG.lines(addr.port(), "exported again").is_empty()).await;
    assert_eq!((LOG.lines(addr.port(), "WARN").len(), LOG.lines(addr.port(), "hunter2").len()), (1, 0));
}

#[tokio::test]
async fn a_collector_that_is_too_slow_costs_one_warning_too() {
    let warning = partial_success(0, "old protocol");
    let collector = Collector::start(move |_| Say::Answer(200, "", warning.clone())).await;
    let (tracer, exporting) = start(json!({ "endpoint": collector.url(), "spans_queued_max": 64 }), HURRY);
    for round in 1..=3 {
        send(&tracer, 100);
        until("they are taken", || counts(&exporting.counters) == [round * 64, round * 36, 0]).await;
    }
    exporting.shutdown(Duration::from_secs(5)).await;
    let warnings = LOG.lines(collector.addr.port(), "WARN");
    assert!(warnings.len() == 1 && warnings[0].contains("faster than they are exported"), "{warnings:?}");
}

#[tokio::test]
async fn https_trusts_whom_it_is_told_to() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let collector = Collector::serve_on(
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        |_| Say::ok(),
        Some(Arc::new(server).into()),
    );
    let settings = json!({ "endpoint": format!("https://localhost:{}", collector.addr.port()) });
    let (stranger, of_stranger) = start(settings.clone(), HURRY);
    send(&stranger, 1);
    until("it is refused", || counts(&of_stranger.counters) == [0, 0, 1]).await;
    let warnings = LOG.lines(collector.addr.port(), "WARN");
    assert!(warnings[0].contains("TLS: invalid peer certificate"), "{warnings:?}");

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let settings = serde_json::from_value(settings).unwrap();
    let (tracer, exporting) = Tracer::start_at(&settings, NODE, tls(roots), &Handle::current(), HURRY).unwrap();
    send(&tracer, 2);
    until("it is taken", || counts(&exporting.counters) == [2, 0, 0]).await;
    assert_eq!(collector.sizes(), [2]);
}

#[tokio::test]
async fn without_an_endpoint_there_is_nothing() {
    let (tracer, exporting) = start(json!({ "sample_ratio": 1.0 }), Pace::default());
    assert!(!tracer.is_on() && !tracer.sample(None).sampled);
    send(&tracer, 1);
    let counters = exporting.counters.clone();
    exporting.shutdown(Duration::from_secs(1)).await;
    assert_eq!(counts(&counters), [0, 0, 0]);
}
