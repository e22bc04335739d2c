// SPDX-License-Identifier: Apache-2.0
//! Does the router agree with a slow model that is obviously right? On random sets of Routes, in each flavour.
//!
//! The model looks at every Route, reads rows and requests as texts, and shares nothing with the router but the regular expressions'
//! engine and the derivation of ids. `PYLAE_ROUTER_SETS` says how many sets the long run tries.

use super::*;
use regex::Regex;
use std::cmp::Ordering;
use std::net::Ipv4Addr;

/// A request, as a person would write it down.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
    pub(super) is_https: bool,
    pub(super) sni: Option<String>,
    pub(super) source: Ipv4Addr,
}

pub(super) const LISTEN_PORT: u16 = 8000;

impl Asked {
    pub(super) fn roll(dice: &mut Dice) -> Self {
        let is_https = dice.is_one_in(3);
        let mut pairs = |names: &[&str], values: &[&str]| -> Vec<(String, String)> {
            (0..dice.roll(4)).map(|_| (dice.pick(names), dice.pick(values))).collect()
        };
        let headers = pairs(&["x", "X", "y", "x-z", "x_z"], &["1", "2", "A", "a", "Ab"]);
        let query = pairs(&["p", "q"], &["1", "2", ""]);
        Asked {
            method: dice.pick(&["GET", "GET", "POST", "PUT"]),
            host: dice.pick(&["a.b", "a.b", "x.b", "a.x", "c", "x.a.b", "A.B", ".b", "a.", ""]),
            port: [None, None, Some(80), Some(81), Some(443)][dice.roll(5)],
            path: dice.pick(&["/", "/a", "/a/b", "/ab", "/b", "/aa/", "/a/bbb", "/a/b/c", "/x/b", "/A", "/a/b/c/d"]),
            headers,
            query,
            is_https,
            sni: is_https.then(|| dice.pick(&["s", "q.s", "t"])).filter(|_| !dice.is_one_in(4)),
            source: [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(192, 0, 2, 1)][dice.roll(3)],
        }
    }

    /// Asks the router, and makes sure that index and walk agree.
    fn ask(&self, router: &Router) -> Option<u32> {
        self.viewed(|view| {
            let walked = number(router.match_by_walking(view));
            let found = number(router.match_request(view));
            assert_eq!(found, walked, "index and walk differ for {self:?}");
            found
        })
    }

