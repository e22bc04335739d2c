// SPDX-License-Identifier: Apache-2.0
//! Are the names of Targets known before a request needs them? Each worker asks ahead, so that requests choose among what is known.

use super::roster::{Known, Named};
use super::{Balancer, Names};
use crate::gateway::Gateway;
use crate::snapshot::hash::{ConfigMap, ConfigSet};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a part of the names is looked after.
const TICK: Duration = Duration::from_millis(100);
/// Ticks in which each name is looked after once.
const TICKS_PER_ROUND: usize = 10;
/// Names of which nothing is known yet that are asked for at once; those after them wait for their turn.
const FIRST_LOOK_UPS: usize = 64;
/// How often it is asked whether a TTL is still 0: each such answer is good for one request alone.
const ONCE_EVERY: Duration = Duration::from_secs(5);

/// Those that are being asked for, or were.
#[derive(Default)]
struct Asked {
    now: RefCell<ConfigSet<Arc<str>>>,
    once: RefCell<ConfigMap<Arc<str>, Instant>>,
}

/// A name that is being asked for, however that ends.
struct Asking(Rc<Asked>, Arc<str>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.now.borrow_mut().remove(&self.1);
    }
}

/// Looks after the names of all Targets, until the worker drains.
pub async fn run(gateway: Rc<Gateway>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let asked = Rc::new(Asked::default());
    let mut next = 0;
    loop {
        tick.tick().await;
        if gateway.drain.is_begun() {
            return;
        }
        let balancers = Arc::clone(gateway.snapshot.load().named());
        if next >= balancers.len() {
            next = 0;
        }
        let end = (next + balancers.len().div_ceil(TICKS_PER_ROUND)).min(balancers.len());
        for balancer in &balancers[next..end] {
            for named in &balancer.roster().names {
                look_after(&gateway, &asked, balancer, named);
            }
            balancer.refresh(&*gateway.resolver, pylae_shared::monotonic());
        }
        next = end;
    }
}

fn look_after(gateway: &Rc<Gateway>, asked: &Rc<Asked>, balancer: &Arc<Balancer>, named: &Named) {
    let host = &named.peer.host;
    match &named.known {
        Known::Has(answer) if answer.is_once => {
            let is_due = asked.once.borrow().get(host).is_none_or(|at| at.elapsed() >= ONCE_EVERY);
            if is_due {
                let mut once = asked.once.borrow_mut();
                once.retain(|_, at| at.elapsed() < 2 * ONCE_EVERY);
                once.insert(Arc::clone(host), Instant::now());
                drop(once);
                look_up(gateway, asked, balancer, named);
            }
        }
        // What is known is renewed in the background: to be asked for is enough.
        Known::Has(_) | Known::Failed(_) if gateway.resolver.known(host).is_some() => {}
        _ => look_up(gateway, asked, balancer, named),
    }
}

fn look_up(gateway: &Rc<Gateway>, asked: &Rc<Asked>, balancer: &Arc<Balancer>, named: &Named) {
    let host = &named.peer.host;
    if asked.now.borrow().len() >= FIRST_LOOK_UPS || !asked.now.borrow_mut().insert(Arc::clone(host)) {
        return;
    }
    let asking = Asking(Rc::clone(asked), Arc::clone(host));
    let (gateway, balancer, peer) = (Rc::clone(gateway), Arc::clone(balancer), Arc::clone(&named.peer));
    tokio::task::spawn_local(async move {
        let _asking = asking;
        let found = gateway.resolver.look_up(&peer.host).await;
        balancer.learn(peer.target, &found, pylae_shared::monotonic());
    });
}
