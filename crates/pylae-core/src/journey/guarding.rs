// SPDX-License-Identifier: Apache-2.0
//! May this request be tried now, and again? The plugin `resilience` at its host: the queue, the circuit, the budget of retries.

use super::decided;
use crate::exchange::{Attempt, BodyStore, Exchange, ExchangeRef};
use crate::fault::{Fault, FaultKind, Side};
use crate::gateway::Gateway;
use crate::http::wire::Deadline;
use crate::listener::connection::ClientConnection;
use crate::observe::Level;
use crate::proxy::{Failure, Timeouts};
use crate::resilience::breaker::{Refused, Turned, in_whole_seconds};
use crate::resilience::queue::{Place, Queue};
use crate::resilience::{HedgeRules, Host, HostKey, Policy, Ticket};
use pylae_shared::monotonic;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

const A_SECOND: Duration = Duration::from_secs(1);

/// A request whose attempts are guarded.
pub(super) struct Guard {
    policy: Arc<Policy>,
    host: Rc<Host>,
    ticket: Ticket,
    /// Its place among those in flight.
    place: Option<Place>,
    /// Hedges that may still be made.
    hedges_left: usize,
}

impl Guard {
    /// Lets a request in: at once, or when it is its turn.
    pub async fn enter(
        gateway: &Rc<Gateway>,
        client: &mut ClientConnection,
        exchange: &ExchangeRef,
        policy: &Arc<Policy>,
    ) -> Result<Self, Failure> {
        let key = HostKey::of(&exchange.borrow());
        let was_crowded = gateway.guarded.is_crowded();
        let host = gateway.guarded.get(policy, key, monotonic(), || name_of(&exchange.borrow(), key));
        if gateway.guarded.is_crowded() && !was_crowded {
            let text = "the plugin resilience guards more hosts than it can remember: it forgets those asked for least recently";
            gateway.logs.log(Level::Warn, text);
        }
        let refused = |refused: Refused| {
            let fault = Fault::new(FaultKind::CircuitOpen, refused.detail);
            Failure::Fault(refuse(gateway, exchange, &host, fault, refused.retry_after), "")
        };
        // Who would be refused does not queue; a trial that waits would keep others from trying.
        drop(Ticket::of(&host, monotonic()).map_err(refused)?);
        let place = match host.queue() {
            Some(queue) => Some(place_of(gateway, client, exchange, queue).await.map_err(|failure| match failure {
                Failure::Fault(fault, what) => Failure::Fault(refuse(gateway, exchange, &host, fault, A_SECOND), what),
                other => other,
            })?),
            None => None,
        };
        let ticket = Ticket::of(&host, monotonic()).map_err(refused)?;
        // Who is refused makes no attempt, and allows no retry.
        host.note_request(monotonic());
        let hedges_left = policy.hedge.as_ref().map_or(0, |rules| rules.most);
        Ok(Guard { policy: Arc::clone(policy), host, ticket, place, hedges_left })
    }

    /// The timeouts of one attempt.
    pub fn bounded(&self, timeouts: Timeouts) -> Timeouts {
        let Some(bound) = self.policy.per_try_timeout else { return timeouts };
        Timeouts {
            connect: bound.connect.map_or(timeouts.connect, |connect| connect.min(timeouts.connect)),
            read: bound.first_byte.map_or(timeouts.read, |first_byte| first_byte.min(timeouts.read)),
            write: timeouts.write,
        }
    }

    /// The attempt brought an answer of this status. The connection keeps the request's place until the answer is through.
    pub fn answered(&mut self, gateway: &Gateway, status: u16) -> Option<Place> {
        self.saw_status(gateway, status);
        self.place.take()
    }

    /// One of several attempts brought an answer of this status.
    pub fn saw_status(&self, gateway: &Gateway, status: u16) {
        log_turn(gateway, &self.host, self.ticket.answered(status, monotonic()));
    }

    /// An attempt failed; `service` are the timeouts it had without a bound of its own.
    pub fn failed(&self, gateway: &Gateway, fault: &mut Fault, service: Timeouts, attempt: Option<&mut Attempt>) {
        let bound = self.bounded(service);
        let ours = match fault.kind {
            FaultKind::ConnectTimeout if bound.connect < service.connect => Some("per_try_timeout.connect"),
            FaultKind::ReadTimeout if bound.read < service.read => Some("per_try_timeout.first_byte"),
            _ => None,
        };
        if let Some(name) = ours {
            if let Some(timer) = attempt.and_then(|attempt| attempt.timer.as_mut()) {
                timer.name = name;
            }
            fault.detail = format!("{}, as per_try_timeout of the plugin resilience says", fault.detail).into();
        }
        if fault.kind.facts().side == Side::Upstream {
            log_turn(gateway, &self.host, self.ticket.failed(fault.phrase(), monotonic()));
        }
    }

    /// Why no other attempt may be made after one that failed, if so: the word of logs, and of records.
    pub fn refuses_retry(&mut self) -> Option<(&'static str, &'static str)> {
        match Ticket::of(&self.host, monotonic()) {
            Err(_) => Some(("circuit_open", "not sent again: the circuit is open")),
            Ok(_) if !self.host.take_retry(monotonic()) => Some(("budget", "not sent again: the budget of retries is spent")),
            Ok(ticket) => {
                self.ticket = ticket;
                None
            }
        }
    }

