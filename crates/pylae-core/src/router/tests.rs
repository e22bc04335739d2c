// SPDX-License-Identifier: Apache-2.0
//! Does the router choose what a real Kong chooses?
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod explanations;
mod expressions;
mod model;
mod streams;
mod traditional;

use super::*;
use crate::snapshot::Id;
use crate::snapshot::model::{Endpoint, PathHandling, Protocol, Raw};

fn id(number: u32) -> Id {
    let mut bytes = [0; 16];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Id(bytes)
}

fn blank(number: u32) -> Route {
    Route {
        id: id(number),
        created_at: 0,
        updated_at: 0,
        name: Some(format!("r{number}").into()),
        protocols: vec![Protocol::Http, Protocol::Https],
        https_redirect_status_code: 426,
        strip_path: true,
        preserve_host: false,
        request_buffering: true,
        response_buffering: true,
        tags: None,
        service: None,
        snis: None,
        sources: None,
        destinations: None,
        methods: None,
        hosts: None,
        paths: None,
        headers: None,
        regex_priority: Some(0),
        path_handling: Some(PathHandling::V0),
        expression: None,
        priority: None,
        raw: Raw::default(),
    }
}

fn protocol(name: &str) -> Protocol {
    let all = [
        Protocol::Grpc,
        Protocol::Grpcs,
        Protocol::Http,
        Protocol::Https,
        Protocol::Tcp,
        Protocol::Tls,
        Protocol::TlsPassthrough,
        Protocol::Udp,
    ];
    all.into_iter().find(|protocol| protocol.name() == name).unwrap()
}

/// `10.0.0.0/8`, `10.0.0.1|80` or `|80`.
fn endpoint(text: &str) -> Endpoint {
    let (ip, port) = text.split_once('|').unwrap_or((text, ""));
    Endpoint { ip: Some(ip.to_string()).filter(|ip| !ip.is_empty()), port: port.parse().ok() }
}

/// A Route in a line: `methods=GET,POST hosts=a,b paths=/x headers=x-a:1,2;x-b:3 snis=a`.
fn route(number: u32, conditions: &str) -> Route {
    let mut route = blank(number);
    for condition in conditions.split_whitespace() {
        let (field, values) = condition.split_once('=').unwrap();
        let list = Some(values.split(',').map(ToString::to_string).collect());
        match field {
            "methods" => route.methods = list,
            "hosts" => route.hosts = list,
            "paths" => route.paths = list,
            "snis" => route.snis = list,
            "regex_priority" => route.regex_priority = values.parse().ok(),
            "created_at" => route.created_at = values.parse().unwrap(),
            "path_handling" => route.path_handling = Some(if values == "v1" { PathHandling::V1 } else { PathHandling::V0 }),
            "protocols" => route.protocols = values.split(',').map(protocol).collect(),
            "sources" => route.sources = Some(values.split(',').map(endpoint).collect()),
            "destinations" => route.destinations = Some(values.split(',').map(endpoint).collect()),
            "headers" => {
                let parse = |header: &str| {
                    let (name, values) = header.split_once(':').unwrap();
                    (name.to_string(), values.split(',').map(ToString::to_string).collect())
                };
                route.headers = Some(values.split(';').map(parse).collect());
            }
            other => panic!("no field {other}"),
        }
    }
    route
}

fn router(routes: &[&str]) -> Router {
    router_with(routes, RouterOptions::default())
}

fn router_with(routes: &[&str], options: RouterOptions) -> Router {
    let compile = |(at, conditions): (usize, &&str)| (compiled(route(at as u32, conditions), options), None);
    Router::new(routes.iter().enumerate().map(compile).collect(), options)
}

fn compiled(route: Route, options: RouterOptions) -> Arc<CompiledRoute> {
    Arc::new(CompiledRoute::new(Arc::new(route), options).unwrap())
}

/// A request in a line: `GET host path name:value …`.
fn ask(router: &Router, line: &str) -> Option<Match> {
    ask_with(router, line, |_| {})
}

