// SPDX-License-Identifier: Apache-2.0
//! The way of one request, from its head to its log line. Read this first: only this file and its two parts call from room to room.
//!
//! The journey belongs to the connection's task and to nobody else: no client and no plugin can drop it half way. A
//! client's departure is an event it sees in every phase, and it ends in [`finish`] exactly once, whatever happened.

mod attempts;
mod choosing;
mod detours;
mod guarding;
mod hedging;

use crate::config::ExplainHeaders;
use crate::exchange::{BodyStore, Exchange, ExchangeRef, Fired, Response, Source, Station, Version};
use crate::fault::{Fault, FaultKind};
use crate::gateway::Gateway;
use crate::http::body::Decoder;
use crate::http::head::{Framing, ResponseHead};
use crate::http::headers::Headers;
use crate::listener::connection::ClientConnection;
use crate::observe::{Level, authors, recorder};
use crate::phases::Phase;
use crate::phases::corridor::{self, Passage};
use crate::proxy::relay::{End, Plan, Relay};
use crate::proxy::{self, Failure, body_failure, doing};
use crate::response::{ClientFraming, HeadFacts, body, client_framing, write_head};
use crate::router::RequestView;
use crate::router::path::upstream_path;
use crate::snapshot::model::Protocol;
use crate::upstream::{PoolKey, UpstreamConnection};
use pylae_shared::tcp;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Most bytes of an answer held for plugins with a `response` phase.
const BUFFERED_ANSWER_LIMIT_BYTES: usize = 128 * 1024 * 1024;

/// How a journey ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Status for the access line.
    pub status: u16,
    /// The connection cannot carry another request: the answer broke off, or nothing was sent.
    pub must_close: bool,
}

impl Outcome {
    const GONE: Outcome = Outcome { status: 499, must_close: true };
}

/// Walks one request through the rooms. A panic in any of them is this request's 500 and nobody else's business.
pub async fn walk(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    fault: Option<Fault>,
    keep_alive: &mut bool,
) -> Outcome {
    let sent_before = client.wire.sent_bytes;
    let walked = {
        let mut steps = std::pin::pin!(steps(gateway, client, exchange, fault, keep_alive));
        std::future::poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| steps.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await
    };
    match walked {
        Ok(outcome) => {
            exchange.borrow_mut().sent_bytes = client.wire.sent_bytes - sent_before;
            outcome
        }
        Err(panic) => {
            *keep_alive = false;
            let text = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let fault = Fault::with_phrase(FaultKind::Panicked, text.clone(), format!("the gateway failed: {text}"));
            // A borrow held where it panicked was released by the unwinding.
            gateway.logs.log_exchange(Level::Crit, &exchange.borrow(), fault.phrase(), "");
            let nothing_sent = client.wire.sent_bytes == sent_before;
            exchange.borrow_mut().fault = Some(fault);
            if nothing_sent {
                body::platform(&mut exchange.borrow_mut(), 500, &gateway.settings.error_default_type);
                // No filter touches this answer; the log phase sees it all the same.
                let plugins = std::mem::take(&mut exchange.borrow_mut().plugins);
                let outcome = deliver_own(gateway, client, exchange, &mut false).await;
                exchange.borrow_mut().plugins = plugins;
                exchange.borrow_mut().sent_bytes = client.wire.sent_bytes - sent_before;
                return outcome;
            }
            Outcome { status: exchange.borrow().response.as_ref().map_or(500, |r| r.status), must_close: true }
        }
    }
}

/// The log phase and the access line: once for each exchange.
pub fn finish(gateway: &Rc<Gateway>, exchange: &ExchangeRef, outcome: Outcome) {
    if outcome.status == 499 && exchange.borrow().fault.is_none() {
        exchange.borrow_mut().fault = Some(FaultKind::ClientGone.into());
    }
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        if exchange.borrow().response.is_none() {
            // Nothing was answered: plugins that log see the status of the access line.
            exchange.borrow_mut().response = Some(Response {
                status: outcome.status,
                reason: None,
                headers: Headers::new(),
                source: Source::Error,
                body: None,
                status_of_upstream: None,
            });
        }
        corridor::run_log(gateway, exchange);
    }));
    if panicked.is_err() {
        gateway.host.release(exchange);
        gateway.logs.log_exchange(Level::Crit, &exchange.borrow(), "the gateway failed in the log phase", "");
    }
    let borrowed = exchange.borrow();
    gateway.logs.finish(&borrowed, outcome.status);
    recorder::finish(gateway, &borrowed, outcome.status);
}

