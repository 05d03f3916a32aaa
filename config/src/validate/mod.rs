//! Is this text an endpoint document that this build can serve? Reports everything that is wrong, not only the first.
//!
//! In this order: JSON, secrets (which are had from here on), shape (the generated schema), what the build does not enforce, rules between fields, and
//! what only compiling can tell. Called by the admin surface and `wsgateway check`; imports model and config.

mod authentication;
mod dead_letter;
mod egress;
mod rules;
mod shape;

use std::sync::Arc;

use serde_json::Value;

use wsgateway_model::egress::EgressRules;
use wsgateway_model::{json_check, limits};

use super::document::EndpointDocument;
use super::findings::Findings;
use super::secrets::NodeSecrets;
use super::{compile, unsupported};

pub use super::findings::Finding;

/// What a document's warnings depend on besides the document.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// What references and encrypted texts stand for; by default nobody's, which checks only how they are written.
    pub secrets: NodeSecrets,
    /// The node's setting `kafka.bootstrap_servers`.
    pub kafka_bootstrap_servers: Option<String>,
    /// Whether its client listener asks for certificates; None: it is not known.
    pub asks_for_certificates: Option<bool>,
    /// The node's settings `outbound.…`: where it may call.
    pub egress: Arc<EgressRules>,
}

/// A document that may be stored.
#[derive(Debug, Clone)]
pub struct Validated {
    /// The document, with its secrets in plain.
    pub document: EndpointDocument,
    /// Legal, but will not work here as it may be meant.
    pub warnings: Vec<Finding>,
}

/// Validates a document, or says all that is wrong with it.
pub fn validate(json: &str, node: &NodeFacts) -> Result<Validated, Vec<Finding>> {
    let mut findings = Findings::default();
    if parse(json, &mut findings).is_none() {
        return Err(findings.0);
    }
    let secrets = node.secrets.check(json, &mut findings).and_then(|()| node.secrets.revealed(json, &mut findings));
    let Some(json) = findings.take("", secrets) else { return Err(findings.0) };
    let Some(value) = findings.take("", serde_json::from_str(&json)) else { return Err(findings.0) };
    shape::check(&value, &mut findings);
    // Before the typed document, which exists only without faults of shape: one answer names both kinds.
    unsupported::check(&value, &mut findings);
    let Some(document) = shape::document(&json, &mut findings) else { return Err(findings.0) };
    rules::check(&document, &mut findings);
    if let Err(more) = compile::compile("", 0, &document) {
        findings.0.extend(more);
    }
    let mut seen = std::collections::HashSet::new();
    findings.0.retain(|finding| seen.insert((finding.path.clone(), finding.message.clone())));
    match findings.0.is_empty() {
        true => Ok(Validated { warnings: rules::warnings(&document, node), document }),
        false => Err(findings.0),
    }
}

fn parse(json: &str, findings: &mut Findings) -> Option<Value> {
    if json.len() > limits::DOCUMENT_BYTES_MAX {
        let max = limits::DOCUMENT_BYTES_MAX;
        findings.add("", format!("the document must have at most {max} bytes, has {}", json.len()));
        return None;
    }
    if let Err(fault) = json_check::validate_json(json.as_bytes()) {
        findings.add("", format!("the document is not JSON: {fault}"));
        return None;
    }
    findings.take("", serde_json::from_str(json).map_err(|error| format!("the document cannot be read: {error}")))
}

#[cfg(test)]
mod tests;
