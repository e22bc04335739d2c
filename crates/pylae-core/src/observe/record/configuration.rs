// SPDX-License-Identifier: Apache-2.0
//! Which rows of the configuration was it served with, and what did plugins do?

use super::super::masking::words;
use super::put;
use crate::exchange::{Exchange, StepOutcome};
use crate::gateway::Gateway;
use crate::snapshot::model::Algorithm;
use serde_json::{Map, Value, json};

/// Addresses whose health is counted; of more the rest is not looked at.
const ADDRESSES: usize = 1000;
/// Steps that are told of.
const STEPS: usize = 64;
/// Longest name of a row.
const NAME_LIMIT: usize = 128;

fn name(name: Option<&str>) -> Option<String> {
    name.map(|name| words(name, NAME_LIMIT))
}

/// The Route.
pub fn route(exchange: &Exchange) -> Option<Value> {
    let matched = exchange.matched.as_ref()?;
    let route = &matched.route;
    let protocols: Vec<_> = route.protocols.iter().map(|protocol| protocol.name()).collect();
    Some(json!({
        "id": route.id.to_string(),
        "name": name(route.name.as_deref()),
        "strip_path": route.strip_path,
        "protocols": protocols,
        "path_prefix_bytes": matched.matched_length,
    }))
}

/// The Service.
pub fn service(gateway: &Gateway, exchange: &Exchange) -> Option<Value> {
    let service = exchange.matched.as_ref()?.service.as_ref()?;
    Some(json!({
        "id": service.id.to_string(),
        "name": name(service.name.as_deref()),
        "host": words(&service.host, 256),
        "port": service.port,
        "protocol": service.protocol.name(),
        "path": service.path.as_deref().map(|path| words(path, 256)),
        "connect_timeout_ms": service.connect_timeout().as_millis() as u64,
        "write_timeout_ms": service.write_timeout().as_millis() as u64,
        "read_timeout_ms": service.read_timeout().as_millis() as u64,
        "retries": service.retries(),
        "tls_verify": service.tls_verify.unwrap_or(gateway.settings.verify_upstream),
    }))
}

/// The Upstream whose Targets were chosen from, with how they do now.
pub fn upstream(gateway: &Gateway, exchange: &Exchange) -> Option<Value> {
    let upstream = exchange.snapshot.upstream(&exchange.upstream.target_host)?;
    let (row, balancer) = (&upstream.upstream, &upstream.balancer);
    let roster = balancer.roster();
    let candidates = roster.addresses().count();
    let is_healthy = |health: Option<pylae_shared::health::Health>| health.is_none_or(|health| health.is_healthy);
    let healthy = roster.addresses().take(ADDRESSES).filter(|address| is_healthy(gateway.watch.health_so_far(&address.place))).count();
    Some(json!({
        "id": row.id.to_string(),
        "name": words(&row.name, NAME_LIMIT),
        "algorithm": match row.algorithm {
            Some(Algorithm::ConsistentHashing) => "consistent-hashing",
            Some(Algorithm::LeastConnections) => "least-connections",
            Some(Algorithm::Latency) => "latency",
            Some(Algorithm::RoundRobin) | None => "round-robin",
        },
        "targets": balancer.peers().len() + balancer.idle().len(),
        "candidates": candidates,
        "healthy": healthy,
    }))
}

/// What each plugin did.
pub fn steps(exchange: &Exchange) -> Vec<Value> {
    let steps = exchange.steps.iter().take(STEPS).map(|step| {
        let mut map = Map::new();
        map.insert("name".into(), words(&step.instance.name, NAME_LIMIT).into());
        map.insert("id".into(), step.instance.id.to_string().into());
        map.insert("phase".into(), step.phase.name().into());
        map.insert("took_us".into(), (step.took.as_micros() as u64).into());
        let (outcome, status, detail) = match &step.outcome {
            StepOutcome::Continue => ("continue", None, None),
            StepOutcome::Answered(status) => ("answered", Some(*status), None),
            StepOutcome::Failed(detail) => ("failed", None, Some(words(detail, 256))),
            StepOutcome::Cancelled => ("cancelled", None, None),
        };
        map.insert("outcome".into(), outcome.into());
        put(&mut map, "status", status);
        put(&mut map, "detail", detail);
        map.insert("waited".into(), step.waited.into());
        map.into()
    });
    steps.collect()
}
