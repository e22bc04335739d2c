// SPDX-License-Identifier: Apache-2.0
//! Which instance of each plugin applies to this request, and in which order do they run?
//!
//! A plugin's rows may name a Route, a Service and a Consumer. Of the rows that fit a request the most specific one applies, so that
//! a request meets one instance of a plugin at most:
//!
//! | level | route | service | consumer |
//! |---|---|---|---|
//! | 1 | x | x | x |
//! | 2 | x | – | x |
//! | 3 | – | x | x |
//! | 4 | x | x | – |
//! | 5 | – | – | x |
//! | 6 | x | – | – |
//! | 7 | – | x | – |
//! | 8 | – | – | – |
//!
//! The look-up happens at the plugin's turn: a Consumer found by an earlier plugin counts for the later ones.

use crate::resilience::{self, Policy};
use crate::snapshot::hash::{ConfigMap, ConfigSet};
use crate::snapshot::{Id, PluginIndex, PluginInstance, PluginRegistry};
use std::sync::Arc;

/// The scope of a row: absent parts are [`Id::NIL`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Scope {
    route: Id,
    service: Id,
    consumer: Id,
}

const ROUTE: u8 = 4;
const SERVICE: u8 = 2;
const CONSUMER: u8 = 1;

/// The levels' shapes in falling precedence.
const LEVELS: [u8; 8] = [ROUTE | SERVICE | CONSUMER, ROUTE | CONSUMER, SERVICE | CONSUMER, ROUTE | SERVICE, CONSUMER, ROUTE, SERVICE, 0];

/// Every row of one plugin by scope.
struct Rows {
    plugin: PluginIndex,
    by_scope: ConfigMap<Scope, Arc<PluginInstance>>,
    /// Bit `n` set: a row of shape `n` exists.
    shapes: u8,
}

impl Rows {
    fn has(&self, shape: u8) -> bool {
        self.shapes & 1 << shape != 0
    }

    /// The most specific row for these ids; `NIL` is an unknown.
    fn find(&self, route: Id, service: Id, consumer: Id) -> Option<(u8, &Arc<PluginInstance>)> {
        LEVELS.iter().find_map(|&shape| {
            let pick = |bit: u8, id: Id| if shape & bit == 0 { Id::NIL } else { id };
            let is_known = |bit: u8, id: Id| shape & bit == 0 || id != Id::NIL;
            if !self.has(shape) || !is_known(ROUTE, route) || !is_known(SERVICE, service) || !is_known(CONSUMER, consumer) {
                return None;
            }
            let scope = Scope { route: pick(ROUTE, route), service: pick(SERVICE, service), consumer: pick(CONSUMER, consumer) };
            self.by_scope.get(&scope).map(|instance| (shape, instance))
        })
    }
}

/// One plugin that may apply to a Route.
pub struct Candidate {
    /// The plugin.
    pub plugin: PluginIndex,
    /// Bit of each phase it takes part in.
    pub phases: u8,
    /// Bytes of the request body it wants to see; 0 = none.
    pub reads_body_limit_bytes: u64,
    /// What applies as long as no Consumer is known.
    anonymous: Option<Arc<PluginInstance>>,
    /// Set when a Consumer may change the instance.
    by_consumer: Option<ByConsumer>,
}

struct ByConsumer {
    rows: Arc<Rows>,
    route: Id,
    service: Id,
}

impl Candidate {
    /// May it be another instance, or none, as the Consumer is?
    pub fn depends_on_consumer(&self) -> bool {
        self.by_consumer.is_some()
    }

    /// The instance that applies, given the Consumer known now.
    #[inline]
    pub fn instance(&self, consumer: Option<Id>) -> Option<&Arc<PluginInstance>> {
        match (&self.by_consumer, consumer) {
            (Some(by), Some(consumer)) => by.rows.find(by.route, by.service, consumer).map(|(_, instance)| instance),
            _ => self.anonymous.as_ref(),
        }
    }
}

/// The plugins that may apply to a Route, in the order they run.
#[derive(Default)]
pub struct RoutePlan {
    candidates: Vec<Candidate>,
    phases: u8,
    reads_body_limit_bytes: u64,
    policy: Option<Arc<Policy>>,
}

impl RoutePlan {
    fn new(candidates: Vec<Candidate>, policy: Option<Arc<Policy>>) -> Self {
        let phases = candidates.iter().fold(0, |phases, candidate| phases | candidate.phases);
        let reads_body_limit_bytes = candidates.iter().map(|candidate| candidate.reads_body_limit_bytes).max().unwrap_or(0);
        RoutePlan { candidates, phases, reads_body_limit_bytes, policy }
    }

