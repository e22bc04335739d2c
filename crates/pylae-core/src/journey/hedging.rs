// SPDX-License-Identifier: Apache-2.0
//! Which of several attempts at once answers? Another is made when the first is slow; the first good head wins, the others are given up.

use super::attempts::{Missed, Tried, attempt, blame};
use super::choosing::{Choice, choose, observed};
use super::decided;
use super::guarding::{Guard, Hedge};
use crate::balancer::Turn;
use crate::exchange::ExchangeRef;
use crate::gateway::Gateway;
use crate::healthcheck::Outcome as Seen;
use crate::http::head::ResponseHead;
use crate::http::wire::Deadline;
use crate::listener::connection::ClientConnection;
use crate::proxy::{Failure, Timeouts, Watched};
use crate::upstream::{PoolKey, UpstreamConnection};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What was found out of an attempt as it began.
struct Begun {
    /// Its place in the exchange's list.
    at: usize,
    started: Instant,
    key: PoolKey,
    choice: Option<Choice>,
    turn: Option<Turn>,
    uri: String,
}

type Answer = Result<(ResponseHead, UpstreamConnection), Missed>;

/// One of the attempts; dropped, it closes its connection.
struct Runner<'a> {
    begun: Rc<RefCell<Option<Begun>>>,
    work: Pin<Box<dyn Future<Output = Result<Answer, Failure>> + 'a>>,
    hedge: Option<Hedge>,
}

/// What all of them share.
struct Race<'a> {
    gateway: &'a Rc<Gateway>,
    exchange: &'a ExchangeRef,
    timeouts: Timeouts,
    verify: bool,
    /// Where attempts went: another one at the same address has a connection of its own.
    keys: RefCell<Vec<PoolKey>>,
}

enum Event {
    Ended(usize, Box<Result<Answer, Failure>>),
    Late,
    Gone,
}

/// Makes one attempt, and others beside it while none has an answer. The exchange's last attempt is the one that is told of.
///
/// # Errors
/// There is nowhere to go, or the client went away.
pub(super) async fn race(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    guard: &mut Guard,
    after: Duration,
    (timeouts, verify, wants_fresh): (Timeouts, bool, bool),
) -> Result<Tried, Failure> {
    let race = Race { gateway, exchange, timeouts: guard.bounded(timeouts), verify, keys: RefCell::default() };
    let mut running = vec![race.start(wants_fresh, None)];
    let mut timer = Some(armed(after));
    // An answer of 500 or more waits so long for a better one; it is in flight all the while.
    let mut held: Option<(Begun, (ResponseHead, UpstreamConnection), Option<Hedge>)> = None;
    // The attempt that failed last.
    let mut fallen: Option<(Begun, Missed)> = None;
    loop {
        let event = std::future::poll_fn(|cx| {
            for (index, runner) in running.iter_mut().enumerate() {
                if let Poll::Ready(outcome) = runner.work.as_mut().poll(cx) {
                    return Poll::Ready(Event::Ended(index, Box::new(outcome)));
                }
            }
            if client.poll_departed(cx).is_ready() {
                return Poll::Ready(Event::Gone);
            }
            timer.as_mut().map_or(Poll::Pending, |timer| timer.poll(cx)).map(|()| Event::Late)
        })
        .await;
        match event {
            Event::Gone => return Err(Failure::Gone),
            Event::Late if held.is_some() => break,
            Event::Late => {
                timer = guard.hedge(gateway, exchange).map(|hedge| {
                    running.push(race.start(false, Some(hedge)));
                    armed(after)
                });
                if guard.hedges_left() == 0 {
                    timer = None;
                }
            }
            Event::Ended(index, outcome) => {
                let Runner { begun, hedge, work } = running.swap_remove(index);
                drop(work);
                let begun = begun.take();
                match (*outcome, begun) {
                    (Ok(Ok(answer)), Some(begun)) if answer.0.status < 500 || held.is_none() => {
                        let is_good = answer.0.status < 500;
                        if let Some((begun, (head, _), _)) = held.replace((begun, answer, hedge)) {
                            race.outdone(guard, &begun, head.status);
                        }
                        if is_good {
                            break;
                        }
                        timer = Some(armed(after));
                    }
                    (Ok(Ok((head, _))), Some(begun)) => {
                        race.outdone(guard, &begun, head.status);
                    }
                    (Ok(Err(mut missed)), Some(mut begun)) => {
                        if hedge.is_none() {
                            // The place of the first is the request's own, and stays: another one needs none besides.
                            drop(running.iter_mut().find_map(|other| other.hedge.take()));
                        }
                        if !running.is_empty() || held.is_some() {
                            race.lost(guard, timeouts, &mut begun, &mut missed);
                        }
                        fallen = Some((begun, missed));
                    }
                    // There was nowhere to go.
                    (Err(failure), _) if running.is_empty() && held.is_none() && fallen.is_none() => return Err(failure),
                    _ => decided(gateway, exchange, || "hedge.failed reason=no_target".to_owned()),
                }
                if running.is_empty() {
                    break;
                }
            }
        }
    }
    if let Some((begun, answer, _)) = held {
        return Ok(race.won(begun, Ok(answer), running));
    }
    match fallen {
        Some((begun, missed)) => Ok(race.won(begun, Err(missed), running)),
        None => unreachable!("the last attempt ended, and left an answer or a failure"),
    }
}

