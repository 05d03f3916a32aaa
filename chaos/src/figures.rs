//! Figures that were measured, beside the figures to hold. A missed figure is shown; only broken invariants fail a run,
//! since a busy machine is slow and not wrong. Imports history.

use std::collections::BTreeMap;

use crate::history::{Micros, Op, Outcome, Record, Sample, SECOND};

/// One line of the table.
pub struct Figure {
    pub scenario: &'static str,
    pub what: String,
    pub seen: String,
    /// What RELIABILITY asks for, and whether it was held; nothing for mere counts.
    pub to_hold: Option<(String, bool)>,
}

/// The table, its columns as wide as needed.
pub fn table(figures: &[Figure]) -> String {
    let head = ["scenario", "figure", "seen", "to hold", ""].map(str::to_owned);
    let rows = figures.iter().map(|figure| {
        let (to_hold, verdict) = match &figure.to_hold {
            Some((to_hold, held)) => (to_hold.clone(), if *held { "held" } else { "MISSED" }),
            None => (String::new(), ""),
        };
        [figure.scenario.to_owned(), figure.what.clone(), figure.seen.clone(), to_hold, verdict.to_owned()]
    });
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub fn seconds(micros: Micros) -> String {
    format!("{:.2} s", micros as f64 / 1e6)
}

/// The longest time without an acknowledged write between two moments.
pub fn write_gap(records: &[Record], from: Micros, to: Micros) -> Micros {
    let acknowledged = |record: &&Record| matches!(record.op, Op::Write { .. }) && record.outcome == Outcome::Ok;
    let mut last = from;
    let mut longest = 0;
    // The history is in the order of ends.
    for record in records.iter().filter(acknowledged).filter(|record| (from..=to).contains(&record.end)) {
        longest = longest.max(record.end - last);
        last = record.end;
    }
    longest.max(to.saturating_sub(last))
}

/// When another leader was first seen, and which: the leader of each later term.
pub fn leader_changes(records: &[Record]) -> Vec<(Micros, String)> {
    let mut terms: BTreeMap<u64, (Micros, &str)> = BTreeMap::new();
    for record in records {
        if let Op::Sample(Sample { term, leader: Some(leader), .. }) = &record.op {
            terms.entry(*term).or_insert((record.end, leader));
        }
    }
    terms.into_values().skip(1).map(|(at, leader)| (at, leader.to_owned())).collect()
}

/// Of moments in their order: how many at most lie within one minute.
pub fn most_in_a_minute(moments: &[Micros]) -> usize {
    let within = |(at, first): (usize, &Micros)| {
        moments[at..].iter().take_while(|moment| **moment < first + 60 * SECOND).count()
    };
    moments.iter().enumerate().map(within).max().unwrap_or(0)
}

/// How often a node began to have another one for dead.
pub fn false_deaths(records: &[Record]) -> usize {
    let mut taken_for_dead: BTreeMap<usize, &[String]> = BTreeMap::new();
    let mut deaths = 0;
    for record in records {
        let Op::Sample(Sample { node, not_live, .. }) = &record.op else { continue };
        let before = taken_for_dead.insert(*node, not_live).unwrap_or_default();
        deaths += not_live.iter().filter(|other| !before.contains(other)).count();
    }
    deaths
}

/// The value that 99 of 100 do not exceed; of fewer values the greatest.
pub fn p99(values: &[Micros]) -> Micros {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_gaps() {
        assert_eq!(p99(&[]), 0);
        assert_eq!(p99(&[3, 1, 2]), 3);
        assert_eq!(p99(&(1..=200).collect::<Vec<_>>()), 198);
        let write = |end| {
            let (marker, endpoint, version, expected) = (String::new(), None, None, None);
            let op = Op::Write { marker, node: 0, attempt: 0, status: 200, endpoint, version, expected };
            Record { start: end, end, outcome: Outcome::Ok, op }
        };
        assert_eq!(write_gap(&[write(1), write(10), write(12), write(40)], 5, 20), 8);
        assert_eq!(write_gap(&[], 5, 20), 15);
    }

    #[test]
    fn leaders_and_deaths_are_counted_once_each() {
        let sample = |end, node, term, leader: Option<&str>, not_live: &[&str]| {
            let not_live = not_live.iter().map(|&name| name.to_owned()).collect();
            let sample = Sample { node, term, leader: leader.map(str::to_owned), not_live, ..Sample::default() };
            Record { start: end, end, outcome: Outcome::Ok, op: Op::Sample(sample) }
        };
        let records = [
            sample(1, 0, 1, Some("n1"), &[]),
            sample(2, 1, 2, None, &["n1"]),
            sample(3, 1, 3, Some("n2"), &["n1"]),
            sample(4, 0, 1, Some("n1"), &["n2"]),
            sample(5, 2, 3, Some("n2"), &[]),
            sample(6, 1, 3, Some("n2"), &[]),
            sample(7, 1, 3, Some("n2"), &["n1"]),
        ];
        assert_eq!(leader_changes(&records), [(3, "n2".to_owned())]);
        assert_eq!(false_deaths(&records), 3);
        assert_eq!(most_in_a_minute(&[]), 0);
        assert_eq!(most_in_a_minute(&[0, SECOND, 59 * SECOND, 61 * SECOND, 62 * SECOND]), 3);
    }
}
