//! WSGateway: a self-hosted, clustered WebSocket API gateway. Clients keep one WebSocket to it; it routes their JSON
//! events to HTTP services and Kafka topics, and services push back through HTTP on any node.
//!
//! Two stories in file order. An inbound event: `inbound::arrive → inbound::upgrade → connections::session → inbound::client_events →
//! model::decode → inbound::dispatch → backends`. A push: `admin::connections_api → push::locate → push::forward →
//! push::deliver → connections::outbox`.

pub mod access;
pub mod admin;
pub mod app;
pub mod authentication;
pub mod backends;
pub mod cli;
pub mod config;
pub mod connections;
pub mod egress;
pub mod explain;
pub mod inbound;
pub mod listener;
pub mod nodes;
pub mod observe;
pub mod push;
pub mod settings;
pub mod sources;
pub mod telemetry;
pub mod throttle;
pub mod wills;

pub use wsgateway_model as model;
pub use wsgateway_model::close_code;
