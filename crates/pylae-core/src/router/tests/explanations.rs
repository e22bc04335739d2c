// SPDX-License-Identifier: Apache-2.0
//! Is what is said of a match, and of the Routes that do not match, true? Always asked of the router itself.

use super::model::{Asked, LISTEN_PORT, Tree, build, roll_row};
use super::*;
use crate::router::expression::{Program, Subsystem};

/// The parts of an expression that must all hold.
fn predicates(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    Program::new(text, Subsystem::Http).unwrap().visit(&mut |predicate| {
        found.push(predicate.to_string());
        true
    });
    found
}

const FLAVOURS: [Flavour; 3] = [Flavour::Traditional, Flavour::TraditionalCompatible, Flavour::Expressions];

fn options(flavour: Flavour) -> RouterOptions {
    RouterOptions { flavour, ranking: Ranking::Kong }
}

fn explain(router: &Router, line: &str) -> Explanation {
    explain_with(router, line, &Withheld::default(), |_| {})
}

fn explain_with(router: &Router, line: &str, withheld: &Withheld, change: impl Fn(&mut RequestView<'_>)) -> Explanation {
    let mut found = None;
    let change = |view: &mut RequestView<'_>| change(view);
    let asked = std::cell::RefCell::new(&mut found);
    ask_with(router, line, |view| {
        change(view);
        **asked.borrow_mut() = Some(router.explain(view, withheld, 5));
    });
    found.unwrap()
}

fn held(condition: &str, value: &str) -> Held {
    Held { condition: condition.into(), value: value.into() }
}

fn failed(condition: &str, wanted: &[&str], got: Option<&str>) -> Failed {
    let got = vec![(condition.to_string(), got.map(ToString::to_string))];
    Failed { condition: condition.into(), wanted: wanted.iter().map(ToString::to_string).collect(), got }
}

/// Numbers and failed conditions of the nearest.
fn nearest(found: &Explanation) -> Vec<(String, Vec<Failed>)> {
    found.nearest.iter().map(|near| (near.route.name.as_deref().unwrap().to_string(), near.failed.clone())).collect()
}

#[test]
fn each_condition_that_holds_is_named_with_the_value_that_matched() {
    let router = router(&["methods=GET,POST hosts=a.example,*.b.example paths=/x,/x/y,~/z headers=x-a:1,~*^b;x-b:3 snis=s,*.t"]);
    let found = explain(&router, "POST q.b.example /x/q x-a:Bee x-b:3");
    assert_eq!(number(found.matched), Some(0));
    let expected = [
        held("methods", "POST"),
        held("hosts", "*.b.example"),
        held("paths", "/x"),
        held("snis", ""),
        held("headers.x-a", "~*^b"),
        held("headers.x-b", "3"),
    ];
    assert_eq!(found.why, expected);
    let over_tls = explain_with(&router, "GET a.example /x/y/z x-a:1 x-b:3", &Withheld::default(), |view| {
        view.is_https = true;
        view.sni = Some(b"q.t");
    });
    assert_eq!(over_tls.why[2..4], [held("paths", "/x/y"), held("snis", "*.t")]);
    assert_eq!(explain(&router, "GET a.example /z x-a:1 x-b:3").why[2], held("paths", "~/z"));
}

#[test]
fn the_nearest_fail_fewest_then_begin_most_alike_then_rank_highest() {
    let router = router(&[
        "methods=POST paths=/api/orders",
        "methods=POST paths=/api/users",
        "hosts=b.example paths=/api",
        "hosts=c.example paths=/api/orders",
        "hosts=d.example methods=PUT paths=/api/orders",
        "methods=DELETE paths=/api/orders/of headers=x-a:1",
    ]);
    let found = explain(&router, "GET a.example /api/orders/7 x-b:1");
    assert!(found.matched.is_none() && found.why.is_empty() && found.unknown.is_empty() && found.outranked.is_empty());
    let expected = [
        ("r3", vec![failed("hosts", &["c.example"], Some("a.example"))]),
        ("r0", vec![failed("methods", &["POST"], Some("GET"))]),
        ("r2", vec![failed("hosts", &["b.example"], Some("a.example"))]),
        ("r4", vec![failed("methods", &["PUT"], Some("GET")), failed("hosts", &["d.example"], Some("a.example"))]),
        ("r1", vec![failed("methods", &["POST"], Some("GET")), failed("paths", &["/api/users"], Some("/api/orders/7"))]),
    ];
    assert_eq!(nearest(&found), expected.map(|(name, failed)| (name.to_string(), failed)));
}

#[test]
fn what_matches_too_is_outranked_and_not_near() {
    let router = router(&["paths=/a", "hosts=a.example paths=/a", "paths=/b"]);
    let found = explain(&router, "GET a.example:81 /a/b");
    assert_eq!(number(found.matched.clone()), Some(1));
    assert_eq!(found.outranked.iter().map(|route| route.id).collect::<Vec<_>>(), [id(0)]);
    assert_eq!(nearest(&found), [("r2".to_string(), vec![failed("paths", &["/b"], Some("/a/b"))])]);
}

#[test]
fn a_header_that_is_not_there_has_no_value() {
    let router = router(&["headers=x-a:1,2"]);
    assert_eq!(nearest(&explain(&router, "GET h /"))[0].1, [failed("headers.x-a", &["1", "2"], None)]);
    assert_eq!(nearest(&explain(&router, "GET h / x-a:3 X-A:4"))[0].1, [failed("headers.x-a", &["1", "2"], Some("3, 4"))]);
}

fn of_expressions(expressions: &[&str]) -> Router {
    let rows: Vec<Route> = (0..).zip(expressions).map(|(at, text)| Route { expression: Some((*text).to_string()), ..blank(at) }).collect();
    build(&rows, options(Flavour::Expressions))
}

#[test]
fn of_a_conjunction_the_predicates_that_fail_are_named() {
    let router = of_expressions(&[
        r#"(http.path ^= "/a" && http.method == "POST") && (any(lower(http.headers.x_a)) =^ "q\"" || net.src.ip in 10.0.0.0/8)"#,
        r#"!(http.path ^= "/a") || http.path.segments.len > 7"#,
    ]);
    let found = explain(&router, "GET h /a/b x-a:1 X-a:2");
    let fails = |wanted: &str, got: &[(&str, Option<&str>)]| Failed {
        condition: "expression".into(),
        wanted: vec![wanted.into()],
        got: got.iter().map(|(field, value)| ((*field).to_string(), value.map(ToString::to_string))).collect(),
    };
    let either = r#"any(lower(http.headers.x_a)) =^ "q\"" || net.src.ip in 10.0.0.0/8"#;
    assert_eq!(
        nearest(&found),
        [
            (
                "r1".to_string(),
                vec![fails(
                    r#"!(http.path ^= "/a") || http.path.segments.len > 7"#,
                    &[("http.path", Some("/a/b")), ("http.path.segments.len", Some("2"))]
                )]
            ),
            (
                "r0".to_string(),
                vec![
                    fails(r#"http.method == "POST""#, &[("http.method", Some("GET"))]),
                    fails(either, &[("http.headers.x_a", Some("1, 2")), ("net.src.ip", Some("192.0.2.7"))])
                ]
            ),
        ]
    );
    assert_eq!(explain(&router, "POST h /b").why, [held("expression", r#"!(http.path ^= "/a") || http.path.segments.len > 7"#)]);
}

#[test]
fn what_is_withheld_and_decides_makes_the_answer_uncertain() {
    let router = router(&["paths=/a headers=x-a:1", "paths=/a", "hosts=p.example:9000"]);
    let mut withheld = Withheld::default();
    withheld.headers.add("X-A", "");
    let found = explain_with(&router, "GET h /a", &withheld, |_| {});
    assert_eq!(number(found.matched.clone()), Some(1));
    assert_eq!(found.unknown, ["the Route `r0` might match: the value of the header `x-a` is not known"]);
    assert_eq!(found.open, [id(0)]);
    assert!(explain_with(&router, "GET h /b", &withheld, |_| {}).unknown.is_empty());

    let withheld = Withheld { listen_port: true, ..Withheld::default() };
    let found = explain_with(&router, "GET p.example /b", &withheld, |_| {});
    assert_eq!(found.unknown, ["the Route `r2` might match: the port the client connected to is not known"]);
    assert!(explain_with(&router, "GET p.example:9000 /b", &withheld, |_| {}).unknown.is_empty());
}

#[test]
fn what_may_be_there_beside_what_is_named_decides_too() {
    let router = of_expressions(&[r#"http.path == "/a" && http.headers.x == "1""#, r#"http.path == "/b" && http.queries.q == "1""#]);
    let withheld = Withheld { more_headers: true, ..Withheld::default() };
    let unknown = |withheld: &Withheld, line: &str| explain_with(&router, line, withheld, |_| {}).unknown;
    assert_eq!(unknown(&withheld, "GET h /a"), ["the Route `r0` might match: the value of the header `x` is not known"]);
    assert_eq!(unknown(&withheld, "GET h /a x:2"), [""; 0], "one value that differs is enough");
    assert_eq!(unknown(&withheld, "GET h /b"), [""; 0]);
    let withheld = Withheld { more_arguments: true, ..Withheld::default() };
    assert_eq!(unknown(&withheld, "GET h /b"), ["the Route `r1` might match: the value of the query argument `q` is not known"]);
}

#[test]
fn a_host_that_is_not_known_may_be_any() {
    let router = router(&["paths=/a hosts=a.example", "paths=/a", "paths=/b hosts=b.example:81"]);
    let withheld = Withheld { host: true, ..Withheld::default() };
    let found = explain_with(&router, "GET - /a", &withheld, |_| {});
    assert_eq!(number(found.matched), Some(1));
    assert_eq!(found.unknown, ["the Route `r0` might match: the host is not known"]);
    assert_eq!(explain_with(&router, "GET - /b", &withheld, |_| {}).unknown, ["the Route `r2` might match: the host is not known"]);
    assert!(explain_with(&router, "GET - /c", &withheld, |_| {}).unknown.is_empty());
}

#[test]
fn a_match_that_rests_on_what_is_withheld_is_uncertain() {
    let router = of_expressions(&[r#"!(http.queries.q == "1")"#]);
    let withheld = Withheld { query: b"q".to_vec(), ..Withheld::default() };
    let found = explain_with(&router, "GET h /", &withheld, |_| {});
    assert_eq!(number(found.matched), Some(0));
    assert_eq!(found.unknown, ["the Route `r0` might not match: the value of the query argument `q` is not known"]);
}

// === on random Routes and requests ===

fn rolled_rows(dice: &mut Dice, flavour: Flavour) -> Vec<Route> {
    let mut rows: Vec<Route> = (0..=dice.roll(20) as u32).map(|at| roll_row(dice, at)).collect();
    if flavour == Flavour::Expressions {
        for (at, row) in (0..).zip(&mut rows) {
            if !dice.is_one_in(4) {
                let depth = dice.roll(4);
                *row = Route { expression: Some(Tree::roll(dice, depth).text()), priority: Some(dice.roll(3) as u64), ..blank(at) };
            }
        }
    }
    rows
}

/// The Route with one of its conditions alone, or with all others.
fn split(route: &Route, failed: &[Failed]) -> (Vec<Route>, Option<Route>) {
    let bare = Route { methods: None, hosts: None, paths: None, headers: None, snis: None, ..route.clone() };
    if let Some(text) = &route.expression {
        let texts = predicates(text);
        let is_failed = |text: &String| failed.iter().any(|failed| failed.wanted[0] == *text);
        let alone = texts.iter().filter(|text| is_failed(text)).map(|text| Route { expression: Some(text.clone()), ..bare.clone() });
        let rest: Vec<String> = texts.iter().filter(|text| !is_failed(text)).map(|text| format!("({text})")).collect();
        let mended = (!rest.is_empty()).then(|| Route { expression: Some(rest.join(" && ")), ..bare.clone() });
        return (alone.collect(), mended);
    }
    let mut mended = route.clone();
    let mut alone = Vec::new();
    for failed in failed {
        let mut one = bare.clone();
        match failed.condition.as_str() {
            "methods" => (one.methods, mended.methods) = (route.methods.clone(), None),
            "hosts" => (one.hosts, mended.hosts) = (route.hosts.clone(), None),
            "paths" => (one.paths, mended.paths) = (route.paths.clone(), None),
            "snis" => (one.snis, mended.snis) = (route.snis.clone(), None),
            header => {
                let name = header.strip_prefix("headers.").unwrap();
                let headers = mended.headers.as_mut().unwrap();
                one.headers = Some([(name.to_string(), headers.remove(name).unwrap())].into());
            }
        }
        alone.push(one);
    }
    (alone, Some(mended))
}

#[test]
fn what_is_said_is_what_the_router_does() {
    let dice = &mut Dice(0x2545_f491_4f6c_dd1d);
    let (mut matched, mut failures, mut mendings) = (0, 0, 0);
    for _ in 0..250 {
        for flavour in FLAVOURS {
            let rows = rolled_rows(dice, flavour);
            let router = build(&rows, options(flavour));
            for _ in 0..5 {
                let asked = Asked::roll(dice);
                let found = asked.viewed(|view| router.explain(view, &Withheld::default(), usize::MAX));
                let real = number(asked.viewed(|view| router.match_request(view)));
                assert_eq!(number(found.matched.clone()), real);
                assert!(found.unknown.is_empty());
                matched += usize::from(real.is_some());
                assert_eq!(found.why.is_empty(), real.is_none());
                assert_eq!(usize::from(real.is_some()) + found.outranked.len() + found.nearest.len(), rows.len());
                let alone = |row: &Route| {
                    let router = CompiledRoute::new(Arc::new(row.clone()), options(flavour)).ok();
                    router.map(|compiled| {
                        let router = Router::new(vec![(Arc::new(compiled), None)], options(flavour));
                        asked.viewed(|view| router.match_request(view)).is_some()
                    })
                };
                for route in &found.outranked {
                    assert_eq!(alone(route), Some(true), "{asked:?} {route:?}");
                }
                for near in &found.nearest {
                    assert!(!near.failed.is_empty());
                    let (single, mended) = split(&near.route, &near.failed);
                    for row in &single {
                        failures += 1;
                        assert_eq!(alone(row), Some(false), "{flavour:?} {asked:?} {:?} {row:?}", near.failed);
                    }
                    // Without any condition nothing can be compiled.
                    if let Some(holds) = mended.as_ref().and_then(alone) {
                        mendings += 1;
                        assert!(holds, "{flavour:?} {asked:?} {:?} {:?}", near.failed, near.route);
                        let changed: Vec<Route> =
                            rows.iter().map(|row| if row.id == near.route.id { mended.clone().unwrap() } else { row.clone() }).collect();
                        let again = asked.viewed(|view| build(&changed, options(flavour)).explain(view, &Withheld::default(), usize::MAX));
                        let mut matching = again.outranked.iter().chain(again.matched.iter().map(|found| &found.route));
                        assert!(matching.any(|route| route.id == near.route.id));
                    }
                }
            }
        }
    }
    assert!(matched > 500 && failures > 20_000 && mendings > 5_000, "{matched} {failures} {mendings}");
}

#[test]
fn a_certain_answer_is_right_whatever_is_withheld() {
    let dice = &mut Dice(0x9e37_79b9_7f4a_7c15);
    let (mut certain, mut uncertain) = (0, 0);
    for _ in 0..200 {
        for flavour in FLAVOURS {
            let router = build(&rolled_rows(dice, flavour), options(flavour));
            for _ in 0..5 {
                let asked = Asked::roll(dice);
                let mut withheld = Withheld { sni: dice.is_one_in(3), source_address: dice.is_one_in(3), ..Withheld::default() };
                let mut known = asked.clone();
                let is_header_hidden = !asked.headers.is_empty() && dice.is_one_in(2);
                if is_header_hidden {
                    // All fields of a name, as its values are withheld for its name.
                    let name = asked.headers[0].0.to_lowercase();
                    known.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
                    withheld.headers.add(&name, "");
                }
                let is_query_hidden = dice.is_one_in(2);
                if is_query_hidden {
                    withheld.query = asked.query.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("&").into_bytes();
                    known.query.clear();
                }
                if withheld.sni {
                    known.sni = None;
                }
                let found = known.viewed(|view| router.explain(view, &withheld, 0));
                if !found.unknown.is_empty() {
                    uncertain += 1;
                    continue;
                }
                certain += 1;
                for _ in 0..12 {
                    let mut actual = asked.clone();
                    for (name, value) in &mut actual.headers {
                        if withheld.headers.contains(name) {
                            *value = dice.pick(&["1", "2", "A", "a", "Ab", ""]);
                        }
                    }
                    for (_, value) in actual.query.iter_mut().filter(|_| is_query_hidden) {
                        *value = dice.pick(&["1", "2", ""]);
                    }
                    if withheld.sni && asked.is_https {
                        actual.sni = Some(dice.pick(&["s", "q.s", "t"])).filter(|_| !dice.is_one_in(4));
                    }
                    if withheld.source_address {
                        actual.source = Asked::roll(dice).source;
                    }
                    let real = number(actual.viewed(|view| router.match_request(view)));
                    assert_eq!(number(found.matched.clone()), real, "{flavour:?} {withheld:?}\n{asked:?}\n{actual:?}");
                }
            }
        }
    }
    assert!(certain > 1000 && uncertain > 200, "{certain} {uncertain}");
}

#[test]
fn a_port_that_is_not_known_is_one_of_two() {
    let dice = &mut Dice(0x0dd_ba11);
    let mut uncertain = 0;
    for _ in 0..300 {
        for flavour in FLAVOURS {
            let router = build(&rolled_rows(dice, flavour), options(flavour));
            let asked = Asked { port: None, ..Asked::roll(dice) };
            let withheld = Withheld { listen_port: true, ..Withheld::default() };
            let found = asked.viewed(|view| router.explain(view, &withheld, 0));
            uncertain += usize::from(!found.unknown.is_empty());
            if found.unknown.is_empty() {
                for listen_port in [LISTEN_PORT, 80, 81, 443, 9] {
                    let real = asked.viewed(|view| router.match_request(&RequestView { listen_port, ..*view }));
                    assert_eq!(number(found.matched.clone()), number(real), "{flavour:?} {asked:?} {listen_port}");
                }
            }
        }
    }
    assert!(uncertain > 20, "{uncertain}");
}

#[test]
fn an_expression_is_shown_in_its_own_language() {
    let dice = &mut Dice(0x51_7cc1_b727_220a);
    for _ in 0..3000 {
        let text = Tree::roll(dice, 4).text();
        let joined = |text: &str| predicates(text).iter().map(|predicate| format!("({predicate})")).collect::<Vec<_>>().join(" && ");
        let shown = joined(&text);
        assert_eq!(joined(&shown), shown, "{text}");
        let (before, after) = (of_expressions(&[&text]), of_expressions(&[&shown]));
        for _ in 0..5 {
            let asked = Asked::roll(dice);
            let holds = |router: &Router| asked.viewed(|view| router.match_request(view)).is_some();
            assert_eq!(holds(&before), holds(&after), "{text}\n{shown}\n{asked:?}");
        }
    }
}
