//! What the cluster has agreed on, to be kept elsewhere and brought back: endpoints with all versions, and tokens, a line of
//! NDJSON each.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use wsgateway_raft_store::backup::{Document, ImportError};

use super::body::read_body;
use super::change::note;
use super::operation::Operation;
use super::problem::Problem;
use super::Api;
use crate::backends::event::rfc3339;
use crate::connections::connection::unix_millis;

const NDJSON: &str = "application/x-ndjson";
/// A cluster with thousands of versions of large documents.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
const FORMAT: &str = "wsgateway-backup";
const VERSION: u32 = 1;

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/cluster/backup", || web::to(backup), "backUp")
            .about(
                "Endpoints with all versions, and tokens, as of one moment",
                "A line that says what it is, then a line for each document. Secrets are in it as they are stored: hashed, \
                 or encrypted under the cluster's secret.",
            )
            .answers_as::<Value>(200, "NDJSON", NDJSON, &[])
            .problems(503, &["no_leader", "outcome_unknown", "storage_failed"]),
        Operation::post("/api/v1/cluster/restore", || web::to(restore), "restore")
            .about(
                "Bring a backup back",
                "Into an empty cluster, or one that has the same. Everything is looked at before anything is written; one \
                 that was cut short may be sent again.",
            )
            .body::<Value>(&[NDJSON], json!({"format": FORMAT, "version": VERSION, "clusterId": "…", "index": 0, "documents": 0}))
            .answers::<RestoredBody>(200, "It is there")
            .problem(400, "invalid_backup")
            .problems(409, &["differs", "not_taken"])
            .problems(503, &["mixed_versions", "no_leader", "outcome_unknown", "storage_failed"])
            .problem(507, "disk_full"),
    ]
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Head {
    format: String,
    version: u32,
    cluster_id: String,
    /// The log index of the last change in it.
    index: u64,
    #[serde(default)]
    taken_at: String,
    documents: usize,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Restored")]
struct RestoredBody {
    restored: usize,
    /// Documents that were there already, just so.
    unchanged: usize,
}

async fn backup(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let note = note(&api, &request, "")?;
    let store = api.config.raft().clone();
    store.linearize().await?;
    let cluster_id = store.identity().cluster_id.get().map(ToString::to_string).unwrap_or_default();
    let failed = |err: &dyn std::fmt::Display| Problem::new(503, "storage_failed", err.to_string());
    let export = web::block(move || store.export()).await.map_err(|err| failed(&err))?.map_err(|err| failed(&err))?;
    let head = Head {
        format: FORMAT.to_owned(),
        version: VERSION,
        cluster_id,
        index: export.index,
        taken_at: rfc3339(unix_millis()),
        documents: export.documents.len(),
    };
    let mut lines = serde_json::to_vec(&head).map_err(|err| failed(&err))?;
    lines.push(b'\n');
    for document in &export.documents {
        serde_json::to_writer(&mut lines, document).map_err(|err| failed(&err))?;
        lines.push(b'\n');
    }
    api.audit.record(note);
    Ok(HttpResponse::Ok().content_type(NDJSON).insert_header((CACHE_CONTROL, "no-store")).body(lines))
}

fn invalid(line: usize, reason: impl std::fmt::Display) -> Problem {
    Problem::new(400, "invalid_backup", format!("line {line}: {reason}"))
}

fn read(body: &[u8]) -> Result<(Head, Vec<Document>), Problem> {
    let mut lines = body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let (_, first) = lines.next().ok_or_else(|| invalid(1, "there is nothing in it"))?;
    let head: Head = serde_json::from_slice(first).map_err(|err| invalid(1, err))?;
    if head.format != FORMAT || head.version != VERSION {
        let what = format!("format {} {} is not {FORMAT} {VERSION}", head.format, head.version);
        return Err(invalid(1, what));
    }
    let document = |(line, text): (usize, &[u8])| {
        let document: Document = serde_json::from_slice(text).map_err(|err| invalid(line + 1, err))?;
        document.check().map_err(|reason| invalid(line + 1, reason)).map(|()| document)
    };
    let documents = lines.map(document).collect::<Result<Vec<_>, _>>()?;
    if documents.len() != head.documents {
        let what = format!("it has {} documents, and its first line says {}", documents.len(), head.documents);
        return Err(invalid(1, what));
    }
    Ok((head, documents))
}

async fn restore(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let given = read_body(payload.into_inner(), BODY_BYTES_MAX).await?;
    let (head, mut documents) = read(&given)?;
    // Tokens last, and what they close behind them: a restore that is cut short locks nobody out.
    documents.sort_by_key(|document| (document.kind != "endpoint", document.kind != "token"));
    let message = format!("{} documents of cluster {} as of index {}", documents.len(), head.cluster_id, head.index);
    let note = note(&api, &request, &message)?;
    let imported = api.config.raft().import(documents).await?;
    api.audit.record(note);
    Ok(HttpResponse::Ok().json(RestoredBody { restored: imported.restored, unchanged: imported.unchanged }))
}

impl From<ImportError> for Problem {
    fn from(err: ImportError) -> Problem {
        let detail = err.to_string();
        match err {
            ImportError::Broken(_) => Problem::new(400, "invalid_backup", detail),
            ImportError::Differs { .. } => Problem::new(409, "differs", detail),
            ImportError::Rejected { .. } => Problem::new(409, "not_taken", detail),
            ImportError::Propose(err) => err.into(),
            ImportError::Store(_) => Problem::new(503, "storage_failed", detail),
        }
    }
}
