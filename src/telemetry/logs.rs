//! Structured logs on standard error: JSON lines or text, filtered by directives such as `info,wsgateway=debug`. What one place in
//! the code says too often is left out, and how often is said.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, EnvFilter, Layer};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// How often it is said what was left out.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

static SAMPLING: OnceLock<Arc<Sampling>> = OnceLock::new();

/// Starts logging; once per process. An unparsable filter is an error that names it. `per_second_max`: lines of one place in
/// the code within a second; 0: all of them. Errors are always all there.
pub fn init(filter: &str, format: LogFormat, per_second_max: u32) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|err| format!("log.filter {filter:?}: {err}"))?;
    let sampling = SAMPLING.get_or_init(|| Arc::new(Sampling::new(per_second_max))).clone();
    let registry = tracing_subscriber::registry().with(filter).with(Sampled(sampling));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let started = match format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    started.map_err(|err| err.to_string())
}

/// Says what was left out, for as long as the node runs.
pub async fn report_left_out() {
    let Some(sampling) = SAMPLING.get().filter(|sampling| sampling.per_second_max > 0) else { return };
    let mut ticks = tokio::time::interval(REPORT_INTERVAL);
    loop {
        ticks.tick().await;
        for (place, lines) in sampling.take_left_out() {
            let seconds = REPORT_INTERVAL.as_secs();
            tracing::warn!(place, lines, "{lines} log lines of {place} were left out within {seconds} s");
        }
    }
}

/// Lets so many lines of each place through in a second.
struct Sampling {
    per_second_max: u32,
    started: Instant,
    places: RwLock<HashMap<Identifier, Arc<Place>>>,
}

/// One place in the code that logs.
struct Place {
    name: String,
    /// The second, since the start, that `lines` are of.
    second: AtomicU64,
    lines: AtomicU32,
    left_out: AtomicU64,
}

impl Sampling {
    fn new(per_second_max: u32) -> Sampling {
        Sampling { per_second_max, started: Instant::now(), places: RwLock::default() }
    }

    fn place(&self, metadata: &Metadata<'_>) -> Arc<Place> {
        let id = metadata.callsite();
        if let Some(place) = self.places.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return place.clone();
        }
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let name = || match (metadata.file(), metadata.line()) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => metadata.target().to_owned(),
        };
        let place = || {
            let (second, lines, left_out) = (AtomicU64::new(0), AtomicU32::new(0), AtomicU64::new(0));
            Arc::new(Place { name: name(), second, lines, left_out })
        };
        places.entry(id).or_insert_with(place).clone()
    }

    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        // Lines of the crate `log` all come from one place, whoever has written them.
        let is_known = metadata.target() != "log";
        if self.per_second_max == 0 || *metadata.level() == Level::ERROR || !is_known {
            return true;
        }
        let place = self.place(metadata);
        let second = self.started.elapsed().as_secs();
        // Two threads at the turn of a second may let through one line more or less.
        if place.second.swap(second, Ordering::Relaxed) != second {
            place.lines.store(0, Ordering::Relaxed);
        }
        if place.lines.fetch_add(1, Ordering::Relaxed) < self.per_second_max {
            return true;
        }
        place.left_out.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn take_left_out(&self) -> Vec<(String, u64)> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let taken = places.values().map(|place| (place.name.clone(), place.left_out.swap(0, Ordering::Relaxed)));
        taken.filter(|(_, lines)| *lines > 0).collect()
    }
}

/// Asks the one sampling of all logs.
struct Sampled(Arc<Sampling>);

impl<S: Subscriber> Layer<S> for Sampled {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        self.0.lets_through(event.metadata())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Keeps what gets through.
    struct Kept(Arc<Mutex<Vec<Level>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            self.0.lock().unwrap().push(*event.metadata().level());
        }
    }

    fn kept_of(per_second_max: u32, work: impl FnOnce()) -> (Vec<Level>, Vec<u64>) {
        let (sampling, kept) = (Arc::new(Sampling::new(per_second_max)), Arc::default());
        let subscriber = tracing_subscriber::registry().with(Sampled(sampling.clone())).with(Kept(Arc::clone(&kept)));
        tracing::subscriber::with_default(subscriber, work);
        let left_out = sampling.take_left_out().into_iter().map(|(_, lines)| lines).collect();
        let kept = kept.lock().unwrap().clone();
        (kept, left_out)
    }

    #[test]
    fn one_place_says_so_much_in_a_second_and_errors_are_all_there() {
        let work = || {
            for _ in 0..50 {
                tracing::warn!("again");
                tracing::error!("broken");
            }
            tracing::warn!("another place");
        };
        let (kept, left_out) = kept_of(5, work);
        let of = |level: Level| kept.iter().filter(|kept| **kept == level).count();
        assert_eq!((of(Level::ERROR), left_out.len()), (50, 1));
        // The second may have turned in between.
        assert!((6..=11).contains(&of(Level::WARN)) && (40..=45).contains(&left_out[0]), "{left_out:?}");
        assert_eq!(kept_of(0, work).0.len(), 101);
    }
}