async fn steps(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    fault: Option<Fault>,
    keep_alive: &mut bool,
) -> Outcome {
    if let Some(fault) = fault {
        *keep_alive = false;
        return answer_fault(gateway, client, exchange, fault, keep_alive).await;
    }
    if client.is_plain_on_tls_port {
        *keep_alive = false;
        exchange.borrow_mut().fault = Some(Fault::new(FaultKind::BadFraming, "plain HTTP came in on a TLS port"));
        body::plain_on_tls_port(&mut exchange.borrow_mut());
        return deliver_own(gateway, client, exchange, keep_alive).await;
    }
    if exchange.borrow().request.method == "TRACE" {
        return answer_fault(gateway, client, exchange, FaultKind::MethodNotAllowed.into(), keep_alive).await;
    }
    let limit = gateway.settings.client_max_body_size_bytes;
    if limit > 0 && client.body.remaining().is_some_and(|length| length > limit) {
        return answer_fault(gateway, client, exchange, FaultKind::RequestBodyTooLarge.into(), keep_alive).await;
    }

    let snapshot = Arc::clone(&exchange.borrow().snapshot);
    if snapshot.plan.global().phases() & Phase::Rewrite.bit() != 0 {
        exchange.borrow_mut().station = Station::Rewrite;
        let passage = corridor::collect_and_run(gateway, client, exchange, snapshot.plan.global(), Phase::Rewrite).await;
        if let Some(outcome) = end_of(gateway, client, exchange, passage, keep_alive).await {
            return outcome;
        }
    }

    let (matched, other_plan) = {
        exchange.borrow_mut().station = Station::Route;
        let borrowed = exchange.borrow();
        let view = RequestView {
            is_https: borrowed.connection.tls.is_some(),
            method: borrowed.request.method.as_bytes(),
            host: borrowed.request.host.as_bytes(),
            host_port: borrowed.request.host_port,
            listen_port: borrowed.connection.listen_port,
            path: &borrowed.request.path,
            headers: &borrowed.request.headers,
            sni: borrowed.connection.tls.as_ref().and_then(|tls| tls.sni.as_deref()).map(str::as_bytes),
            query: borrowed.request.query.as_deref(),
            source: SocketAddr::new(borrowed.client_ip, borrowed.client_port),
            local_address: borrowed.connection.local.ip(),
        };
        let matched = snapshot.router.match_request(&view);
        let other_plan = matched.as_ref().and_then(|matched| detours::other_plan(&snapshot, &view, matched));
        (matched, other_plan)
    };
    let Some(matched) = matched else {
        return answer_fault(gateway, client, exchange, FaultKind::NoRoute.into(), keep_alive).await;
    };
    let route = Arc::clone(&matched.route);
    let service = matched.service.clone();
    set_upstream(&mut exchange.borrow_mut(), matched);
    decided(gateway, exchange, || {
        let service = service.as_ref().map_or_else(|| "none".to_owned(), |service| service.id.to_string());
        format!("route.matched route={} service={service}", route.id)
    });

    let demanded = https_demanded(&exchange.borrow(), &route);
    if let Some(status) = demanded {
        if status == 426 {
            return answer_fault(gateway, client, exchange, FaultKind::HttpsRequired.into(), keep_alive).await;
        }
        return redirect_to_https(gateway, client, exchange, status, keep_alive).await;
    }

    let plan = Arc::clone(snapshot.plan.for_route(route.id, service.as_ref().map(|s| s.id)));
    if other_plan.is_some_and(|other| detours::goes_round(&plan, &other)) {
        let fault =
            Fault::new(FaultKind::BadFraming, "the path with its %2F decoded leads to another Route, whose plugins it would go round");
        return answer_fault(gateway, client, exchange, fault, keep_alive).await;
    }
    if !plan.candidates().is_empty() {
        exchange.borrow_mut().station = Station::Access;
        let passage = corridor::collect_and_run(gateway, client, exchange, &plan, Phase::Access).await;
        if let Some(outcome) = end_of(gateway, client, exchange, passage, keep_alive).await {
            return outcome;
        }
    }
    if exchange.borrow().upstream.target_host.is_empty() {
        return answer_fault(gateway, client, exchange, FaultKind::NoService.into(), keep_alive).await;
    }

    if route.request_buffering && matches!(exchange.borrow().request.body, BodyStore::Unread) {
        // From here on it counts as proxied: a body found malformed now is answered with Via and the latencies.
        if let Err(failure) = buffer_body(gateway, client, exchange).await {
            exchange.borrow_mut().moments.attempt_started = Some(Instant::now());
            return end_of_failure(gateway, client, exchange, failure, keep_alive).await;
        }
    }

    exchange.borrow_mut().station = Station::Attempts;
    let (head, upstream, key) = match attempts::proxy_heads(gateway, client, exchange, plan.policy()).await {
        Ok(reached) => reached,
        Err(failure) => return end_of_failure(gateway, client, exchange, failure, keep_alive).await,
    };
    deliver_upstream(gateway, client, exchange, head, upstream, key, keep_alive).await
}

