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
    Answer::new(kind, weights.iter().enumerate().map(record).collect())
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

#[test]
fn test_how_an_answer_stands_is_told_of_literals_and_of_the_hosts_file() {
    let resolver = resolver();
    let state = |host: &str| resolver.facts(host, std::time::Instant::now()).map(|facts| (facts.state.name(), facts.age));
    assert_eq!(state("10.0.0.1"), Some(("literal", None)));
    assert_eq!(state("[::1]"), Some(("literal", None)));
    assert_eq!(state("Localhost"), Some(("hosts", None)));
    assert_eq!(state("nobody-asked.test"), None);
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

fn found(kind: Kind, asked: Type, broken: Vec<(Type, String)>) -> resolve::Found {
    let records = vec![Record::at(IpAddr::from([10, 0, 0, kind as u8]))];
    resolve::Found { kind, records, ttl_s: 0, asked, is_whole: true, broken, tried: Vec::new() }
}

fn failed(is_gone: bool) -> Failure {
    Failure { is_not_found: true, is_gone, ..Failure::of("no") }
}

#[test]
fn test_services_that_cannot_be_had_are_not_replaced_by_addresses() {
    run(async {
        let resolver = resolver();
        let state = &resolver.state;
        let (begun, broken) = (Instant::now(), || vec![(Type::Srv, "server failure".to_owned())]);
        // Nothing better is known: the addresses serve, and SRV is asked for first next time.
        let first = state.remember("a.test", Ok(found(Kind::A, Type::A, broken())), None, begun).expect("addresses");
        assert_eq!((first.kind, state.entries.borrow().get("a.test").and_then(|entry| entry.last)), (Kind::A, None));
        let services = state.remember("a.test", Ok(found(Kind::Srv, Type::Srv, vec![])), None, begun).expect("services");
        let kept = state.remember("a.test", Ok(found(Kind::A, Type::A, broken())), None, begun).expect("the services");
        assert!(Arc::ptr_eq(&services, &kept));
        assert_eq!(state.entries.borrow().get("a.test").and_then(|entry| entry.last), Some(Type::Srv));
        // That there are none any more is another matter.
        let moved = state.remember("a.test", Ok(found(Kind::A, Type::A, vec![])), None, begun).expect("addresses");
        assert_eq!(moved.kind, Kind::A);
    });
}

#[test]
fn test_only_a_name_that_is_gone_ends_what_serves() {
    run(async {
        for (is_new, is_gone, is_kept) in [(false, false, true), (false, true, false), (true, true, true)] {
            let resolver = Resolver::new(&DnsSettings { srv_of_services_only: is_new, ..settings() });
            let (state, begun) = (&resolver.state, Instant::now());
            // A TTL of 0 changes nothing about it.
            state.remember("a.test", Ok(found(Kind::A, Type::A, vec![])), None, begun).expect("addresses");
            let generation = resolver.generation();
            assert_eq!(state.remember("a.test", Err(failed(is_gone)), None, begun).is_ok(), is_kept, "{is_new} {is_gone}");
            assert_eq!(resolver.generation() == generation, is_kept);
            assert_eq!(resolver.known("a.test").expect("something").is_ok(), is_kept);
        }
    });
}

#[test]
fn test_an_answer_that_is_not_whole_is_asked_for_soon_whatever_the_settings() {
    run(async {
        let resolver = Resolver::new(&DnsSettings { valid_ttl_ms: Some(3_600_000), ..settings() });
        let begun = Instant::now();
        for (is_whole, ttl) in [(true, Duration::from_secs(3600)), (false, INCOMPLETE_TTL)] {
            let found = resolve::Found { is_whole, ..found(Kind::Srv, Type::Srv, vec![]) };
            resolver.state.remember("a.test", Ok(found), None, begun).expect("services");
            assert_eq!(
                resolver.state.entries.borrow().get("a.test").and_then(|entry| entry.known.clone()).map(|known| known.ttl),
                Some(ttl)
            );
        }
    });
}

#[test]
fn test_names_wanted_ahead_of_requests_outlive_any_flood() {
    run(async {
        let (resolver, _socket) = resolver_of_silence().await;
        let state = &resolver.state;
        let ttl = |kind, asked| resolve::Found { ttl_s: 60, ..found(kind, asked, vec![]) };
        for number in 0..50 {
            let name = format!("kept-{number}.test");
            assert_eq!(resolver.known(&name), None);
            state.remember(&name, Ok(ttl(Kind::A, Type::A)), None, Instant::now()).expect("addresses");
        }
        let generation = resolver.generation();
        for number in 0..1000 {
            let _ = state.remember(&format!("flood-{number}.test"), Err(failed(true)), None, Instant::now());
        }
        assert!((0..50).all(|number| resolver.known(&format!("kept-{number}.test")).is_some_and(|found| found.is_ok())));
        assert_eq!(resolver.generation(), generation + 1000, "each failure is new; what goes for it is no change");
    });
}

#[test]
fn test_what_is_refused_or_over_the_rate_is_reported_later() {
    run(async {
        let resolver = resolver();
        let (told, refuses) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(true)));
        let (of_sink, is_refused) = (Rc::clone(&told), Rc::clone(&refuses));
        resolver.set_sink(Box::new(move |item| {
            let report: serde_json::Value = serde_json::from_slice(item).expect("JSON");
            if !is_refused.get() {
                of_sink.borrow_mut().push(report["name"].as_str().expect("a name").to_owned());
            }
            !is_refused.get()
        }));
        let names: Vec<String> = (0..3 * reports::REPORTS_PER_TICK / 2).map(|number| format!("n{number}.test")).collect();
        let begun = Instant::now();
        for name in names.iter().take(10) {
            resolver.state.remember(name, Ok(found(Kind::A, Type::A, vec![])), None, begun).expect("addresses");
        }
        for _ in 0..3 {
            resolver.state.report_some();
        }
        assert!(told.borrow().is_empty());
        refuses.set(false);
        resolver.state.report_some();
        let first: Vec<String> = told.borrow_mut().drain(..).collect();
        assert_eq!(first.len(), 10);
        resolver.report_all();
        while told.borrow().len() < first.len() {
            tokio::task::yield_now().await;
        }
        assert!(begun.elapsed() >= REPORT_PAUSE, "a name is not told of twice in so short a time");
    });
}