fn ask_with(router: &Router, line: &str, change: impl Fn(&mut RequestView<'_>)) -> Option<Match> {
    let mut words = line.split(' ');
    let method = words.next().unwrap();
    let (host, host_port) = split_host_port(words.next().unwrap().as_bytes());
    let path = words.next().unwrap();
    let mut headers = Headers::new();
    for word in words {
        let (name, value) = word.split_once(':').unwrap();
        headers.add(name, value);
    }
    let mut view = RequestView {
        is_https: false,
        method: method.as_bytes(),
        host,
        host_port,
        listen_port: 8000,
        path: path.as_bytes(),
        headers: &headers,
        sni: None,
        query: None,
        source: "192.0.2.7:4711".parse().unwrap(),
        local_address: "127.0.0.1".parse().unwrap(),
    };
    change(&mut view);
    let found = router.match_request(&view);
    let walked = router.match_by_walking(&view);
    assert_eq!(found.as_ref().map(|found| found.route.id), walked.map(|walked| walked.route.id), "index and walk differ for {line}");
    found
}

fn number(found: Option<Match>) -> Option<u32> {
    let bytes = found?.route.id.0;
    Some(u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]))
}

#[test]
fn every_condition_must_hold() {
    let router = router(&["methods=GET,POST hosts=a.example paths=/x headers=x-a:1,2;x-b:3"]);
    assert_eq!(number(ask(&router, "GET a.example /x/y x-a:2 x-b:3")), Some(0));
    assert_eq!(number(ask(&router, "PUT a.example /x/y x-a:2 x-b:3")), None);
    assert_eq!(number(ask(&router, "GET b.example /x/y x-a:2 x-b:3")), None);
    assert_eq!(number(ask(&router, "GET a.example /y x-a:2 x-b:3")), None);
    assert_eq!(number(ask(&router, "GET a.example /x x-a:2")), None);
    assert_eq!(number(ask(&router, "GET a.example /x x-a:3 x-b:3")), None);
    assert_eq!(number(ask(&router, "get a.example /x x-a:2 x-b:3")), None);
}

#[test]
fn hosts_are_compared_with_case_and_wildcards_at_either_end() {
    let router = router(&["hosts=a.example", "hosts=*.example", "hosts=www.*"]);
    assert_eq!(number(ask(&router, "GET a.example /")), Some(0));
    assert_eq!(number(ask(&router, "GET A.example /")), Some(1));
    assert_eq!(number(ask(&router, "GET b.c.example /")), Some(1));
    assert_eq!(number(ask(&router, "GET example /")), None);
    assert_eq!(number(ask(&router, "GET www.other /")), Some(2));
    assert_eq!(number(ask(&router, "GET www.b.example /")), Some(2));
}

#[test]
fn a_port_is_that_of_the_host_header_or_else_of_the_listener() {
    let router = router(&["hosts=a.example:9000", "hosts=*.b.example:8000"]);
    assert_eq!(number(ask(&router, "GET a.example:9000 /")), Some(0));
    assert_eq!(number(ask(&router, "GET a.example /")), None);
    assert_eq!(number(ask_with(&router, "GET a.example /", |view| view.listen_port = 9000)), Some(0));
    assert_eq!(number(ask(&router, "GET x.b.example /")), Some(1));
    assert_eq!(number(ask(&router, "GET x.b.example:81 /")), None);
}

#[test]
fn header_values_ignore_case_and_may_be_expressions() {
    let router = router(&["headers=X-A:Big", "headers=x-b:~*^v\\D+$", "headers=x_c:1"]);
    assert_eq!(number(ask(&router, "GET a / x-a:bIG")), Some(0));
    assert_eq!(number(ask(&router, "GET a / x-a:small x-a:big")), Some(0));
    assert_eq!(number(ask(&router, "GET a / x-b:Vab")), Some(1));
    assert_eq!(number(ask(&router, "GET a / x-b:v12")), None);
    assert_eq!(number(ask(&router, "GET a / x-c:1")), Some(2));
    assert_eq!(number(ask(&router, "GET a / x_c:1")), Some(2));
}

