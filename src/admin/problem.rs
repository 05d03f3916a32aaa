//! Errors as RFC 9457 problem documents; the one table from the gateway's errors to HTTP statuses.

use std::fmt;

use actix_web::http::header::{HeaderValue, ALLOW, RETRY_AFTER};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use schemars::JsonSchema;
use serde::Serialize;
use wsgateway_raft_store::types::{ProposeError, Rejection};

use crate::access::tokens::{Refusal, TokenError};
use crate::config::store::ConfigError;
use crate::config::validate::Finding;
use crate::push::PushError;

const INTERNAL_ERROR: &str = "internal_error";

/// `{"type", "title", "status", "detail", "code", "errors"}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    /// For people.
    detail: String,
    /// For programs.
    code: &'static str,
    /// Seconds, where the usual one is not enough.
    #[serde(skip)]
    retry_after: u16,
    /// The methods that a path has, for 405.
    #[serde(skip)]
    allow: Option<Box<str>>,
    /// What is wrong in a body, all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Finding>,
}

impl Problem {
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Problem {
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
        Problem {
            r#type: "about:blank",
            title,
            status,
            detail: detail.into(),
            code,
            retry_after: 1,
            allow: None,
            errors: Vec::new(),
        }
    }

    /// A request whose body is wrong in places.
    pub fn invalid(code: &'static str, errors: Vec<Finding>) -> Problem {
        let first = errors.first().map(|first| format!("{}: {}", first.path, first.message)).unwrap_or_default();
        Problem { errors, ..Problem::new(400, code, first.trim_start_matches(": ")) }
    }

    pub fn allowing(self, methods: String) -> Problem {
        Problem { allow: Some(methods.into()), ..self }
    }

    /// A fault of the gateway itself, which no call documents.
    pub fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(500, INTERNAL_ERROR, detail)
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.detail)
    }
}

impl From<Problem> for HttpResponse {
    fn from(problem: Problem) -> HttpResponse {
        problem.error_response()
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        if matches!(self.status, 429 | 503) {
            answer.insert_header((RETRY_AFTER, HeaderValue::from(self.retry_after)));
        }
        if let Some(allow) = &self.allow {
            answer.insert_header((ALLOW, &**allow));
        }
        if self.status == 401 {
            answer.insert_header(("WWW-Authenticate", "Bearer"));
        }
        answer.insert_header(("Content-Type", "application/problem+json"));
        // Texts and numbers: always serializable.
        answer.body(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl From<ConfigError> for Problem {
    fn from(err: ConfigError) -> Problem {
        let detail = err.to_string();
        match err {
            ConfigError::Invalid(errors) => {
                let first = errors.first().map(|first| format!("{}: {}", first.path, first.message));
                let detail = first.map_or(detail.clone(), |first| format!("{detail}; {first}"));
                Problem { errors, ..Problem::new(400, "invalid_document", detail) }
            }
            ConfigError::PathConflict { .. } => Problem::new(409, "path_taken", detail),
            ConfigError::NotVisibleYet(_) => Problem::new(503, "committed_not_visible", detail),
            ConfigError::NotFound(_) => Problem::new(404, "endpoint_not_found", detail),
            ConfigError::VersionNotFound { .. } => Problem::new(404, "version_not_found", detail),
            ConfigError::Rejected(rejection) => match rejection {
                Rejection::KeyTaken { .. } => Problem::new(409, "path_taken", detail),
                Rejection::IdTaken { .. } => Problem::new(409, "id_taken", detail),
                Rejection::NotFound { .. } => Problem::new(404, "endpoint_not_found", detail),
                Rejection::VersionNotFound { .. } => Problem::new(404, "version_not_found", detail),
                Rejection::VersionMismatch { .. } => Problem::new(412, "version_mismatch", detail),
            },
            ConfigError::Propose(err) => err.into(),
            ConfigError::Store(_) => Problem::new(503, "storage_failed", detail),
        }
    }
}

impl From<ProposeError> for Problem {
    fn from(err: ProposeError) -> Problem {
        let (status, code) = match &err {
            ProposeError::NoLeader(_) => (503, "no_leader"),
            ProposeError::Unknown(_) => (503, "outcome_unknown"),
            ProposeError::MixedVersions(_) => (503, "mixed_versions"),
            ProposeError::Full(_) => (507, "disk_full"),
            ProposeError::Storage(_) => (503, "storage_failed"),
        };
        Problem::new(status, code, err.to_string())
    }
}

impl From<TokenError> for Problem {
    fn from(err: TokenError) -> Problem {
        let detail = err.to_string();
        match err {
            TokenError::NotFound(_) => Problem::new(404, "token_not_found", detail),
            TokenError::NameTaken { .. } => Problem::new(409, "name_taken", detail),
            TokenError::ShownAlready(_) => Problem::new(409, "token_shown_already", detail),
            TokenError::TooMany => Problem::new(409, "too_many_tokens", detail),
            TokenError::LastAdmin => Problem::new(409, "last_admin_token", detail),
            TokenError::FirstAdminExpires => {
                let path = "expiresInSeconds".to_owned();
                Problem::invalid("invalid_request", vec![Finding { path, message: detail }])
            }
            TokenError::NotVisibleYet(_) => Problem::new(503, "committed_not_visible", detail),
            TokenError::Random(_) => Problem::new(503, "overloaded", detail),
            TokenError::Rejected(_) => Problem::new(409, "id_taken", detail),
            TokenError::Propose(err) => err.into(),
            TokenError::Store(_) => Problem::new(503, "storage_failed", detail),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let unauthenticated = |detail| Problem::new(401, "unauthenticated", detail);
        match refusal {
            Refusal::Missing => {
                unauthenticated("a token is required: Authorization: Bearer <token>, or X-Api-Key: <token>")
            }
            Refusal::Invalid => unauthenticated("the token is not valid"),
            Refusal::Expired => unauthenticated("the token has expired"),
            Refusal::TooManyGuesses { wait } => {
                let detail = "too many different wrong tokens came from this address; wait a minute";
                let retry_after = u16::try_from(wait.as_secs() + 1).unwrap_or(u16::MAX);
                Problem { retry_after, ..Problem::new(429, "too_many_guesses", detail) }
            }
            Refusal::NotReady => Problem::new(
                503,
                "not_ready",
                "this node does not know the cluster's tokens yet; /readyz says when it does",
            ),
        }
    }
}

impl From<PushError> for Problem {
    fn from(err: PushError) -> Problem {
        let detail = err.to_string();
        match err {
            PushError::Gone => Problem::new(410, "connection_gone", detail),
            PushError::OutboxFull => Problem::new(429, "outbox_full", detail),
            PushError::TransformFailed(_) => Problem::new(422, "transform_failed", detail),
            PushError::TooManyGroups => Problem::new(409, "too_many_groups", detail),
            PushError::NotWritten => Problem::new(504, "not_written", detail),
            PushError::NotConfirmed => Problem::new(504, "not_confirmed", detail),
            PushError::Expired => Problem::new(504, "expired", detail),
            PushError::TooManyUnconfirmed => Problem::new(429, "too_many_unconfirmed", detail),
            PushError::TooBig => Problem::new(413, "message_too_big", detail),
            PushError::OwnerUnreachable(_) => Problem::new(503, "owner_unreachable", detail),
            PushError::Overloaded(_) => Problem::new(503, "overloaded", detail),
        }
    }
}
