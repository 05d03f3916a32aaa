//! `POST /api/v1/push`: many pushes in one call, a line each (NDJSON), answered by a line each in the same order.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use actix_web::{web, HttpResponse};
use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{json, Value};

use super::body::read_body;
use super::connections_api::{connection_id, push_message};
use super::groups_api::group_name;
use super::many_api::{reach, ReachedBody};
use super::operation::Operation;
use super::problem::Problem;
use super::Api;
use crate::config::compile::connection_filter;
use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{Recipients, Selection};
use crate::model::json_check::validate_json;
use crate::telemetry::metrics::PushLabels;

const NDJSON: &str = "application/x-ndjson";

/// The whole body: it is held in memory, with its answer.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Lines of one call.
const LINES_MAX: usize = 1_000;
/// Room in a line beside its message: whom it is for, with a condition.
const TO_BYTES_MAX: usize = 8 * 1024;
/// Pushes of one call that are under way at once.
const AT_ONCE: usize = 64;
/// The lines that have not been begun by then are not sent: a node that hangs takes seconds for each.
const WITHIN: Duration = Duration::from_secs(10);

pub fn operations() -> Vec<Operation> {
    vec![Operation::post("/api/v1/push", || web::to(batch), "pushBatch")
        .about(
            "Push many messages",
            "Lines {\"to\": {\"connection\"}, \"data\"}; to: a connection, user, group or endpoint, with an endpoint and a \
             filter where it is no connection. Up to 1000 lines and 4 MiB; empty lines are none. Answered by a line each, in \
             order: what is wrong with a line is said in its place.",
        )
        .body::<Value>(&[NDJSON], json!({"to": {"user": "alice"}, "data": {"order": 1234}}))
        .answers_as::<ResultBody>(200, "What became of each line", NDJSON, &[])
        // Said of single lines, within the 200.
        .problem(400, "invalid_line")
        .problem(503, "too_late")]
}

/// One message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    to: To,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Whom it is for: a connection, a user, a group or an endpoint; an endpoint beside a user or group narrows it down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    connection: Option<String>,
    user: Option<String>,
    group: Option<String>,
    endpoint: Option<String>,
    /// An expression of the endpoint documents' language over the connection.
    #[serde(default, deserialize_with = "present")]
    filter: Option<Value>,
}

/// A filter that is null is a wrong one: it must not turn a message for some into one for all.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What became of a line.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum ResultBody {
    One {
        status: u16,
    },
    Many {
        status: u16,
        #[serde(flatten)]
        reached: ReachedBody,
    },
    Not(Refused),
}

/// As in a problem document.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PushRefused")]
struct Refused {
    status: u16,
    code: &'static str,
    detail: String,
}

impl From<Problem> for ResultBody {
    fn from(problem: Problem) -> ResultBody {
        ResultBody::Not(Refused { status: problem.status(), code: problem.code(), detail: problem.detail().to_owned() })
    }
}

/// A line that may be sent.
enum Push {
    One(ConnectionId, Bytes),
    Many(Selection, Bytes),
}

async fn batch(api: web::Data<Api>, body: web::Payload) -> Result<HttpResponse, Problem> {
    let body = read_body(body.into_inner(), BODY_BYTES_MAX).await?;
    let lines: Vec<&[u8]> =
        body.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)).collect();
    if lines.is_empty() {
        return Err(Problem::new(400, "invalid_line", "the body has no line"));
    }
    if lines.len() > LINES_MAX {
        return Err(Problem::new(
            413,
            "too_big",
            format!("a call may have {LINES_MAX} lines, this has {}", lines.len()),
        ));
    }
    let mut pushes: Vec<Result<Push, Problem>> = Vec::with_capacity(lines.len());
    for line in lines {
        let push = read(&api, &body, line).inspect_err(|_| count(&api, "invalid"));
        let compiled = matches!(&push, Ok(Push::Many(Selection { filter: Some(_), .. }, _)));
        pushes.push(push);
        if compiled {
            // Up to four regexes a line: the worker's sockets have their turn in between.
            tokio::task::yield_now().await;
        }
    }
    let results = send(&api, pushes).await;
    let mut answer = Vec::with_capacity(results.len() * 32);
    for result in results {
        serde_json::to_writer(&mut answer, &result).map_err(|err| Problem::internal(err.to_string()))?;
        answer.push(b'\n');
    }
    Ok(HttpResponse::Ok().content_type(NDJSON).body(answer))
}

