// SPDX-License-Identifier: Apache-2.0
//! What is known of one name, until when, and what is told of it?

use super::query::Type;
use super::resolve::Failure;
use super::{Answer, DnsFacts, DnsState, Kind};
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An answer, and until when it is good.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub answer: Arc<Answer>,
    pub ttl: Duration,
    pub found: Instant,
    pub found_ms: u64,
    pub expires: Instant,
    pub stale_until: Instant,
    pub server: Option<SocketAddr>,
}

/// The newest look-up, if it failed.
#[derive(Debug, Clone)]
pub(super) struct Missed {
    pub failure: Rc<Failure>,
    pub since_ms: u64,
    pub until: Instant,
    pub ttl: Duration,
}

/// What is known of one name.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub known: Option<Known>,
    pub missed: Option<Missed>,
    /// The type that succeeded last.
    pub last: Option<Type>,
    pub took: Duration,
    pub reported: Option<Instant>,
    pub is_stale_told: bool,
}

/// What may be done with what is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Fresh(Arc<Answer>),
    /// It serves while it is refreshed; `may_ask`: and a refresh may begin.
    Stale {
        answer: Arc<Answer>,
        may_ask: bool,
    },
    /// It was good for one request.
    Once {
        answer: Arc<Answer>,
        age: Duration,
    },
    Failed(Rc<Failure>),
    /// A failure, which has expired too.
    Lapsed(Option<Rc<Failure>>),
}

impl Entry {
    pub fn standing(&self, now: Instant) -> Standing {
        let may_ask = self.missed.as_ref().is_none_or(|missed| now >= missed.until);
        if let Some(known) = &self.known {
            let answer = || Arc::clone(&known.answer);
            if known.answer.is_once {
                if may_ask {
                    return Standing::Once { answer: answer(), age: now.saturating_duration_since(known.found) };
                }
                // Nobody could be asked: what was good last is better than nothing.
                if now < known.stale_until {
                    return Standing::Stale { answer: answer(), may_ask };
                }
            } else if now < known.expires {
                return Standing::Fresh(answer());
            } else if now < known.stale_until {
                return Standing::Stale { answer: answer(), may_ask };
            }
        }
        let failure = self.missed.as_ref().map(|missed| Rc::clone(&missed.failure));
        match failure {
            Some(failure) if !may_ask => Standing::Failed(failure),
            failure => Standing::Lapsed(failure),
        }
    }

    /// How what is known stands for who uses it now.
    pub fn facts(&self, now: Instant) -> Option<DnsFacts> {
        let known = self.known.as_ref()?;
        let may_ask = self.missed.as_ref().is_none_or(|missed| now >= missed.until);
        let state = match known.answer.is_once {
            true if may_ask => DnsState::Once,
            false if now < known.expires => DnsState::Fresh,
            _ => DnsState::Stale,
        };
        Some(DnsFacts { state, age: Some(now.saturating_duration_since(known.found)), ttl: Some(known.ttl), server: known.server })
    }

    /// What may serve when nobody can be asked.
    pub fn serving(&self, now: Instant) -> Option<Arc<Answer>> {
        self.known.as_ref().filter(|known| now < known.stale_until).map(|known| Arc::clone(&known.answer))
    }

    /// `kind=A age_ms=12 ttl_s=30 is_stale=false server=10.0.0.1:53`
    pub fn describe(&self, now: Instant) -> String {
        match (&self.known, &self.missed) {
            (Some(known), missed) => {
                let age_ms = now.saturating_duration_since(known.found).as_millis();
                let is_stale = now >= known.expires && !known.answer.is_once;
                let mut text =
                    format!("kind={} age_ms={age_ms} ttl_s={} is_stale={is_stale}", known.answer.kind.name(), known.ttl.as_secs());
                if let Some(server) = known.server {
                    let _ = write!(text, " server={server}");
                }
                if let Some(missed) = missed {
                    let _ = write!(text, " refresh={:?}", missed.failure.text);
                }
                text
            }
            (None, Some(missed)) => format!("kind=none why={:?}", missed.failure.text),
            (None, None) => "kind=none".to_owned(),
        }
    }

    /// What control is told: one JSON object.
    pub fn report(&self, name: &str, now: Instant, now_ms: u64) -> Value {
        let from_now = |at: Instant| {
            let ahead = at.saturating_duration_since(now).as_millis() as i64 - now.saturating_duration_since(at).as_millis() as i64;
            now_ms as i64 + ahead
        };
        let known = self.known.as_ref().filter(|known| known.answer.is_once || now < known.stale_until);
        let missed = self.missed.as_ref();
        let failure = missed.map(|missed| &missed.failure);
        let tried: Vec<String> = failure.map(|failure| failure.tried.iter().map(|one| one.text("")).collect()).unwrap_or_default();
        let (ttl_s, found_ms, expires_ms, stale_until_ms) = match (known, missed) {
            (Some(known), _) => (known.ttl.as_secs_f64(), known.found_ms as i64, from_now(known.expires), from_now(known.stale_until)),
            (None, Some(missed)) => (missed.ttl.as_secs_f64(), missed.since_ms as i64, from_now(missed.until), from_now(missed.until)),
            (None, None) => (0.0, now_ms as i64, now_ms as i64, now_ms as i64),
        };
        json!({
            "name": name,
            "kind": known.map_or("none", |known| known.answer.kind.name()),
            "records": known.map(|known| records(&known.answer)).unwrap_or_default(),
            "ttl_s": ttl_s,
            "found_ms": found_ms,
            "expires_ms": expires_ms,
            "stale_until_ms": stale_until_ms,
            "is_stale": known.is_some_and(|known| !known.answer.is_once && now >= known.expires),
            "error": failure.map(|failure| failure.text.as_str()),
            "server": known.and_then(|known| known.server).map(|server| server.to_string()),
            "tried": tried,
            "took_ms": self.took.as_millis() as u64,
        })
    }
}

