//! Acknowledgements: when the sender of an event hears of it, and in which words. Made by config; read by inbound and
//! explain.

use super::template::Template;

/// An endpoint's or a route's acknowledgement.
#[derive(Debug)]
pub struct Ack {
    pub when: AckWhen,
    /// None: the gateway's own frame.
    pub template: Option<Template>,
}

/// When the sender hears of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckWhen {
    /// Its routes are found, its schemas hold, its transformations are made; it is on its way.
    Received,
    /// Every required backend of its routes has taken it.
    Delivered,
}

impl Ack {
    /// Whether it needs the event read.
    pub fn sees_event(&self) -> bool {
        self.template.as_ref().is_some_and(|template| template.uses("event"))
    }
}

impl AckWhen {
    /// The frame's `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            AckWhen::Received => "received",
            AckWhen::Delivered => "delivered",
        }
    }
}
