// SPDX-License-Identifier: Apache-2.0
//! Which clients are asked for a certificate? It is said in the handshake, before there is a request: by the name asked for.

use crate::phases::plan::Plan;
use crate::router::{NamePattern, sni_pattern};
use crate::snapshot::hash::ConfigMap;
use crate::snapshot::model::Route;
use crate::snapshot::{PluginInstance, PluginRegistry};
use std::sync::Arc;

type Instances = Vec<Arc<PluginInstance>>;

/// Who asks for certificates, by the name the client asks for.
///
/// Where all Routes of such a plugin have `snis`, only clients that ask for one of those names are asked; whoever gets to a Route by
/// another connection has presented no certificate, and the plugin refuses it.
#[derive(Default)]
pub struct Asking {
    /// Those with a Route that any name leads to.
    everyone: Instances,
    exact: ConfigMap<Box<[u8]>, Instances>,
    wildcards: Vec<(NamePattern, Instances)>,
}

impl Asking {
    /// Finds the Routes whose clients are to be asked.
    pub fn new<'a>(registry: &PluginRegistry, plan: &Plan, routes: impl Iterator<Item = &'a Arc<Route>>) -> Self {
        let mut asking = Asking::default();
        let wants = |plugin| registry.get(plugin).wants_client_certificate;
        if !plan.plugins().iter().any(|&plugin| wants(plugin)) {
            return asking;
        }
        for candidate in plan.global().candidates().iter().filter(|candidate| wants(candidate.plugin)) {
            if let Some(instance) = candidate.instance(None) {
                add(&mut asking.everyone, instance);
            }
        }
        for route in routes {
            let applied = plan.for_route(route.id, route.service.map(|reference| reference.id));
            for candidate in applied.candidates().iter().filter(|candidate| wants(candidate.plugin)) {
                if let Some(instance) = candidate.instance(None) {
                    asking.add_route(route, instance);
                }
            }
        }
        asking
    }

    fn add_route(&mut self, route: &Route, instance: &Arc<PluginInstance>) {
        let snis = route.snis.as_deref().unwrap_or_default();
        // Which names an expression lets in is not worked out.
        if snis.is_empty() || route.expression.is_some() {
            add(&mut self.everyone, instance);
            return;
        }
        for sni in snis {
            let pattern = sni_pattern(sni);
            let instances = match &pattern {
                NamePattern::Exact(name) => self.exact.entry(name.to_ascii_lowercase().into()).or_default(),
                _ => {
                    let at = self.wildcards.iter().position(|(known, _)| *known == pattern).unwrap_or_else(|| {
                        self.wildcards.push((pattern, Instances::new()));
                        self.wildcards.len() - 1
                    });
                    &mut self.wildcards[at].1
                }
            };
            add(instances, instance);
        }
    }

    /// The instances for whose sake a client is asked that wants to speak to `sni` (lower case); none: it is not asked.
    pub fn asked_by(&self, sni: Option<&str>) -> Option<Instances> {
        let mut instances = Instances::new();
        if let Some(sni) = sni.map(str::as_bytes) {
            let exact = self.exact.get(sni).into_iter().flatten();
            let wild = self.wildcards.iter().filter(|(pattern, _)| pattern.matches(sni)).flat_map(|(_, instances)| instances);
            exact.chain(wild).for_each(|instance| add(&mut instances, instance));
        }
        if instances.is_empty() {
            instances.clone_from(&self.everyone);
        }
        (!instances.is_empty()).then_some(instances)
    }
}

fn add(instances: &mut Instances, instance: &Arc<PluginInstance>) {
    if !instances.iter().any(|known| known.id == instance.id) {
        instances.push(Arc::clone(instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::RouterOptions;
    use crate::snapshot::{Id, PluginInfo, Store};
    use serde_json::{Value, json};

    fn uuid(number: u8) -> String {
        Id([number; 16]).to_string()
    }

    fn route(number: u8, snis: &Value) -> Value {
        json!({
            "id": uuid(number), "created_at": 1, "updated_at": 1, "name": null, "protocols": ["https"], "https_redirect_status_code": 426,
            "strip_path": true, "preserve_host": false, "request_buffering": true, "response_buffering": true, "tags": null,
            "service": null, "snis": snis, "sources": null, "destinations": null, "methods": null, "hosts": null,
            "paths": [format!("/{number}")], "headers": null, "regex_priority": 0, "path_handling": "v0",
        })
    }

    fn plugin(number: u8, name: &str, route: Option<u8>) -> Value {
        json!({
            "id": uuid(number), "created_at": 1, "updated_at": 1, "name": name, "enabled": true, "config": {}, "tags": null,
            "route": route.map(|route| json!({"id": uuid(route)})), "service": null, "consumer": null, "protocols": ["https"],
            "instance_name": null,
        })
    }

    fn asking(routes: &[Value], plugins: &[Value]) -> Arc<Asking> {
        let info = |name: &str, wants_client_certificate| PluginInfo {
            name: name.into(),
            priority: 1,
            phases: 4,
            reads_body_limit_bytes: 0,
            wants_client_certificate,
        };
        let registry = PluginRegistry::new(vec![info("mtls-auth", true), info("key-auth", false)]);
        let mut store = Store::with_options(Arc::new(registry), RouterOptions::default());
        let message = json!({"version": ["a", 1], "entities": {
            "services": [], "routes": routes, "plugins": plugins, "upstreams": [], "targets": [],
        }});
        store.apply_snapshot(&rmp_serde::to_vec_named(&message).expect("JSON")).expect("rows of the right form");
        Arc::clone(&store.compile().snapshot.asking)
    }

    #[test]
    fn only_plugins_that_want_one_ask() {
        let asking = asking(&[route(1, &Value::Null)], &[plugin(9, "key-auth", Some(1))]);
        assert!(asking.asked_by(None).is_none() && asking.asked_by(Some("a.test")).is_none());
    }

    #[test]
    fn clients_of_other_names_are_not_asked_where_every_route_has_names() {
        let asking = asking(&[route(1, &json!(["a.test.", "*.b.test"])), route(2, &Value::Null)], &[plugin(9, "mtls-auth", Some(1))]);
        assert!(asking.asked_by(Some("a.test")).is_some() && asking.asked_by(Some("x.b.test")).is_some());
        assert!(asking.asked_by(Some("c.test")).is_none() && asking.asked_by(None).is_none());
    }

    #[test]
    fn one_route_without_names_has_everybody_asked() {
        let plugins = [plugin(9, "mtls-auth", Some(1)), plugin(8, "mtls-auth", Some(2))];
        let asking = asking(&[route(1, &json!(["a.test"])), route(2, &Value::Null)], &plugins);
        let ids = |sni| asking.asked_by(sni).map(|found| found.iter().map(|instance| instance.id.0[0]).collect::<Vec<_>>());
        assert_eq!(ids(Some("a.test")), Some(vec![9]));
        assert_eq!((ids(Some("c.test")), ids(None)), (Some(vec![8]), Some(vec![8])));
    }

    #[test]
    fn a_global_row_has_everybody_asked() {
        assert!(asking(&[], &[plugin(9, "mtls-auth", None)]).asked_by(None).is_some());
    }
}