/// Before a Route is known global plugins alone take part in what is still to come: filters and the log.
fn collect_global(exchange: &mut Exchange) {
    if !exchange.plugins.is_empty() {
        return;
    }
    let global = Arc::clone(exchange.snapshot.plan.global());
    let consumer = exchange.consumer_id;
    exchange.plugins.extend(global.candidates().iter().filter_map(|candidate| candidate.instance(consumer).cloned()));
}

/// Ends the journey if the passage says so.
async fn end_of(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    passage: Passage,
    keep_alive: &mut bool,
) -> Option<Outcome> {
    if !matches!(passage, Passage::Through) && exchange.borrow().matched.is_none() {
        collect_global(&mut exchange.borrow_mut());
    }
    match passage {
        Passage::Through => None,
        Passage::Answered(answer) => {
            note_refusal(&mut exchange.borrow_mut(), answer.status);
            body::plugin_answer(&mut exchange.borrow_mut(), *answer);
            Some(deliver_own(gateway, client, exchange, keep_alive).await)
        }
        Passage::Failed(failure) => {
            let text = format!("plugin {} failed in {}: {}", failure.plugin, failure.phase.name(), failure.detail);
            gateway.logs.log_exchange(Level::Error, &exchange.borrow(), &text, "");
            exchange.borrow_mut().fault = Some(Fault::with_phrase(failure.kind, text.clone(), text));
            body::plugin_answer(
                &mut exchange.borrow_mut(),
                crate::phases::Answer { status: 500, headers: Headers::new(), body: crate::phases::AnswerBody::Error(None) },
            );
            Some(deliver_own(gateway, client, exchange, keep_alive).await)
        }
        Passage::Ended(failure) => Some(end_of_failure(gateway, client, exchange, failure, keep_alive).await),
    }
}

/// A plugin answers in the upstream's place. What was noticed of the upstream before stays: it came first.
fn note_refusal(exchange: &mut Exchange, status: u16) {
    if status >= 400 && exchange.noticed.is_none() {
        exchange.noticed = Some(FaultKind::PluginRefused.into());
    }
}

async fn end_of_failure(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    failure: Failure,
    keep_alive: &mut bool,
) -> Outcome {
    match failure {
        Failure::Gone => {
            gone(gateway, exchange);
            Outcome::GONE
        }
        Failure::Client(fault) => {
            *keep_alive = false;
            gateway.logs.log_exchange(
                if fault.kind == FaultKind::BadRequestBody { Level::Error } else { Level::Info },
                &exchange.borrow(),
                fault.phrase(),
                "",
            );
            answer_fault(gateway, client, exchange, fault, keep_alive).await
        }
        Failure::Fault(fault, _) => answer_fault(gateway, client, exchange, fault, keep_alive).await,
    }
}

/// The client went away: noted with what was being done for it.
fn gone(gateway: &Rc<Gateway>, exchange: &ExchangeRef) {
    let mut borrowed = exchange.borrow_mut();
    let during = match (borrowed.moments.head_received, borrowed.moments.attempt_started, borrowed.phase) {
        _ if borrowed.moments.queued.is_some() => "while waiting for its turn at the upstream",
        (Some(_), _, _) => "while sending the answer",
        (None, Some(_), _) => "while waiting for the upstream",
        (None, None, phase) => match phase {
            Phase::Rewrite => "while in rewrite",
            Phase::Access => "while in access or reading the body",
            _ => "while filtering the answer",
        },
    };
    for attempt in borrowed.attempts.iter_mut().filter(|a| a.ended == "open") {
        attempt.ended = "closed: client gone";
    }
    borrowed.moments.departed = Some(Instant::now());
    borrowed.fault = Some(Fault::new(FaultKind::ClientGone, format!("the client closed {during}")));
    drop(borrowed);
    gateway.logs.log_exchange(Level::Info, &exchange.borrow(), "client prematurely closed connection", during);
}