#[test]
fn snis_matter_over_tls_only() {
    let router = router(&["snis=a.example.,*.b.example"]);
    assert_eq!(number(ask(&router, "GET x /")), Some(0));
    let over_tls = |sni: Option<&'static str>| {
        number(ask_with(&router, "GET x /", |view| {
            view.is_https = true;
            view.sni = sni.map(str::as_bytes);
        }))
    };
    assert_eq!(over_tls(Some("a.example")), Some(0));
    assert_eq!(over_tls(Some("c.b.example")), Some(0));
    assert_eq!(over_tls(Some("c.example")), None);
    assert_eq!(over_tls(None), None);
}

#[test]
fn prefixes_are_of_bytes_and_the_longest_wins() {
    let router = router(&["paths=/", "paths=/ab", "paths=/ab/c"]);
    assert_eq!(number(ask(&router, "GET a /abc")), Some(1));
    assert_eq!(number(ask(&router, "GET a /ab/cd")), Some(2));
    assert_eq!(number(ask(&router, "GET a /a")), Some(0));
    assert_eq!(ask(&router, "GET a /abc").unwrap().matched_length, Some(3));
}

#[test]
fn expressions_are_anchored_at_the_start_only() {
    let router = router(&["paths=~/users/(?<id>\\d+)/(x)?"]);
    assert!(ask(&router, "GET a /v1/users/7/").is_none());
    let found = ask(&router, "GET a /users/42/x/rest").unwrap();
    assert_eq!(found.matched_length, Some("/users/42/x".len()));
    let captures = found.captures.unwrap();
    assert_eq!(captures.number(0), Some(&b"/users/42/x"[..]));
    assert_eq!(captures.number(1), Some(&b"42"[..]));
    assert_eq!(captures.name("id"), Some(&b"42"[..]));
    assert_eq!(captures.number(2), Some(&b"x"[..]));
    assert_eq!(captures.numbers().count(), 3);
    let captures = ask(&router, "GET a /users/42/").unwrap().captures.unwrap();
    assert_eq!(captures.number(2), None);
    assert_eq!(captures.numbers().count(), 2);
}

#[test]
fn an_expression_without_groups_has_no_captures() {
    let router = router(&["paths=~/a[0-9]+"]);
    let found = ask(&router, "GET a /a12/b").unwrap();
    assert_eq!(found.matched_length, Some(4));
    assert!(found.captures.is_none());
}

#[test]
fn the_anchor_binds_to_the_first_branch_only() {
    let router = router(&["paths=~/a$|/b"]);
    assert_eq!(number(ask(&router, "GET a /a")), Some(0));
    assert_eq!(number(ask(&router, "GET a /x/b")), Some(0));
}

// The ranks below were worked out by hand from the arithmetic of `Attributes::priority`.

#[test]
fn up_to_three_attributes_a_plain_host_outranks_any_count() {
    // 1 attribute, plain host: 0x1000_0000_2000_0000; 3 attributes without: 0x0000_0000_6010_0002.
    let router = router(&["hosts=a", "methods=GET paths=/x headers=x-a:1"]);
    assert_eq!(number(ask(&router, "GET a /x x-a:1")), Some(0));
    assert_eq!(number(ask(&router, "GET b /x x-a:1")), Some(1));
}

#[test]
fn up_to_three_attributes_an_expression_outranks_any_count() {
    // 0x0008_0000_2000_0000 against 0x0000_0000_6000_0002 (two and more).
    let router = router(&["paths=~/x", "methods=GET paths=/x hosts=*.a"]);
    assert_eq!(number(ask(&router, "GET b.a /x")), Some(0));
}

#[test]
fn four_attributes_outrank_everything_below() {
    // A wildcard host: 0xffff_ffff_8010_0002 against 0x1008_0000_6000_0000.
    let router = router(&["methods=GET hosts=a.b paths=~/x", "methods=GET hosts=*.b paths=/x headers=x-a:1"]);
    assert_eq!(number(ask(&router, "GET a.b /x x-a:1")), Some(1));
    assert_eq!(number(ask(&router, "GET a.b /x")), Some(0));
}