    /// How this request is hedged, if it is.
    pub fn hedging(&self, exchange: &Exchange) -> Option<&HedgeRules> {
        let rules = self.policy.hedge.as_ref().filter(|_| self.hedges_left > 0)?;
        let method = exchange.upstream.method.as_deref().unwrap_or(&exchange.request.method);
        let has_body = exchange.upstream.body.is_some() || !matches!(exchange.request.body, BodyStore::Empty);
        (!has_body && rules.methods.iter().any(|one| one == method)).then_some(rules)
    }

    /// May another attempt be made beside one that goes on?
    pub fn hedge(&mut self, gateway: &Rc<Gateway>, exchange: &ExchangeRef) -> Option<Hedge> {
        let place = self.host.queue().map(Queue::enter);
        let refused = if !self.host.is_well() {
            Some("circuit")
        } else if matches!(place, Some(None)) {
            Some("queue")
        } else if !self.host.take_retry(monotonic()) {
            Some("budget")
        } else {
            None
        };
        if let Some(reason) = refused {
            decided(gateway, exchange, || format!("hedge.refused reason={reason}"));
            self.hedges_left = 0;
            return None;
        }
        self.hedges_left -= 1;
        decided(gateway, exchange, || "hedge.made".to_owned());
        Some(Hedge { _place: place.flatten() })
    }

    /// Hedges that may still be made.
    pub fn hedges_left(&self) -> usize {
        self.hedges_left
    }
}

/// The right to make one attempt beside another, until it is dropped.
pub(super) struct Hedge {
    /// Its place among those in flight, where requests queue.
    _place: Option<Place>,
}

/// As logs name the host of a request.
fn name_of(exchange: &Exchange, key: HostKey) -> String {
    let host = &exchange.upstream.target_host;
    match key {
        HostKey::Upstream(_) => format!("Upstream {host}"),
        HostKey::Service(id) => {
            let name = exchange.matched.as_ref().and_then(|matched| matched.service.as_ref()?.name.clone());
            format!("Service {}", name.unwrap_or_else(|| id.to_string().into()))
        }
        HostKey::Named(_) => format!("host {host}:{}", exchange.upstream.target_port),
    }
}

/// A request makes no attempt: the client is told when to come again, and the log hears of it now and then.
fn refuse(gateway: &Gateway, exchange: &ExchangeRef, host: &Host, fault: Fault, retry_after: Duration) -> Fault {
    let seconds = in_whole_seconds(retry_after).max(1).to_string();
    exchange.borrow_mut().early_headers.set("Retry-After", seconds);
    if let Some(untold) = host.tell_of_refusal(monotonic()) {
        let (name, kind, detail) = (&host.name, fault.kind.facts().name, &fault.detail);
        let others = if untold > 0 { format!(" ({untold} others were refused since the last line)") } else { String::new() };
        gateway.logs.log_exchange(Level::Warn, &exchange.borrow(), &format!("{name} was asked for nothing, {kind}: {detail}{others}"), "");
    }
    fault
}

fn log_turn(gateway: &Gateway, host: &Host, turned: Option<Turned>) {
    if let Some(Turned(text)) = turned {
        gateway.logs.log(Level::Warn, &format!("the circuit of {} {text}", host.name));
    }
}

/// A place among the requests in flight, when it is this one's turn.
async fn place_of(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    queue: &Rc<Queue>,
) -> Result<Place, Failure> {
    if let Some(place) = queue.enter() {
        return Ok(place);
    }
    let Some(mut waiting) = queue.queue_up() else {
        let detail = format!("{} requests wait, and {} are in flight", queue.waiting_count(), queue.in_flight());
        return Err(Failure::Fault(Fault::new(FaultKind::QueueFull, detail), ""));
    };
    let began = Instant::now();
    exchange.borrow_mut().moments.queued = Some(began);
    decided(gateway, exchange, || format!("queue.entered ahead={}", queue.waiting_count() - 1));
    let patience = queue.rules().deadline;
    let mut deadline = Deadline::new();
    deadline.arm(patience);
    let mut look = Deadline::new();
    look.arm(A_SECOND);
    let turn = std::future::poll_fn(|cx| {
        if let Poll::Ready(place) = waiting.poll(cx) {
            return Poll::Ready(Ok(place));
        }
        if client.poll_departed(cx).is_ready() {
            return Poll::Ready(Err(Failure::Gone));
        }
        // With the buffer full nothing is read any more, and no end of it seen.
        while look.poll(cx).is_ready() {
            if client.has_left_unread() {
                return Poll::Ready(Err(Failure::Gone));
            }
            look.arm(A_SECOND);
        }
        deadline.poll(cx).map(|()| Err(Failure::Fault(timed_out(queue, patience), "")))
    })
    .await;
    exchange.borrow_mut().moments.queued = matches!(turn, Err(Failure::Gone)).then_some(began);
    if turn.is_ok() {
        decided(gateway, exchange, || format!("queue.left waited_ms={}", began.elapsed().as_millis()));
    }
    turn
}

fn timed_out(queue: &Queue, patience: Duration) -> Fault {
    let others = queue.waiting_count().saturating_sub(1);
    let detail = format!("waited {} ms; {} requests are in flight, and {others} others wait", patience.as_millis(), queue.in_flight());
    Fault::new(FaultKind::QueueTimeout, detail)
}