    /// The plugins that may apply, in the order they run.
    #[inline]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Bits of the phases in which any of them takes part.
    #[inline]
    pub fn phases(&self) -> u8 {
        self.phases
    }

    /// The most bytes of the request body any of them wants to see; 0 = none.
    #[inline]
    pub fn reads_body_limit_bytes(&self) -> u64 {
        self.reads_body_limit_bytes
    }

    /// What is done about upstreams that are slow, full or failing; none: nothing.
    #[inline]
    pub fn policy(&self) -> Option<&Arc<Policy>> {
        self.policy.as_ref()
    }
}

/// The plugins of a snapshot by scope.
pub struct Plan {
    /// Plugins with at least one row that counts, in the order they run.
    plugins: Vec<PluginIndex>,
    /// By [`PluginIndex`]; none for a plugin without rows.
    rows: Vec<Option<Arc<Rows>>>,
    global: Arc<RoutePlan>,
    unscoped: Arc<RoutePlan>,
    by_service: ConfigMap<Id, Arc<RoutePlan>>,
    by_route: ConfigMap<Id, Arc<RoutePlan>>,
}

impl Plan {
    /// Sorts the instances in. `routes` are the ids of all Routes, each with its Service's.
    ///
    /// Two rows of one plugin with the same scope do not exist (a unique key of the database); should they, the later id applies.
    pub fn new<'a>(
        registry: &PluginRegistry,
        instances: impl IntoIterator<Item = &'a Arc<PluginInstance>>,
        routes: impl IntoIterator<Item = (Id, Option<Id>)>,
    ) -> Self {
        let mut rows: Vec<Option<Rows>> = (0..registry.len()).map(|_| None).collect();
        let mut scoped_routes: ConfigSet<Id> = ConfigSet::default();
        let mut scoped_services: ConfigSet<Id> = ConfigSet::default();
        for instance in instances {
            let rows = rows[usize::from(instance.plugin.0)].get_or_insert_with(|| Rows {
                plugin: instance.plugin,
                by_scope: ConfigMap::default(),
                shapes: 0,
            });
            let mut shape = 0;
            for (bit, id) in [(ROUTE, instance.route), (SERVICE, instance.service), (CONSUMER, instance.consumer)] {
                shape |= if id.is_some() { bit } else { 0 };
            }
            rows.shapes |= 1 << shape;
            if let Some(route) = instance.route {
                scoped_routes.insert(route);
            } else if let Some(service) = instance.service {
                scoped_services.insert(service);
            }
            let scope = Scope {
                route: instance.route.unwrap_or(Id::NIL),
                service: instance.service.unwrap_or(Id::NIL),
                consumer: instance.consumer.unwrap_or(Id::NIL),
            };
            let slot = rows.by_scope.entry(scope).or_insert_with(|| instance.clone());
            if slot.id < instance.id {
                *slot = instance.clone();
            }
        }
        let rows: Vec<Option<Arc<Rows>>> = rows.into_iter().map(|rows| rows.map(Arc::new)).collect();
        let in_order: Vec<Arc<Rows>> = registry.in_order().iter().filter_map(|index| rows[usize::from(index.0)].clone()).collect();
        // Who has no phase would never run: it is no candidate.
        let taking_part: Vec<&Arc<Rows>> = in_order.iter().filter(|rows| registry.get(rows.plugin).phases != 0).collect();
        let policies = registry.find(resilience::PLUGIN).and_then(|plugin| rows[usize::from(plugin.0)].as_ref());
        let plan_for = |route: Id, service: Id, has_consumers: bool| {
            let candidates = taking_part.iter().filter_map(|rows| candidate(registry, rows, route, service, has_consumers));
            let policy = policies.and_then(|rows| rows.find(route, service, Id::NIL)).and_then(|(_, instance)| instance.policy.clone());
            Arc::new(RoutePlan::new(candidates.collect(), policy))
        };
        let mut by_service: ConfigMap<Id, Arc<RoutePlan>> = ConfigMap::default();
        let mut by_route: ConfigMap<Id, Arc<RoutePlan>> = ConfigMap::default();
        for (route, service) in routes {
            let service = service.unwrap_or(Id::NIL);
            if scoped_routes.contains(&route) {
                by_route.insert(route, plan_for(route, service, true));
            } else if scoped_services.contains(&service) {
                // A Route without rows of its own shares the plan of its Service.
                by_service.entry(service).or_insert_with(|| plan_for(Id::NIL, service, true));
            }
        }
        Plan {
            plugins: in_order.iter().map(|rows| rows.plugin).collect(),
            global: plan_for(Id::NIL, Id::NIL, false),
            unscoped: plan_for(Id::NIL, Id::NIL, true),
            rows,
            by_service,
            by_route,
        }
    }

    /// Plugins with at least one row that counts, in the order they run.
    pub fn plugins(&self) -> &[PluginIndex] {
        &self.plugins
    }

    /// The instance of a plugin that applies to these ids, by the eight levels.
    pub fn lookup(
        &self,
        plugin: PluginIndex,
        route: Option<Id>,
        service: Option<Id>,
        consumer: Option<Id>,
    ) -> Option<&Arc<PluginInstance>> {
        let rows = self.rows.get(usize::from(plugin.0))?.as_ref()?;
        let known = |id: Option<Id>| id.unwrap_or(Id::NIL);
        rows.find(known(route), known(service), known(consumer)).map(|(_, instance)| instance)
    }

    /// What applies where no Route is known: the certificate and rewrite phases, and a request that matched nothing.
    pub fn global(&self) -> &Arc<RoutePlan> {
        &self.global
    }

    /// What may apply to a Route, whoever the Consumer.
    pub fn for_route(&self, route: Id, service: Option<Id>) -> &Arc<RoutePlan> {
        self.by_route.get(&route).or_else(|| service.and_then(|service| self.by_service.get(&service))).unwrap_or(&self.unscoped)
    }
}