/// Puts down where the request goes: service, path, forwarded prefix.
fn set_upstream(exchange: &mut Exchange, matched: crate::router::Match) {
    let route = &matched.route;
    if let Some(service) = &matched.service {
        exchange.upstream.path =
            upstream_path(service.path.as_deref(), &exchange.request.path, matched.matched_length, route.strip_path, matched.path_handling);
        service.host.as_ref().clone_into(&mut exchange.upstream.target_host);
        exchange.upstream.target_port = service.port;
        exchange.upstream.is_tls = service.protocol.is_tls();
    }
    if route.strip_path
        && exchange.forwarded.prefix.is_none()
        && let Some(length) = matched.matched_length
        && length > 0
        && exchange.request.path.get(..length).is_some_and(|prefix| prefix != b"/")
    {
        exchange.forwarded.prefix = Some(exchange.request.path[..length].to_vec());
    }
    exchange.matched = Some(matched);
}

/// The status that sends the client to https, if the Route is for https alone.
fn https_demanded(exchange: &Exchange, route: &crate::snapshot::model::Route) -> Option<u16> {
    let is_https = exchange.connection.tls.is_some() || (exchange.peer_is_trusted && exchange.forwarded.proto == "https");
    let has = |protocol: Protocol| route.protocols.contains(&protocol);
    (!is_https && has(Protocol::Https) && !has(Protocol::Http)).then_some(route.https_redirect_status_code)
}

async fn redirect_to_https(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    status: u16,
    keep_alive: &mut bool,
) -> Outcome {
    {
        let mut borrowed = exchange.borrow_mut();
        let mut location = format!("https://{}{}", borrowed.forwarded.host, String::from_utf8_lossy(&borrowed.request.raw_path));
        if let Some(query) = &borrowed.request.query {
            location.push('?');
            location.push_str(&String::from_utf8_lossy(query));
        }
        body::nginx_page(&mut borrowed, status, Some(&location));
    }
    collect_global(&mut exchange.borrow_mut());
    deliver_own(gateway, client, exchange, keep_alive).await
}

/// A decision, at `debug`; the text is made only when somebody reads it.
fn decided(gateway: &Rc<Gateway>, exchange: &ExchangeRef, text: impl FnOnce() -> String) {
    if gateway.logs.is_enabled(Level::Debug) {
        gateway.logs.log_exchange(Level::Debug, &exchange.borrow(), &text(), "");
    }
}

/// Answers a fault by its kind, and keeps it for the record.
async fn answer_fault(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    fault: Fault,
    keep_alive: &mut bool,
) -> Outcome {
    let kind = fault.kind;
    let status = fault.status();
    {
        let mut borrowed = exchange.borrow_mut();
        match kind {
            FaultKind::ClientGone => {
                borrowed.fault = Some(fault);
                collect_global(&mut borrowed);
                return Outcome::GONE;
            }
            FaultKind::NoRoute
            | FaultKind::HttpsRequired
            | FaultKind::NoService
            | FaultKind::NoHealthyTarget
            | FaultKind::CircuitOpen
            | FaultKind::QueueFull
            | FaultKind::QueueTimeout => {
                let mut headers = Headers::new();
                if kind == FaultKind::HttpsRequired {
                    headers.add("Upgrade", "TLS/1.2, HTTP/1.1");
                }
                body::error(&mut borrowed, status, Some(kind.facts().phrase), headers);
            }
            FaultKind::NameNotFound => body::error(&mut borrowed, status, Some("name resolution failed"), Headers::new()),
            FaultKind::ResolverFailed => {
                // What was tried is for the log: the body's message is not escaped.
                let text = fault.phrase().strip_prefix("DNS resolution failed: ").unwrap_or("name resolution failed");
                let text = text.split_once(". Tried: ").map_or(text, |(text, _)| text).to_owned();
                body::error(&mut borrowed, status, Some(&text), Headers::new());
            }
            FaultKind::VersionNotSupported | FaultKind::TransferEncodingNotSupported => body::nginx_page(&mut borrowed, status, None),
            _ => body::platform(&mut borrowed, status, &gateway.settings.error_default_type),
        }
        if matches!(kind.facts().room, "http" | "listener" | "tls") {
            *keep_alive = false;
            if gateway.logs.is_enabled(Level::Info) && !fault.detail.is_empty() {
                gateway.logs.log_exchange(Level::Info, &borrowed, &format!("{}: {}", fault.phrase(), fault.detail), "");
            }
        }
        if matches!(kind, FaultKind::NameNotFound | FaultKind::ResolverFailed) {
            gateway.logs.log_exchange(Level::Error, &borrowed, fault.phrase(), "");
        }
        borrowed.fault = Some(fault);
        if borrowed.matched.is_none() || kind == FaultKind::HttpsRequired {
            collect_global(&mut borrowed);
        }
    }
    deliver_own(gateway, client, exchange, keep_alive).await
}

