// SPDX-License-Identifier: Apache-2.0
//! Does an expression mean what Kong's `expressions` flavour says it means?

use super::*;

const EXPRESSIONS: RouterOptions = RouterOptions { flavour: Flavour::Expressions, ranking: Ranking::Kong };

fn row(number: u32, priority: u64, text: &str) -> Route {
    let mut row = blank(number);
    (row.expression, row.priority) = (Some(text.into()), Some(priority));
    row
}

fn expressions(rows: &[(u64, &str)]) -> Router {
    let rows = rows.iter().enumerate().map(|(at, (priority, text))| (compiled(row(at as u32, *priority, text), EXPRESSIONS), None));
    Router::new(rows.collect(), EXPRESSIONS)
}

/// Does the expression hold for this request?
fn holds(text: &str, line: &str) -> bool {
    holds_with(text, line, |_| {})
}

fn holds_with(text: &str, line: &str, change: impl Fn(&mut RequestView<'_>)) -> bool {
    ask_with(&expressions(&[(0, text)]), line, change).is_some()
}

fn problem(text: &str) -> String {
    check_expression(text).expect_err(text)
}

#[test]
fn operators_on_texts() {
    let line = "GET a.example /api/v1";
    for (text, expected) in [
        (r#"http.path == "/api/v1""#, true),
        (r#"http.path == "/api""#, false),
        (r#"http.path != "/api""#, true),
        (r#"http.path ^= "/api""#, true),
        (r#"http.path ^= "api""#, false),
        (r#"http.path =^ "/v1""#, true),
        (r#"http.path =^ "/v2""#, false),
        (r#"http.path contains "pi/v""#, true),
        (r#"http.path contains "pi/w""#, false),
        (r#"http.path ~ "v[0-9]$""#, true),
        (r#"http.path ~ "^v[0-9]$""#, false),
        (r#"http.method == "GET""#, true),
        (r#"http.method == "get""#, false),
        (r#"http.host == "a.example""#, true),
        (r#"http.host =^ ".example""#, true),
        (r#"http.host == "A.example""#, false),
        (r#"net.protocol == "http""#, true),
    ] {
        assert_eq!(holds(text, line), expected, "{text}");
    }
}

#[test]
fn operators_on_numbers() {
    for (text, expected) in [
        ("net.dst.port == 8000", true),
        ("net.dst.port != 8000", false),
        ("net.dst.port > 7999", true),
        ("net.dst.port > 8000", false),
        ("net.dst.port >= 8000", true),
        ("net.dst.port < 8000", false),
        ("net.dst.port <= 8000", true),
        ("net.dst.port == 0x1f40", true),
        ("net.dst.port == 017500", true),
        ("net.dst.port > -1", true),
        ("net.src.port == 4711", true),
        ("net.port == 8000", true),
    ] {
        assert_eq!(holds(text, "GET a /"), expected, "{text}");
    }
    // As with hosts: the port of the Host header, or else of the listener.
    assert!(holds("net.dst.port == 81", "GET a:81 /"));
}

#[test]
fn operators_on_addresses() {
    let from = |text: &str, address: &str| holds_with(text, "GET a /", |view| view.source = address.parse().unwrap());
    for (text, v4, v6) in [
        ("net.src.ip == 192.0.2.7", true, false),
        ("net.src.ip != 192.0.2.7", false, true),
        ("net.src.ip in 192.0.2.0/24", true, false),
        ("net.src.ip not in 192.0.2.0/24", false, true),
        ("net.src.ip not  in 192.0.3.0/24", true, true),
        ("net.src.ip in 2001:db8::/32", false, true),
        ("net.src.ip == 2001:db8::1", false, true),
        ("net.src.ip in 0.0.0.0/0", true, false),
        ("net.src.ip in ::/0", false, true),
        ("net.dst.ip == 127.0.0.1", true, true),
    ] {
        assert_eq!((from(text, "192.0.2.7:1"), from(text, "[2001:db8::1]:1")), (v4, v6), "{text}");
    }
    assert!(from("net.src.ip in 192.0.2.0/24", "[::ffff:192.0.2.7]:1"));
}

#[test]
fn or_binds_tighter_than_and() {
    // In most languages the first would hold: (false && …) || true.
    let (no, yes) = (r#"http.method == "PUT""#, r#"http.method == "GET""#);
    assert!(!holds(&format!("{no} && {yes} || {yes}"), "GET a /"));
    assert!(holds(&format!("({no} && {yes}) || {yes}"), "GET a /"));
    assert!(holds(&format!("{yes} || {no} && {yes}"), "GET a /"));
    assert!(!holds(&format!("{yes} || {yes} && {no}"), "GET a /"));
}

#[test]
fn parentheses_may_be_negated() {
    assert!(holds(r#"!(http.path == "/x")"#, "GET a /"));
    assert!(holds(r#"! ( http.path == "/x" || http.method == "PUT" ) && !(!(http.method == "GET"))"#, "GET a /"));
    assert!(!holds(r#"!(http.path == "/")"#, "GET a /"));
    // A header that is not there fails the test inside, so its negation holds.
    assert!(holds(r#"!(http.headers.x == "1")"#, "GET a /"));
}

#[test]
fn space_does_not_matter() {
    assert!(holds("http.method==\"GET\"&&(http.path^=\"/\")", "GET a /"));
    assert!(holds(" \t\r\n http.method \n == \"GET\"\n&&\n http.path ^= \"/\" ", "GET a /"));
    assert!(holds("lower ( http.path ) == \"/\"", "GET a /"));
}

#[test]
fn texts_have_escapes_and_raw_texts_none() {
    assert!(holds(r#"http.headers.x == "a\"b\\c""#, r#"GET a / x:a"b\c"#));
    assert!(holds("http.headers.x == \"a\\tb\"", "GET a / x:a\tb"));
    assert!(holds(r##"http.path ~ r#"^/\d+$"#"##, "GET a /42"));
    assert!(holds("http.headers.x == r#\"say\"\\n\"\"#", r#"GET a / x:say"\n""#));
    assert!(problem(r#"http.path == "\d""#).contains("1:15"));
}

#[test]
fn all_values_must_fit_unless_any_is_asked_for() {
    for (text, line, expected) in [
        (r#"http.headers.x == "1""#, "GET a / x:1", true),
        (r#"http.headers.x == "1""#, "GET a / x:1 x:1", true),
        (r#"http.headers.x == "1""#, "GET a / x:1 x:2", false),
        (r#"any(http.headers.x) == "1""#, "GET a / x:1 x:2", true),
        (r#"any(http.headers.x) == "3""#, "GET a / x:1 x:2", false),
        (r#"http.headers.x != "3""#, "GET a / x:1 x:2", true),
        (r#"http.headers.x != "2""#, "GET a / x:1 x:2", false),
        (r#"any(http.headers.x) != "2""#, "GET a / x:1 x:2", true),
        (r#"any(lower(http.headers.x)) ^= "ab""#, "GET a / x:1 x:ABc", true),
        (r#"lower(any(http.headers.x)) ^= "ab""#, "GET a / x:1 x:ABc", true),
    ] {
        assert_eq!(holds(text, line), expected, "{text} {line}");
    }
}

#[test]
fn a_field_without_value_fails_every_test() {
    for text in [r#"http.headers.x != "1""#, r#"any(http.headers.x) != "1""#, r#"http.queries.q != "1""#, r#"tls.sni != "a""#] {
        assert!(!holds(text, "GET a /"), "{text}");
    }
    assert!(!holds_with(r#"http.host != "x""#, "GET a /", |view| view.host = b""));
    assert!(!holds(r#"http.path.segments.5 != "x""#, "GET a /a"));
}

#[test]
fn header_names_have_underscores_for_hyphens_and_values_keep_their_case() {
    assert!(holds(r#"http.headers.x_forwarded_user == "Me""#, "GET a / X-Forwarded-User:Me"));
    assert!(holds(r#"http.headers.x_forwarded_user == "Me""#, "GET a / x_forwarded-user:Me"));
    assert!(!holds(r#"http.headers.x_forwarded_user == "me""#, "GET a / X-Forwarded-User:Me"));
    assert!(holds(r#"lower(http.headers.x_forwarded_user) == "me""#, "GET a / X-Forwarded-User:ME"));
}

#[test]
fn queries_are_decoded() {
    let asks = |text: &str, query: &'static str| holds_with(text, "GET a /", |view| view.query = Some(query.as_bytes()));
    assert!(asks(r#"http.queries.q == "a b""#, "p=1&q=a%20b"));
    assert!(asks(r#"http.queries.q == "a b""#, "q=a+b"));
    assert!(!asks(r#"http.queries.q == "1""#, "q=1&q=2"));
    assert!(asks(r#"any(http.queries.q) == "2""#, "q=1&q=2"));
    assert!(asks(r#"http.queries.flag == """#, "flag"));
    assert!(!asks(r#"http.queries.Q == "1""#, "q=1"));
    assert!(!asks(r#"http.queries.q == "1""#, ""));
}

#[test]
fn segments_count_from_zero() {
    for (text, line, expected) in [
        (r#"http.path.segments.0 == "a""#, "GET h /a/b/c/", true),
        (r#"http.path.segments.1 == "b""#, "GET h /a/b/c", true),
        (r#"http.path.segments.0_1 == "a/b""#, "GET h /a/b/c", true),
        (r#"http.path.segments.1_2 == "b/c""#, "GET h /a/b/c/", true),
        (r#"http.path.segments.1_3 == "b/c""#, "GET h /a/b/c", false),
        ("http.path.segments.len == 3", "GET h /a/b/c/", true),
        ("http.path.segments.len == 0", "GET h /", true),
        (r#"http.path.segments.9 == "j""#, "GET h /a/b/c/d/e/f/g/h/i/j", true),
        (r#"http.path.segments.0 ^= "a""#, "GET h /ab", true),
        (r#"http.path.segments.0 == "a""#, "GET h /ab", false),
        (r#"lower(http.path.segments.0) == "a""#, "GET h /A", true),
        (r#"http.path.segments.0 == "*""#, "OPTIONS h *", true),
    ] {
        assert_eq!(holds(text, line), expected, "{text} {line}");
    }
    for field in ["a", "01", "1_0", "1_", "_1", "1_2_3", "", "len_1", "99999999999"] {
        assert!(check_expression(&format!("http.path.segments.{field} == \"a\"")).is_err(), "{field}");
    }
}

#[test]
fn lower_knows_more_than_ascii() {
    assert!(holds_with(r#"lower(http.path) == "/é""#, "GET h /", |view| view.path = "/É".as_bytes()));
    assert!(holds(r#"lower(http.path) contains "bc""#, &format!("GET h /{}aBCd", "x".repeat(400))));
    assert!(holds(r#"lower(http.path) ~ "^/abc$""#, "GET h /ABC"));
    assert!(!holds(r#"lower(http.path) == "/ABC""#, "GET h /ABC"));
    assert!(holds(r#"lower(http.path) =^ "bc""#, "GET h /ABC"));
    assert!(holds(r#"lower(http.path) != "bc""#, "GET h /ABC"));
}

#[test]
fn tls_names_and_protocol() {
    let over_tls = |text: &str| {
        holds_with(text, "GET h /", |view| {
            view.is_https = true;
            view.sni = Some(b"a.example");
        })
    };
    assert!(over_tls(r#"net.protocol == "https" && tls.sni == "a.example""#));
    assert!(!holds(r#"tls.sni == "a.example""#, "GET h /"));
}

#[test]
fn the_higher_priority_wins_and_then_the_greater_id() {
    let router = expressions(&[
        (5, r#"http.path ^= "/""#),
        (9, r#"http.path ^= "/a""#),
        (9, r#"http.host == "h""#),
        (70_368_744_177_663, r#"http.method == "PUT""#),
    ]);
    assert_eq!(number(ask(&router, "GET g /a")), Some(1));
    assert_eq!(number(ask(&router, "GET h /a")), Some(2));
    assert_eq!(number(ask(&router, "GET g /b")), Some(0));
    assert_eq!(number(ask(&router, "PUT h /a")), Some(3));
    let error = CompiledRoute::new(Arc::new(row(1, 70_368_744_177_664, r#"http.method == "PUT""#)), EXPRESSIONS).unwrap_err();
    assert!(error.detail.contains("priority"), "{error}");
}

#[test]
fn expressions_outrank_classic_fields() {
    let router = Router::new(
        vec![
            (compiled(route(0, "methods=GET hosts=a paths=/x headers=x:1"), EXPRESSIONS), None),
            (compiled(row(1, 0, r#"http.path ^= "/x/y""#), EXPRESSIONS), None),
        ],
        EXPRESSIONS,
    );
    assert_eq!(number(ask(&router, "GET a /x/y x:1")), Some(1));
    assert_eq!(number(ask(&router, "GET a /x x:1")), Some(0));
}

#[test]
fn protocols_are_a_condition_unless_tls_is_the_only_one() {
    let asks = |protocols: &str, is_https: bool| {
        let mut row = row(0, 0, r#"http.path ^= "/""#);
        row.protocols = protocols.split(',').map(protocol).collect();
        let router = Router::new(vec![(compiled(row, EXPRESSIONS), None)], EXPRESSIONS);
        ask_with(&router, "GET h /", |view| view.is_https = is_https).is_some()
    };
    for (protocols, over_clear, over_tls) in
        [("http", true, false), ("http,https", true, true), ("https", true, true), ("grpc", true, false), ("grpcs", true, true)]
    {
        assert_eq!((asks(protocols, false), asks(protocols, true)), (over_clear, over_tls), "{protocols}");
    }
}

#[test]
fn what_was_matched_of_the_path_is_known() {
    let matched = |text: &str, line: &str| ask(&expressions(&[(0, text)]), line).unwrap().matched_length;
    assert_eq!(matched(r#"http.path ^= "/a""#, "GET h /a/b"), Some(2));
    assert_eq!(matched(r#"http.path == "/a/b""#, "GET h /a/b"), Some(4));
    assert_eq!(matched(r#"http.path ~ "^/a/[a-z]+""#, "GET h /a/bc/d"), Some(5));
    assert_eq!(matched(r#"http.method == "GET""#, "GET h /a/b"), None);
    // The last test that held counts.
    assert_eq!(matched(r#"http.path ^= "/" && http.path ^= "/a/b""#, "GET h /a/b"), Some(4));
    assert_eq!(matched(r#"http.path == "/x" || http.path ^= "/a""#, "GET h /a/b"), Some(2));
}

#[test]
fn groups_of_regular_expressions_are_captures() {
    let text = r##"http.host ~ r#"^(?<tenant>[a-z]+)\."# && http.path ~ r#"^/u/(?<id>\d+)/(\w+)"#"##;
    let captures = ask(&expressions(&[(0, text)]), "GET acme.example /u/42/orders").unwrap().captures.unwrap();
    assert_eq!(captures.name("id"), Some(&b"42"[..]));
    assert_eq!(captures.name("tenant"), Some(&b"acme"[..]));
    assert_eq!(captures.number(0), Some(&b"/u/42/orders"[..]));
    assert_eq!(captures.number(1), Some(&b"42"[..]));
    assert_eq!(captures.number(2), Some(&b"orders"[..]));
    assert_eq!(captures.names().count(), 2);
    let headers = ask(&expressions(&[(0, r#"any(http.headers.x) ~ "^(b.)""#)]), "GET h / x:aa x:bb x:bc").unwrap().captures.unwrap();
    assert_eq!(headers.number(1), Some(&b"bb"[..]));
    assert!(ask(&expressions(&[(0, r#"http.path ~ "^/""#)]), "GET h /").unwrap().captures.is_none());
}

#[test]
fn mistakes_are_shown_where_they_are() {
    assert_eq!(problem("! a == 1"), " --> 1:1\n  |\n1 | ! a == 1\n  | ^---\n  |\n  = expected term");
    assert_eq!(
        problem("net.dst.port == 1 ||\n http.hots == \"a\""),
        " --> 2:2\n  |\n2 |  http.hots == \"a\"\n  |  ^---\n  |\n  = Unknown LHS field"
    );
    for (text, place, words) in [
        ("", "1:1", "expected term"),
        ("   ", "1:4", "expected term"),
        ("http.path", "1:10", "expected binary_operator"),
        ("http.path =", "1:11", "expected binary_operator"),
        ("http.path == ", "1:14", "expected rhs"),
        ("http.path == \"a", "1:14", "no end"),
        ("http.path == r#\"a\"", "1:14", "no end"),
        ("http.path == \"a\" and", "1:18", "expected EOI"),
        ("http.path == \"a\" &&", "1:20", "expected term"),
        ("(http.path == \"a\"", "1:18", "expected `)`"),
        ("http.path == \"a\")", "1:17", "expected EOI"),
        ("upper(http.path) == \"a\"", "1:1", "unknown transformation function: upper"),
        ("lower(net.dst.port) == 1", "1:1", "only supported with String"),
        ("lower(http.path == \"a\"", "1:17", "expected `)`"),
        ("http.path == 1", "1:14", "Type mismatch"),
        ("net.dst.port == \"1\"", "1:17", "Type mismatch"),
        ("net.dst.port ~ \"1\"", "1:16", "Regex operators"),
        ("net.dst.port ~ 1", "1:16", "regex operator"),
        ("net.dst.port ^= 1", "1:17", "Prefix/Postfix"),
        ("net.dst.port contains 1", "1:23", "Contains"),
        ("http.path > \"a\"", "1:13", "Greater"),
        ("net.src.ip in 10.0.0.1", "1:15", "CIDR"),
        ("net.src.ip == 10.0.0.0/8", "1:15", "Type mismatch"),
        ("net.src.ip in 10.0.0.1/8", "1:15", "host part"),
        ("net.src.ip in 10.0.0.0/33", "1:15", "prefix"),
        ("net.src.ip == 10.0.0", "1:15", "invalid IP"),
        ("http.path in \"a\"", "1:14", "CIDR"),
        ("net.dst.port == 99999999999999999999", "1:17", "too large"),
        ("net.dst.port == 0x", "1:17", "expected a number"),
        ("net.dst.port == --1", "1:17", "expected a number"),
        ("http.path ~ \"(\"", "1:13", "regex parse error"),
        ("http.path ~ \"(?=a)\"", "1:13", "look-around"),
        ("http.headers. == \"a\"", "1:1", "Unknown"),
        ("http.path notin 1", "1:11", "expected binary_operator"),
    ] {
        let found = problem(text);
        assert!(found.contains(&format!("--> {place}\n")) && found.contains(words), "{text}\n{found}");
    }
    assert!(check_stream_expression("http.path == \"a\"").is_err());
    assert!(check_stream_expression("tls.sni == \"a\"").is_ok());
    // A long line is shown in part.
    assert!(problem(&format!("http.path == \"{}\" && x", "a".repeat(5000))).len() < 400);
}

#[test]
fn length_depth_and_size_are_bounded() {
    let nested = |depth: usize| format!("{}http.path == \"a\"{}", "(".repeat(depth), ")".repeat(depth));
    assert!(check_expression(&nested(64)).is_ok());
    assert!(problem(&nested(65)).contains("parentheses"));
    assert!(problem(&nested(30_000)).contains("parentheses"));
    assert!(problem(&"!(".repeat(30_000)).contains("parentheses"));
    assert!(problem(&format!("{}http.path", "any(".repeat(10_000))).contains("functions"));
    assert!(problem(&format!("http.path == \"{}\"", "a".repeat(70_000))).contains("longer"));
    let wide = vec!["http.path == \"a\""; 3000].join(" || ");
    assert!(check_expression(&wide).is_ok());
    assert!(problem(r#"http.path ~ "((a{100}){100}){100}""#).contains("size limit"));
    let heavy = [r##"http.path ~ r#"\w{40}"#"##; 8].join(" || ");
    assert!(problem(&heavy).contains("too large together"), "{heavy}");
}

#[test]
fn any_bytes_are_answered_without_a_panic() {
    let pieces = [
        "http.path",
        "http.headers.x",
        "net.src.ip",
        "net.dst.port",
        "lower(",
        "any(",
        "(",
        ")",
        "!",
        "&&",
        "||",
        "==",
        "!=",
        "~",
        "^=",
        "=^",
        ">",
        "<=",
        "in",
        "not",
        "contains",
        "\"",
        "\"a\"",
        "r#\"",
        "\"#",
        "\\",
        "10.0.0.0/8",
        "::1",
        "fd00::/8",
        "0x1",
        "-",
        "017",
        "é",
        "\u{0}",
        " ",
        "\n",
        "/",
        ".",
        "_",
        "http.path.segments.0_1",
        "99",
    ];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut valid = 0;
    for _ in 0..60_000 {
        let text: String = (0..dice.roll(9)).flat_map(|_| [dice.pick(&pieces), " ".to_owned()]).collect();
        valid += usize::from(check_expression(&text).is_ok());
        let bytes: Vec<u8> = (0..dice.roll(24)).map(|_| dice.roll(256) as u8).collect();
        let _ = check_expression(&String::from_utf8_lossy(&bytes));
    }
    assert!(valid > 0, "the pieces make no expression at all");
}

#[test]
fn many_expressions_are_told_apart_by_what_they_must_have() {
    let shapes: [&dyn Fn(usize) -> String; 6] = [
        &|at| format!(r#"http.path ^= "/s-{at}/""#),
        &|at| format!(r#"http.host == "t{at}" && http.path ^= "/s-""#),
        &|at| format!(r#"http.path.segments.0 == "s-{at}" && http.method == "GET""#),
        &|at| format!(r#"http.path ~ "^/s-{at}/[a-z]+" || http.path == "/other-{at}""#),
        &|at| format!(r#"(http.path == "/s-{at}/x" || http.path == "/y-{at}") && any(lower(http.headers.x)) == "1""#),
        &|at| format!(r#"http.path ^= "/" && http.headers.tenant == "T{at}""#),
    ];
    for shape in shapes {
        let rows: Vec<String> = (0..500).map(shape).collect();
        let router = expressions(&rows.iter().map(|text| (0, text.as_str())).collect::<Vec<_>>());
        assert_eq!(number(ask(&router, "GET t123 /s-123/x x:1 tenant:T123")), Some(123), "{}", rows[0]);
        assert_eq!(number(ask(&router, "GET t600 /s-600/x x:1 tenant:T600")), None, "{}", rows[0]);
    }
}
