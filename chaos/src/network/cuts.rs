//! Which ways between nodes are cut, and what the rest loses: pure, up to the rules for the switch. For `network`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// What does not get through. Empty: everything does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// From these nodes nothing gets out, to no other node.
    pub mute: BTreeSet<usize>,
    /// To these nodes nothing gets in, from no other node.
    pub deaf: BTreeSet<usize>,
    /// Of all frames between nodes, so many of a hundred are lost, by chance.
    pub loss_percent: u8,
    /// Lines on which everything takes its time; `delay` carries what goes over them.
    pub slow: Option<Slow>,
    /// Between these nodes and their clients nothing gets through, in neither direction.
    pub without_clients: BTreeSet<usize>,
}

/// What is slow, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// All lines of these.
    pub nodes: BTreeSet<usize>,
    /// How long it takes, one way.
    pub millis: RangeInclusive<u64>,
}

impl Slow {
    /// Whether the line from one node to another is slow.
    pub fn has(&self, from: usize, to: usize) -> bool {
        from != to && (self.nodes.contains(&from) || self.nodes.contains(&to))
    }
}

/// The switch's end of a node's cable.
pub fn port(node: usize) -> String {
    format!("n{}", node + 1)
}

impl Cuts {
    /// The whole set of rules, which takes the place of the one before at once. Frames are dropped whatever they are: the
    /// other side does not refuse, it is silent, down to the question for its hardware address. Clients are all who call
    /// from one address.
    pub fn rules(&self, clients: IpAddr) -> String {
        let table = "table bridge chaos";
        let mut rules = format!("{table} {{}}\nflush {table}\n{table} {{\n");
        rules += "  chain forward {\n    type filter hook forward priority 0; policy accept;\n";
        for node in &self.mute {
            let _infallible = writeln!(rules, "    iifname \"{}\" counter drop", port(*node));
        }
        for node in &self.deaf {
            let _infallible = writeln!(rules, "    oifname \"{}\" counter drop", port(*node));
        }
        for node in self.slow.iter().flat_map(|slow| &slow.nodes) {
            // To each other port of the switch, which itself is none: whoever sits at it is reached as always.
            let _infallible = writeln!(rules, "    iifname \"{}\" counter drop", port(*node));
            let _infallible = writeln!(rules, "    oifname \"{}\" counter drop", port(*node));
        }
        if self.loss_percent > 0 {
            let _infallible = writeln!(rules, "    numgen random mod 100 < {} counter drop", self.loss_percent);
        }
        rules += "  }\n  chain input {\n    type filter hook input priority 0; policy accept;\n";
        for node in &self.without_clients {
            let _infallible = writeln!(rules, "    iifname \"{}\" ip daddr {clients} counter drop", port(*node));
        }
        rules += "  }\n  chain output {\n    type filter hook output priority 0; policy accept;\n";
        for node in &self.without_clients {
            let _infallible = writeln!(rules, "    oifname \"{}\" ip saddr {clients} counter drop", port(*node));
        }
        rules += "  }\n}\n";
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_the_ports_of_those_who_are_cut_off() {
        let clients = IpAddr::from([10, 0, 0, 9]);
        let nothing = Cuts::default().rules(clients);
        assert!(!nothing.contains("drop"), "{nothing}");
        let cuts = Cuts {
            mute: BTreeSet::from([0]),
            deaf: BTreeSet::from([0, 2]),
            loss_percent: 5,
            slow: Some(Slow { nodes: BTreeSet::from([1]), millis: 1..=2 }),
            without_clients: BTreeSet::from([1]),
        };
        let rules = cuts.rules(clients);
        let drops: Vec<&str> = rules.lines().map(str::trim).filter(|line| line.ends_with("drop")).collect();
        let wanted = [
            "iifname \"n1\" counter drop",
            "oifname \"n1\" counter drop",
            "oifname \"n3\" counter drop",
            "iifname \"n2\" counter drop",
            "oifname \"n2\" counter drop",
            "numgen random mod 100 < 5 counter drop",
            "iifname \"n2\" ip daddr 10.0.0.9 counter drop",
            "oifname \"n2\" ip saddr 10.0.0.9 counter drop",
        ];
        assert_eq!(drops, wanted);
    }

    #[test]
    fn a_line_is_slow_in_both_directions_when_one_of_its_ends_is() {
        let slow = Slow { nodes: BTreeSet::from([1]), millis: 1..=2 };
        assert!(slow.has(0, 1) && slow.has(1, 2));
        assert!(!slow.has(0, 2) && !slow.has(1, 1));
    }
}
