//! Which ways between nodes are cut, and what the rest loses: pure, up to the rules for the switch. For `network`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What does not get through. Empty: everything does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// From these nodes nothing gets out, to no other node.
    pub mute: BTreeSet<usize>,
    /// To these nodes nothing gets in, from no other node.
    pub deaf: BTreeSet<usize>,
    /// Of all frames between nodes, so many of a hundred are lost, by chance.
    pub loss_percent: u8,
}

/// The switch's end of a node's cable.
pub fn port(node: usize) -> String {
    format!("n{}", node + 1)
}

impl Cuts {
    /// The whole set of rules, which takes the place of the one before at once. Frames are dropped whatever they are: the
    /// other side does not refuse, it is silent, down to the question for its hardware address.
    pub fn rules(&self) -> String {
        let table = "table bridge chaos";
        let mut rules = format!("{table} {{}}\nflush {table}\n{table} {{\n");
        rules += "  chain forward {\n    type filter hook forward priority 0; policy accept;\n";
        for node in &self.mute {
            let _infallible = writeln!(rules, "    iifname \"{}\" counter drop", port(*node));
        }
        for node in &self.deaf {
            let _infallible = writeln!(rules, "    oifname \"{}\" counter drop", port(*node));
        }
        if self.loss_percent > 0 {
            let _infallible = writeln!(rules, "    numgen random mod 100 < {} counter drop", self.loss_percent);
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
        let nothing = Cuts::default().rules();
        assert!(!nothing.contains("drop"), "{nothing}");
        let cuts = Cuts { mute: BTreeSet::from([0]), deaf: BTreeSet::from([0, 2]), loss_percent: 5 }.rules();
        let drops: Vec<&str> = cuts.lines().map(str::trim).filter(|line| line.ends_with("drop")).collect();
        let wanted = [
            "iifname \"n1\" counter drop",
            "oifname \"n1\" counter drop",
            "oifname \"n3\" counter drop",
            "numgen random mod 100 < 5 counter drop",
        ];
        assert_eq!(drops, wanted);
    }
}