/// Reads the whole body before an upstream is chosen: into memory, then into a file.
pub async fn buffer_body(gateway: &Rc<Gateway>, client: &mut ClientConnection, exchange: &ExchangeRef) -> Result<(), Failure> {
    let station = std::mem::replace(&mut exchange.borrow_mut().station, Station::ReadBody);
    let patience = Duration::from_millis(gateway.settings.client_body_timeout_ms);
    let memory = gateway.settings.client_body_buffer_size_bytes;
    let limit = gateway.settings.client_max_body_size_bytes;
    let mut bytes = Vec::with_capacity(client.body.remaining().map_or(0, |length| usize::try_from(length).unwrap_or(0).min(memory)));
    let mut file: Option<(std::fs::File, u64)> = None;
    loop {
        let more = client.read_body(&mut bytes, patience).await.map_err(body_failure)?;
        if limit > 0 && client.body_bytes > limit {
            return Err(Failure::Client(FaultKind::RequestBodyTooLarge.into()));
        }
        if more && bytes.len() <= memory && file.is_none() {
            continue;
        }
        if more || file.is_some() {
            let full = |error: &std::io::Error| {
                let text = crate::upstream::errno_text(error);
                Failure::Fault(
                    Fault::with_phrase(
                        FaultKind::SpoolFailed,
                        format!("the body could not be spilled: {text}"),
                        format!("pwrite() failed ({text})"),
                    ),
                    "while spilling the client request body",
                )
            };
            if file.is_none() {
                file = Some((proxy::spool::unlinked_file(&gateway.settings.prefix).map_err(|e| full(&e))?, 0));
            }
            if let Some((file, length)) = &mut file {
                file.write_all_at(&bytes, *length).map_err(|e| full(&e))?;
                *length += bytes.len() as u64;
                bytes.clear();
            }
        }
        if !more {
            break;
        }
    }
    let mut borrowed = exchange.borrow_mut();
    borrowed.request.body = match file {
        Some((file, length)) => BodyStore::File(Rc::new(file), length),
        None if bytes.is_empty() => BodyStore::Empty,
        None => BodyStore::Memory(bytes),
    };
    borrowed.station = station;
    Ok(())
}

fn has_phase(exchange: &Exchange, phase: Phase) -> bool {
    exchange.plugins.iter().any(|instance| instance.phases & phase.bit() != 0)
}

fn filters_of(exchange: &Exchange) -> Vec<Arc<crate::snapshot::PluginInstance>> {
    exchange.plugins.iter().filter(|instance| instance.phases & Phase::BodyFilter.bit() != 0).cloned().collect()
}

/// Brings the upstream's answer to the client.
async fn deliver_upstream(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    mut head: ResponseHead,
    mut upstream: UpstreamConnection,
    key: PoolKey,
    keep_alive: &mut bool,
) -> Outcome {
    // What the upstream was asked decides how it frames; a plugin may have changed the method.
    let is_head = {
        let borrowed = exchange.borrow();
        borrowed.upstream.method.as_deref().unwrap_or(&borrowed.request.method) == "HEAD"
    };
    let framing = if is_head { Framing::None } else { head.framing };
    if framing == Framing::UntilClose {
        head.keep_alive = false;
    }
    let length_field = head.headers.get("content-length").and_then(crate::http::head::parse_length);
    let nominated = std::mem::take(&mut head.nominated);
    if !nominated.is_empty() {
        head.headers.retain(|name, _| !nominated.iter().any(|nominee| name.eq_ignore_ascii_case(nominee.as_bytes())));
    }
    add_charset(&mut head.headers);
    let usual = crate::response::reason(head.status).as_bytes() == head.reason;
    exchange.borrow_mut().response = Some(Response {
        status: head.status,
        reason: (!usual).then_some(head.reason),
        headers: head.headers,
        source: Source::Service,
        body: None,
        status_of_upstream: Some(head.status),
    });
    set_hash_cookie(&mut exchange.borrow_mut());
    let mut decoder = Decoder::new(framing);
    let (read_timeout, is_buffered) = {
        let borrowed = exchange.borrow();
        let route = borrowed.matched.as_ref();
        (
            route.and_then(|m| m.service.as_ref()).map_or(Duration::from_secs(60), |service| service.read_timeout()),
            route.is_none_or(|m| m.route.response_buffering),
        )
    };

    if has_phase(&exchange.borrow(), Phase::Response) {
        exchange.borrow_mut().station = Station::ReadAnswer;
        let read = read_whole(client, &mut upstream, &mut decoder, read_timeout).await;
        match read {
            Ok(bytes) => {
                let mut borrowed = exchange.borrow_mut();
                authors::body_came(&mut borrowed, &bytes, true);
                if let Some(response) = borrowed.response.as_mut() {
                    response.body = Some(bytes);
                }
            }
            Err(Failure::Fault(fault, what)) => {
                gateway.logs.log_exchange(Level::Error, &exchange.borrow(), fault.phrase(), what);
                if let Some(attempt) = exchange.borrow_mut().attempts.last_mut() {
                    attempt.fault = Some(fault.clone());
                    if fault.kind == FaultKind::ReadTimeoutInBody {
                        attempt.ended = "timeout: read";
                        attempt.timer = Some(Fired { name: "read_timeout", length: read_timeout });
                        attempt.unacknowledged = tcp::unacknowledged(upstream.wire.socket());
                    }
                }
                // Nobody waits for the upstream any more while the client takes the fault.
                give_back(gateway, exchange, &key, upstream, false);
                return answer_fault(gateway, client, exchange, fault, keep_alive).await;
            }
            Err(failure) => return end_of_failure(gateway, client, exchange, failure, keep_alive).await,
        }
        give_back(gateway, exchange, &key, upstream, decoder.is_done() && head.keep_alive);
        {
            let mut borrowed = exchange.borrow_mut();
            borrowed.balancing.turn = None;
            borrowed.station = Station::Filter;
        }
        let passage = corridor::run_collected(gateway, client, exchange, Phase::Response).await;
        if let Some(outcome) = end_of(gateway, client, exchange, passage, keep_alive).await {
            return outcome;
        }
        let body = exchange.borrow_mut().response.as_mut().and_then(|r| r.body.take()).unwrap_or_default();
        return deliver(gateway, client, exchange, Some(body), None, Framing::None, length_field, keep_alive, read_timeout, is_buffered)
            .await
            .0;
    }
    let (outcome, is_clean) = deliver(
        gateway,
        client,
        exchange,
        None,
        Some((&mut upstream, decoder)),
        framing,
        length_field,
        keep_alive,
        read_timeout,
        is_buffered,
    )
    .await;
    give_back(gateway, exchange, &key, upstream, is_clean && head.keep_alive);
    exchange.borrow_mut().balancing.turn = None;
    outcome
}

