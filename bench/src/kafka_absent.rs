//! Stands in for `kafka` in a program built without that feature: the same names, which can't be had.

use std::sync::Arc;
use std::time::Duration;

use crate::meter::Board;
use crate::target::Alone;

pub fn create_topic(_brokers: &str, _topic: &str) -> anyhow::Result<()> {
    Err(absent())
}

pub enum Consumer {}

impl Consumer {
    pub fn start(_brokers: &str, _topic: &str, _board: Arc<Board>) -> anyhow::Result<Self> {
        Err(absent())
    }

    pub fn record_bytes(&self) -> u64 {
        match *self {}
    }
}

pub struct Amount {
    pub events: u64,
    pub event_bytes: usize,
    pub in_flight: usize,
    pub connections: usize,
    pub longest: Duration,
}

pub fn alone(_brokers: &str, _topic: &str, _amount: Amount) -> anyhow::Result<Alone> {
    Err(absent())
}

pub enum Producer {}

impl Producer {
    pub fn start(_brokers: &str, _topic: &str) -> anyhow::Result<Self> {
        Err(absent())
    }

    pub async fn send_as(&self, _key: &str, _body: &[u8]) -> anyhow::Result<()> {
        match *self {}
    }

    pub async fn send(&self, _connection: usize, _body: &[u8]) -> anyhow::Result<()> {
        match *self {}
    }
}

fn absent() -> anyhow::Error {
    anyhow::anyhow!("this program was built without its feature \"kafka\"")
}