#[test]
fn among_four_attributes_plain_hosts_do_not_count() {
    // Equal but for the prefix: 0xffff_ffff_8010_0002 against 0xffff_ffff_8010_0003.
    let router = router(&["methods=GET hosts=a.b paths=/x headers=x-a:1", "methods=GET hosts=*.b paths=/x/ headers=x-a:1"]);
    assert_eq!(number(ask(&router, "GET a.b /x/ x-a:1")), Some(1));
}

#[test]
fn five_attributes_outrank_four() {
    let conditions = "methods=GET hosts=a.b paths=/x headers=x-a:1";
    let router = router(&[&format!("{conditions} snis=s"), conditions]);
    let found = ask_with(&router, "GET a.b /x x-a:1", |view| {
        view.is_https = true;
        view.sni = Some(b"s");
    });
    assert_eq!(number(found), Some(0));
}

#[test]
fn more_headers_outrank_longer_prefixes() {
    let router = router(&["paths=/x headers=x-a:1;x-b:2", "paths=/x/long headers=x-a:1"]);
    assert_eq!(number(ask(&router, "GET a /x/long x-a:1 x-b:2")), Some(0));
}

#[test]
fn a_regex_priority_ranks_expressions_and_a_negative_one_goes_on_top() {
    let router = router(&["paths=~/x regex_priority=1", "paths=~/x regex_priority=2", "paths=~/x/y regex_priority=-1"]);
    assert_eq!(number(ask(&router, "GET a /x")), Some(1));
    assert_eq!(number(ask(&router, "GET a /x/y")), Some(2));
}

#[test]
fn equal_ranks_go_to_the_greater_id() {
    let router = router(&["paths=/x", "paths=/x", "methods=GET hosts=a", "methods=GET hosts=a"]);
    assert_eq!(number(ask(&router, "GET b /x")), Some(1));
    assert_eq!(number(ask(&router, "GET a /y")), Some(3));
}

#[test]
fn mixed_paths_rank_each_by_its_own_length() {
    let router = router(&["paths=/a,/a/long,~/r/\\d", "paths=/a/l", "paths=/r/1"]);
    assert_eq!(number(ask(&router, "GET h /a/x")), Some(0));
    assert_eq!(number(ask(&router, "GET h /a/lx")), Some(1));
    assert_eq!(number(ask(&router, "GET h /a/long")), Some(0));
    assert_eq!(ask(&router, "GET h /a/long").unwrap().matched_length, Some(7));
    assert_eq!(number(ask(&router, "GET h /r/1")), Some(0));
}

#[test]
fn the_parts_of_a_split_route_tie_by_ids_of_their_own() {
    // Parts have version 5 ids derived from the Route's; these two are far above the ids 0 and 1.
    let router = router(&["paths=/a,/bb", "paths=/a"]);
    assert_eq!(number(ask(&router, "GET h /a")), Some(0));
    let parts = compiled(route(0, "paths=/a,/bb"), RouterOptions::default());
    let ids: Vec<String> = parts.conditions.alternatives.iter().map(|part| part.rank.id().to_string()).collect();
    // Python: uuid.uuid5(uuid.UUID('7f145bf9-0dce-4f91-98eb-debbce4b9f6b'), '00000000-0000-0000-0000-000000000000#1'), then #2
    assert_eq!(ids, ["5598fb02-7dd9-5fcb-8939-e97dbe249ebc", "f06eb11c-ab59-5a9d-9c4a-431eae3937fa"]);
    // One group is no split.
    let whole = compiled(route(7, "paths=/a,/b"), RouterOptions::default());
    assert_eq!(whole.conditions.alternatives.len(), 1);
    assert_eq!(whole.conditions.alternatives[0].rank.id(), id(7));
}

#[test]
fn streams_are_not_matched() {
    let mut stream = blank(1);
    stream.protocols = vec![Protocol::Tcp];
    stream.destinations = Some(vec![Endpoint { ip: None, port: Some(1) }]);
    let stream = compiled(stream, RouterOptions::default());
    assert!(stream.conditions.alternatives.is_empty());
}

#[test]
fn a_bad_expression_is_named() {
    let error = CompiledRoute::new(Arc::new(route(3, "paths=~/(?=x)")), RouterOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("routes 00000000-0000-0000-0000-000000000003: `~/(?=x)` is not a regular expression"), "{error}");
}

