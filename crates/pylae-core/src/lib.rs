// SPDX-License-Identifier: Apache-2.0
//! The data plane: the rooms a request walks through, in walking order. No Python in here.
//!
//! | room | question it answers |
//! |---|---|
//! | [`listener`] | may this connection enter? |
//! | [`tls`] | which certificate, who is the client? |
//! | [`http`] | is this one well-formed message? |
//! | [`router`] | which Route? |
//! | [`phases`] | may it pass, as whom, at what rate? |
//! | [`healthcheck`] | which Targets may be chosen? |
//! | [`balancer`] | which Target? |
//! | [`resilience`] | may it be tried, again, or twice? |
//! | [`upstream`] | is there a connection? |
//! | [`proxy`] | did the exchange finish? |
//! | [`response`] | what does the client see? |
//! | [`observe`] | what do we remember? |
//!
//! Read [`journey`] first. The floor under all rooms: [`fault`], [`exchange`], [`snapshot`], [`config`], [`clock`].

#![forbid(unsafe_code)]

pub mod balancer;
pub mod clock;
pub mod config;
pub mod exchange;
pub mod fault;
pub mod gateway;
pub mod healthcheck;
pub mod http;
pub mod journey;
pub mod line;
pub mod listener;
pub mod observe;
pub mod phases;
pub mod proxy;
pub mod resilience;
pub mod response;
pub mod router;
pub mod snapshot;
pub mod tls;
pub mod upstream;
