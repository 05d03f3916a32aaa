//! The result: every figure of every load, floor and gateway side by side, as a table for people or JSON for machines.

use std::fmt::Write;

use serde::Serialize;

use crate::stats::Spread;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    Floor,
    Gateway,
}

/// Samples of one figure of one load, one per round.
struct Row {
    load: String,
    figure: &'static str,
    floor: Vec<f64>,
    gateway: Vec<f64>,
}

/// Collects samples in the order in which they are first seen.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    load: &'a str,
    /// With its unit.
    figure: &'a str,
    floor: Option<Spread>,
    gateway: Option<Spread>,
    /// Median of the gateway over median of the floor.
    multiple_of_floor: Option<f64>,
    floor_samples: &'a [f64],
    gateway_samples: &'a [f64],
}

impl Table {
    pub fn add(&mut self, server: Server, load: &str, figure: &'static str, sample: f64) {
        let known = self.rows.iter().position(|row| row.load == load && row.figure == figure);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row { load: load.to_owned(), figure, floor: Vec::new(), gateway: Vec::new() });
            self.rows.len() - 1
        });
        // A load that completed nothing has no rate and no latency.
        if sample.is_finite() {
            match server {
                Server::Floor => self.rows[index].floor.push(sample),
                Server::Gateway => self.rows[index].gateway.push(sample),
            }
        }
    }

    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.rows.iter().map(|row| {
            let (floor, gateway) = (Spread::of(&row.floor), Spread::of(&row.gateway));
            Line {
                load: &row.load,
                figure: row.figure,
                floor,
                gateway,
                multiple_of_floor: floor
                    .zip(gateway)
                    .map(|(floor, gateway)| gateway.median / floor.median)
                    .filter(|multiple| multiple.is_finite()),
                floor_samples: &row.floor,
                gateway_samples: &row.gateway,
            }
        })
    }

    pub fn json(&self, settings: serde_json::Value) -> serde_json::Value {
        serde_json::json!({
            "settings": settings,
            "results": self.lines().collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    pub fn text(&self) -> String {
        let mut cells = vec![["load", "figure", "floor: median (min – max)", "gateway: median (min – max)", "× floor"]
            .map(str::to_owned)];
        let mut last_load = "";
        for line in self.lines() {
            let multiple = line.multiple_of_floor.map_or("–".to_owned(), |multiple| format!("{multiple:.2}"));
            let load = if line.load == last_load { String::new() } else { line.load.to_owned() };
            last_load = line.load;
            cells.push([load, line.figure.to_owned(), spread(line.floor), spread(line.gateway), multiple]);
        }
        let widths: Vec<usize> = (0..5)
            .map(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
            .collect();
        let mut text = String::new();
        for row in &cells {
            let [load, figure, floor, gateway, multiple] = row;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{load:<0$}  {figure:<1$}  {floor:>2$}  {gateway:>3$}  {multiple:>4$}",
                widths[0], widths[1], widths[2], widths[3], widths[4]
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}

fn spread(spread: Option<Spread>) -> String {
    let Some(Spread { min, median, max }) = spread else { return "–".to_owned() };
    format!("{} ({} – {})", number(median), number(min), number(max))
}

/// Three significant digits or so, thousands separated.
fn number(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.3}"),
        small if small < 100.0 => format!("{value:.1}"),
        _ => {
            let digits = format!("{:.0}", value.abs());
            let mut out = String::from(if value < 0.0 { "-" } else { "" });
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index) % 3 == 0 {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(0.6512), "0.651");
        assert_eq!(number(42.06), "42.1");
        assert_eq!(number(123.4), "123");
        assert_eq!(number(-1234567.0), "-1,234,567");
    }

    #[test]
    fn medians_are_compared_and_missing_servers_are_dashes() {
        let mut table = Table::default();
        for sample in [2.0, 4.0, 3.0] {
            table.add(Server::Floor, "a", "f", sample);
            table.add(Server::Gateway, "a", "f", sample * 1.5);
        }
        table.add(Server::Floor, "b", "f", 1.0);
        table.add(Server::Floor, "b", "f", f64::NAN);
        let json = table.json(serde_json::Value::Null);
        assert_eq!(json["results"][0]["multiple_of_floor"], 1.5);
        assert_eq!(json["results"][0]["gateway"]["max"], 6.0);
        assert_eq!(json["results"][1]["gateway"], serde_json::Value::Null);
        assert_eq!(json["results"][1]["floor_samples"].as_array().unwrap().len(), 1);
        assert!(table.text().contains("4.500 (3.000 – 6.000)"), "{}", table.text());
    }
}