#[test]
fn many_routes_on_one_path_are_told_apart_by_a_header() {
    let routes: Vec<String> = (0..1000).map(|tenant| format!("paths=/x headers=x-tenant:t{tenant}")).collect();
    let router = router(&routes.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(number(ask(&router, "GET h /x X-Tenant:T734")), Some(734));
    assert_eq!(number(ask(&router, "GET h /x x-tenant:t9 x-tenant:t99")), Some(99));
    assert_eq!(number(ask(&router, "GET h /x")), None);
}

#[test]
fn many_routes_are_told_apart_by_the_headers_that_differ() {
    // The first header is the same everywhere; neither of the others tells them apart alone.
    let routes: Vec<String> =
        (0..1000).map(|at| format!("paths=/x headers=x-all:same;x-group:g{};x-tenant:t{}", at % 30, at / 30)).collect();
    let router = router(&routes.iter().map(String::as_str).collect::<Vec<_>>());
    for at in [0, 29, 734, 999] {
        assert_eq!(number(ask(&router, &format!("GET h /x x-all:SAME x-group:g{} x-tenant:t{}", at % 30, at / 30))), Some(at));
    }
    assert_eq!(number(ask(&router, "GET h /x x-all:same x-group:g3 x-tenant:t99")), None);
    assert_eq!(number(ask(&router, "GET h /x x-all:same x-group:g3 x-group:g4 x-tenant:t1")), Some(34));
}

#[test]
fn many_expressions_that_begin_alike_are_told_apart_by_a_text_inside() {
    let routes: Vec<String> = (0..1000).map(|thing| format!("paths=~/u/[^/]+/thing-{thing}$,~/v/[^/]+/other-{thing}$")).collect();
    let router = router(&routes.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(number(ask(&router, "GET h /u/7/thing-734")), Some(734));
    assert_eq!(number(ask(&router, "GET h /v/7/other-12")), Some(12));
    assert_eq!(number(ask(&router, "GET h /u/7/thing-1000")), None);
    assert_eq!(number(ask(&router, "GET h /u")), None);
}

/// A generator that needs no seed from outside: the same sets on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % sides
    }

    fn is_one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn pick(&mut self, from: &[&str]) -> String {
        from[self.roll(from.len())].to_string()
    }

    fn some(&mut self, from: &[&str]) -> String {
        let count = 1 + self.roll(3);
        (0..count).map(|_| self.pick(from)).collect::<Vec<_>>().join(",")
    }
}

/// Prefixes and regular expressions that overlap in many ways.
const PATHS: [&str; 16] = [
    "/",
    "/a",
    "/a/b",
    "/ab",
    "~/a",
    "~/a(/b)?$",
    "~/[ab]",
    "~/a|/b",
    "~/a?b",
    "~/(?<x>a+)/",
    "/a/b/c",
    "~/a/b+",
    "~/a/b?/c",
    "~/[a-z]/b",
    "~(?i)/A",
    "~/a(?i)/B",
];

#[test]
fn the_index_agrees_with_the_walk_on_random_sets() {
    let hosts = ["a.b", "*.b", "a.*", "c", "*.a.b", "a.b:81", "c:80"];
    let paths = PATHS;
    let sizes = [4, 40, 400];
    let headers = ["x:1", "x:2", "y:1", "x:1;y:2", "x:~*^1", "x_z:1"];
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..150 {
        let size = sizes[dice.roll(sizes.len())];
        let routes: Vec<String> = (0..=dice.roll(size))
            .map(|_| {
                let mut line = format!("regex_priority={}", dice.roll(3));
                for (field, from) in [("methods", &["GET", "POST"][..]), ("hosts", &hosts), ("paths", &paths), ("snis", &["s", "*.s"])] {
                    if dice.roll(2) == 0 {
                        line.push_str(&[" ", field, "=", &dice.some(from)].concat());
                    }
                }
                if dice.roll(3) == 0 || !line.contains(' ') {
                    line.push_str(&[" headers=", &dice.pick(&headers)].concat());
                }
                line
            })
            .collect();
        let router = router(&routes.iter().map(String::as_str).collect::<Vec<_>>());
        for _ in 0..60 {
            let line = format!(
                "{} {} {} {}:{} y:2",
                dice.pick(&["GET", "POST", "PUT"]),
                dice.pick(&["a.b", "x.b", "a.x", "c", "x.a.b", "a.b:81", "A.B", ""]),
                dice.pick(&["/", "/a", "/a/b", "/ab", "/b", "/aa/", "/a/bbb", "/a/b/c", "/x/b", "*"]),
                dice.pick(&["x", "X", "y", "x-z"]),
                dice.pick(&["1", "2"]),
            );
            let is_https = dice.roll(2) == 0;
            ask_with(&router, &line, |view| {
                view.is_https = is_https;
                view.sni = is_https.then_some(b"q.s");
            });
        }
    }
}

