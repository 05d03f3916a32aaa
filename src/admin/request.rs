//! What a request says besides its body, read strictly: a parameter that is unknown, repeated or wrong is refused by its
//! name, and a header that cannot be read is not taken for one that is not there. Used by admin's modules.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::QueryPayloadError;
use actix_web::http::header::IF_MATCH;
use actix_web::middleware::Next;
use actix_web::{web, HttpRequest, HttpResponse};
use serde::de::DeserializeOwned;
use serde::Deserialize;

use super::problem::Problem;
use super::Api;
use crate::config::validate::Finding;

/// Longest `?message=`.
const MESSAGE_CHARS_MAX: usize = 1024;

/// For calls without query parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

/// The middleware of calls without query parameters: refuses all.
pub(super) async fn without_query(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    match read::<NoQuery>(request.query_string()) {
        Ok(NoQuery {}) => next.call(request).await,
        Err(problem) => Ok(request.into_response(HttpResponse::from(problem))),
    }
}

/// The query parameters.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    read(request.query_string())
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let all = match parsed::<T>(text) {
        Ok(query) => return Ok(query),
        Err(message) => message,
    };
    // The parser's words for a wrong value do not name its parameter: the one that is wrong when it is alone.
    let alone = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
        let pair = form_urlencoded::Serializer::new(String::new()).append_pair(&name, &value).finish();
        let message = parsed::<T>(&pair).err().filter(|message| !message.starts_with("missing field"))?;
        let message = match message.starts_with("unknown field") {
            true => message,
            false => format!("{message}, is {:?}", value.chars().take(40).collect::<String>()),
        };
        Some(Finding { path: name.into_owned(), message })
    };
    match form_urlencoded::parse(text.as_bytes()).find_map(alone) {
        Some(finding) => Err(Problem::invalid("invalid_query", vec![finding])),
        None => Err(Problem::new(400, "invalid_query", all)),
    }
}

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    web::Query::<T>::from_query(text).map(web::Query::into_inner).map_err(|err| match err {
        QueryPayloadError::Deserialize(err) => err.to_string(),
        other => other.to_string(),
    })
}

/// A header that may be there once; None: it is not there.
pub(super) fn header<'r>(request: &'r HttpRequest, name: &str) -> Result<Option<&'r str>, Problem> {
    let mut values = request.headers().get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        (Err(_), _) => Err(Problem::new(400, "invalid_header", format!("{name} is no printable ASCII text"))),
        (_, Some(_)) => Err(Problem::new(400, "invalid_header", format!("{name} is there more than once"))),
    }
}

/// The active version that the caller looked at. A tag that names none is one that does not match.
pub(super) fn expected_version(request: &HttpRequest) -> Result<Option<u64>, Problem> {
    match header(request, IF_MATCH.as_str())? {
        None | Some("*") => Ok(None),
        Some(tag) => {
            let version = number(tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"'));
            let mismatch = || Problem::new(412, "version_mismatch", format!("If-Match {tag} names no version"));
            version.map(Some).ok_or_else(mismatch)
        }
    }
}

/// What makes a repeated write the same write.
pub(super) fn idempotency_key(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    match header(request, "idempotency-key")? {
        Some(key) if key.is_empty() || key.len() > 255 => {
            Err(Problem::new(400, "invalid_idempotency_key", "Idempotency-Key must have 1–255 characters"))
        }
        key => Ok(key),
    }
}

/// Tells a request from others with the same key; stored, so it must not tell the secrets of a body.
pub(super) fn digest(request: &HttpRequest, body: &[u8]) -> Result<String, Problem> {
    let api = request.app_data::<web::Data<Api>>();
    let api = api.ok_or_else(|| Problem::internal("the call has no node"))?;
    let (method, target) = (request.method().as_str(), request.uri().to_string());
    Ok(api.config.request_digest(&[method.as_bytes(), target.as_bytes(), body]))
}

/// A number as it is written in paths and tags: digits only.
pub(super) fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

/// Why something is changed; kept with what it makes.
pub(super) fn checked_message(message: &str) -> Result<(), Problem> {
    match message.chars().count() {
        0..=MESSAGE_CHARS_MAX => Ok(()),
        count => {
            let message = format!("must have at most {MESSAGE_CHARS_MAX} characters, has {count}");
            Err(Problem::invalid("invalid_query", vec![Finding { path: "message".to_owned(), message }]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
    struct Sample {
        limit: Option<u16>,
        dry_run: bool,
        cursor: Option<String>,
    }

    #[test]
    fn parameters_are_refused_by_name() {
        let sample = Sample { limit: Some(7), dry_run: true, cursor: Some("a b".to_owned()) };
        assert_eq!(read::<Sample>("cursor=a+b&limit=7&dryRun=true").unwrap(), sample);
        assert_eq!(read::<Sample>("").unwrap(), Sample::default());
        for (text, part) in [
            ("limit=x", "limit: invalid digit found in string, is \"x\""),
            ("cursor=a&limit=-1", "limit: "),
            ("limit=", "limit: "),
            ("limit=70000", "limit: number too large"),
            ("dryRun=1", "dryRun: "),
            ("dryRun", "dryRun: "),
            ("limit=1&limits=2", "limits: unknown field `limits`, expected one of `limit`"),
            ("limit=1&limit=2", "duplicate field `limit`"),
            ("%00=1", "unknown field"),
        ] {
            let problem = read::<Sample>(text).unwrap_err().to_string();
            assert!(problem.starts_with("400 invalid_query: ") && problem.contains(part), "{text}: {problem}");
        }
        assert!(read::<NoQuery>("").is_ok());
        assert!(read::<NoQuery>("a=1").unwrap_err().to_string().contains("a: unknown field `a`"));
    }

    #[test]
    fn a_header_that_cannot_be_read_is_not_a_missing_one() {
        let plain = TestRequest::default().insert_header(("if-match", "\"1\"")).to_http_request();
        assert_eq!(header(&plain, "if-match").unwrap(), Some("\"1\""));
        assert_eq!(header(&plain, "idempotency-key").unwrap(), None);
        let bytes = actix_web::http::header::HeaderValue::from_bytes(b"\xff").unwrap();
        let binary = TestRequest::default().insert_header(("if-match", bytes)).to_http_request();
        assert!(header(&binary, "if-match").unwrap_err().to_string().contains("if-match is no printable ASCII"));
        let twice = TestRequest::default().append_header(("if-match", "1")).append_header(("if-match", "2"));
        assert!(header(&twice.to_http_request(), "if-match").unwrap_err().to_string().contains("more than once"));
    }
}
