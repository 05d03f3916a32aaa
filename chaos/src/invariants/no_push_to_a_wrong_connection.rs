//! What arrives at a client was meant for it: the message names the client and the connection.

use super::connections;
use crate::history::{Op, Record};

pub fn check(records: &[Record]) -> Vec<String> {
    let own = connections(records);
    let wrong = records.iter().filter_map(|record| match &record.op {
        Op::Got { client, to, connection, push } => {
            let right = client == to && own.get(client.as_str()).is_some_and(|own| own == connection);
            (!right).then(|| format!("{client} got push {push}, which is for {to} on {connection}"))
        }
        _ => None,
    });
    wrong.collect()
}