// What proxy.md §2 says of `traditional_compatible` and no test above does.

#[test]
fn a_route_that_sets_nothing_matches_nothing() {
    for conditions in ["", "methods=", "hosts="] {
        let mut row = route(1, "");
        if conditions == "methods=" {
            row.methods = Some(Vec::new());
        }
        if conditions == "hosts=" {
            row.hosts = Some(Vec::new());
        }
        let error = CompiledRoute::new(Arc::new(row), RouterOptions::default()).unwrap_err();
        assert!(error.detail.contains("no condition"), "{error}");
    }
}

#[test]
fn an_empty_list_is_no_condition() {
    let mut row = route(1, "paths=/x");
    (row.hosts, row.methods, row.snis) = (Some(Vec::new()), Some(Vec::new()), Some(Vec::new()));
    let router = Router::new(vec![(compiled(row, RouterOptions::default()), None)], RouterOptions::default());
    assert_eq!(number(ask(&router, "PUT any /x")), Some(1));
}

#[test]
fn any_value_of_an_attribute_is_enough() {
    let router = router(&["methods=GET,PUT hosts=a,*.b,c.* paths=/x,/yy,~/z\\d snis=s,t"]);
    for line in ["GET a /x", "PUT q.b /yy", "GET c.q /z1", "PUT a /z2/more"] {
        assert_eq!(number(ask(&router, line)), Some(0), "{line}");
    }
    for line in ["POST a /x", "GET b /x", "GET a /z"] {
        assert_eq!(number(ask(&router, line)), None, "{line}");
    }
}

#[test]
fn a_wildcard_host_may_name_a_port() {
    let router = router(&["hosts=*.a:81", "hosts=b.*:82"]);
    assert_eq!(number(ask(&router, "GET x.a:81 /")), Some(0));
    assert_eq!(number(ask(&router, "GET x.a:82 /")), None);
    assert_eq!(number(ask(&router, "GET b.x:82 /")), Some(1));
    assert_eq!(number(ask(&router, "GET b.x /")), None);
}

#[test]
fn a_header_may_have_exact_values_and_expressions_together() {
    let router = router(&["headers=x-a:one,~*^tw[ou]"]);
    for (line, is_found) in [("GET h / x-a:ONE", true), ("GET h / x-a:Two2", true), ("GET h / x-a:atwo", false), ("GET h /", false)] {
        assert_eq!(ask(&router, line).is_some(), is_found, "{line}");
    }
}

#[test]
fn sni_wildcards_stand_at_either_end() {
    let router = router(&["snis=*.a,b.*"]);
    let over_tls = |name: &'static str| {
        number(ask_with(&router, "GET h /", |view| {
            view.is_https = true;
            view.sni = Some(name.as_bytes());
        }))
    };
    assert_eq!((over_tls("x.a"), over_tls("b.x"), over_tls("a"), over_tls("x.b")), (Some(0), Some(0), None, None));
}

#[test]
fn protocols_are_no_condition_but_streams_stand_apart() {
    let router = router(&["paths=/x protocols=https", "paths=/g protocols=grpcs", "destinations=|8000 protocols=tcp"]);
    assert_eq!(number(ask(&router, "GET h /x")), Some(0));
    assert_eq!(number(ask(&router, "GET h /g")), Some(1));
    assert_eq!(number(ask(&router, "GET h /")), None);
}

