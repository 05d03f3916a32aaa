//! The one way out to authentication servers: HTTP calls on a thread of their own, bounded in number, time and size.
//! Redirects are not followed: an answer that sends elsewhere is no answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::header::{HeaderName, HeaderValue};
use actix_http::Method;
use actix_rt::ArbiterHandle;
use awc::Client;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, Semaphore};

use crate::egress::{Connections, Egress, NoWay};
use crate::telemetry::metrics::{AuthenticationCallLabels, Metrics};

/// Calls under way at once; a server that takes 10 ms an answer so serves thousands of handshakes a second.
const CALLS_MAX: usize = 64;
/// Calls that wait for their turn; more are refused at once.
const WAITING_MAX: usize = 256;
/// From the wish to the whole answer, waiting included: a client waits for it.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// For the connection, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Shorter than the idle time-outs of common servers.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A server that moved is found again.
const LIFETIME: Duration = Duration::from_secs(75);

/// A request.
pub struct Call {
    /// What it is for; a metric label.
    pub purpose: &'static str,
    pub method: Method,
    pub url: Arc<str>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// A longer answer is an error.
    pub answer_bytes_max: usize,
}

/// An answer of any status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// Why there is no answer. Never quotes the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("too many calls are waiting")]
    Busy,
    #[error("no answer within {} s", CALL_WITHIN.as_secs())]
    Timeout,
    #[error("{0}")]
    Unreachable(String),
    /// The node's egress rules.
    #[error("{0}")]
    EgressDenied(String),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl CallError {
    const fn outcome(&self) -> &'static str {
        match self {
            CallError::Busy => "busy",
            CallError::Timeout => "timeout",
            CallError::Unreachable(_) => "unreachable",
            CallError::EgressDenied(_) => "egress_denied",
            CallError::Tls(_) => "tls_failed",
            CallError::TooLong(_) => "too_long",
        }
    }
}

struct Job {
    call: Call,
    answer: oneshot::Sender<Result<Answer, CallError>>,
}

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    jobs: mpsc::Sender<Job>,
    metrics: Metrics,
}

impl Outbound {
    /// Serves calls on this arbiter.
    pub fn start(arbiter: &ArbiterHandle, egress: Egress, metrics: Metrics) -> Outbound {
        let (jobs, incoming) = mpsc::channel(WAITING_MAX);
        arbiter.spawn_fn(move || drop(actix_rt::spawn(serve(incoming, egress))));
        Outbound { jobs, metrics }
    }

    /// Makes a call.
    pub async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let (purpose, started) = (call.purpose, Instant::now());
        let (answer, receiver) = oneshot::channel();
        let result = match self.jobs.try_send(Job { call, answer }) {
            Err(_) => Err(CallError::Busy),
            Ok(()) => match tokio::time::timeout(CALL_WITHIN, receiver).await {
                Ok(Ok(result)) => result,
                Ok(Err(_ended)) => Err(CallError::Unreachable("the node is going down".to_owned())),
                Err(_elapsed) => Err(CallError::Timeout),
            },
        };
        let outcome = result.as_ref().map_or_else(CallError::outcome, |answer| match answer.status {
            200..=299 => "ok",
            400..=499 => "refused",
            _ => "failed",
        });
        let labels = AuthenticationCallLabels { purpose, outcome };
        self.metrics.authentication_calls.get_or_create(&labels).observe(started.elapsed());
        result
    }
}

async fn serve(mut incoming: mpsc::Receiver<Job>, egress: Egress) {
    let client = egress.client(Connections {
        connect_within: CONNECT_WITHIN,
        keep_alive: KEEP_ALIVE,
        lifetime: LIFETIME,
        max: CALLS_MAX,
    });
    let places = Arc::new(Semaphore::new(CALLS_MAX));
    while let Some(Job { call, mut answer }) = incoming.recv().await {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let client = client.clone();
        actix_rt::spawn(async move {
            // Whoever asked may have given up, while this waited or since.
            tokio::select! {
                result = exchange(&client, call) => drop(answer.send(result)),
                () = answer.closed() => {}
            }
            drop(place);
        });
    }
}

fn no_answer(err: awc::error::SendRequestError) -> CallError {
    match NoWay::of(&err) {
        Some(NoWay::Denied(denied)) => CallError::EgressDenied(denied.to_string()),
        Some(NoWay::Tls(reason)) => CallError::Tls(reason),
        None => CallError::Unreachable(err.to_string()),
    }
}

async fn exchange(client: &Client, call: Call) -> Result<Answer, CallError> {
    let unreachable = |err: &dyn std::fmt::Display| CallError::Unreachable(err.to_string());
    let mut request = client.request(call.method, &*call.url);
    for header in call.headers {
        request = request.insert_header(header);
    }
    let mut answer = request.send_body(call.body).await.map_err(no_answer)?;
    let status = answer.status().as_u16();
    let body = answer.body().limit(call.answer_bytes_max).await.map_err(|err| match err {
        awc::error::PayloadError::Overflow => CallError::TooLong(call.answer_bytes_max),
        other => unreachable(&other),
    })?;
    Ok(Answer { status, body })
}
