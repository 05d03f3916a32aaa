//! Structured logs on standard error: JSON lines or text, filtered by directives such as `info,wsgateway=debug`.

use tracing_subscriber::{fmt, EnvFilter};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging; once per process. An unparsable filter is an error that names it.
pub fn init(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|err| format!("log.filter {filter:?}: {err}"))?;
    let subscriber = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let started = match format {
        LogFormat::Text => subscriber.with_ansi(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|err| err.to_string())
}
