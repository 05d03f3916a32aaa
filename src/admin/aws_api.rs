//! `/@connections` as AWS SDKs call it: the paths, answers and errors of API Gateway's management API over the same
//! pushes as `connections_api` (ADR 0023). The SDK's signature is not checked; the token comes in `X-Api-Key` or as a
//! bearer token.

use std::fmt;

use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::http::StatusCode;
use actix_web::{web, HttpRequest, HttpResponse, ResponseError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use super::access::Access;
use super::change::note;
use super::connections_api::{connection_id, send};
use super::operation::{Operation, JSON};
use super::problem::Problem;
use super::Api;
use crate::backends::event::rfc3339;
use crate::close_code::REMOVED_BY_OPERATOR;
use crate::model::delivery::{CloseCause, Initiator};

/// With and without the stage that AWS puts before it; which one it is means nothing here. `%40connections` and
/// percent-encoded ids arrive decoded. The names are those of AWS's operations.
pub fn operations() -> Vec<Operation> {
    let at = |path: &'static str, ids: [&'static str; 3]| {
        [
            Operation::post(path, || web::to(post), ids[0])
                .about("PostToConnection", "As AWS SDKs call it. The body is JSON, like that of every push.")
                .for_aws()
                .body::<Value>(&[JSON], json!({"order": 1234}))
                .answers_empty(200, "In the client's socket or its outbox")
                .problem(400, "BadRequestException")
                .problem(410, "GoneException")
                .problem(413, "PayloadTooLargeException")
                .problem(429, "LimitExceededException")
                .problem(503, "ServiceUnavailableException"),
            Operation::get(path, || web::to(get), ids[1])
                .about("GetConnection", "As AWS SDKs call it.")
                .for_aws()
                .answers::<ConnectionBody>(200, "The connection")
                .problem(410, "GoneException")
                .problem(503, "ServiceUnavailableException"),
            Operation::delete(path, || web::to(delete), ids[2])
                .about("DeleteConnection", "As AWS SDKs call it; the client sees 4403.")
                .for_aws()
                .answers_empty(204, "Closed")
                .problem(410, "GoneException")
                .problem(503, "ServiceUnavailableException"),
        ]
    };
    let plain = at("/@connections/{cid}", ["postToConnection", "getAwsConnection", "deleteConnection"]);
    let staged = at(
        "/{stage}/@connections/{cid}",
        ["postToConnectionOfStage", "getConnectionOfStage", "deleteConnectionOfStage"],
    );
    plain.into_iter().chain(staged).collect()
}

/// An error as AWS SDKs read it: its name in a header, its text as `{"message"}`.
#[derive(Debug)]
struct AwsError {
    status: u16,
    kind: &'static str,
    message: String,
}

impl AwsError {
    fn of(status: u16, kind: &'static str, message: impl Into<String>) -> AwsError {
        AwsError { status, kind, message: message.into() }
    }
}

impl From<Problem> for AwsError {
    fn from(problem: Problem) -> AwsError {
        let (status, kind) = match (problem.status(), problem.code()) {
            // AWS knows no 401. An id that is none of ours may well be one that AWS gave out: gone, so that its owner
            // forgets it.
            (401 | 403, _) => (403, "ForbiddenException"),
            (410, _) | (_, "malformed_connection_id") => (410, "GoneException"),
            (413, _) => (413, "PayloadTooLargeException"),
            (429, _) => (429, "LimitExceededException"),
            // 422: the endpoint's template for messages fails on this one.
            (400 | 422, _) => (400, "BadRequestException"),
            (503, _) => (503, "ServiceUnavailableException"),
            _ => (500, "InternalServerErrorException"),
        };
        AwsError::of(status, kind, problem.detail())
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

#[derive(Serialize)]
struct MessageBody<'a> {
    message: &'a str,
}

impl ResponseError for AwsError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        answer.insert_header(("x-amzn-ErrorType", self.kind));
        if matches!(self.status, 429 | 503) {
            answer.insert_header((RETRY_AFTER, HeaderValue::from_static("1")));
        }
        answer.json(MessageBody { message: &self.message })
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AwsConnection")]
struct ConnectionBody {
    connected_at: String,
    last_active_at: String,
    identity: IdentityBody,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AwsIdentity")]
struct IdentityBody {
    source_ip: String,
    user_agent: Option<String>,
}

/// The stage is not looked at.
#[derive(Deserialize)]
struct Target {
    cid: String,
}

async fn post(
    api: web::Data<Api>,
    access: web::Data<Access>,
    request: HttpRequest,
    target: web::Path<Target>,
    body: web::Payload,
) -> Result<HttpResponse, AwsError> {
    access.enter(&request)?;
    send(&api, &target.cid, body.into_inner()).await?;
    Ok(HttpResponse::Ok().finish())
}

async fn get(
    api: web::Data<Api>,
    access: web::Data<Access>,
    request: HttpRequest,
    target: web::Path<Target>,
) -> Result<HttpResponse, AwsError> {
    access.enter(&request)?;
    let view = api.pushes.describe(&connection_id(&target.cid)?).await.map_err(Problem::from)?;
    Ok(HttpResponse::Ok().json(ConnectionBody {
        connected_at: rfc3339(view.connected_at_millis),
        last_active_at: rfc3339(view.last_active_at_millis),
        identity: IdentityBody { source_ip: view.source_ip, user_agent: view.user_agent },
    }))
}

async fn delete(
    api: web::Data<Api>,
    access: web::Data<Access>,
    request: HttpRequest,
    target: web::Path<Target>,
) -> Result<HttpResponse, AwsError> {
    access.enter(&request)?;
    let cause = CloseCause {
        code: REMOVED_BY_OPERATOR.code,
        reason: REMOVED_BY_OPERATOR.reason.to_owned(),
        initiator: Initiator::Service,
    };
    let note = note(&api, &request, &cause.reason)?;
    api.pushes.close(&connection_id(&target.cid)?, cause).await.map_err(Problem::from)?;
    api.audit.record(note);
    Ok(HttpResponse::NoContent().finish())
}

/// For another method.
pub(super) fn not_allowed(detail: String) -> HttpResponse {
    AwsError::of(405, "MethodNotAllowedException", detail).error_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::PushError;

    #[test]
    fn each_problem_has_the_name_that_sdks_know() {
        let of = |problem: Problem| {
            let error = AwsError::from(problem);
            (error.status, error.kind)
        };
        assert_eq!(of(PushError::Gone.into()), (410, "GoneException"));
        assert_eq!(of(PushError::OutboxFull.into()), (429, "LimitExceededException"));
        assert_eq!(of(PushError::TooBig.into()), (413, "PayloadTooLargeException"));
        assert_eq!(of(PushError::OwnerUnreachable("x".into()).into()), (503, "ServiceUnavailableException"));
        assert_eq!(of(Problem::new(401, "unauthenticated", "")), (403, "ForbiddenException"));
        assert_eq!(of(Problem::new(403, "forbidden", "")), (403, "ForbiddenException"));
        assert_eq!(of(connection_id("Iu3cKdJ2oAMCKqg=").unwrap_err()), (410, "GoneException"));
        assert_eq!(of(Problem::new(400, "invalid_json", "")), (400, "BadRequestException"));
        assert_eq!(of(Problem::new(422, "transform_failed", "")), (400, "BadRequestException"));
        assert_eq!(of(Problem::new(500, "metrics", "")), (500, "InternalServerErrorException"));
    }
}