    /// Looks at it as the router does.
    pub(super) fn viewed<T>(&self, look: impl FnOnce(&RequestView<'_>) -> T) -> T {
        let mut headers = Headers::new();
        for (name, value) in &self.headers {
            headers.add(name, value);
        }
        let query = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        look(&RequestView {
            is_https: self.is_https,
            method: self.method.as_bytes(),
            host: self.host.as_bytes(),
            host_port: self.port,
            listen_port: LISTEN_PORT,
            path: self.path.as_bytes(),
            headers: &headers,
            sni: self.sni.as_deref().map(str::as_bytes),
            query: Some(query.as_bytes()),
            source: (self.source, 4711).into(),
            local_address: Ipv4Addr::LOCALHOST.into(),
        })
    }
}

fn wild(pattern: &str, name: &str, must_stand_for_something: bool) -> bool {
    let (is_match, rest) = if let Some(end) = pattern.strip_prefix('*') {
        (name.ends_with(end), end)
    } else if let Some(start) = pattern.strip_suffix('*') {
        (name.starts_with(start), start)
    } else {
        return pattern == name;
    };
    is_match && !(must_stand_for_something && rest.len() == name.len())
}

fn values(list: Option<&Vec<String>>) -> &[String] {
    list.map_or(&[], Vec::as_slice)
}

/// Every condition but the path.
fn rest_holds(row: &Route, asked: &Asked, is_traditional: bool) -> bool {
    let methods = values(row.methods.as_ref());
    let hosts = values(row.hosts.as_ref());
    let snis = values(row.snis.as_ref());
    let default_port = match (is_traditional, asked.is_https) {
        (false, _) => LISTEN_PORT,
        (true, true) => 443,
        (true, false) => 80,
    };
    let host_holds = |host: &String| {
        let (name, port) = host.split_once(':').map_or((host.as_str(), None), |(name, port)| (name, Some(port.parse::<u16>().unwrap())));
        wild(name, &asked.host, is_traditional) && port.is_none_or(|port| port == asked.port.unwrap_or(default_port))
    };
    let header_holds = |(name, accepted): (&String, &Vec<String>)| {
        asked.headers.iter().any(|(sent_name, sent)| {
            let same = if name.contains('_') { sent_name.replace('-', "_") } else { sent_name.clone() }.eq_ignore_ascii_case(name);
            same && accepted.iter().any(|accepted| match accepted.strip_prefix("~*") {
                Some(pattern) if !is_traditional || row.headers.as_ref().unwrap()[name].len() == 1 => {
                    Regex::new(pattern).unwrap().is_match(&sent.to_lowercase())
                }
                _ => accepted.to_lowercase() == sent.to_lowercase(),
            })
        })
    };
    (methods.is_empty() || methods.contains(&asked.method))
        && (hosts.is_empty() || hosts.iter().any(host_holds))
        && row.headers.iter().flatten().all(header_holds)
        && (snis.is_empty() || !asked.is_https || asked.sni.as_ref().is_some_and(|sni| snis.iter().any(|name| wild(name, sni, false))))
}

fn path_holds(path: &str, asked: &Asked, is_traditional: bool) -> bool {
    match path.strip_prefix('~') {
        None => asked.path.starts_with(path),
        Some(pattern) if is_traditional => Regex::new(&format!("^(?:{pattern})")).unwrap().is_match(&asked.path),
        Some(pattern) => Regex::new(&format!("^{pattern}")).unwrap().is_match(&asked.path),
    }
}

fn attribute_count(row: &Route) -> i64 {
    let lists = [row.methods.as_ref(), row.hosts.as_ref(), row.paths.as_ref(), row.snis.as_ref()];
    lists.iter().filter(|list| !values(**list).is_empty()).count() as i64
        + i64::from(row.headers.as_ref().is_some_and(|map| !map.is_empty()))
}

/// The number of a part of a Route whose paths are like this one, by the words of the documents, in 128 bits so that nothing wraps.
fn number_of(row: &Route, path: Option<&str>, ranking: Ranking) -> i128 {
    let is_regex = path.is_some_and(|path| path.starts_with('~'));
    let count = i128::from(attribute_count(row));
    let plain = i128::from(row.hosts.as_ref().is_some_and(|hosts| hosts.iter().all(|host| !host.contains('*'))));
    let headers = row.headers.as_ref().map_or(0, |headers| headers.len().min(255)) as i128;
    let priority = if is_regex { i128::from(row.regex_priority.unwrap_or(0)) } else { 0 };
    let length = if is_regex { 0 } else { path.map_or(0, str::len) as i128 };
    match ranking {
        // The priorities rolled are small and count only among expressions, which bit 51 puts together: a sum keeps the order.
        Ranking::Documented => {
            (count << 61)
                + (plain << 60)
                + (headers << 52)
                + (i128::from(is_regex) << 51)
                + ((priority + 1000) << 19) * i128::from(is_regex)
                + length
        }
        Ranking::Kong => {
            // 32 bits wide, then extended by the sign.
            let narrow = |number: i128| i128::from(number.rem_euclid(1 << 32) as u32 as i32).rem_euclid(1 << 64);
            narrow(count << 29) | plain << 60 | narrow(headers << 20) | i128::from(is_regex) << 51 | narrow(priority << 19) | length
        }
    }
}

fn expect_compatible(rows: &[Route], asked: &Asked, ranking: Ranking) -> Option<(i128, [u8; 16], u32)> {
    let mut best: Option<(i128, [u8; 16], u32)> = None;
    for row in rows {
        if !rest_holds(row, asked, false) {
            continue;
        }
        let paths = values(row.paths.as_ref());
        let kind = |path: &String| if path.starts_with('~') { usize::MAX } else { path.len() };
        let mut kinds: Vec<usize> = Vec::new();
        for path in paths {
            if !kinds.contains(&kind(path)) {
                kinds.push(kind(path));
            }
        }
        let mut consider = |path: Option<&str>, id: Id| {
            let found = (number_of(row, path, ranking), id.0, u32::from_be_bytes(row.id.0[12..].try_into().unwrap()));
            if best.is_none_or(|best| (found.0, found.1) > (best.0, best.1)) {
                best = Some(found);
            }
        };
        if paths.is_empty() {
            consider(None, row.id);
        }
        let namespace = Id::parse("7f145bf9-0dce-4f91-98eb-debbce4b9f6b").unwrap();
        for path in paths.iter().filter(|path| path_holds(path, asked, false)) {
            let part = kinds.iter().position(|other| *other == kind(path)).unwrap() + 1;
            let id = if kinds.len() == 1 { row.id } else { namespace.derive(format!("{}#{part}", row.id).as_bytes()) };
            consider(Some(path), id);
        }
    }
    best
}

fn expect_traditional(rows: &[Route], asked: &Asked) -> Option<u32> {
    let matches = |row: &&Route| {
        let paths = values(row.paths.as_ref());
        rest_holds(row, asked, true) && (paths.is_empty() || paths.iter().any(|path| path_holds(path, asked, true)))
    };
    let mut found: Vec<&Route> = rows.iter().filter(matches).collect();
    let is_set = |list: Option<&Vec<String>>| !values(list).is_empty();
    let set = |row: &Route| {
        [
            is_set(row.hosts.as_ref()),
            row.headers.as_ref().is_some_and(|headers| !headers.is_empty()),
            is_set(row.paths.as_ref()),
            is_set(row.methods.as_ref()),
            is_set(row.snis.as_ref()),
        ]
    };
    let special = |row: &Route| {
        let hosts = values(row.hosts.as_ref());
        [
            hosts.iter().any(|host| host.contains('*') && host.contains(':')),
            !hosts.is_empty() && hosts.iter().all(|host| !host.contains('*')),
            values(row.paths.as_ref()).iter().any(|path| path.starts_with('~')),
        ]
    };
    let longest = |row: &Route| values(row.paths.as_ref()).iter().map(|path| path.trim_start_matches('~').len()).max().unwrap_or(0);
    let headers = |row: &Route| row.headers.as_ref().map_or(0, std::collections::BTreeMap::len);
    found.sort_by(|one, other| {
        let by_priority = if special(one)[2] { other.regex_priority.cmp(&one.regex_priority) } else { Ordering::Equal };
        attribute_count(other)
            .cmp(&attribute_count(one))
            .then(set(other).cmp(&set(one)))
            .then(special(other).cmp(&special(one)))
            .then(headers(other).cmp(&headers(one)))
            .then(by_priority)
            .then(longest(other).cmp(&longest(one)))
            .then(one.created_at.cmp(&other.created_at))
    });
    found.first().map(|row| u32::from_be_bytes(row.id.0[12..].try_into().unwrap()))
}

pub(super) fn roll_row(dice: &mut Dice, at: u32) -> Route {
    let hosts = ["a.b", "*.b", "a.*", "c", "*.a.b", "a.b:81", "c:80", "*.b:443", "a.b:8000"];
    let paths = super::PATHS;
    let headers = ["x:1", "x:2", "y:1", "x:1;y:2", "x:~*^1", "x_z:1", "x:A", "x:~*^a,2", "x:1,2;y:a;x-z:1"];
    // No two of one age, so that the model need not know how `traditional` ends a tie.
    let mut line = format!("regex_priority={} created_at={}", dice.roll(3) as i64 - 1, 1000 - i64::from(at));
    for (field, from) in [("methods", &["GET", "POST"][..]), ("hosts", &hosts), ("paths", &paths), ("snis", &["s", "*.s"])] {
        if dice.is_one_in(2) {
            line.push_str(&[" ", field, "=", &dice.some(from)].concat());
        }
    }
    if dice.is_one_in(3) || line.split(' ').count() == 2 {
        line.push_str(&[" headers=", &dice.pick(&headers)].concat());
    }
    route(at, &line)
}

/// A tree that is both a text and, walked, its meaning.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Not(Box<Tree>),
    Text { field: String, is_any: bool, is_lower: bool, operator: &'static str, value: String },
    Number { field: &'static str, operator: &'static str, value: i64 },
    Address { operator: &'static str, block: &'static str },
}

impl Tree {
    pub(super) fn roll(dice: &mut Dice, depth: usize) -> Tree {
        if depth > 0 && !dice.is_one_in(3) {
            let parts = |dice: &mut Dice| (0..=dice.roll(3)).map(|_| Tree::roll(dice, depth - 1)).collect();
            return match dice.roll(5) {
                0 => Tree::Not(Box::new(Tree::roll(dice, depth - 1))),
                1 | 2 => Tree::And(parts(dice)),
                _ => Tree::Or(parts(dice)),
            };
        }
        match dice.roll(8) {
            0 => Tree::Number {
                field: ["http.path.segments.len", "net.dst.port"][dice.roll(2)],
                operator: ["==", "!=", ">", ">=", "<", "<="][dice.roll(6)],
                value: [0, 1, 2, 3, 80, 8000][dice.roll(6)],
            },
            1 => Tree::Address {
                operator: ["in", "not in", "==", "!="][dice.roll(4)],
                block: ["10.0.0.0/8", "10.0.0.0/16", "192.0.2.1/32"][dice.roll(3)],
            },
            _ => {
                let (field, values): (&str, &[&str]) = [
                    ("http.path", &["/", "/a", "/a/b", "b", "/b"][..]),
                    ("http.path", &["/a", "/a/b/c", "c"]),
                    ("http.host", &["a.b", ".b", "a.", "c"]),
                    ("http.method", &["GET", "POST"]),
                    ("http.headers.x", &["1", "2", "a", "A"]),
                    ("http.headers.x_z", &["1", "a"]),
                    ("http.queries.q", &["1", "2", ""]),
                    ("http.path.segments.0", &["a", "b", "x"]),
                    ("http.path.segments.1", &["b", "c"]),
                    ("http.path.segments.0_1", &["a/b", "x/b"]),
                    ("tls.sni", &["s", "q.s", "s"]),
                    ("net.protocol", &["http", "https"]),
                ][dice.roll(12)];
                Tree::Text {
                    field: field.into(),
                    is_any: dice.is_one_in(3),
                    is_lower: dice.is_one_in(4),
                    operator: ["==", "==", "!=", "^=", "^=", "=^", "~", "contains"][dice.roll(8)],
                    value: dice.pick(values),
                }
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let joined = |parts: &[Tree], sign: &str| parts.iter().map(|part| format!("({})", part.text())).collect::<Vec<_>>().join(sign);
        match self {
            Tree::And(parts) => joined(parts, " && "),
            Tree::Or(parts) => joined(parts, " || "),
            Tree::Not(inner) => format!("!({})", inner.text()),
            Tree::Number { field, operator, value } => format!("{field} {operator} {value}"),
            Tree::Address { operator, block } => {
                let value = if operator.contains("in") { block } else { block.split('/').next().unwrap() };
                format!("net.src.ip {operator} {value}")
            }
            Tree::Text { field, is_any, is_lower, operator, value } => {
                let mut left = field.clone();
                if *is_lower {
                    left = format!("lower({left})");
                }
                if *is_any {
                    left = format!("any({left})");
                }
                let value = if *operator == "~" { format!("^{}", value.replace('.', "\\\\.")) } else { value.clone() };
                format!("{left} {operator} \"{value}\"")
            }
        }
    }

    fn holds(&self, asked: &Asked) -> bool {
        match self {
            Tree::And(parts) => parts.iter().all(|part| part.holds(asked)),
            Tree::Or(parts) => parts.iter().any(|part| part.holds(asked)),
            Tree::Not(inner) => !inner.holds(asked),
            Tree::Number { field, operator, value } => {
                let ours = match *field {
                    "net.dst.port" => i64::from(asked.port.unwrap_or(LISTEN_PORT)),
                    _ => asked.path.split('/').filter(|segment| !segment.is_empty()).count() as i64,
                };
                match *operator {
                    "==" => ours == *value,
                    "!=" => ours != *value,
                    ">" => ours > *value,
                    ">=" => ours >= *value,
                    "<" => ours < *value,
                    _ => ours <= *value,
                }
            }
            Tree::Address { operator, block } => {
                let (base, bits) = block.split_once('/').unwrap();
                let base = u32::from(base.parse::<Ipv4Addr>().unwrap());
                let mask = u32::MAX << (32 - bits.parse::<u32>().unwrap());
                let ours = u32::from(asked.source);
                match *operator {
                    "in" => ours & mask == base,
                    "not in" => ours & mask != base,
                    "==" => ours == base,
                    _ => ours != base,
                }
            }
            Tree::Text { field, is_any, is_lower, operator, value } => {
                let ours: Vec<String> = Tree::values(field, asked);
                let holds = |ours: &String| {
                    let ours = if *is_lower { ours.to_lowercase() } else { ours.clone() };
                    match *operator {
                        "==" => ours == *value,
                        "!=" => ours != *value,
                        "^=" | "~" => ours.starts_with(value.as_str()),
                        "=^" => ours.ends_with(value.as_str()),
                        _ => ours.contains(value.as_str()),
                    }
                };
                if *is_any { ours.iter().any(holds) } else { !ours.is_empty() && ours.iter().all(holds) }
            }
        }
    }

    fn values(field: &str, asked: &Asked) -> Vec<String> {
        let segments: Vec<&str> = asked.path.split('/').filter(|segment| !segment.is_empty()).collect();
        let segment = |from: usize, to: usize| segments.get(from..=to).map(|range| range.join("/"));
        let headers = |name: &str| {
            let fits = |sent: &str| sent.to_lowercase().replace('-', "_") == name;
            asked.headers.iter().filter(|(sent, _)| fits(sent)).map(|(_, value)| value.clone()).collect()
        };
        match field {
            "http.path" => vec![asked.path.clone()],
            "http.host" => Some(asked.host.clone()).filter(|host| !host.is_empty()).into_iter().collect(),
            "http.method" => vec![asked.method.clone()],
            "http.headers.x" => headers("x"),
            "http.headers.x_z" => headers("x_z"),
            "http.queries.q" => asked.query.iter().filter(|(name, _)| name == "q").map(|(_, value)| value.clone()).collect(),
            "http.path.segments.0" => segment(0, 0).into_iter().collect(),
            "http.path.segments.1" => segment(1, 1).into_iter().collect(),
            "http.path.segments.0_1" => segment(0, 1).into_iter().collect(),
            "tls.sni" => asked.sni.clone().into_iter().collect(),
            "net.protocol" => vec![if asked.is_https { "https" } else { "http" }.to_string()],
            other => panic!("no field {other}"),
        }
    }
}

pub(super) fn build(rows: &[Route], options: RouterOptions) -> Router {
    Router::new(rows.iter().map(|row| (compiled(row.clone(), options), None)).collect(), options)
}

fn compare(dice: &mut Dice, sets: usize) {
    let mut matched = 0;
    for set in 0..sets {
        let size = [3, 12, 60][dice.roll(3)];
        let rows: Vec<Route> = (0..=dice.roll(size) as u32).map(|at| roll_row(dice, at)).collect();
        let asked: Vec<Asked> = (0..25).map(|_| Asked::roll(dice)).collect();
        for ranking in [Ranking::Kong, Ranking::Documented] {
            let router = build(&rows, RouterOptions { flavour: Flavour::TraditionalCompatible, ranking });
            for asked in &asked {
                let expected = expect_compatible(&rows, asked, ranking).map(|(_, _, at)| at);
                matched += usize::from(expected.is_some());
                assert_eq!(asked.ask(&router), expected, "set {set}, {ranking:?}: {asked:?}\n{rows:#?}");
            }
        }
        let router = build(&rows, RouterOptions { flavour: Flavour::Traditional, ranking: Ranking::Kong });
        for asked in &asked {
            assert_eq!(asked.ask(&router), expect_traditional(&rows, asked), "set {set}, traditional: {asked:?}\n{rows:#?}");
        }
        compare_expressions(dice, set, &rows, &asked);
    }
    assert!(matched > sets * 50 / 4, "hardly any request matches: {matched} in {sets} sets");
}

fn compare_expressions(dice: &mut Dice, set: usize, classic: &[Route], asked: &[Asked]) {
    let options = RouterOptions { flavour: Flavour::Expressions, ranking: Ranking::Kong };
    let mut rows = Vec::new();
    let mut trees: Vec<Option<(u64, Tree)>> = Vec::new();
    for (at, row) in classic.iter().enumerate() {
        if dice.is_one_in(4) {
            rows.push(row.clone());
            trees.push(None);
            continue;
        }
        let depth = dice.roll(4);
        let (priority, tree) = (dice.roll(3) as u64, Tree::roll(dice, depth));
        let mut row = blank(at as u32);
        (row.expression, row.priority) = (Some(tree.text()), Some(priority));
        rows.push(row);
        trees.push(Some((priority, tree)));
    }
    let router = build(&rows, options);
    for asked in asked {
        let by_expression = trees.iter().enumerate().filter_map(|(at, tree)| Some((at as u32, tree.as_ref()?)));
        let best = by_expression.filter(|(_, (_, tree))| tree.holds(asked)).map(|(at, (priority, _))| (*priority, at)).max();
        let expected = match best {
            Some((_, at)) => Some(at),
            None => {
                let rest: Vec<Route> = rows.iter().filter(|row| row.expression.is_none()).cloned().collect();
                expect_compatible(&rest, asked, Ranking::Kong).map(|(_, _, at)| at)
            }
        };
        let texts = || rows.iter().map(|row| format!("{:?} {:?}", row.id, row.expression)).collect::<Vec<_>>().join("\n");
        assert_eq!(asked.ask(&router), expected, "set {set}, expressions: {asked:?}\n{}", texts());
    }
}

#[test]
fn every_flavour_agrees_with_the_model() {
    compare(&mut Dice(0x2545_f491_4f6c_dd1d), 1000);
}

#[test]
#[ignore = "nightly: PYLAE_ROUTER_SETS=100000 takes minutes"]
fn every_flavour_agrees_with_the_model_on_many_sets() {
    let sets = std::env::var("PYLAE_ROUTER_SETS").map_or(10_000, |sets| sets.parse().unwrap());
    compare(&mut Dice(0x9e37_79b9_7f4a_7c15), sets);
}
