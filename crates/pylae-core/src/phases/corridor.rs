// SPDX-License-Identifier: Apache-2.0
//! Which plugins run now, and what did they decide? The walk through one phase; a client's departure ends it.

use super::plan::RoutePlan;
use super::{Answer, HostCall, Phase, PluginFailure, Verdict};
use crate::exchange::{BodyStore, ExchangeRef};
use crate::gateway::Gateway;
use crate::listener::connection::ClientConnection;
use crate::proxy::Failure;
use std::rc::Rc;
use std::task::Poll;

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
                if may_read && gateway.host.reads_body_bytes(&instance) > 0 {
                    needs_body = true;
                    return;
                }
                if phase == Phase::Access {
                    exchange.borrow_mut().plugins.push(instance.clone());
                }
                index += 1;
                if !runs {
                    continue;
                }
                match gateway.host.run(phase, &instance, exchange) {
                    HostCall::Ready(verdict) => take(&mut passage, verdict),
                    HostCall::Suspended(future) => {
                        suspended = Some(future);
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
        if let Some(mut future) = suspended {
            let verdict = std::future::poll_fn(|cx| {
                if let Poll::Ready(verdict) = future.as_mut().poll(cx) {
                    return Poll::Ready(Some(verdict));
                }
                client.poll_departed(cx).map(|()| None)
            })
            .await;
            match verdict {
                Some(verdict) => take(&mut passage, verdict),
                None => {
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
                match registry.host.run(phase, instance, exchange) {
                    HostCall::Ready(verdict) => take(&mut passage, verdict),
                    HostCall::Suspended(future) => {
                        suspended = Some(future);
                        return;
                    }
                }
            }
        });
        if let Some(mut future) = suspended {
            let verdict = std::future::poll_fn(|cx| {
                if let Poll::Ready(verdict) = future.as_mut().poll(cx) {
                    return Poll::Ready(Some(verdict));
                }
                client.poll_departed(cx).map(|()| None)
            })
            .await;
            match verdict {
                Some(verdict) => take(&mut passage, verdict),
                None => return Passage::Ended(Failure::Gone),
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
                match gateway.host.run(Phase::Log, instance, exchange) {
                    HostCall::Ready(verdict) => note_failure(gateway, exchange, verdict),
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
