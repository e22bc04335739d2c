// SPDX-License-Identifier: Apache-2.0
//! Which plugins run now, and what did they decide? The walk through one phase; a client's departure ends it.

use super::plan::RoutePlan;
use super::{Answer, HostCall, Phase, PluginFailure, Verdict};
use crate::exchange::{BodyStore, ExchangeRef, PluginStep, StepOutcome};
use crate::gateway::Gateway;
use crate::listener::connection::ClientConnection;
use crate::proxy::Failure;
use crate::snapshot::PluginInstance;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

/// What a phase came to.
#[derive(Debug)]
pub enum Passage {
    /// Go on.
    Through,
    /// A plugin answers.
    Answered(Box<Answer>),
    /// A plugin failed.
    Failed(Box<PluginFailure>),
    /// The client went away (or its body was at fault).
    Ended(Failure),
}

/// Walks through the rewrite or access phase: each plugin's instance is looked up at its turn, with the Consumer known
/// then, and collected for the later phases, also after one has answered (proxy.md §1).
pub async fn collect_and_run(
    gateway: &Rc<Gateway>,
    client: &mut ClientConnection,
    exchange: &ExchangeRef,
    plan: &RoutePlan,
    phase: Phase,
) -> Passage {
    let candidates = plan.candidates();
    let mut index = 0;
    let mut passage = Passage::Through;
    exchange.borrow_mut().phase = phase;
    while index < candidates.len() {
        let mut suspended = None;
        let mut needs_body = false;
        let announced = client.body.remaining();
        let mut walk = || {
            while index < candidates.len() {
                let candidate = &candidates[index];
                let (instance, is_unread) = {
                    let borrowed = exchange.borrow();
                    (candidate.instance(borrowed.consumer_id).cloned(), matches!(borrowed.request.body, BodyStore::Unread))
                };
                let Some(instance) = instance else {
                    index += 1;
                    continue;
                };
                let runs = candidate.phases & phase.bit() != 0 && matches!(passage, Passage::Through);
                let may_read = runs && candidate.reads_body_limit_bytes > 0 && is_unread && phase == Phase::Access;
                if may_read {
                    let limit = gateway.host.reads_body_bytes(&instance);
                    // A plugin does not see a body beyond its limit: one that is announced to be need not be read for it.
                    if limit > 0 && announced.is_none_or(|length| length <= limit) {
                        needs_body = true;
                        return;
                    }
                }
                if phase == Phase::Access {
                    exchange.borrow_mut().plugins.push(instance.clone());
                }
                index += 1;
                if !runs {
                    continue;
                }
                let step = Step::begin(&instance, phase);
                match gateway.host.run(phase, &instance, exchange) {
                    HostCall::Ready(verdict) => take(&mut passage, step.end(exchange, verdict)),
                    HostCall::Suspended(future) => {
                        suspended = Some((future, step.waiting()));
                        return;
                    }
                }
            }
        };
        if plan.phases() & phase.bit() == 0 {
            // None of them takes part: they are only collected.
            walk();
        } else {
            gateway.host.attached(&mut walk);
        }
        if needs_body && let Err(failure) = crate::journey::buffer_body(gateway, client, exchange).await {
            passage = Passage::Ended(failure);
            break;
        }
        if let Some((mut future, step)) = suspended {
            let verdict = std::future::poll_fn(|cx| {
                if let Poll::Ready(verdict) = future.as_mut().poll(cx) {
                    return Poll::Ready(Some(verdict));
                }
                client.poll_departed(cx).map(|()| None)
            })
            .await;
            match verdict {
                Some(verdict) => take(&mut passage, step.end(exchange, verdict)),
                None => {
                    step.cancelled(exchange);
                    passage = Passage::Ended(Failure::Gone);
                    break;
                }
            }
        }
    }
    // The client left or sent rubbish: what was not collected yet is, so that its log runs.
    if phase == Phase::Access {
        for candidate in &candidates[index.min(candidates.len())..] {
            let instance = candidate.instance(exchange.borrow().consumer_id).cloned();
            exchange.borrow_mut().plugins.extend(instance);
        }
    }
    passage
}

/// A plugin's phase under way.
struct Step<'a> {
    instance: Held<'a>,
    phase: Phase,
    began: Instant,
    waits: bool,
}

/// The plugin's row: borrowed while the phase runs, owned while it waits.
enum Held<'a> {
    Borrowed(&'a Arc<PluginInstance>),
    Owned(Arc<PluginInstance>),
}

impl<'a> Step<'a> {
    fn begin(instance: &'a Arc<PluginInstance>, phase: Phase) -> Self {
        Step { instance: Held::Borrowed(instance), phase, began: Instant::now(), waits: false }
    }

    /// It has to wait for something.
    fn waiting(self) -> Step<'static> {
        let instance = match self.instance {
            Held::Borrowed(instance) => Arc::clone(instance),
            Held::Owned(instance) => instance,
        };
        Step { instance: Held::Owned(instance), phase: self.phase, began: self.began, waits: true }
    }

    /// It came to this; the exchange keeps it.
    fn end(self, exchange: &ExchangeRef, verdict: Verdict) -> Verdict {
        let outcome = match &verdict {
            Verdict::Continue => StepOutcome::Continue,
            Verdict::Answer(answer) => StepOutcome::Answered(answer.status),
            Verdict::Failed(failure) => StepOutcome::Failed(failure.detail.as_str().into()),
        };
        self.keep(exchange, outcome);
        verdict
    }

    /// The client left while it waited.
    fn cancelled(self, exchange: &ExchangeRef) {
        self.keep(exchange, StepOutcome::Cancelled);
    }

    fn keep(self, exchange: &ExchangeRef, outcome: StepOutcome) {
        let took = self.began.elapsed();
        let instance = match self.instance {
            Held::Borrowed(instance) => Arc::clone(instance),
            Held::Owned(instance) => instance,
        };
        exchange.borrow_mut().steps.push(PluginStep { instance, phase: self.phase, took, outcome, waited: self.waits });
    }
}

