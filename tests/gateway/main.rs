//! Scenarios on the real binary: nodes as child processes, real HTTP services, a real Kafka broker, real sockets.
//! One binary for all of them, since linking is what takes the time. The first group of modules is the rig, the second
//! the scenarios, one file per theme. Uses nothing of the gateway's crates: what is tested here is what a user sees.

// The rig.
mod cloud_event;
mod document;
mod handshake;
mod http;
mod kafka;
mod oidc;
mod programs;
mod sandbox;
mod service;
mod tls;
mod wait;
mod ws;

// The scenarios.
mod abuse;
mod acks;
mod asyncapi;
mod audit;
mod auth_of_admin;
mod authentication;
mod authentication_change;
mod authentication_jwt;
mod authentication_oauth2;
mod authentication_oidc;
mod authentication_remote;
mod aws;
mod batches;
mod breaker;
mod broadcast;
mod cli;
mod cli_apply;
mod cli_explain;
mod cli_files;
mod cli_templates;
mod configuration;
mod conformance;
mod connections;
mod dead_letters;
mod docs;
mod document_fields;
mod egress;
mod event_flow;
mod failures;
mod filters;
mod groups;
mod hot_backends;
mod https;
mod kafka_replies;
mod kafka_security;
mod kafka_sources;
mod kafka_trouble;
mod limits;
mod ordering;
mod real_clients;
mod reference;
mod replies;
mod retries;
mod rollout;
mod routing;
mod schema;
mod schemathesis;
mod secret_references;
mod secrets;
mod signing;
mod throttling;
mod throttling_cluster;
mod tokens;
mod transform;
mod transform_bombs;
mod typescript;
mod wrong_admin_input;
mod wrong_input;
