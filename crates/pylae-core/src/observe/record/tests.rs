// SPDX-License-Identifier: Apache-2.0
//! Do records say what happened, withhold what they should, and stay within their bounds whatever is sent?

use super::*;
use crate::exchange::{LargestHeader, Reused, Station};
use crate::observe::authors::Author;
use crate::phases::Phase;
use crate::upstream::certificate::CertificateFacts;
use crate::upstream::handshake::UpstreamTlsFacts;
use examples::{answer as an_answer, attempt, exchange, gateway, step};
use std::rc::Rc;

fn read(line: &[u8]) -> Value {
    assert!(!line.contains(&b'\n'), "a record is one line");
    serde_json::from_slice(line).expect("JSON")
}

fn recorded(gateway: &Gateway, exchange: &Exchange, status: u16, kind: Kind) -> Value {
    let line = of(gateway, exchange, status, kind);
    let limit = if kind == Kind::Sample { SAMPLE_LIMIT_BYTES } else { LIMIT_BYTES };
    assert!(line.len() <= limit, "{} bytes", line.len());
    read(&line)
}

#[test]
fn test_a_record_of_a_refused_connection_says_where_why_and_what_was_tried() {
    let gateway = gateway();
    let mut exchange = exchange(&gateway);
    let mut attempt = attempt();
    attempt.ended = "refused";
    attempt.again = Some("not sent again: no try is left");
    attempt.fault = Some(FaultKind::ConnectRefused.into());
    exchange.attempts.push(attempt);
    exchange.steps.push(step("key-auth", Phase::Access, StepOutcome::Continue));
    exchange.fault = Some(FaultKind::ConnectRefused.into());
    exchange.response = Some(an_answer(502, Source::Error));
    exchange.moments.answer_started = Some(Instant::now());
    let record = recorded(&gateway, &exchange, 502, Kind::Failed);
    assert_eq!(record["time"], "2027-01-15T08:00:00.123Z");
    assert_eq!(record["request_id"], "00000000000000000000000000000abc");
    for (key, value) in [
        ("kind", "failed"),
        ("fault", "connect_refused"),
        ("side", "upstream"),
        ("between", "gateway -> 10.0.0.1:80"),
        ("phase", "connect"),
        ("answered_by", "gateway"),
        ("response_flag", "UF"),
        ("config", ":0"),
    ] {
        assert_eq!(record[key], value, "{key}");
    }
    assert_eq!(record["status"], 502);
    assert_eq!(record["attempts"][0]["ended"], "refused");
    assert_eq!(record["plugins"][0]["name"], "key-auth");
    assert_eq!(record["plugins"][0]["took_us"], 1500);
    assert_eq!(record["client"]["peer"], "127.0.0.9:4711");
    assert_eq!(record["request"]["line"], "GET / HTTP/1.1");
    assert!(record["milestones"]["answer_ms"].is_number());
}

#[test]
fn test_an_attempt_tells_of_name_handshake_timer_and_sizes() {
    let gateway = gateway();
    let mut exchange = exchange(&gateway);
    let mut attempt = attempt();
    attempt.tls = Some(Rc::new(UpstreamTlsFacts {
        version: Some("TLSv1.3"),
        alpn: None,
        sni: Some("upstream.test".to_owned()),
        is_verified: false,
        certificate: Some(CertificateFacts {
            subject: "CN=other.test".to_owned(),
            issuer: "CN=ca".to_owned(),
            names: vec!["other.test".to_owned()],
            not_before_s: Some(0),
            not_after_s: Some(i64::MAX),
        }),
        is_certificate_wanted: true,
        ..UpstreamTlsFacts::default()
    }));
    attempt.alert = Some("sent: bad_certificate".to_owned());
    attempt.reused = Some(Reused { requests: 3, idle: Duration::from_millis(1500), age: Duration::from_secs(60) });
    attempt.timer = Some(crate::exchange::Fired { name: "read_timeout", length: Duration::from_millis(250) });
    attempt.head_bytes = 70_000;
    attempt.largest_header = Some(LargestHeader { name: "Set-Cookie".to_owned(), bytes: 66_000 });
    attempt.first_bytes = b"\x15\x03\x01\x00\x02\x02\x46".to_vec();
    attempt.fault = Some(FaultKind::ReadTimeout.into());
    exchange.attempts.push(attempt);
    exchange.fault = Some(FaultKind::ReadTimeout.into());
    let record = recorded(&gateway, &exchange, 504, Kind::Failed);
    let told = &record["attempts"][0];
    assert_eq!(told["tls"]["verified"], false);
    assert_eq!(told["tls"]["names"], json!(["other.test"]));
    assert_eq!(told["tls"]["not_after"], "9999-12-31T23:59:59.000Z");
    assert_eq!(told["tls"]["alert"], "sent: bad_certificate");
    assert_eq!((&told["reused"], &told["idle_ms"]), (&json!(3), &json!(1500.0)));
    assert_eq!(told["timer"], json!({"name": "read_timeout", "ms": 250.0}));
    assert_eq!(told["largest_header"], json!({"name": "Set-Cookie", "bytes": 66_000}));
    assert_eq!(told["first_bytes_hex"], "15030100020246");
    assert_eq!(record["phase"], "wait_for_answer");
}

