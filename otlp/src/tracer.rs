//! The handle that everything that traces something has. Without a collector it is empty: then each call is one branch.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::runtime::Handle;

use crate::batch::{self, Counters, Exporting, Offer};
use crate::context::TraceContext;
use crate::encode::{Node, Origin};
use crate::export::Pace;
use crate::sampler::Sampler;
use crate::settings::{SettingsError, TracingSettings};
use crate::span::Span;

/// Cheap to clone; usable from every thread.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    sampler: Sampler,
    offer: Offer,
}

impl Tracer {
    /// Records nothing.
    pub fn off() -> Tracer {
        Tracer(None)
    }

    /// Spans go to the settings' endpoint from a task on `runtime`; without an endpoint the tracer is off. `tls` is for
    /// https and negotiates no protocol: HTTP/1.1 is spoken.
    pub fn start(
        settings: &TracingSettings,
        node: Node<'_>,
        tls: Arc<ClientConfig>,
        runtime: &Handle,
    ) -> Result<(Tracer, Exporting), SettingsError> {
        Tracer::start_at(settings, node, tls, runtime, Pace::default())
    }

    /// The same at another pace, for tests.
    pub fn start_at(
        settings: &TracingSettings,
        node: Node<'_>,
        tls: Arc<ClientConfig>,
        runtime: &Handle,
        pace: Pace,
    ) -> Result<(Tracer, Exporting), SettingsError> {
        let Some(target) = settings.target()? else { return Ok((Tracer::off(), Exporting::nothing())) };
        let origin = Origin::new(settings, node);
        let (offer, exporting) = batch::start(settings.spans_queued_max, origin, (target, tls), runtime, pace);
        let on = On { sampler: Sampler::new(settings.sample_ratio), offer };
        Ok((Tracer(Some(Arc::new(on))), exporting))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The context of a new span, below `parent` if there is one, and whether that span is to be recorded. To be told on in
    /// any case. A parent is one that may decide: of strangers, give none and link to theirs.
    ///
    /// A tracer that is off makes no spans: it passes the parent on as it is, and a new context is not sampled.
    pub fn sample(&self, parent: Option<&TraceContext>) -> TraceContext {
        match (&self.0, parent) {
            (Some(on), parent) => on.sampler.sample(parent),
            (None, Some(parent)) => parent.clone(),
            (None, None) => TraceContext::root(false),
        }
    }

    /// Hands a span over. Never waits: when the queue is full, the span is dropped and counted.
    pub fn export(&self, span: Span) {
        if let Some(on) = &self.0 {
            on.offer.offer(span);
        }
    }

    /// None: it is off.
    pub fn counters(&self) -> Option<&Arc<Counters>> {
        self.0.as_ref().map(|on| on.offer.counters())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{Kind, Started};

    #[test]
    fn off_passes_contexts_on_and_records_nothing() {
        let tracer = Tracer::off();
        assert!(!tracer.is_on() && tracer.counters().is_none());
        let parent = TraceContext::root(true);
        assert_eq!(tracer.sample(Some(&parent)), parent);
        let root = tracer.sample(None);
        assert!(!root.sampled && root != tracer.sample(None));
        tracer.export(Span::new(&root, "x", Kind::Server, &Started::now()));
    }
}