fn armed(after: Duration) -> Deadline {
    let mut timer = Deadline::new();
    timer.arm(after);
    timer
}

impl<'a> Race<'a> {
    fn start<'b>(&'b self, wants_fresh: bool, hedge: Option<Hedge>) -> Runner<'b>
    where
        'a: 'b,
    {
        let begun = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&begun);
        let work = async move {
            let (gateway, exchange) = (self.gateway, self.exchange);
            let started = Instant::now();
            let (key, choice) = choose(gateway, &mut Watched, exchange, self.verify, started).await?;
            let at = {
                // Nothing is awaited since the choice: what it left in the exchange is this attempt's.
                let borrowed = &mut *exchange.borrow_mut();
                let balancing = &mut borrowed.balancing;
                if let Some(choice) = &choice {
                    balancing.tried.push(choice.tried());
                    balancing.racing += 1;
                }
                let at = borrowed.attempts.len() - 1;
                let (turn, uri) = (balancing.turn.take(), borrowed.upstream.uri.clone());
                *slot.borrow_mut() = Some(Begun { at, started, key: key.clone(), choice, turn, uri });
                at
            };
            let is_twice = self.keys.borrow().contains(&key);
            self.keys.borrow_mut().push(key.clone());
            Ok(attempt(gateway, &mut Watched, exchange, at, &key, self.timeouts, wants_fresh || is_twice).await)
        };
        Runner { begun, work: Box::pin(work), hedge }
    }

    /// This one is told of; the others are given up.
    fn won(&self, begun: Begun, outcome: Answer, others: Vec<Runner<'_>>) -> Tried {
        // Who gets the outcome keeps it, unless the request is sent there again.
        self.untry(&begun);
        let Begun { at, started, key, choice, turn, uri } = begun;
        let count = others.len();
        for Runner { begun, work, hedge: _place } in others {
            drop(work);
            if let Some(begun) = begun.take() {
                self.give_up(&begun);
            }
        }
        {
            let borrowed = &mut *self.exchange.borrow_mut();
            let attempt = borrowed.attempts.remove(at);
            borrowed.attempts.push(attempt);
            borrowed.balancing.turn = turn;
            borrowed.balancing.racing = 0;
            borrowed.upstream.uri = uri;
            borrowed.moments.attempt_started = Some(started);
            // The choice of another may have cleared it.
            borrowed.moments.head_received = outcome.is_ok().then(|| borrowed.moments.head_received.unwrap_or_else(Instant::now));
        }
        if count > 0 {
            decided(self.gateway, self.exchange, || format!("hedge.won address={} given_up={count}", key.address));
        }
        Tried { key, choice, started, outcome }
    }

    /// Its answer, of this status, is not the one that counts.
    fn outdone(&self, guard: &Guard, begun: &Begun, status: u16) {
        guard.saw_status(self.gateway, status);
        if let Some(choice) = &begun.choice {
            observed(self.gateway, self.exchange, choice, Seen::of_answer(status), || format!("status {status}"));
        }
        self.give_up(begun);
    }

    /// Another one was answered first.
    fn give_up(&self, begun: &Begun) {
        if let Some(choice) = &begun.choice {
            choice.address.load.observe_at_least(begun.started.elapsed(), pylae_shared::monotonic());
        }
        if let Some(attempt) = self.exchange.borrow_mut().attempts.get_mut(begun.at) {
            attempt.ended = "closed by us";
            attempt.again = Some("given up: another attempt was answered first");
        }
    }

    /// This one failed while others go on: it is told of at once, and no longer counts as a request that its Target has.
    fn lost(&self, guard: &Guard, service: Timeouts, begun: &mut Begun, missed: &mut Missed) {
        begun.turn = None;
        let Failure::Fault(fault, what) = &mut missed.failure else { return };
        if missed.is_stale {
            self.untry(begun);
        } else {
            self.exchange.borrow_mut().upstream.uri.clone_from(&begun.uri);
            guard.failed(self.gateway, fault, service, self.exchange.borrow_mut().attempts.get_mut(begun.at));
            blame(self.gateway, self.exchange, begun.choice.as_ref(), fault, what);
            missed.is_told = true;
        }
        if let Some(attempt) = self.exchange.borrow_mut().attempts.get_mut(begun.at) {
            attempt.fault = Some(fault.clone());
            attempt.again = Some("not sent again: another attempt goes on");
        }
    }

    /// Whoever chooses next need not keep away from where this one went.
    fn untry(&self, begun: &Begun) {
        let Some(tried) = begun.choice.as_ref().map(Choice::tried) else { return };
        let balancing = &mut self.exchange.borrow_mut().balancing;
        let raced = balancing.tried.len() - balancing.racing;
        if let Some(at) = balancing.tried[raced..].iter().rposition(|one| *one == tried) {
            balancing.tried.remove(raced + at);
            balancing.racing -= 1;
        }
    }
}