#[test]
fn test_an_answer_broken_from_behind_is_told_with_who_wrote_it() {
    let gateway = gateway();
    let mut exchange = exchange(&gateway);
    let mut response = an_answer(502, Source::Service);
    response.headers.add("Server", "nginx/1.27");
    response.headers.add("Set-Cookie", "session=secret");
    exchange.response = Some(response);
    exchange.noticed = Some(FaultKind::BadGatewayBehind.into());
    exchange.author = Some(Author::new("nginx", "Server: nginx/1.27"));
    exchange.moments.answer_started = Some(Instant::now());
    exchange.attempts.push(attempt());
    let record = recorded(&gateway, &exchange, 502, Kind::Failed);
    assert_eq!(record["fault"], "bad_gateway_behind");
    assert_eq!(record["answered_by"], "upstream");
    assert_eq!(record["answer"]["written_by"], "nginx");
    assert_eq!(record["answer"]["server"], "nginx/1.27");
    assert!(!record.to_string().contains("secret"));
}

#[test]
fn test_why_a_request_is_recorded() {
    let gateway = gateway();
    let kind_of = |status: u16, arrange: &dyn Fn(&mut Exchange)| {
        let mut exchange = exchange(&gateway);
        arrange(&mut exchange);
        Kind::of(&exchange, status)
    };
    let fault = |kind: FaultKind| move |exchange: &mut Exchange| exchange.fault = Some(kind.into());
    assert_eq!(kind_of(200, &|_| {}), None);
    assert_eq!(kind_of(502, &fault(FaultKind::ConnectRefused)), Some(Kind::Failed));
    assert_eq!(kind_of(200, &fault(FaultKind::ClosedInBody)), Some(Kind::Failed));
    assert_eq!(kind_of(499, &fault(FaultKind::ClientGone)), Some(Kind::Failed));
    assert_eq!(kind_of(404, &fault(FaultKind::NoRoute)), Some(Kind::Refused));
    assert_eq!(kind_of(505, &fault(FaultKind::VersionNotSupported)), Some(Kind::Refused));
    assert_eq!(kind_of(401, &|exchange| exchange.noticed = Some(FaultKind::PluginRefused.into())), Some(Kind::Refused));
    assert_eq!(kind_of(503, &|exchange| exchange.noticed = Some(FaultKind::PluginRefused.into())), Some(Kind::Failed));
    assert_eq!(kind_of(400, &|exchange| exchange.noticed = Some(FaultKind::PlainHttpToTlsPort.into())), Some(Kind::Failed));
    let recovered = |exchange: &mut Exchange| {
        let mut first = attempt();
        first.fault = Some(FaultKind::ConnectRefused.into());
        exchange.attempts = vec![first, attempt()];
    };
    assert_eq!(kind_of(200, &recovered), Some(Kind::Recovered));
    let probe = |exchange: &mut Exchange| {
        exchange.probe = Some("0123456789abcdef".into());
        exchange.fault = Some(FaultKind::NoRoute.into());
    };
    assert_eq!(kind_of(404, &probe), Some(Kind::Probe));
}

#[test]
fn test_the_phase_is_where_the_request_was() {
    let gateway = gateway();
    let phase = |kind: FaultKind, arrange: &dyn Fn(&mut Exchange)| {
        let mut exchange = exchange(&gateway);
        arrange(&mut exchange);
        walk::phase_of(&exchange, &kind.into())
    };
    let at = |station: Station| move |exchange: &mut Exchange| exchange.station = station;
    assert_eq!(phase(FaultKind::ClientGone, &at(Station::ReadBody)), "read_body");
    assert_eq!(phase(FaultKind::ClientGone, &at(Station::SendAnswer)), "send_answer");
    assert_eq!(phase(FaultKind::ClientGone, &at(Station::Attempts)), "resolve");
    let waits = |exchange: &mut Exchange| {
        exchange.station = Station::Attempts;
        let mut attempt = attempt();
        attempt.connect_ms = Some(1.0);
        attempt.sent_bytes = 100;
        attempt.request_bytes = Some(100);
        exchange.attempts.push(attempt);
    };
    assert_eq!(phase(FaultKind::ClientGone, &waits), "wait_for_answer");
    let sends = |exchange: &mut Exchange| {
        waits(exchange);
        exchange.attempts[0].request_bytes = Some(200);
    };
    assert_eq!(phase(FaultKind::ClientGone, &sends), "send_request");
    assert_eq!(phase(FaultKind::RequestTimeout, &at(Station::ReadRequest)), "read_request");
    assert_eq!(phase(FaultKind::RequestTimeout, &at(Station::ReadBody)), "read_body");
    let filter = |exchange: &mut Exchange| {
        exchange.steps.push(step("x", Phase::Response, StepOutcome::Failed("ValueError".into())));
    };
    assert_eq!(phase(FaultKind::PluginFailed, &filter), "filter");
    let rewrite = |exchange: &mut Exchange| exchange.steps.push(step("x", Phase::Rewrite, StepOutcome::Answered(403)));
    assert_eq!(phase(FaultKind::PluginRefused, &rewrite), "rewrite");
}

