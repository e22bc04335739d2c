// SPDX-License-Identifier: Apache-2.0
//! What does the resolver do with names that no server need be asked for, and with the records of an answer?

use super::*;
use std::path::PathBuf;

fn resolver() -> Resolver {
    Resolver::new(&DnsSettings {
        servers: vec![],
        hosts_file: PathBuf::from("/nonexistent/hosts"),
        resolv_conf: PathBuf::from("/nonexistent/resolv.conf"),
        order: ["LAST", "SRV", "A", "CNAME"].map(str::to_owned).into(),
        srv_of_services_only: false,
        valid_ttl_ms: None,
        stale_ttl_ms: 3_600_000,
        not_found_ttl_ms: 30_000,
        error_ttl_ms: 1000,
        cache_size: 10,
        no_sync: false,
    })
}

fn at_once(host: &str) -> Result<Arc<Answer>, Fault> {
    resolver().known(host).expect("no server need be asked")
}

#[test]
fn test_an_address_is_its_own_answer() {
    for (host, address) in [("10.0.0.1", "10.0.0.1"), ("::1", "::1"), ("[::1]", "::1")] {
        let answer = at_once(host).expect(host);
        assert_eq!((answer.kind, answer.records[0].address.to_string().as_str()), (Kind::Address, address));
    }
}

#[test]
fn test_localhost_without_an_entry_is_127_0_0_1() {
    for host in ["localhost", "LocalHost.", "a.localhost"] {
        assert_eq!(at_once(host).expect(host).records[0].address, IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}

#[test]
fn test_what_is_below_invalid_does_not_exist() {
    let fault = at_once("nonexistent.invalid").expect_err("there is none");
    assert_eq!(fault.status(), 503);
    let name = "nonexistent.invalid";
    let tried = format!("\"{name}:33 - {0}\",\"{name}:1 - {0}\",\"{name}:5 - {0}\"", "dns server error: 3 name error");
    let text = format!("DNS resolution failed: dns server error: 3 name error. Tried: [\"(short){name}:(na) - cache-miss\",{tried}]");
    assert_eq!(fault.phrase(), text);
}

#[test]
fn test_a_name_that_cannot_be_is_refused_with_a_reason() {
    let fault = at_once("a..test").expect_err("it cannot be");
    assert_eq!(fault.status(), 503);
    assert!(fault.phrase().contains("a label is empty"), "{}", fault.phrase());
}

fn answer_of(kind: Kind, weights: &[u32]) -> Answer {
    let record = |(index, &weight): (usize, &u32)| {
        let weight = (kind == Kind::Srv).then_some(weight);
        Record { weight, ..Record::at(IpAddr::from([10, 0, 0, index as u8])) }
    };
    Answer { kind, records: weights.iter().enumerate().map(record).collect(), is_once: false }
}

fn shares(resolver: &Resolver, answer: &Answer, turns: usize) -> Vec<usize> {
    let mut counts = vec![0; answer.records.len()];
    for _ in 0..turns {
        let record = resolver.turn(answer);
        counts[answer.records.iter().position(|other| other == record).expect("a record of the answer")] += 1;
    }
    counts
}

#[test]
fn test_records_take_turns() {
    let resolver = resolver();
    let (one, other) = (answer_of(Kind::A, &[1, 1, 1]), answer_of(Kind::A, &[1, 1]));
    let mut counts = vec![0; 2];
    for _ in 0..100 {
        resolver.turn(&one);
        counts[usize::from(resolver.turn(&other) == &other.records[1])] += 1;
    }
    assert_eq!(counts, [50, 50]);
    assert_eq!(shares(&resolver, &one, 300), [100, 100, 100]);
}

#[test]
fn test_srv_records_take_turns_by_weight() {
    let counts = shares(&resolver(), &answer_of(Kind::Srv, &[1, 3, 6]), 1000);
    for (count, expected) in counts.iter().zip([100usize, 300, 600]) {
        assert!(count.abs_diff(expected) <= 3, "{counts:?}");
    }
    let largest = answer_of(Kind::Srv, &[u32::MAX; 256]);
    assert!(shares(&resolver(), &largest, 1024).iter().all(|&count| count.abs_diff(4) <= 1));
}
