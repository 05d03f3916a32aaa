//! Rules of dead letter backends: what an ordinary backend may have and these may not. Called by rules; imports document.

use crate::document::{Backend, BackendType, EndpointDocument, RouteType};
use crate::findings::Findings;

use super::rules::{foreign_backend_fields, report_foreign};

pub fn check(document: &EndpointDocument, findings: &mut Findings) {
    if let Some(backend) = &document.dead_letter {
        check_one(backend, "deadLetter", findings);
    }
    for (index, route) in document.routes.iter().flatten().enumerate() {
        let Some(backend) = &route.dead_letter else { continue };
        let path = format!("routes[{index}].deadLetter");
        if route.kind == RouteType::Connect {
            findings.add(path.as_str(), "does not belong to connect routes: a client that is refused hears of it");
        }
        check_one(backend, &path, findings);
    }
}

fn check_one(backend: &Backend, path: &str, findings: &mut Findings) {
    if backend.kind == BackendType::Echo {
        findings.add(format!("{path}.type"), "must be \"http\" or \"kafka\"");
        return;
    }
    foreign_backend_fields(backend, path, findings);
    let given = [
        ("required", backend.required.is_some()),
        ("reply", backend.reply == Some(true)),
        ("replyTopic", backend.reply_topic.is_some()),
        ("batch", backend.batch.is_some()),
    ];
    report_foreign(&given, path, "a dead letter backend", findings);
}