#[test]
fn test_every_phase_of_every_fault_is_one_of_the_walk() {
    const PHASES: [&str; 18] = [
        "accept",
        "client_tls",
        "read_request",
        "rewrite",
        "route",
        "access",
        "read_body",
        "queue",
        "choose_target",
        "resolve",
        "connect",
        "tls_handshake",
        "send_request",
        "wait_for_answer",
        "read_answer",
        "filter",
        "send_answer",
        "done",
    ];
    let gateway = gateway();
    let exchange = exchange(&gateway);
    for kind in FaultKind::ALL {
        let phase = walk::phase_of(&exchange, &(*kind).into());
        assert!(PHASES.contains(&phase), "{} {phase}", kind.facts().name);
    }
}

#[test]
fn test_log_forging_by_what_a_client_sends_is_not_possible() {
    let gateway = gateway();
    let mut exchange = exchange(&gateway);
    let evil = b"x\r\n{\"request_id\":\"forged\"}\x1b[2J\x00\xff\xe2\x80\xa8";
    exchange.request.line = [&b"GET /"[..], evil, b" HTTP/1.1"].concat();
    exchange.request.raw_path = evil.to_vec();
    exchange.request.authority = evil.to_vec();
    exchange.request.query = Some(evil.to_vec());
    exchange.request.method = String::from_utf8_lossy(evil).into_owned();
    exchange.request.headers.add(evil, evil);
    exchange.request.headers.add("User-Agent", evil);
    exchange.fault = Some(Fault::new(FaultKind::BadFraming, String::from_utf8_lossy(evil).into_owned()));
    for kind in [Kind::Refused, Kind::Sample] {
        let line = of(&gateway, &exchange, 400, kind);
        let record = read(&line);
        assert_eq!(record["request_id"], exchange.id.as_str());
        assert!(line.iter().all(|&b| b >= 0x20), "no control byte");
        assert!(!record.to_string().contains(['\u{1b}', '\u{2028}', '\u{fffd}']));
    }
}

#[test]
fn test_secrets_never_stand_in_a_record() {
    let gateway = gateway();
    let mut exchange = exchange(&gateway);
    exchange.request.line = b"GET /a?apikey=SECRET&SECRET2SECRET2SECRET2SECRET2SECRET2SECRET2 HTTP/1.1".to_vec();
    exchange.request.query = Some(b"apikey=SECRET&SECRET2SECRET2SECRET2SECRET2SECRET2SECRET2".to_vec());
    for name in ["Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "apikey", "X-Forwarded-Access-Token"] {
        exchange.request.headers.add(name, "SECRET");
    }
    exchange.request.headers.add("Referer", "https://user:SECRET@a.test/?token=SECRET");
    exchange.request.body = crate::exchange::BodyStore::Memory(b"SECRET".to_vec());
    exchange.fault = Some(FaultKind::NoRoute.into());
    for kind in [Kind::Refused, Kind::Sample] {
        let record = recorded(&gateway, &exchange, 404, kind);
        assert!(!record.to_string().contains("SECRET"), "{record}");
    }
    let record = recorded(&gateway, &exchange, 404, Kind::Refused);
    assert_eq!(record["request"]["line"], "GET /a?apikey=***&*** HTTP/1.1");
    assert_eq!(record["request"]["query"], json!(["apikey", "***"]));
    assert_eq!(record["request"]["headers"][0], json!(["Authorization", null]));
}

#[test]
fn test_64_kib_header_values_and_a_thousand_headers_leave_a_bounded_record() {
    let gateway = gateway();
    let mut exchange = exchange(&gateway);
    for name in ["User-Agent", "Via", "Forwarded", "Cookie"] {
        exchange.request.headers.add(name, vec![b'\\'; 65_536]);
    }
    for number in 0..1000 {
        exchange.request.headers.add(format!("X-Header-{number}-{}", "n".repeat(60)), "v");
    }
    exchange.fault = Some(FaultKind::RequestHeaderTooLarge.into());
    let record = recorded(&gateway, &exchange, 400, Kind::Refused);
    assert_eq!(record["request"]["largest_header"]["bytes"], 65_536 + 12);
    assert!(record["request"]["headers_left_out"].as_u64().is_some_and(|count| count >= 904));
}