/// What control is told of a name in the hosts file.
pub(super) fn hosts_report(name: &str, answer: &Answer, now_ms: u64) -> Value {
    json!({
        "name": name, "kind": Kind::Hosts.name(), "records": records(answer), "ttl_s": null, "found_ms": now_ms, "expires_ms": null,
        "stale_until_ms": null, "is_stale": false, "error": null, "server": null, "tried": [], "took_ms": 0,
    })
}

fn records(answer: &Answer) -> Vec<Value> {
    let of = |record: &super::Record| json!({"address": record.address, "port": record.port, "weight": record.weight, "name": record.name});
    answer.records.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::dns::Record;

    fn known(is_once: bool) -> Known {
        let found = Instant::now();
        let records = [Record::at("10.0.0.1".parse().expect("an address"))].into();
        Known {
            answer: Arc::new(Answer { is_once, ..Answer::new(Kind::A, records) }),
            ttl: Duration::from_secs(10),
            found,
            found_ms: 1_000_000,
            expires: found + Duration::from_secs(10),
            stale_until: found + Duration::from_secs(100),
            server: "10.0.0.53:53".parse().ok(),
        }
    }

    fn missed(after_s: u64, found: Instant) -> Missed {
        let failure = Rc::new(Failure { is_not_found: false, is_gone: false, text: "timeout".to_owned(), tried: vec![] });
        Missed { failure, since_ms: 1_020_000, until: found + Duration::from_secs(after_s), ttl: Duration::from_secs(1) }
    }

    #[test]
    fn test_an_answer_is_fresh_then_stale_then_lapsed() {
        let known = known(false);
        let (answer, found) = (Arc::clone(&known.answer), known.found);
        let mut entry = Entry { known: Some(known), ..Entry::default() };
        let at = |entry: &Entry, s| entry.standing(found + Duration::from_secs(s));
        assert_eq!(at(&entry, 9), Standing::Fresh(Arc::clone(&answer)));
        assert_eq!(at(&entry, 10), Standing::Stale { answer: Arc::clone(&answer), may_ask: true });
        assert_eq!(at(&entry, 100), Standing::Lapsed(None));
        let state = |entry: &Entry, s| entry.facts(found + Duration::from_secs(s)).map(|facts| (facts.state, facts.age));
        assert_eq!(state(&entry, 9), Some((DnsState::Fresh, Some(Duration::from_secs(9)))));
        assert_eq!(state(&entry, 10), Some((DnsState::Stale, Some(Duration::from_secs(10)))));
        entry.missed = Some(missed(21, found));
        assert_eq!(at(&entry, 20), Standing::Stale { answer: Arc::clone(&answer), may_ask: false });
        assert_eq!(at(&entry, 21), Standing::Stale { answer, may_ask: true });
    }

    #[test]
    fn test_an_answer_of_ttl_0_is_good_once_or_while_nobody_can_be_asked() {
        let known = known(true);
        let (answer, found) = (Arc::clone(&known.answer), known.found);
        let mut entry = Entry { known: Some(known), ..Entry::default() };
        assert_eq!(entry.standing(found), Standing::Once { answer: Arc::clone(&answer), age: Duration::ZERO });
        assert_eq!(entry.facts(found).map(|facts| facts.state), Some(DnsState::Once));
        entry.missed = Some(missed(200, found));
        assert_eq!(entry.facts(found).map(|facts| (facts.state, facts.server)), Some((DnsState::Stale, "10.0.0.53:53".parse().ok())));
        assert_eq!(entry.standing(found), Standing::Stale { answer, may_ask: false });
        assert!(matches!(entry.standing(found + Duration::from_secs(100)), Standing::Failed(_)));
    }

    #[test]
    fn test_a_report_says_what_is_known_and_what_went_wrong() {
        let known = known(false);
        let found = known.found;
        let entry = Entry { known: Some(known), missed: Some(missed(21, found)), ..Entry::default() };
        let report = entry.report("a.test", found + Duration::from_secs(20), 1_020_000);
        assert_eq!(report["kind"], "A");
        assert_eq!(report["records"][0]["address"], "10.0.0.1");
        assert_eq!((&report["expires_ms"], &report["stale_until_ms"]), (&json!(1_010_000), &json!(1_100_000)));
        assert_eq!((&report["is_stale"], &report["error"], &report["server"]), (&json!(true), &json!("timeout"), &json!("10.0.0.53:53")));
    }
}