/// Runs one plugin's body filter over a piece of the answer; all pieces are one step of the exchange.
///
/// # Errors
/// The plugin failed; the response is cut off.
pub fn filter_body(
    gateway: &Gateway,
    instance: &Arc<PluginInstance>,
    exchange: &ExchangeRef,
    chunk: &[u8],
    is_last: bool,
) -> Result<Option<Vec<u8>>, Box<PluginFailure>> {
    let began = Instant::now();
    let filtered = gateway.host.filter_body(instance, exchange, chunk, is_last);
    let took = began.elapsed();
    let steps = &mut exchange.borrow_mut().steps;
    let known = steps.iter_mut().rev().find(|step| step.phase == Phase::BodyFilter && Arc::ptr_eq(&step.instance, instance));
    let outcome = match &filtered {
        Ok(_) => StepOutcome::Continue,
        Err(failure) => StepOutcome::Failed(failure.detail.as_str().into()),
    };
    match known {
        Some(step) => {
            step.took += took;
            step.outcome = outcome;
        }
        None => {
            steps.push(PluginStep { instance: Arc::clone(instance), phase: Phase::BodyFilter, took, outcome, waited: false });
        }
    }
    filtered
}

fn take(passage: &mut Passage, verdict: Verdict) {
    match verdict {
        Verdict::Continue => {}
        Verdict::Answer(answer) => *passage = Passage::Answered(answer),
        Verdict::Failed(failure) => *passage = Passage::Failed(failure),
    }
}

/// Runs a later phase over the plugins collected.
pub async fn run_collected(gateway: &Rc<Gateway>, client: &mut ClientConnection, exchange: &ExchangeRef, phase: Phase) -> Passage {
    exchange.borrow_mut().phase = phase;
    let takes_part = |instance: &crate::snapshot::PluginInstance| instance.phases & phase.bit() != 0;
    if !exchange.borrow().plugins.iter().any(|instance| takes_part(instance)) {
        return Passage::Through;
    }
    let plugins = exchange.borrow().plugins.clone();
    let registry = Rc::clone(gateway);
    let mut index = 0;
    while index < plugins.len() {
        let mut suspended = None;
        let mut passage = Passage::Through;
        registry.host.attached(&mut || {
            while index < plugins.len() && matches!(passage, Passage::Through) {
                let instance = &plugins[index];
                index += 1;
                if !takes_part(instance) {
                    continue;
                }
                let step = Step::begin(instance, phase);
                match registry.host.run(phase, instance, exchange) {
                    HostCall::Ready(verdict) => take(&mut passage, step.end(exchange, verdict)),
                    HostCall::Suspended(future) => {
                        suspended = Some((future, step.waiting()));
                        return;
                    }
                }
            }
        });
        if let Some((mut future, step)) = suspended {
            let verdict = std::future::poll_fn(|cx| {
                if let Poll::Ready(verdict) = future.as_mut().poll(cx) {
                    return Poll::Ready(Some(verdict));
                }
                client.poll_departed(cx).map(|()| None)
            })
            .await;
            match verdict {
                Some(verdict) => take(&mut passage, step.end(exchange, verdict)),
                None => {
                    step.cancelled(exchange);
                    return Passage::Ended(Failure::Gone);
                }
            }
        }
        if !matches!(passage, Passage::Through) {
            return passage;
        }
    }
    Passage::Through
}

/// Runs the log phase; what suspends goes on in a task of its own, and the exchange lives until it is over.
pub fn run_log(gateway: &Rc<Gateway>, exchange: &ExchangeRef) {
    exchange.borrow_mut().phase = Phase::Log;
    let mut suspended = Vec::new();
    let takes_part = exchange.borrow().plugins.iter().any(|instance| instance.phases & Phase::Log.bit() != 0);
    if takes_part {
        let plugins = exchange.borrow().plugins.clone();
        gateway.host.attached(&mut || {
            for instance in plugins.iter().filter(|instance| instance.phases & Phase::Log.bit() != 0) {
                let step = Step::begin(instance, Phase::Log);
                match gateway.host.run(Phase::Log, instance, exchange) {
                    HostCall::Ready(verdict) => note_failure(gateway, exchange, step.end(exchange, verdict)),
                    HostCall::Suspended(future) => suspended.push(future),
                }
            }
        });
    }
    if suspended.is_empty() {
        gateway.host.release(exchange);
        return;
    }
    let (gateway, exchange) = (Rc::clone(gateway), Rc::clone(exchange));
    tokio::task::spawn_local(async move {
        for future in suspended {
            note_failure(&gateway, &exchange, future.await);
        }
        gateway.host.release(&exchange);
    });
}

fn note_failure(gateway: &Gateway, exchange: &ExchangeRef, verdict: Verdict) {
    if let Verdict::Failed(failure) = verdict {
        let text = format!("plugin {} failed in {}: {}", failure.plugin, failure.phase.name(), failure.detail);
        gateway.logs.log_exchange(crate::observe::Level::Error, &exchange.borrow(), &text, "while logging request");
    }
}