fn count(api: &Api, result: &'static str) {
    api.metrics.pushes.get_or_create(&PushLabels { result }).inc();
}

fn read(api: &Api, body: &Bytes, line: &[u8]) -> Result<Push, Problem> {
    let max = api.settings.push_bytes_max;
    if line.len() > max + TO_BYTES_MAX {
        return Err(Problem::new(413, "too_big", format!("the message may have {max} bytes")));
    }
    let Line { to, data } = serde_json::from_slice(line)
        .map_err(|err| Problem::new(400, "invalid_line", format!("is no line of a batch: {err}")))?;
    let data = data.get().as_bytes();
    if data.len() > max {
        return Err(Problem::new(413, "too_big", format!("the message may have {max} bytes, has {}", data.len())));
    }
    let not_json = |fault| Problem::new(400, "invalid_json", format!("the message is not JSON: {fault}"));
    validate_json(data).map_err(not_json)?;
    let message = body.slice_ref(data);
    let several = || {
        let detail = "\"to\" names one of \"connection\", \"user\" and \"group\", or an \"endpoint\"";
        Problem::new(400, "invalid_line", detail)
    };
    let recipients = match (to.connection, to.user, to.group) {
        (Some(connection), None, None) if to.endpoint.is_none() && to.filter.is_none() => {
            return Ok(Push::One(connection_id(&connection)?, message));
        }
        (None, Some(user), None) => Recipients::User(user),
        (None, None, Some(group)) => Recipients::Group(group_name(&group)?.to_owned()),
        (None, None, None) => match &to.endpoint {
            Some(id) if api.config.registry().by_id(id).is_none() => {
                let detail = format!("there is no endpoint {id:?}, or it is a draft");
                return Err(Problem::new(404, "endpoint_not_found", detail));
            }
            Some(_) => Recipients::All,
            None => return Err(several()),
        },
        _ => return Err(several()),
    };
    let filter = to.filter.map(|filter| filter.to_string());
    if let Some(filter) = &filter {
        connection_filter::compile(filter, "to.filter").map_err(|errors| Problem::invalid("invalid_line", errors))?;
    }
    Ok(Push::Many(Selection { endpoint: to.endpoint, to: recipients, filter }, message))
}

/// Sends them so that no client sees two of them in another order: messages for different connections go at once, one for
/// many waits for those before it, and those behind it wait for it.
async fn send(api: &Api, pushes: Vec<Result<Push, Problem>>) -> Vec<ResultBody> {
    let until = Instant::now() + WITHIN;
    let mut results = Vec::with_capacity(pushes.len());
    let mut under_way = FuturesOrdered::new();
    let mut receivers = HashSet::new();
    for push in pushes {
        let alone = match &push {
            Ok(Push::One(id, _)) => !receivers.insert(*id),
            Ok(Push::Many(..)) => true,
            Err(_) => false,
        };
        if alone {
            while let Some(result) = under_way.next().await {
                results.push(result);
            }
            receivers.clear();
            if let Ok(Push::One(id, _)) = &push {
                receivers.insert(*id);
            }
        }
        under_way.push_back(one(api, push, until));
        if alone || under_way.len() >= AT_ONCE {
            results.extend(under_way.next().await);
        }
    }
    while let Some(result) = under_way.next().await {
        results.push(result);
    }
    results
}

async fn one(api: &Api, push: Result<Push, Problem>, until: Instant) -> ResultBody {
    let push = match push {
        Ok(_) if Instant::now() >= until => {
            count(api, "too_late");
            let detail = "not sent: the lines before it took all the time";
            return Problem::new(503, "too_late", detail).into();
        }
        Ok(push) => push,
        Err(problem) => return problem.into(),
    };
    match push {
        Push::One(id, message) => match push_message(api, &id, message).await {
            Ok(()) => ResultBody::One { status: 202 },
            Err(problem) => problem.into(),
        },
        Push::Many(selection, message) => match reach(api, &selection, message).await {
            Ok(reached) => ResultBody::Many { status: 202, reached },
            Err(problem) => problem.into(),
        },
    }
}