#[test]
fn test_ten_thousand_query_parameters_leave_a_bounded_record() {
    let gateway = gateway();
    let mut exchange = exchange(&gateway);
    let query = (0..10_000).map(|number| format!("parameter{number}=value{number}")).collect::<Vec<_>>().join("&");
    exchange.request.line = format!("GET /?{query} HTTP/1.1").into_bytes();
    exchange.request.query = Some(query.into_bytes());
    exchange.fault = Some(FaultKind::NoRoute.into());
    let record = recorded(&gateway, &exchange, 404, Kind::Refused);
    assert_eq!(record["request"]["query_left_out"], 9_968);
    assert!(!record.to_string().contains("value1"));
    recorded(&gateway, &exchange, 200, Kind::Sample);
}

/// As large as anybody can make it: every text at its limit, of what escapes longest.
fn enormous(gateway: &Gateway, attempts: usize) -> Exchange {
    let mut exchange = exchange(gateway);
    let worst = "\\\u{202e}\u{1}\"".repeat(20_000);
    exchange.request.line = worst.clone().into_bytes();
    exchange.request.method = "GET".to_owned();
    exchange.request.raw_path = vec![b'\\'; 65_536];
    exchange.request.authority = vec![b'\\'; 65_536];
    exchange.request.query = Some(vec![b'\\'; 65_536]);
    for _ in 0..1000 {
        exchange.request.headers.add("Accept", vec![b'\\'; 300]);
    }
    let fault = Fault::with_phrase(FaultKind::ReadTimeout, worst.clone(), worst.clone());
    exchange.steps = (0..200).map(|_| step(&worst, Phase::Access, StepOutcome::Failed(worst.as_str().into()))).collect();
    for _ in 0..attempts {
        let mut attempt = attempt();
        attempt.host.clone_from(&worst);
        attempt.fault = Some(fault.clone());
        attempt.first_bytes = vec![0xff; 64];
        attempt.alert = Some(worst.clone());
        attempt.tls = Some(Rc::new(UpstreamTlsFacts {
            sni: Some(worst.clone()),
            alpn: Some(worst.clone()),
            certificate: Some(CertificateFacts {
                subject: worst.clone(),
                issuer: worst.clone(),
                names: vec![worst.clone(); 10],
                not_before_s: Some(i64::MIN),
                not_after_s: Some(i64::MAX),
            }),
            ..UpstreamTlsFacts::default()
        }));
        exchange.attempts.push(attempt);
    }
    exchange.fault = Some(fault);
    exchange
}

#[test]
fn test_a_hostile_client_and_a_hostile_upstream_together_leave_a_bounded_record() {
    let gateway = gateway();
    for attempts in [1, 2, 6, 100] {
        let exchange = enormous(&gateway, attempts);
        let record = recorded(&gateway, &exchange, 504, Kind::Failed);
        assert_eq!(record["fault"], "read_timeout");
        assert_eq!(record["client"]["ip"], "127.0.0.9");
        recorded(&gateway, &exchange, 200, Kind::Sample);
    }
}

#[test]
fn test_what_is_large_is_dropped_in_its_order() {
    let gateway = gateway();
    let mut exchange = exchange(&gateway);
    exchange.fault = Some(FaultKind::ReadTimeout.into());
    exchange.request.headers.add("Accept", "a");
    exchange.steps = (0..64).map(|_| step("a-plugin", Phase::Access, StepOutcome::Continue)).collect();
    let mut failed = attempt();
    failed.fault = Some(Fault::new(FaultKind::ReadTimeout, "d".repeat(400)));
    exchange.attempts = vec![failed; 4];
    let record = recorded(&gateway, &exchange, 504, Kind::Failed);
    assert_eq!(record["request"]["headers"], json!([["Accept", "a"]]), "it fits");
    exchange.attempts = vec![exchange.attempts[0].clone(); 14];
    let record = recorded(&gateway, &exchange, 504, Kind::Failed);
    assert_eq!(record["request"]["headers_left_out"], 1);
    assert_eq!(record["plugins_left_out"], 64);
    assert_eq!(record["attempts"].as_array().map(Vec::len), Some(14));
    exchange.attempts = vec![exchange.attempts[0].clone(); 40];
    let record = recorded(&gateway, &exchange, 504, Kind::Failed);
    assert_eq!(record["attempts"].as_array().map(Vec::len), Some(2));
    assert_eq!(record["attempts_left_out"], 38);
}
