//! One node is cut off in one direction: it is mute and hears the others, or deaf and is heard by them.

use crate::cluster::Cluster;
use crate::history::{History, Op};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What it sends reaches no other node.
    Mute,
    /// What others send does not reach it.
    Deaf,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Way::Mute => "mute",
            Way::Deaf => "deaf",
        }
    }
}

pub fn cut(cluster: &Cluster, node: usize, way: Way, history: &History) -> anyhow::Result<()> {
    cluster.network()?.change(|cuts| match way {
        Way::Mute => drop(cuts.mute.insert(node)),
        Way::Deaf => drop(cuts.deaf.insert(node)),
    })?;
    history.event(Op::Fault { fault: way.name(), node });
    Ok(())
}

pub fn heal(cluster: &Cluster, node: usize, way: Way, history: &History) -> anyhow::Result<()> {
    let fault = match way {
        Way::Mute => "mute_healed",
        Way::Deaf => "deaf_healed",
    };
    history.event(Op::Fault { fault, node });
    cluster.network()?.change(|cuts| match way {
        Way::Mute => drop(cuts.mute.remove(&node)),
        Way::Deaf => drop(cuts.deaf.remove(&node)),
    })
}