/// The cookie by which the client's next request goes the same way. (`Same-Site` is Kong's spelling.)
fn set_hash_cookie(exchange: &mut Exchange) {
    let Some(value) = exchange.balancing.new_cookie.take() else { return };
    let Some(upstream) = exchange.snapshot.upstream(&exchange.upstream.target_host) else { return };
    let row = &upstream.upstream;
    let (name, path) = (row.hash_on_cookie.as_deref().unwrap_or_default(), row.hash_on_cookie_path.as_deref().unwrap_or("/"));
    let cookie = format!("{name}={value}; Path={path}; Same-Site=Lax; HttpOnly");
    if let Some(response) = exchange.response.as_mut() {
        response.headers.add("Set-Cookie", cookie);
    }
}

/// Kong's nginx says `charset UTF-8`: textual answers that name none get one (nginx's default `charset_types`).
fn add_charset(headers: &mut Headers) {
    const TYPES: [&[u8]; 6] =
        [b"text/html", b"text/xml", b"text/plain", b"text/vnd.wap.wml", b"application/javascript", b"application/rss+xml"];
    let Some(value) = headers.get("content-type") else { return };
    let media_type = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    let names_one = value.to_ascii_lowercase().windows(8).any(|w| w == b"charset=");
    if names_one || headers.contains("content-encoding") || !TYPES.iter().any(|t| media_type.eq_ignore_ascii_case(t)) {
        return;
    }
    let with_charset = [value, b"; charset=UTF-8"].concat();
    headers.set("Content-Type", with_charset);
}

/// Puts the connection back into the pool when both messages on it are over, and notes how it ended.
fn give_back(gateway: &Rc<Gateway>, exchange: &ExchangeRef, key: &PoolKey, mut upstream: UpstreamConnection, is_clean: bool) {
    upstream.place = None;
    let received_bytes = upstream.wire.received_bytes - upstream.received_before;
    let ended = upstream.wire.ended();
    let is_kept =
        is_clean && upstream.is_request_whole && upstream.wire.buffered().is_empty() && ended.is_none() && gateway.pool.give(key, upstream);
    if let Some(attempt) = exchange.borrow_mut().attempts.last_mut() {
        attempt.received_bytes = received_bytes;
        if attempt.ended == "open" {
            attempt.ended = match ended {
                Some(ended) => ended.name(),
                None if is_kept => "kept",
                None => "closed by us",
            };
        }
    }
}