/// The plugin of `rows` as a candidate for a Route, unless no row of it can ever apply there.
fn candidate(registry: &PluginRegistry, rows: &Arc<Rows>, route: Id, service: Id, has_consumers: bool) -> Option<Candidate> {
    let anonymous = rows.find(route, service, Id::NIL);
    let shape_reached = anonymous.map(|(shape, _)| shape);
    // A Consumer matters only if a level above the one reached without him has rows. Level 5 stands below level 4.
    let matters = has_consumers
        && LEVELS
            .iter()
            .take_while(|shape| Some(**shape) != shape_reached)
            .any(|&shape| shape & CONSUMER != 0 && rows.has(shape) && may_apply(shape, route, service));
    let anonymous = anonymous.map(|(_, instance)| instance.clone());
    if anonymous.is_none() && !matters {
        return None;
    }
    let info = registry.get(rows.plugin);
    Some(Candidate {
        plugin: rows.plugin,
        phases: info.phases,
        reads_body_limit_bytes: info.reads_body_limit_bytes,
        anonymous,
        by_consumer: matters.then(|| ByConsumer { rows: rows.clone(), route, service }),
    })
}

fn may_apply(shape: u8, route: Id, service: Id) -> bool {
    (shape & ROUTE == 0 || route != Id::NIL) && (shape & SERVICE == 0 || service != Id::NIL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::BudgetRules;
    use crate::snapshot::PluginInfo;
    use std::sync::OnceLock;
    use std::time::Duration;

    fn id(number: u8) -> Id {
        let mut bytes = [0; 16];
        bytes[15] = number;
        Id(bytes)
    }

    fn info(name: &str, priority: i64) -> PluginInfo {
        PluginInfo { name: name.into(), priority, phases: 0b100, reads_body_limit_bytes: 0, wants_client_certificate: false }
    }

    fn instance(number: u8, plugin: u16, route: Option<Id>, service: Option<Id>, consumer: Option<Id>) -> Arc<PluginInstance> {
        Arc::new(PluginInstance {
            id: id(number),
            name: "p".into(),
            plugin: PluginIndex(plugin),
            phases: 0b100,
            config: Arc::from([]),
            route,
            service,
            consumer,
            policy: None,
            host_data: OnceLock::new(),
        })
    }

    const R: u8 = 201;
    const S: u8 = 202;
    const C: u8 = 203;

    fn all_levels() -> Vec<Arc<PluginInstance>> {
        let (r, s, c) = (Some(id(R)), Some(id(S)), Some(id(C)));
        [(r, s, c), (r, None, c), (None, s, c), (r, s, None), (None, None, c), (r, None, None), (None, s, None), (None, None, None)]
            .into_iter()
            .enumerate()
            .map(|(level, (r, s, c))| instance(level as u8 + 1, 0, r, s, c))
            .collect()
    }

    #[test]
    fn the_eight_levels_give_way_one_by_one() {
        let registry = PluginRegistry::new(vec![info("p", 1)]);
        let rows = all_levels();
        for first in 0..8 {
            let plan = Plan::new(&registry, &rows[first..], [(id(R), Some(id(S)))]);
            let expected = Some(id(first as u8 + 1));
            let found = plan.lookup(PluginIndex(0), Some(id(R)), Some(id(S)), Some(id(C))).map(|instance| instance.id);
            assert_eq!(found, expected);
            let candidates = plan.for_route(id(R), Some(id(S))).candidates();
            assert_eq!(candidates[0].instance(Some(id(C))).map(|instance| instance.id), expected);
        }
    }

    #[test]
    fn the_plan_of_a_route_agrees_with_the_lookup_for_every_set_of_rows() {
        let registry = PluginRegistry::new(vec![info("p", 1)]);
        let rows = all_levels();
        for set in 0..256usize {
            let chosen: Vec<_> = rows.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, row)| row.clone()).collect();
            for (route, service) in [(R, Some(S)), (R, Some(99)), (R, None), (98, Some(S)), (98, Some(99)), (98, None)] {
                let (route, service) = (id(route), service.map(id));
                let plan = Plan::new(&registry, &chosen, [(id(R), service), (id(98), service)]);
                let candidates = plan.for_route(route, service).candidates();
                for consumer in [None, Some(id(C)), Some(id(97))] {
                    let expected = plan.lookup(PluginIndex(0), Some(route), service, consumer).map(|found| found.id);
                    let found = candidates.first().and_then(|candidate| candidate.instance(consumer)).map(|found| found.id);
                    assert_eq!(found, expected, "rows {set:08b} route {route} service {service:?} consumer {consumer:?}");
                }
                if candidates.is_empty() {
                    assert!(plan.lookup(PluginIndex(0), Some(route), service, Some(id(C))).is_none());
                }
            }
        }
    }

    #[test]
    fn plugins_run_by_falling_priority_then_falling_name() {
        let registry = PluginRegistry::new(vec![info("a", 5), info("b", 9), info("c", 5), info("d", 7)]);
        let rows: Vec<_> = [0, 1, 2].into_iter().map(|plugin| instance(plugin as u8 + 1, plugin, None, None, None)).collect();
        let plan = Plan::new(&registry, &rows, []);
        let names: Vec<_> = plan.plugins().iter().map(|index| registry.get(*index).name.to_string()).collect();
        assert_eq!(names, ["b", "c", "a"]);
        let names: Vec<_> = plan.global().candidates().iter().map(|candidate| registry.get(candidate.plugin).name.to_string()).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }

    #[test]
    fn only_global_rows_apply_without_a_route() {
        let registry = PluginRegistry::new(vec![info("p", 1)]);
        let rows = all_levels();
        let plan = Plan::new(&registry, &rows[..7], [(id(R), Some(id(S)))]);
        assert!(plan.global().candidates().is_empty());
        assert_eq!(plan.global().phases(), 0);
        let plan = Plan::new(&registry, &rows, [(id(R), Some(id(S)))]);
        assert_eq!(plan.global().candidates()[0].instance(Some(id(C))).map(|found| found.id), Some(id(8)));
    }

    #[test]
    fn a_route_untouched_by_rows_shares_an_empty_plan() {
        let registry = PluginRegistry::new(vec![info("p", 1)]);
        let rows = [instance(1, 0, Some(id(R)), None, None)];
        let plan = Plan::new(&registry, &rows, [(id(R), None), (id(98), None)]);
        assert!(plan.for_route(id(98), None).candidates().is_empty());
        assert_eq!(plan.for_route(id(R), None).phases(), 0b100);
    }

    #[test]
    fn the_policy_of_a_route_is_that_of_its_most_specific_row_and_no_candidate() {
        let native = PluginInfo {
            name: resilience::PLUGIN.into(),
            priority: 1,
            phases: 0,
            reads_body_limit_bytes: 0,
            wants_client_certificate: false,
        };
        let registry = PluginRegistry::new(vec![native]);
        let row = |number: u8, route, service, seconds| {
            let mut row = Arc::into_inner(instance(number, 0, route, service, None)).expect("nobody else has it");
            row.phases = 0;
            let budget = BudgetRules { percent: 1.0, least_per_s: 1.0, window: Duration::from_secs(seconds) };
            row.policy = (seconds > 0).then(|| Arc::new(Policy { retry_budget: Some(budget), ..Policy::default() }));
            Arc::new(row)
        };
        let rows = [row(1, None, None, 1), row(2, None, Some(id(S)), 2), row(3, Some(id(R)), None, 3), row(4, Some(id(98)), None, 0)];
        let routes = [(id(R), Some(id(S))), (id(97), Some(id(S))), (id(98), Some(id(S))), (id(96), None)];
        let plan = Plan::new(&registry, &rows, routes);
        let seconds_of = |route: u8, service: Option<Id>| {
            let found = plan.for_route(id(route), service);
            assert!(found.candidates().is_empty());
            found.policy().and_then(|policy| policy.retry_budget).map(|budget| budget.window.as_secs())
        };
        assert_eq!(seconds_of(R, Some(id(S))), Some(3));
        assert_eq!(seconds_of(97, Some(id(S))), Some(2));
        assert_eq!(seconds_of(98, Some(id(S))), None, "a row of its own that asks for nothing turns all of it off");
        assert_eq!(seconds_of(96, None), Some(1));
    }
}
