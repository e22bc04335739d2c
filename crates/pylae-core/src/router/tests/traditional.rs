// SPDX-License-Identifier: Apache-2.0
//! Does the router choose what Kong's `traditional` flavour chooses?

use super::*;

const TRADITIONAL: RouterOptions = RouterOptions { flavour: Flavour::Traditional, ranking: Ranking::Kong };

fn traditional(routes: &[&str]) -> Router {
    router_with(routes, TRADITIONAL)
}

/// Either order of the two rows, so that neither id nor place decides.
fn first_wins(better: &str, worse: &str, line: &str) {
    assert_eq!(number(ask(&traditional(&[better, worse]), line)), Some(0), "{better} before {worse}");
    assert_eq!(number(ask(&traditional(&[worse, better]), line)), Some(1), "{better} before {worse}");
}

#[test]
fn more_attributes_come_first() {
    first_wins("methods=GET paths=/", "hosts=a.b", "GET a.b /");
    first_wins("methods=GET hosts=*.b paths=/", "hosts=a.b headers=x:1", "GET a.b / x:1");
}

#[test]
fn of_as_many_attributes_host_header_path_method_and_sni_weigh_in_this_order() {
    for pair in ["hosts=*.b", "headers=x:1", "paths=/", "methods=GET", "snis=s"].windows(2) {
        first_wins(pair[0], pair[1], "GET a.b / x:1");
    }
    // The greatest weight decides before the others are looked at.
    first_wins("hosts=a.b snis=s", "headers=x:1 paths=/", "GET a.b / x:1");
}

#[test]
fn then_wildcards_with_ports_plain_hosts_and_expressions() {
    first_wins("hosts=*.b:80", "hosts=a.b", "GET a.b /");
    first_wins("hosts=a.b", "hosts=*.b", "GET a.b /");
    first_wins("hosts=a.b paths=/a", "hosts=*.b paths=~/a/b/c", "GET a.b /a/b/c");
    first_wins("hosts=a.b paths=~/a", "hosts=a.b paths=/a/b/c", "GET a.b /a/b/c");
}

#[test]
fn then_more_headers_higher_priorities_longer_paths_and_greater_age() {
    first_wins("headers=x:1;y:1 paths=/", "headers=x:1 paths=/a", "GET h /a x:1 y:1");
    first_wins("paths=~/a regex_priority=2", "paths=~/a/b regex_priority=1", "GET h /a/b");
    first_wins("paths=~/a regex_priority=0", "paths=~/a/b regex_priority=-1", "GET h /a/b");
    first_wins("paths=/a/b regex_priority=0", "paths=/a regex_priority=5", "GET h /a/b");
    first_wins("paths=~/a/b", "paths=~/a", "GET h /a/b");
    first_wins("paths=/a created_at=5", "paths=/a created_at=6", "GET h /a");
}

#[test]
fn paths_of_one_route_are_not_ranked_apart() {
    // Its longest path speaks for the Route, even when a shorter one matches.
    first_wins("paths=/a,/a/very/long/path", "paths=/a/b", "GET h /a/b");
}

#[test]
fn of_a_routes_paths_expressions_come_first_and_then_the_longest() {
    let router = traditional(&["paths=/a,/a/b,~/a/b/\\d"]);
    assert_eq!(ask(&router, "GET h /a/b/c").unwrap().matched_length, Some(4));
    assert_eq!(ask(&router, "GET h /a/b/7").unwrap().matched_length, Some(6));
}

#[test]
fn the_whole_expression_is_anchored() {
    let router = traditional(&["paths=~/a$|/b"]);
    assert_eq!(number(ask(&router, "GET h /a")), Some(0));
    assert_eq!(number(ask(&router, "GET h /b/x")), Some(0));
    assert_eq!(number(ask(&router, "GET h /x/b")), None);
    assert!(CompiledRoute::new(Arc::new(route(1, "paths=~/a)|(?:b")), TRADITIONAL).is_err());
}

#[test]
fn a_wildcard_stands_for_something() {
    let router = traditional(&["hosts=*.b", "hosts=a.*"]);
    assert_eq!(number(ask(&router, "GET x.b /")), Some(0));
    assert_eq!(number(ask(&router, "GET .b /")), None);
    assert_eq!(number(ask(&router, "GET a.x:99 /")), Some(1));
    assert_eq!(number(ask(&router, "GET a. /")), None);
}

#[test]
fn hosts_are_compared_with_case() {
    let router = traditional(&["hosts=a.example"]);
    assert_eq!(number(ask(&router, "GET A.example /")), None);
}

#[test]
fn a_missing_port_is_that_of_the_scheme() {
    let router = traditional(&["hosts=a:80", "hosts=b:443", "hosts=c:8000"]);
    assert_eq!(number(ask(&router, "GET a /")), Some(0));
    assert_eq!(number(ask(&router, "GET b /")), None);
    assert_eq!(number(ask_with(&router, "GET b /", |view| view.is_https = true)), Some(1));
    assert_eq!(number(ask(&router, "GET c /")), None);
    assert_eq!(number(ask(&router, "GET c:8000 /")), Some(2));
}

#[test]
fn brackets_are_taken_off_ipv6_hosts() {
    let router = traditional(&["hosts=::1", "hosts=[::2]:81"]);
    let ask_host = |host: &'static [u8]| number(ask_with(&router, "GET h /", |view| view.host = host));
    assert_eq!(ask_host(b"[::1]"), Some(0));
    assert_eq!(ask_host(b"[::1]:8000"), Some(0));
    assert_eq!(ask_host(b"[::2]:81"), Some(1));
    assert_eq!(ask_host(b"[::2]"), None);
}

#[test]
fn a_header_expression_must_be_the_only_value() {
    let router = traditional(&["headers=x:~*^a", "headers=y:~*^a,b"]);
    assert_eq!(number(ask(&router, "GET h / x:Abc")), Some(0));
    assert_eq!(number(ask(&router, "GET h / y:abc")), None);
    assert_eq!(number(ask(&router, "GET h / y:B")), Some(1));
}

#[test]
fn path_handling_v1_is_heeded() {
    let router = traditional(&["paths=/x path_handling=v1", "paths=/y"]);
    assert_eq!(ask(&router, "GET h /x").unwrap().path_handling, PathHandling::V1);
    assert_eq!(ask(&router, "GET h /y").unwrap().path_handling, PathHandling::V0);
}