/// Reads the whole answer for plugins with a `response` phase.
async fn read_whole(
    client: &mut ClientConnection,
    upstream: &mut UpstreamConnection,
    decoder: &mut Decoder,
    patience: Duration,
) -> Result<Vec<u8>, Failure> {
    use crate::http::body::Step;
    let mut whole = Vec::new();
    loop {
        match decoder.step(upstream.wire.buffered()) {
            Err(bad) => return Err(Failure::Fault(Fault::new(FaultKind::BadResponseBody, bad.0), doing::READING_BODY)),
            Ok(Step::End { skip }) => {
                upstream.wire.consume(skip);
                return Ok(whole);
            }
            Ok(Step::Data { skip, data }) => {
                whole.extend_from_slice(&upstream.wire.buffered()[skip..skip + data]);
                upstream.wire.consume(skip + data);
                if whole.len() > BUFFERED_ANSWER_LIMIT_BYTES {
                    let fault =
                        Fault::new(FaultKind::FilterFailed, "the answer is over 128 MiB, too large for a plugin with a `response` phase");
                    return Err(Failure::Fault(fault, doing::READING_BODY));
                }
                continue;
            }
            Ok(Step::More { skip }) => upstream.wire.consume(skip),
        }
        upstream.wire.arm(patience);
        let outcome = std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = upstream.wire.poll_fill(cx, crate::http::wire::READ_BYTES) {
                return Poll::Ready(Some(outcome));
            }
            if client.poll_departed(cx).is_ready() {
                return Poll::Ready(None);
            }
            upstream.wire.poll_timeout(cx).map(Some)
        })
        .await;
        let kind = match outcome {
            None => return Err(Failure::Gone),
            Some(Ok(0)) if decoder.ends_at_close() => return Ok(whole),
            Some(Ok(0)) => FaultKind::ClosedInBody,
            Some(Ok(_)) => continue,
            Some(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => FaultKind::ReadTimeoutInBody,
            Some(Err(_)) => FaultKind::ResetInBody,
        };
        return Err(Failure::Fault(kind.into(), doing::READING_BODY));
    }
}

/// Sends an answer the gateway or a plugin made.
async fn deliver_own(gateway: &Rc<Gateway>, client: &mut ClientConnection, exchange: &ExchangeRef, keep_alive: &mut bool) -> Outcome {
    let body = exchange.borrow_mut().response.as_mut().and_then(|r| r.body.take()).unwrap_or_default();
    // A 5xx of ours does not end the connection; a body nobody will read does.
    if !client.body.is_done() && client.owes_continue {
        *keep_alive = false;
    }
    let timeout = Duration::from_millis(gateway.settings.send_timeout_ms);
    deliver(gateway, client, exchange, Some(body), None, Framing::None, None, keep_alive, timeout, true).await.0
}

/// Puts the fields that plugins set before there was an answer in the place of the answer's own. Cookies stand beside each
/// other, whoever sets them: each has a name of its own within its field (RFC 6265, section 3).
fn lay_early_headers(exchange: &mut Exchange) {
    let Some(response) = exchange.response.as_mut() else { return };
    for (name, _) in exchange.early_headers.iter() {
        if !name.eq_ignore_ascii_case(b"set-cookie")
            && let Ok(name) = std::str::from_utf8(name)
        {
            response.headers.remove(name);
        }
    }
    for (name, value) in exchange.early_headers.iter() {
        response.headers.add(name, value);
    }
}

/// A filter answers in the upstream's place: its answer is not read, and its request is no longer in flight.
fn abandon(upstream: Option<(&mut UpstreamConnection, Decoder)>) -> bool {
    upstream.is_some_and(|(upstream, _)| {
        upstream.place = None;
        true
    })
}

