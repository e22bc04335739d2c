// SPDX-License-Identifier: Apache-2.0
//! Are the names of Targets known before a request needs them? Each worker asks ahead, so that requests choose among what is known.

use super::Balancer;
use super::roster::{Known, Named};
use crate::gateway::Gateway;
use crate::snapshot::hash::ConfigSet;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How often a part of the names is looked after.
const TICK: Duration = Duration::from_millis(100);
/// Ticks in which each name is looked after once.
const TICKS_PER_ROUND: usize = 10;
/// Names of which nothing is known yet that are asked for at once; those after them wait for their turn.
const FIRST_LOOK_UPS: usize = 64;
/// Those that are being asked for the first time.
type Asked = RefCell<ConfigSet<Arc<str>>>;

/// A name that is being asked for, however that ends.
struct Asking(Rc<Asked>, Arc<str>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.borrow_mut().remove(&self.1);
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
        }
        next = end;
    }
}

fn look_after(gateway: &Rc<Gateway>, asked: &Rc<Asked>, balancer: &Arc<Balancer>, named: &Named) {
    let host = &named.peer.host;
    // What is known is renewed in the background: to be asked for is enough. It also keeps the name from being forgotten.
    let found = gateway.resolver.known(host);
    if !matches!(named.known, Known::Nothing)
        && let Some(found) = found
    {
        // A failure that the resolver did not keep, as where too many asked, leaves no trace in its generation.
        if !Known::of(found.clone()).is_same(&named.known) {
            balancer.learn(named.peer.target, &found, pylae_shared::monotonic());
        }
        return;
    }
    if asked.borrow().len() >= FIRST_LOOK_UPS || !asked.borrow_mut().insert(Arc::clone(host)) {
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
