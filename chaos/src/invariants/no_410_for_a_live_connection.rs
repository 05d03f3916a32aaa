//! "Gone" is said only of connections that have ended.

use super::{ends, openings};
use crate::history::{Micros, Op, Record, SECOND};

const GONE: u16 = 410;
/// The gateway may know of an end before the client has seen it.
const CLIENT_NOTICES_WITHIN: Micros = 2 * SECOND;

pub fn check(records: &[Record]) -> Vec<String> {
    let (opened, ended) = (openings(records), ends(records));
    let lies = records.iter().filter_map(|record| {
        let Op::Push { client, node, owner, status: GONE, .. } = &record.op else { return None };
        if opened.get(client.as_str()).is_none_or(|opened| *opened > record.start) {
            return None;
        }
        let lived_on = ended.get(client.as_str()).is_none_or(|(end, _, _)| *end > record.end + CLIENT_NOTICES_WITHIN);
        lived_on
            .then(|| format!("{client} on node {owner} was said to be gone by node {node} at {} ms", record.end / 1000))
    });
    lies.collect()
}
