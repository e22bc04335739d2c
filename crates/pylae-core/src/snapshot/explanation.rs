// SPDX-License-Identifier: Apache-2.0
//! What would a request that is only described meet: which Route and why, which plugins, which Upstream?

use super::{CompiledUpstream, Id, PluginInstance, PluginRegistry, Snapshot};
use crate::fault::FaultKind;
use crate::resilience;
use crate::router::path::upstream_path;
use crate::router::{Explanation, RequestView, Withheld};
use std::sync::Arc;

/// What a request meets.
pub struct Account {
    /// Which Route, and why.
    pub routing: Explanation,
    /// The Upstream that the Service's host names.
    pub upstream: Option<Arc<CompiledUpstream>>,
    /// The plugins that apply, in the order they run.
    pub plugins: Vec<Applied>,
    /// The path of the request upstream.
    pub upstream_path: Option<Vec<u8>>,
    /// What the gateway answers by itself, unless a plugin does before; none: what the upstream does decides.
    pub fault: Option<FaultKind>,
    /// The status of that answer.
    pub status: Option<u16>,
}

/// A plugin that applies.
pub struct Applied {
    /// Its row.
    pub instance: Arc<PluginInstance>,
    /// Might it be another row, or none, for another Consumer?
    pub depends_on_consumer: bool,
}

impl Snapshot {
    /// Tells what a request meets.
    ///
    /// `is_https` is what counts where a Route is for https alone: what a trusted proxy says of the client's own request counts there.
    /// The Consumer is known to those plugins alone that run after one that `authenticates`; to all if none does.
    pub fn explain(
        &self,
        registry: &PluginRegistry,
        (view, withheld): (&RequestView<'_>, &Withheld),
        is_https: bool,
        consumer: Option<Id>,
        authenticates: &dyn Fn(&str) -> bool,
        nearest: usize,
    ) -> Account {
        let routing = self.router.explain(view, withheld, nearest);
        let plugins = self.applied(registry, &routing, consumer, authenticates);
        let mut account = Account { routing, upstream: None, plugins, upstream_path: None, fault: None, status: None };
        let Some(matched) = &account.routing.matched else {
            (account.fault, account.status) = (Some(FaultKind::NoRoute), Some(FaultKind::NoRoute.facts().status));
            return account;
        };
        if let Some(service) = &matched.service {
            account.upstream = self.upstream(&service.host).cloned();
            let (strip_path, handling) = (matched.route.strip_path, matched.path_handling);
            account.upstream_path = Some(upstream_path(service.path.as_deref(), view.path, matched.matched_length, strip_path, handling));
        }
        let has_no_target = account.upstream.as_ref().is_some_and(|upstream| upstream.balancer.peers().is_empty());
        if let Some(status) = matched.route.https_demanded(is_https) {
            (account.fault, account.status) = (Some(FaultKind::HttpsRequired), Some(status));
        } else if matched.service.is_none() {
            (account.fault, account.status) = (Some(FaultKind::NoService), Some(FaultKind::NoService.facts().status));
        } else if has_no_target {
            (account.fault, account.status) = (Some(FaultKind::NoHealthyTarget), Some(FaultKind::NoHealthyTarget.facts().status));
        }
        account
    }

    fn applied(
        &self,
        registry: &PluginRegistry,
        routing: &Explanation,
        consumer: Option<Id>,
        authenticates: &dyn Fn(&str) -> bool,
    ) -> Vec<Applied> {
        let route = routing.matched.as_ref().map(|matched| matched.route.id);
        let service = routing.matched.as_ref().and_then(|matched| matched.service.as_ref()).map(|service| service.id);
        let plan = route.map_or(self.plan.global(), |route| self.plan.for_route(route, service));
        let mut known = consumer.filter(|_| !plan.candidates().iter().any(|one| authenticates(&registry.get(one.plugin).name)));
        let mut found = Vec::new();
        for &plugin in registry.in_order() {
            let info = registry.get(plugin);
            if &*info.name == resilience::PLUGIN && info.phases == 0 {
                // The data plane follows it without calling it, and knows no Consumer then.
                let instance = self.plan.lookup(plugin, route, service, None);
                found.extend(instance.map(|instance| Applied { instance: Arc::clone(instance), depends_on_consumer: false }));
            }
            let Some(candidate) = plan.candidates().iter().find(|candidate| candidate.plugin == plugin) else { continue };
            if let Some(instance) = candidate.instance(known) {
                found.push(Applied { instance: Arc::clone(instance), depends_on_consumer: candidate.depends_on_consumer() });
                if authenticates(&info.name) {
                    known = consumer;
                }
            }
        }
        found
    }
}
