// SPDX-License-Identifier: Apache-2.0
//! What is done about upstreams that are slow, full or failing? Nothing, unless a row of the plugin `resilience` asks for it.

mod policy;

pub use policy::{BreakerRules, BudgetRules, HedgeRules, PLUGIN, PerTryTimeout, Policy, QueueRules};