/// Runs the header filters, writes the head, relays the body. Answers the outcome and whether the upstream connection is
/// still clean.
#[expect(clippy::too_many_arguments, reason = "both ways an answer comes about end here, once")]
async fn deliver(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    own: Option<Vec<u8>>,
    upstream: Option<(&mut UpstreamConnection, Decoder)>,
    upstream_framing: Framing,
    length_field: Option<u64>,
    keep_alive: &mut bool,
    read_timeout: Duration,
    is_buffered: bool,
) -> (Outcome, bool) {
    let mut own = own;
    let mut upstream = upstream;
    let mut upstream_framing = upstream_framing;
    // Its answer was not read to the end: nobody else may have the connection.
    let mut is_abandoned = false;
    lay_early_headers(&mut exchange.borrow_mut());
    if has_phase(&exchange.borrow(), Phase::HeaderFilter) {
        exchange.borrow_mut().station = Station::Filter;
        match corridor::run_collected(gateway, client, exchange, Phase::HeaderFilter).await {
            Passage::Through => {}
            Passage::Ended(_) => {
                gone(gateway, exchange);
                return (Outcome::GONE, false);
            }
            Passage::Answered(answer) => {
                note_refusal(&mut exchange.borrow_mut(), answer.status);
                body::plugin_answer(&mut exchange.borrow_mut(), *answer);
                own = Some(exchange.borrow_mut().response.as_mut().and_then(|r| r.body.take()).unwrap_or_default());
                is_abandoned = abandon(upstream.take());
            }
            Passage::Failed(failure) => {
                let fault = crate::proxy::relay::filter_fault(&failure);
                gateway.logs.log_exchange(Level::Error, &exchange.borrow(), fault.phrase(), "");
                exchange.borrow_mut().fault = Some(fault);
                body::error(&mut exchange.borrow_mut(), 500, None, Headers::new());
                own = Some(exchange.borrow_mut().response.as_mut().and_then(|r| r.body.take()).unwrap_or_default());
                is_abandoned = abandon(upstream.take());
            }
        }
    }
    let (version, is_head, status, filters) = {
        let borrowed = exchange.borrow();
        (
            borrowed.request.version,
            borrowed.request.method == "HEAD",
            borrowed.response.as_ref().map_or(500, |r| r.status),
            filters_of(&borrowed),
        )
    };
    if let Some(body) = &own {
        let is_bodyless = (is_head || status == 304) && body.is_empty();
        upstream_framing = Framing::Length(length_field.filter(|_| is_bodyless).unwrap_or(body.len() as u64));
    }
    let is_filtered = !filters.is_empty();
    let stated = if own.is_some() && length_field.is_none() { None } else { length_field };
    let framing = client_framing(version, is_head, status, upstream_framing, stated, is_filtered);
    if matches!(framing, ClientFraming::UntilClose) {
        *keep_alive = false;
    }
    // What is left of an unread request body decides too: a large one is not worth reading to keep a connection.
    if !client.body.is_done() && (client.owes_continue || client.body.remaining().is_none_or(|left| left > 64 * 1024)) {
        *keep_alive = false;
    }
    if gateway.drain.is_begun() {
        *keep_alive = false;
    }
    let mut out = crate::http::wire::take_buffer();
    if version != Version::Http09 {
        write_head(
            &mut out,
            &exchange.borrow(),
            &HeadFacts {
                added: gateway.added,
                token: &gateway.token,
                framing,
                keep_alive: *keep_alive,
                allow_debug: gateway.settings.allow_debug_header,
                tells_fault: match gateway.settings.explain.headers {
                    ExplainHeaders::Off => false,
                    ExplainHeaders::Trusted => exchange.borrow().peer_is_trusted,
                    ExplainHeaders::On => true,
                },
            },
            &gateway.logs.clock,
        );
    }
    let head_bytes = out.len() as u64;
    let sent_before = client.wire.sent_bytes;
    {
        let mut borrowed = exchange.borrow_mut();
        borrowed.moments.answer_started = Some(Instant::now());
        borrowed.station = Station::SendAnswer;
    }
    let plan = Plan {
        framing,
        is_buffered,
        read_timeout,
        send_timeout: Duration::from_millis(gateway.settings.send_timeout_ms),
        filters: if matches!(framing, ClientFraming::None | ClientFraming::Stated(_)) { Vec::new() } else { filters },
    };
    let (connection, decoder) = match upstream {
        Some((connection, decoder)) => (Some(connection), decoder),
        None => (None, Decoder::new(Framing::None)),
    };
    let end = Relay::new(gateway, exchange, plan, decoder, out).run(client, connection, own.as_deref()).await;
    let sent = (client.wire.sent_bytes - sent_before).saturating_sub(head_bytes);
    let mut borrowed = exchange.borrow_mut();
    borrowed.sent_body_bytes = sent;
    match end {
        End::Whole => (Outcome { status, must_close: false }, !is_abandoned),
        End::Gone => {
            drop(borrowed);
            gone(gateway, exchange);
            // The answer had begun: nginx logs its status, and the record says that the client left.
            (Outcome { status: if head_bytes > 0 && sent > 0 { status } else { 499 }, must_close: true }, false)
        }
        End::Broken(fault) => {
            let what = if fault.kind == FaultKind::FilterFailed { "" } else { doing::READING_BODY };
            gateway.logs.log_exchange(Level::Error, &borrowed, fault.phrase(), what);
            if let Some(attempt) = borrowed.attempts.last_mut() {
                attempt.fault = Some(fault.clone());
                if fault.kind == FaultKind::ReadTimeoutInBody {
                    attempt.ended = "timeout: read";
                }
            }
            borrowed.fault = Some(fault);
            (Outcome { status, must_close: true }, false)
        }
    }
}
