//! Sources: who gets their records, and how their brokers are reached. Called by compile; imports model and document.

use std::collections::HashSet;
use std::sync::Arc;

use crate::document::{EndpointDocument, OffsetReset, Source, SourceTarget, SourceType};
use crate::findings::Findings;
use wsgateway_model::endpoint::{BackendKind, CompiledRoutes, KafkaSpec};
use wsgateway_model::json_path::JsonPath;
use wsgateway_model::kafka::KafkaReply;
use wsgateway_model::source::{SourceSpec, Start, Target};

use super::kafka;

/// The topics of answers that Kafka backends name: each is a source of its own, whose group is the endpoint's. From the
/// beginning, since the first answer may be there before the first consumer; what is older has no connection any more.
pub fn of_replies(endpoint_id: &str, routes: &CompiledRoutes) -> Vec<Arc<SourceSpec>> {
    let mut compiled: Vec<Arc<SourceSpec>> = Vec::new();
    for backend in routes.all().flat_map(|route| &route.backends) {
        let BackendKind::Kafka(KafkaSpec { reply: Some(reply), bootstrap_servers, security, .. }) = &backend.kind
        else {
            continue;
        };
        let header = reply.correlation_header.clone();
        let spec = SourceSpec {
            topic: reply.topic.clone(),
            // Readers of another header would take this one's answers for nobody's: they are another group.
            group: match header.as_str() {
                KafkaReply::CORRELATION_HEADER_DEFAULT => format!("wsgateway-replies-{endpoint_id}"),
                other => format!("wsgateway-replies-{endpoint_id}-{other}"),
            },
            bootstrap_servers: bootstrap_servers.clone(),
            security: security.clone(),
            start: Start::Earliest,
            target: Target::Asker { header, endpoint: endpoint_id.into() },
        };
        // Several backends may be answered in one topic.
        if !compiled.iter().any(|known| **known == spec) {
            compiled.push(Arc::new(spec));
        }
    }
    compiled
}

/// Compiles the sources of a document; those with findings are left out.
pub fn compile(document: &EndpointDocument, findings: &mut Findings) -> Vec<Arc<SourceSpec>> {
    let mut seen = HashSet::new();
    let mut compiled = Vec::new();
    for (index, source) in document.sources.iter().flatten().enumerate() {
        let path = format!("sources[{index}]");
        if !seen.insert((&source.bootstrap_servers, &source.topic, &source.group)) {
            let message = "an earlier source has the same topic and group: each would get a part of the records";
            findings.add(format!("{path}.group"), message);
        }
        match source.kind {
            SourceType::Kafka => compiled.extend(one(source, &path, findings).map(Arc::new)),
        }
    }
    compiled
}

fn one(from: &Source, path: &str, findings: &mut Findings) -> Option<SourceSpec> {
    findings.take(format!("{path}.topic"), kafka::check_topic(&from.topic));
    if from.group.chars().any(char::is_control) {
        findings.add(format!("{path}.group"), "must not contain control characters");
    }
    kafka::check_servers(from.bootstrap_servers.as_deref(), path, findings);
    let security = kafka::security(from.security.as_ref(), path, findings);
    Some(SourceSpec {
        topic: from.topic.clone(),
        group: from.group.clone(),
        bootstrap_servers: from.bootstrap_servers.clone(),
        security,
        start: match from.auto_offset_reset {
            None | Some(OffsetReset::Latest) => Start::Latest,
            Some(OffsetReset::Earliest) => Start::Earliest,
        },
        target: target(&from.target, &format!("{path}.target"), findings)?,
    })
}

fn target(from: &SourceTarget, path: &str, findings: &mut Findings) -> Option<Target> {
    let given = [from.connection.is_some(), from.user.is_some(), from.group.is_some(), from.all.is_some()];
    let given = given.iter().filter(|given| **given).count();
    if given != 1 {
        findings.add(path, format!("has exactly one of \"connection\", \"user\", \"group\" and \"all\", has {given}"));
        return None;
    }
    let mut parsed = |name: &str, text: &str| {
        let path = format!("{path}.{name}");
        let found = findings.take(path.as_str(), JsonPath::parse(text))?;
        let known = ["$.key", "$.headers", "$.value", "$['", "$[\"", "$.."];
        if !known.iter().any(|start| text.starts_with(start)) {
            findings
                .add(path, "looks into {\"key\", \"headers\", \"value\"}: it begins with $.key, $.headers or $.value");
        }
        Some(found)
    };
    match from {
        SourceTarget { connection: Some(text), .. } => parsed("connection", text).map(Target::Connection),
        SourceTarget { user: Some(text), .. } => parsed("user", text).map(Target::User),
        SourceTarget { group: Some(text), .. } => parsed("group", text).map(Target::Group),
        SourceTarget { all: Some(true), .. } => Some(Target::All),
        SourceTarget { all: Some(false), .. } => {
            findings.add(format!("{path}.all"), "must be true");
            None
        }
        // Counted above: one is given.
        SourceTarget { all: None, .. } => None,
    }
}