#[test]
fn path_handling_v1_is_not_heeded() {
    let router = router(&["paths=/x path_handling=v1"]);
    assert_eq!(ask(&router, "GET h /x").unwrap().path_handling, PathHandling::V0);
}

#[test]
fn an_expression_is_not_heeded() {
    let mut row = route(1, "paths=/x");
    row.expression = Some("http.path ^= \"/y\"".into());
    let router = Router::new(vec![(compiled(row, RouterOptions::default()), None)], RouterOptions::default());
    assert_eq!(number(ask(&router, "GET h /x")), Some(1));
    assert_eq!(number(ask(&router, "GET h /y")), None);
}

const DOCUMENTED: RouterOptions = RouterOptions { flavour: Flavour::TraditionalCompatible, ranking: Ranking::Documented };

#[test]
fn documented_more_attributes_come_first_then_plain_hosts_headers_expressions_priorities_and_lengths() {
    // Each row outranks the next, and both match.
    let order = [
        "methods=GET hosts=*.b paths=/a",
        "hosts=a.b paths=/a",
        "hosts=*.b headers=x:1;y:2",
        "hosts=*.b paths=~/a regex_priority=9",
        "hosts=*.b paths=~/a regex_priority=-3",
        "hosts=*.b paths=/a/b",
        "hosts=*.b paths=/a",
    ];
    for pair in order.windows(2) {
        let router = router_with(&[pair[1], pair[0]], DOCUMENTED);
        let better = number(ask(&router, "GET a.b /a/b x:1 y:2"));
        assert_eq!(better, Some(1), "{pair:?}");
        let router = router_with(&[pair[0], pair[1]], DOCUMENTED);
        assert_eq!(number(ask(&router, "GET a.b /a/b x:1 y:2")), Some(0), "{pair:?}");
    }
}

#[test]
fn pairs_that_the_rankings_order_differently_are_warned_of() {
    // Documented: two attributes before one. Kong: a plain host before all.
    let rows = ["methods=GET paths=/x", "hosts=a"];
    let router = router(&rows);
    let lines = router.ranking_conflicts(10);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (first, second) = (lines[0].find("(r1)"), lines[0].find("(r0)"));
    assert!(first.is_some() && first < second, "{lines:?}");
    assert!(lines[0].contains("router_ranking = documented"));
    assert_eq!(number(ask(&router, "GET a /x")), Some(1));

    let documented = router_with(&rows, DOCUMENTED);
    let lines = documented.ranking_conflicts(10);
    assert!(lines.len() == 1 && lines[0].contains("router_ranking = kong"), "{lines:?}");
    assert!(lines[0].find("(r0)") < lines[0].find("(r1)"), "{lines:?}");
    assert_eq!(number(ask(&documented, "GET a /x")), Some(0));
}

#[test]
fn pairs_that_never_meet_or_rank_alike_are_not_warned_of() {
    for rows in [
        ["methods=GET paths=/x", "hosts=a methods=PUT"],
        ["methods=GET hosts=*.b paths=/x", "hosts=a"],
        ["methods=GET paths=/x/y", "hosts=a paths=~/z/"],
        ["methods=GET headers=x:1 paths=/x", "hosts=a headers=x:2"],
        ["hosts=a paths=/x", "hosts=a"],
        ["paths=/x", "paths=/x/y"],
    ] {
        assert_eq!(router(&rows).ranking_conflicts(10), [""; 0], "{rows:?}");
    }
    let traditional = RouterOptions { flavour: Flavour::Traditional, ranking: Ranking::Kong };
    assert_eq!(router_with(&["methods=GET paths=/x", "hosts=a"], traditional).ranking_conflicts(10), [""; 0]);
}

#[test]
fn warnings_and_the_work_for_them_are_bounded() {
    let mut rows: Vec<String> = (0..3000).map(|at| format!("methods=GET paths=/x{at}")).collect();
    rows.extend((0..3000).map(|at| format!("hosts=h{at}")));
    let router = router(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    let started = std::time::Instant::now();
    let lines = router.ranking_conflicts(20);
    assert_eq!(lines.len(), 21);
    assert!(lines[20].starts_with("there may be more"), "{}", lines[20]);
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}
