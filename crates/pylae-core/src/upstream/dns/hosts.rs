// SPDX-License-Identifier: Apache-2.0
//! Which names does the hosts file give addresses to?

use super::{Answer, Kind, Record};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The names of a hosts file.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    answers: HashMap<Box<str>, Arc<Answer>>,
}

impl Hosts {
    /// Reads the text of a hosts file. A name has the addresses of one family: of the preferred one unless it has none there.
    /// Answers that are as they were `before` stay the same.
    pub fn parse(text: &str, prefers_ipv6: bool, before: &Hosts) -> Self {
        let mut found: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
            for name in words {
                found.entry(name.to_ascii_lowercase()).or_default().push(address);
            }
        }
        let answers = found.into_iter().map(|(name, mut addresses)| {
            if addresses.iter().any(|address| address.is_ipv6() == prefers_ipv6) {
                addresses.retain(|address| address.is_ipv6() == prefers_ipv6);
            }
            let mut seen = HashSet::new();
            addresses.retain(|&address| seen.insert(address));
            let records = addresses.into_iter().map(Record::at).collect();
            let answer = Answer::new(Kind::Hosts, records);
            let kept = before.answers.get(name.as_str()).filter(|known| ***known == answer).cloned();
            (name.into_boxed_str(), kept.unwrap_or_else(|| Arc::new(answer)))
        });
        Hosts { answers: answers.collect() }
    }

    /// What the file says of a name, lower case, without a dot at its end.
    pub fn get(&self, name: &str) -> Option<&Arc<Answer>> {
        self.answers.get(name)
    }

    /// Does another file say the same?
    pub fn is_same(&self, other: &Hosts) -> bool {
        self.answers == other.answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(hosts: &Hosts, name: &str) -> Vec<String> {
        hosts.get(name).map(|answer| answer.records.iter().map(|record| record.address.to_string()).collect()).unwrap_or_default()
    }

    #[test]
    fn test_a_name_has_the_addresses_of_the_preferred_family() {
        let text = "127.0.0.1 Localhost loopback # here\n::1 localhost\n10.0.0.1 two\n10.0.0.2 two\n10.0.0.1 two\n::2 six\nnonsense x\n";
        let hosts = Hosts::parse(text, false, &Hosts::default());
        assert_eq!(addresses(&hosts, "localhost"), ["127.0.0.1"]);
        assert_eq!(addresses(&hosts, "two"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(addresses(&hosts, "six"), ["::2"]);
        assert!(hosts.get("x").is_none() && hosts.get("here").is_none());
        assert_eq!(addresses(&Hosts::parse(text, true, &hosts), "localhost"), ["::1"]);
    }

    #[test]
    fn test_answers_that_did_not_change_stay_the_same() {
        let first = Hosts::parse("10.0.0.1 a\n10.0.0.1 b", false, &Hosts::default());
        let second = Hosts::parse("10.0.0.1 a\n10.0.0.2 b", false, &first);
        let of = |hosts: &Hosts, name: &str| Arc::clone(hosts.get(name).expect(name));
        assert!(Arc::ptr_eq(&of(&first, "a"), &of(&second, "a")));
        assert!(!Arc::ptr_eq(&of(&first, "b"), &of(&second, "b")));
        assert!(!first.is_same(&second));
    }
}
