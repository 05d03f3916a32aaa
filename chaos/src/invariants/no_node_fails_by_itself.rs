//! No node ends unless it is made to, and none panics.

pub fn check(ended: Vec<String>, logs: &[(String, String)]) -> Vec<String> {
    let mut breaks = ended;
    for (node, log) in logs {
        let panics = log.lines().filter(|line| line.contains("panicked at"));
        breaks.extend(panics.map(|line| format!("{node}: {}", line.trim())));
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_panics() {
        let log = |text: &str| vec![("n1".to_owned(), text.to_owned())];
        assert_eq!(check(Vec::new(), &log("all is well\n")), [""; 0]);
        assert_eq!(check(Vec::new(), &log("thread 'x' panicked at a.rs:1\n")).len(), 1);
    }
}
