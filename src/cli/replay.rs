//! `wsgateway replay`: sends dead letters again, from a Kafka topic or a file, through the admin API.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use awc::http::Method;
use clap::Args;
use serde_json::{json, Value};

use super::api::{encoded, sentence, text, Api, Connect, Output};
use super::{block_on, Failed};
use crate::backends::letters::{Letters, Stored};
use crate::model::dead_letter::Letter;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway replay --topic dead-letters --brokers 127.0.0.1:9092 --dry-run\n  wsgateway replay --topic dead-letters --brokers 127.0.0.1:9092 --rate 20\n  wsgateway replay --file letters.ndjson --left still-dead.ndjson"
)]
pub struct Replay {
    /// Kafka topic of dead letters: what the group has not done with yet, up to its end
    #[arg(long, requires = "brokers", required_unless_present = "file", conflicts_with = "file")]
    topic: Option<String>,
    /// host:port of its brokers, separated by commas
    #[arg(long, requires = "topic")]
    brokers: Option<String>,
    /// Consumer group that remembers how far the topic is done
    #[arg(long, default_value = "wsgateway-replay")]
    group: String,
    /// A property of librdkafka, such as security.protocol=SASL_SSL; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    kafka_config: Vec<String>,
    /// File of dead letters, {"attributes": {…}, "data": "…"} a line; - is standard input
    #[arg(long)]
    file: Option<PathBuf>,
    /// Write the letters of the file that were not delivered to this one
    #[arg(long, requires = "file", conflicts_with = "dry_run")]
    left: Option<PathBuf>,
    /// Letters a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Count letters of the topic that fail again as done with; without it, a partition is left at the first of them
    #[arg(long, requires = "topic")]
    skip_failed: bool,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: Connect,
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    delivered: usize,
    failed: usize,
    would_send: usize,
}

impl Replay {
    pub fn run(self) -> anyhow::Result<()> {
        block_on(self.replay())
    }

    async fn replay(&self) -> anyhow::Result<()> {
        let api = self.connect.api()?;
        let mut pace = tokio::time::interval(Duration::from_secs(1) / self.rate);
        let mut tally = Tally::default();
        match (&self.topic, &self.brokers, &self.file) {
            (Some(topic), Some(brokers), _) => self.topic(topic, brokers, &api, &mut pace, &mut tally).await?,
            (_, _, Some(file)) => self.file(file, &api, &mut pace, &mut tally).await?,
            _ => return Err(Failed::usage("give a --topic with its --brokers, or a --file").into()),
        }
        match self.dry_run {
            true => eprintln!("{} would be sent, {} cannot be", tally.would_send, tally.failed),
            false => eprintln!("{} delivered, {} failed", tally.delivered, tally.failed),
        }
        anyhow::ensure!(tally.failed == 0, "{} dead letters are left", tally.failed);
        Ok(())
    }

    async fn topic(
        &self,
        topic: &str,
        brokers: &str,
        api: &Api,
        pace: &mut tokio::time::Interval,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let property = |text: &String| match text.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(Failed::usage(format!("--kafka-config {text:?} is no NAME=VALUE"))),
        };
        let properties = self.kafka_config.iter().map(property).collect::<Result<Vec<_>, _>>()?;
        let at = || format!("topic {topic} at {brokers}");
        let mut letters = Letters::open(brokers, topic, &self.group, &properties).with_context(at)?;
        eprintln!("{} letters of {topic} wait for group {}", letters.waiting(), self.group);
        while let Some(record) = letters.read().with_context(at)? {
            let done = match &record.letter {
                Ok(letter) => self.one(letter, api, pace, tally).await?,
                Err(reason) => {
                    let Stored { partition, offset, .. } = record;
                    self.tell(
                        &json!({"partition": partition, "offset": offset, "outcome": "unreadable", "reason": reason}),
                    );
                    tally.failed += 1;
                    false
                }
            };
            match (self.dry_run, done || self.skip_failed) {
                (true, _) => {}
                (false, true) => letters.done(&record).with_context(at)?,
                (false, false) => letters.leave(record.partition),
            }
        }
        Ok(())
    }

    async fn file(
        &self,
        file: &PathBuf,
        api: &Api,
        pace: &mut tokio::time::Interval,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let shown = || file.display().to_string();
        let lines: Box<dyn BufRead> = match file.as_os_str() == "-" {
            true => Box::new(std::io::stdin().lock()),
            false => Box::new(std::io::BufReader::new(std::fs::File::open(file).with_context(shown)?)),
        };
        let create = |path: &PathBuf| std::fs::File::create(path).with_context(|| path.display().to_string());
        let mut left = self.left.as_ref().map(create).transpose()?;
        for (number, line) in lines.lines().enumerate() {
            let line = line.with_context(shown)?;
            if line.trim().is_empty() {
                continue;
            }
            let done = match serde_json::from_str::<Letter>(&line) {
                Ok(letter) => self.one(&letter, api, pace, tally).await?,
                Err(err) => {
                    self.tell(&json!({"line": number + 1, "outcome": "unreadable", "reason": err.to_string()}));
                    tally.failed += 1;
                    false
                }
            };
            if let (false, Some(left)) = (done, &mut left) {
                writeln!(left, "{line}")?;
            }
        }
        Ok(())
    }

    /// Whether it is done with. An error is one that the next letter would meet as well.
    async fn one(
        &self,
        letter: &Letter,
        api: &Api,
        pace: &mut tokio::time::Interval,
        tally: &mut Tally,
    ) -> anyhow::Result<bool> {
        let read = letter.endpoint().and_then(|endpoint| Ok((endpoint, letter.event()?)));
        let (endpoint, event) = match read {
            Ok(read) => read,
            Err(err) => {
                let id = letter.attributes.get("id");
                self.tell(&json!({"eventId": id, "outcome": "unreadable", "reason": format!("{} {err}", err.name())}));
                tally.failed += 1;
                return Ok(false);
            }
        };
        if self.dry_run {
            self.tell(&json!({"eventId": event.id.as_str(), "endpoint": endpoint, "backend": event.backend,
                "outcome": "would be sent", "reason": letter.attributes.get("deadletterreason")}));
            tally.would_send += 1;
            return Ok(true);
        }
        pace.tick().await;
        let target = format!("/api/v1/endpoints/{}/replay", encoded(endpoint));
        let answer = api.call(Method::POST, &target, Some(serde_json::to_string(letter)?)).await?;
        let told = match answer.status {
            200 => answer.body,
            // What is wrong with this letter alone; a token or a node would be wrong for all.
            400 | 404 | 413 => json!({"eventId": event.id.as_str(), "backend": event.backend,
                "outcome": text(&answer.body, "code"), "reason": text(&answer.body, "detail")}),
            _ => anyhow::bail!("{}", sentence(&answer)),
        };
        let delivered = told["outcome"] == "delivered";
        *(if delivered { &mut tally.delivered } else { &mut tally.failed }) += 1;
        self.tell(&told);
        Ok(delivered)
    }

    fn tell(&self, told: &Value) {
        match self.connect.output {
            Output::Json => println!("{told}"),
            Output::Text => {
                let part = |name: &str| match &told[name] {
                    Value::Null => String::new(),
                    Value::String(text) => format!("{text}  "),
                    other => format!("{name} {other}  "),
                };
                let names = ["line", "partition", "offset", "eventId", "endpoint", "backend", "outcome", "reason"];
                println!("{}", names.map(part).concat().trim_end());
            }
        }
    }
}
