// SPDX-License-Identifier: Apache-2.0
//! What does the resolver do with names that no server need be asked for, with the records of an answer, and with a flood?

use super::*;
use std::future::Future;
use std::path::PathBuf;

fn settings() -> DnsSettings {
    DnsSettings {
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
    }
}

fn resolver() -> Resolver {
    Resolver::new(&settings())
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
    assert!(shares(&resolver(), &largest, 1024).iter().all(|&count| count.abs_diff(4) <= 2));
}

/// A resolver whose server takes questions and says nothing.
async fn resolver_of_silence() -> (Resolver, tokio::net::UdpSocket) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("an address").to_string();
    (Resolver::new(&DnsSettings { servers: vec![address], error_ttl_ms: 0, ..settings() }), socket)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn test_requests_wait_for_so_many_names_at_most() {
    run(async {
        let (resolver, _socket) = resolver_of_silence().await;
        let resolver = Rc::new(resolver);
        let tasks: Vec<_> = (0..MOST_AWAITED)
            .map(|number| {
                let resolver = Rc::clone(&resolver);
                tokio::task::spawn_local(async move { resolver.look_up(&format!("n{number}.test")).await })
            })
            .collect();
        while resolver.state.awaited.get() < MOST_AWAITED {
            tokio::task::yield_now().await;
        }
        let fault = resolver.look_up("one-more.test").await.expect_err("there is no room");
        assert!(fault.phrase().contains(CROWD), "{}", fault.phrase());
        // Those who wait for a name that is asked for already need no room.
        let joined = resolver.look_up("n0.test");
        assert!(tokio::time::timeout(Duration::from_millis(1), joined).await.is_err());
        // Nor does what nobody waits for.
        assert_eq!(resolver.known("background.test"), None);
        assert_eq!(resolver.state.flights.borrow().len(), MOST_AWAITED + 1);
        drop(tasks);
    });
}

#[test]
fn test_a_name_that_is_being_looked_up_is_asked_for_once() {
    run(async {
        let (resolver, socket) = resolver_of_silence().await;
        assert_eq!(resolver.known("joined.test"), None);
        assert_eq!(resolver.known("Joined.test"), None);
        assert!(tokio::time::timeout(Duration::from_millis(1), resolver.look_up("joined.test")).await.is_err());
        assert_eq!(resolver.state.flights.borrow().len(), 1);
        let mut buffer = [0; 512];
        socket.recv(&mut buffer).await.expect("a question");
        assert!(socket.try_recv(&mut buffer).is_err(), "a second question");
    });
}
