// SPDX-License-Identifier: Apache-2.0
//! What does resolv.conf say: name servers, search domains, options?

use super::name;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// glibc's limits.
const MOST_SERVERS: usize = 3;
const MOST_SEARCH: usize = 6;
const MOST_NDOTS: usize = 15;
const LONGEST_TIMEOUT_S: u64 = 30;
const MOST_ATTEMPTS: usize = 5;

/// How long one server may take, and how often servers are asked, where nobody says: Kong's.
const TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: usize = 5;

/// What a resolv.conf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub servers: Vec<SocketAddr>,
    pub search: Vec<String>,
    pub ndots: usize,
    timeout: Option<Duration>,
    attempts: Option<usize>,
    /// Each question begins with the next server.
    pub rotates: bool,
}

impl ResolvConf {
    /// Lines that mean nothing are passed over, as in every resolver.
    pub fn parse(text: &str) -> Self {
        let mut found = ResolvConf { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: None, attempts: None, rotates: false };
        for line in text.lines() {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(parse_server);
                    found.servers.extend(server.filter(|_| found.servers.len() < MOST_SERVERS));
                }
                Some("domain") => found.search = words.take(1).filter_map(domain).collect(),
                Some("search") => found.search = words.filter_map(domain).take(MOST_SEARCH).collect(),
                Some("options") => words.for_each(|option| found.take_option(option)),
                _ => {}
            }
        }
        found
    }

    fn take_option(&mut self, option: &str) {
        self.rotates |= option == "rotate";
        let Some((key, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<usize>() else { return };
        match key {
            "ndots" => self.ndots = value.min(MOST_NDOTS),
            "timeout" => self.timeout = Some(Duration::from_secs((value as u64).clamp(1, LONGEST_TIMEOUT_S))),
            "attempts" => self.attempts = Some(value.clamp(1, MOST_ATTEMPTS)),
            _ => {}
        }
    }

    /// How long a server may take to answer one question.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// How often a question is sent, to so many servers one after the other.
    pub fn tries_of(&self, servers: usize) -> usize {
        self.attempts.map_or(TRIES.max(servers), |attempts| attempts * servers.max(1))
    }
}

/// A search domain; `.` adds nothing to a name.
fn domain(word: &str) -> Option<String> {
    let domain = name::bare(word).to_ascii_lowercase();
    name::flaw(&domain).is_none().then_some(domain)
}

/// `address` or `address:port`.
pub(super) fn parse_server(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    text.parse::<SocketAddr>().ok().or_else(|| bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_what_stands_in_a_resolv_conf() {
        let text = "# a comment\n; another\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver ::1\nnameserver nonsense\n\
            domain ignored.test\nsearch One.test two.test.  . \noptions ndots:3 timeout:4 attempts:2 rotate edns0 ndots:x\n";
        let found = ResolvConf::parse(text);
        let servers: Vec<String> = found.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53"]);
        assert_eq!(found.search, ["one.test", "two.test"]);
        assert_eq!((found.ndots, found.timeout(), found.tries_of(2)), (3, Duration::from_secs(4), 4));
        assert!(found.rotates);
    }

    #[test]
    fn test_options_are_bounded() {
        let found = ResolvConf::parse("options ndots:99 timeout:99999 attempts:0");
        assert_eq!((found.ndots, found.timeout(), found.tries_of(2)), (15, Duration::from_secs(30), 2));
    }

    #[test]
    fn test_where_nothing_is_said_kong_s_patience_holds() {
        let found = ResolvConf::parse("");
        assert_eq!((found.ndots, found.timeout(), found.tries_of(2)), (1, Duration::from_secs(2), 5));
        assert!(!found.rotates);
        assert!(found.servers.is_empty() && found.search.is_empty());
    }

    #[test]
    fn test_servers_may_have_a_port() {
        for (text, address) in
            [("10.0.0.1", "10.0.0.1:53"), ("10.0.0.1:5353", "10.0.0.1:5353"), ("[::1]", "[::1]:53"), ("[::1]:5", "[::1]:5")]
        {
            assert_eq!(parse_server(text), address.parse().ok(), "{text}");
        }
        assert_eq!(parse_server("name.test"), None);
    }
}
