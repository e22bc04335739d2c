// SPDX-License-Identifier: Apache-2.0
//! Do streams find their Routes?

use super::*;
use crate::snapshot::model::Endpoint;
use std::net::SocketAddr;

fn tcp(source: &str, destination: &str) -> StreamView<'static> {
    StreamView { is_udp: false, is_tls: false, source: source.parse().unwrap(), destination: destination.parse().unwrap(), sni: None }
}

fn tls(destination: &str, sni: &'static str) -> StreamView<'static> {
    StreamView { is_tls: true, sni: Some(sni.as_bytes()), ..tcp("192.0.2.1:5", destination) }
}

fn find(router: &Router, view: &StreamView<'_>) -> Option<u32> {
    let found = router.match_stream(view);
    let walked = router.matcher.streams.find_by_walking(view).map(|route| router.rows[route as usize].route.id);
    assert_eq!(found.as_ref().map(|found| found.route.id), walked, "{view:?}");
    number(found)
}

#[test]
fn sources_and_destinations_are_addresses_blocks_or_ports() {
    let router = router(&[
        "protocols=tcp sources=10.0.0.0/8 destinations=|9000",
        "protocols=tcp destinations=127.0.0.1|9001,127.0.0.2|9002",
        "protocols=tcp sources=10.1.0.7|53,fd00::/8",
    ]);
    assert_eq!(find(&router, &tcp("10.2.3.4:1", "127.0.0.1:9000")), Some(0));
    assert_eq!(find(&router, &tcp("11.2.3.4:1", "127.0.0.1:9000")), None);
    assert_eq!(find(&router, &tcp("11.2.3.4:1", "127.0.0.1:9001")), Some(1));
    assert_eq!(find(&router, &tcp("11.2.3.4:1", "127.0.0.2:9001")), None);
    assert_eq!(find(&router, &tcp("10.1.0.7:53", "127.0.0.1:1")), Some(2));
    assert_eq!(find(&router, &tcp("10.1.0.7:54", "127.0.0.1:1")), None);
    assert_eq!(find(&router, &tcp("[fd12::1]:54", "[::1]:1")), Some(2));
    // An IPv4 client of a socket that speaks both.
    assert_eq!(find(&router, &tcp("[::ffff:10.2.3.4]:1", "127.0.0.1:9000")), Some(0));
}

#[test]
fn bits_after_the_prefix_do_not_count() {
    let router = router(&["protocols=tcp sources=10.1.2.3/8"]);
    assert_eq!(find(&router, &tcp("10.9.9.9:1", "127.0.0.1:1")), Some(0));
}

#[test]
fn snis_matter_over_tls_only_and_a_trailing_dot_does_not() {
    let router = router(&["protocols=tls snis=a.example.,*.b.example", "protocols=tcp,tls snis=c.example destinations=|1"]);
    assert_eq!(find(&router, &tls("127.0.0.1:1", "a.example")), Some(0));
    assert_eq!(find(&router, &tls("127.0.0.1:1", "x.b.example")), Some(0));
    assert_eq!(find(&router, &tls("127.0.0.1:1", "c.example")), Some(1));
    assert_eq!(find(&router, &tls("127.0.0.1:1", "d.example")), None);
    assert_eq!(find(&router, &tcp("192.0.2.1:1", "127.0.0.1:1")), Some(1));
}

#[test]
fn protocols_of_streams_are_a_condition() {
    let router = router(&[
        "protocols=udp destinations=|1",
        "protocols=tls destinations=|2",
        "protocols=tls_passthrough destinations=|3",
        "protocols=tcp destinations=|4",
    ]);
    let udp = |destination: &str| StreamView { is_udp: true, ..tcp("192.0.2.1:1", destination) };
    assert_eq!(find(&router, &udp("127.0.0.1:1")), Some(0));
    assert_eq!(find(&router, &tcp("192.0.2.1:1", "127.0.0.1:1")), None);
    assert_eq!(find(&router, &tcp("192.0.2.1:1", "127.0.0.1:2")), None);
    assert_eq!(find(&router, &tls("127.0.0.1:2", "a")), Some(1));
    assert_eq!(find(&router, &tls("127.0.0.1:3", "a")), Some(2));
    assert_eq!(find(&router, &udp("127.0.0.1:4")), None);
    assert_eq!(find(&router, &tls("127.0.0.1:4", "a")), Some(3));
}

#[test]
fn more_attributes_come_first_and_then_the_greater_id() {
    let rows = ["protocols=tcp destinations=|1", "protocols=tcp sources=10.0.0.0/8 destinations=|1", "protocols=tcp destinations=|1"];
    for options in [RouterOptions::default(), DOCUMENTED] {
        let router = router_with(&rows, options);
        assert_eq!(find(&router, &tcp("10.0.0.1:1", "127.0.0.1:1")), Some(1));
        assert_eq!(find(&router, &tcp("11.0.0.1:1", "127.0.0.1:1")), Some(2));
    }
}

#[test]
fn traditional_weighs_snis_sources_and_destinations() {
    let options = RouterOptions { flavour: Flavour::Traditional, ranking: Ranking::Kong };
    let rows = [
        "protocols=tls destinations=|1 created_at=1",
        "protocols=tls sources=192.0.2.0/24 created_at=2",
        "protocols=tls snis=s created_at=3",
        "protocols=tls destinations=|1 created_at=0",
    ];
    let router = router_with(&rows, options);
    assert_eq!(find(&router, &tls("127.0.0.1:1", "s")), Some(2));
    assert_eq!(find(&router, &tls("127.0.0.1:1", "t")), Some(1));
    assert_eq!(find(&router, &StreamView { source: "10.0.0.1:1".parse().unwrap(), ..tls("127.0.0.1:1", "t") }), Some(3));
}

#[test]
fn expressions_route_streams() {
    let options = RouterOptions { flavour: Flavour::Expressions, ranking: Ranking::Kong };
    let row = |number: u32, priority: u64, text: &str| {
        let mut row = route(number, "protocols=tcp,tls");
        (row.expression, row.priority) = (Some(text.into()), Some(priority));
        (compiled(row, options), None)
    };
    let router = Router::new(
        vec![
            row(0, 5, "net.dst.port == 9000 && net.src.ip in 10.0.0.0/8"),
            row(1, 1, r#"net.protocol == "tls" && tls.sni =^ ".example""#),
            row(2, 0, "net.dst.ip == 127.0.0.1"),
            (compiled(route(3, "protocols=tcp destinations=|9000"), options), None),
        ],
        options,
    );
    assert_eq!(find(&router, &tcp("10.0.0.1:1", "127.0.0.1:9000")), Some(0));
    assert_eq!(find(&router, &tls("127.0.0.1:9000", "a.example")), Some(1));
    assert_eq!(find(&router, &tcp("11.0.0.1:1", "127.0.0.1:9000")), Some(2));
    assert_eq!(find(&router, &tcp("11.0.0.1:1", "127.0.0.2:9000")), Some(3));
}

#[test]
fn what_is_no_address_is_refused() {
    for ip in ["10.0.0.0/33", "x", "10.0.0", "10.0.0.0/", "fd00::/129"] {
        let mut row = route(1, "protocols=tcp");
        row.sources = Some(vec![Endpoint { ip: Some(ip.into()), port: None }]);
        assert!(CompiledRoute::new(Arc::new(row), RouterOptions::default()).is_err(), "{ip}");
    }
}

/// What the documents say, of every Route in turn: the conditions, then number of attributes, then what ends ties.
fn expected(rows: &[Route], view: &StreamView<'_>, is_traditional: bool) -> Option<u32> {
    let list = |values: &Option<Vec<Endpoint>>| values.clone().unwrap_or_default();
    let is_in = |ip: &str, address: std::net::IpAddr| match ip.split_once('/') {
        Some(("10.0.0.0", "8")) => address.to_string().starts_with("10."),
        Some(("127.0.0.0", "8")) => address.to_string().starts_with("127."),
        Some(other) => panic!("no block {other:?}"),
        None => address.to_string() == ip,
    };
    let any = |endpoints: &[Endpoint], address: SocketAddr| {
        let holds = |endpoint: &Endpoint| {
            endpoint.ip.as_ref().is_none_or(|ip| is_in(ip, address.ip())) && endpoint.port.is_none_or(|port| port == address.port())
        };
        endpoints.is_empty() || endpoints.iter().any(holds)
    };
    let holds = |row: &&Route| {
        let is_taken = row.protocols.iter().any(|protocol| match protocol.name() {
            "udp" => view.is_udp,
            "tcp" => !view.is_udp,
            _ => view.is_tls,
        });
        let snis = row.snis.clone().unwrap_or_default();
        let is_named = view.sni.is_some_and(|sni| {
            let sni = String::from_utf8_lossy(sni).into_owned();
            snis.iter().any(|name| name.strip_prefix('*').map_or(*name == sni, |end| sni.ends_with(end)))
        });
        is_taken
            && any(&list(&row.sources), view.source)
            && any(&list(&row.destinations), view.destination)
            && (snis.is_empty() || !view.is_tls || is_named)
    };
    let rank = |row: &&Route| {
        let set = [row.snis.is_some(), row.sources.is_some(), row.destinations.is_some()];
        let count = set.iter().filter(|is_set| **is_set).count();
        if is_traditional { (count, set, -row.created_at) } else { (count, [false; 3], i64::from(row.id.0[15])) }
    };
    rows.iter().filter(holds).max_by_key(rank).map(|row| u32::from(row.id.0[15]))
}

#[test]
fn the_tables_agree_with_the_walk_and_the_model_on_random_sets() {
    let traditional = RouterOptions { flavour: Flavour::Traditional, ranking: Ranking::Kong };
    let expressions = RouterOptions { flavour: Flavour::Expressions, ranking: Ranking::Kong };
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let mut matched = 0;
    for round in 0..400 {
        let options = [RouterOptions::default(), DOCUMENTED, traditional, expressions][round % 4];
        let rows: Vec<Route> = (0..=dice.roll(30) as u32)
            .map(|at| {
                let mut row =
                    format!("protocols={} created_at={}", dice.pick(&["tcp", "tls", "udp", "tcp,tls", "tls_passthrough"]), 900 - at);
                let fields = [
                    ("sources", &["10.0.0.0/8", "10.0.0.1|7", "|7"][..]),
                    ("destinations", &["|1", "127.0.0.1|1", "127.0.0.0/8", "|2"]),
                    ("snis", &["s", "*.s", "t"]),
                ];
                for (field, values) in fields {
                    if dice.is_one_in(2) {
                        row.push_str(&[" ", field, "=", &dice.some(values)].concat());
                    }
                }
                if row.split(' ').count() == 2 {
                    row.push_str(" destinations=|1");
                }
                route(at, &row)
            })
            .collect();
        let router = Router::new(rows.iter().map(|row| (compiled(row.clone(), options), None)).collect(), options);
        for _ in 0..40 {
            let is_udp = dice.is_one_in(4);
            let is_tls = !is_udp && dice.is_one_in(2);
            let view = StreamView {
                is_udp,
                is_tls,
                source: dice.pick(&["10.0.0.1:7", "10.0.0.2:8", "11.0.0.1:7"]).parse().unwrap(),
                destination: dice.pick(&["127.0.0.1:1", "127.0.0.2:2", "192.0.2.1:1"]).parse().unwrap(),
                sni: [None, Some(&b"s"[..]), Some(&b"x.s"[..]), Some(&b"t"[..])][dice.roll(4)].filter(|_| is_tls),
            };
            let found = find(&router, &view);
            assert_eq!(found, expected(&rows, &view, options == traditional), "{options:?} {view:?}\n{rows:#?}");
            matched += usize::from(found.is_some());
        }
    }
    assert!(matched > 4000, "hardly any stream matches: {matched}");
}
