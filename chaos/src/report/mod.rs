//! The report: one HTML file that holds all of itself – data, style and drawing – and shows per scenario what was done,
//! what was answered and what held. Imports run, figures and history.

mod timeline;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::cluster::name;
use crate::figures::Figure;
use crate::run::Run;
use crate::scenarios::Scenario;
use timeline::Timeline;

const PAGE: &str = include_str!("page.html");
const DRAWING: &str = include_str!("page.js");
/// Where the data and the drawing go.
const DATA_PLACE: &str = "\"the data\"";
const DRAWING_PLACE: &str = "\"the drawing\";";

/// All of a call.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// As text: a number of JavaScript is not large enough.
    pub seed: String,
    pub command: String,
    pub chapters: Vec<Chapter>,
    /// Name and reason.
    pub not_run: Vec<(&'static str, String)>,
}

/// One scenario.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chapter {
    name: &'static str,
    what: &'static str,
    cycles: u32,
    nodes: Vec<String>,
    /// Invariant → what broke it.
    invariants: BTreeMap<String, Vec<String>>,
    figures: Vec<Row>,
    timeline: Timeline,
}

/// A figure.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    what: String,
    seen: String,
    to_hold: Option<String>,
    held: bool,
}

impl Chapter {
    pub fn of(run: &Run, scenario: &Scenario) -> Chapter {
        let row = |figure: &Figure| {
            let (to_hold, held) = figure.to_hold.clone().map_or((None, true), |(text, held)| (Some(text), held));
            Row { what: figure.what.clone(), seen: figure.seen.clone(), to_hold, held }
        };
        Chapter {
            name: scenario.name,
            what: scenario.what,
            cycles: run.options.cycles,
            nodes: run.all_nodes().into_iter().map(name).collect(),
            invariants: by_invariant(run.checked.iter().copied(), &run.breaks),
            figures: run.figures.iter().map(row).collect(),
            timeline: Timeline::of(&run.history.records(), run.cluster.len()),
        }
    }
}

/// Every invariant that was checked, and whatever else broke, under the name that its text begins with.
fn by_invariant<'a>(checked: impl Iterator<Item = &'a str>, breaks: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut invariants: BTreeMap<String, Vec<String>> = checked.map(|name| (name.to_owned(), Vec::new())).collect();
    for text in breaks {
        let (name, rest) = text.split_once(": ").unwrap_or(("scenario", text));
        invariants.entry(name.to_owned()).or_default().push(rest.to_owned());
    }
    invariants
}

impl Report {
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, self.page()?).with_context(|| path.display().to_string())
    }

    fn page(&self) -> anyhow::Result<String> {
        // Within a script element only its end tag means anything.
        let data = serde_json::to_string(self)?.replace("</", "<\\/");
        // The data last: nothing is looked for in it.
        Ok(PAGE.replacen(DRAWING_PLACE, DRAWING, 1).replacen(DATA_PLACE, &data, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_the_data_and_needs_nothing_else() {
        let not_run = vec![("partition", "</script><b>".to_owned())];
        let report = Report { seed: "7".into(), command: "chaos --seed 7".into(), chapters: Vec::new(), not_run };
        let page = report.page().unwrap();
        assert!(page.contains("\"seed\":\"7\",\"command\":\"chaos --seed 7\""));
        assert!(page.contains("<\\/script><b>"), "a text cannot end the script");
        assert_eq!(page.matches("</script>").count(), PAGE.matches("</script>").count());
        for from_outside in ["src=", "href=\"http", "@import", "url(", "fetch("] {
            assert!(!page.contains(from_outside), "{from_outside}");
        }
    }

    #[test]
    fn breaks_stand_beside_their_invariant() {
        let breaks = ["a: one".to_owned(), "a: two: three".to_owned(), "no colon".to_owned()];
        let found = by_invariant(["a", "b"].into_iter(), &breaks);
        assert_eq!(found["a"], ["one", "two: three"]);
        assert!(found["b"].is_empty());
        assert_eq!(found["scenario"], ["no colon"]);
    }
}
