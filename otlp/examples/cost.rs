//! What tracing costs an event: nanoseconds for the decision, and for one span, when it is off, not sampled, and sampled.
//! Prints figures and asserts nothing. `cargo run --release -p wsgateway-otlp --example cost`.

#[path = "../tests/collector/mod.rs"]
mod collector;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::{Collector, Say};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Runtime;
use wsgateway_otlp::{Exporting, Kind, Node, Span, Started, Tracer, TracingSettings};

const ROUNDS: u32 = 15;
const EVENTS: u32 = 200_000;
/// Spans of one round: the queue of a node has room for them, and what is measured is the way into it.
const SPANS: u32 = 4_000;

/// As the gateway does it: one event with a span of its own.
fn event(tracer: &Tracer, route: &Arc<str>) {
    let context = tracer.sample(None);
    black_box(context.traceparent());
    if context.sampled {
        let started = Started::now();
        let mut span = Span::new(&context, route, Kind::Consumer, &started);
        span.set("wsgateway.route", route);
        span.set("wsgateway.endpoint", "/chat/{room}");
        span.set("messaging.message.body.size", 512_usize);
        span.set("wsgateway.sequence", 7_i64);
        span.end(&started);
        tracer.export(span);
    }
}

/// The best and the middle round, in nanoseconds per call: other work on the machine only adds.
fn measure(events: u32, mut between: impl FnMut(), mut call: impl FnMut()) -> String {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            between();
            let began = Instant::now();
            (0..events).for_each(|_| call());
            began.elapsed().as_nanos() as f64 / f64::from(events)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    format!("{:8.1} {:8.1}", rounds[0], rounds[rounds.len() / 2])
}

fn start(runtime: &Runtime, collector: &Collector, sample_ratio: f64) -> (Tracer, Exporting) {
    let settings = TracingSettings { endpoint: Some(collector.url()), sample_ratio, ..TracingSettings::default() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.expect("versions").with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let node = Node { instance_id: "n", version: "0" };
    Tracer::start(&settings, node, Arc::new(tls), runtime.handle()).expect("sound settings")
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let collector = runtime.block_on(Collector::start(|_| Say::ok()));
    let route: Arc<str> = "event chat".into();
    println!("{:44} {:>8} {:>8}", "ns per event, on one thread", "best", "median");
    let print = |what: &str, figures: String| println!("{what:44} {figures}");
    let nothing = || ();
    let off = Tracer::off();
    let asks = || {
        black_box(black_box(&off).is_on());
    };
    print("asks whether tracing is on; off", measure(EVENTS, nothing, asks));
    print("a context and its traceparent; off", measure(EVENTS, nothing, || event(&off, &route)));
    let (tracer, _exporting) = start(&runtime, &collector, 0.0);
    print("the same; on, not sampled", measure(EVENTS, nothing, || event(&tracer, &route)));
    for (ratio, events) in [(0.01, EVENTS), (1.0, SPANS)] {
        let (tracer, exporting) = start(&runtime, &collector, ratio);
        let counters = exporting.counters.clone();
        // All that the round before has handed over is away.
        let emptied = || loop {
            let before = read(&counters.exported);
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1_200)).await });
            if read(&counters.exported) == before {
                return;
            }
        };
        let figures = measure(events, emptied, || event(&tracer, &route));
        print(&format!("the same; {} % sampled, one span each", ratio * 100.0), figures);
        runtime.block_on(exporting.shutdown(Duration::from_secs(30)));
        let [exported, queue_full, failed] =
            [&counters.exported, &counters.dropped_queue_full, &counters.dropped_failed].map(read);
        println!("    {exported} exported, {queue_full} found the queue full, {failed} failed");
    }
}
