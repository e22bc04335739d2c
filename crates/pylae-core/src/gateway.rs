// SPDX-License-Identifier: Apache-2.0
//! What do all journeys of one worker share?

use crate::config::{AddedHeaders, DataPlaneSettings, IpBlock};
use crate::exchange::RequestId;
use crate::healthcheck::Watch;
use crate::http::wire::Deadline;
use crate::observe::probe::ProbeKey;
use crate::observe::recorder::Recorder;
use crate::observe::{Level, Logs};
use crate::phases::PluginHost;
use crate::resilience;
use crate::snapshot::{Id, Snapshot};
use crate::upstream::dns::Resolver;
use crate::upstream::pool::Pool;
use crate::upstream::tls::UpstreamTls;
use arc_swap::ArcSwap;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Counts of one worker, mirrored into shared memory by whoever runs it.
#[derive(Default)]
#[allow(missing_docs, reason = "nginx's stub_status names")]
pub struct Statistics {
    pub accepted: Cell<u64>,
    pub handled: Cell<u64>,
    pub active: Cell<u64>,
    pub reading: Cell<u64>,
    pub writing: Cell<u64>,
    pub waiting: Cell<u64>,
    pub requests: Cell<u64>,
}

/// Adds to a cell.
pub fn bump(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

/// Takes from a cell.
pub fn drop_one(cell: &Cell<u64>) {
    cell.set(cell.get().saturating_sub(1));
}

/// One worker's data plane. Lives on the data-plane thread.
pub struct Gateway {
    /// Settings.
    pub settings: DataPlaneSettings,
    /// Headers the gateway adds to answers.
    pub added: AddedHeaders,
    /// `pylae/<version>`.
    pub token: String,
    /// Peers whose forwarding headers are believed.
    pub trusted: Vec<IpBlock>,
    /// The configuration served now; the helper thread swaps it.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The health of Targets.
    pub watch: Watch,
    /// What runs plugins.
    pub host: Box<dyn PluginHost>,
    /// Idle upstream connections.
    pub pool: Pool,
    /// What is remembered of hosts whose requests the plugin `resilience` guards.
    pub guarded: resilience::Hosts,
    /// Names to addresses.
    pub resolver: Rc<Resolver>,
    /// TLS with upstreams.
    pub upstream_tls: UpstreamTls,
    /// The logs.
    pub logs: Logs,
    /// What probes are signed with; none: no request is taken for one.
    pub probe_key: Option<ProbeKey>,
    /// What is recorded of requests, and told to control.
    pub recorder: Recorder,
    /// Counts.
    pub statistics: Statistics,
    /// Draining: no new request is read from idle connections.
    pub drain: Drain,
    serial: Cell<u64>,
    task: Cell<u64>,
    random: Cell<u128>,
}

impl Gateway {
    /// A gateway that serves `snapshot` with plugins run by `host`; `seed`: 128 random bits for request ids.
    pub fn new(
        settings: DataPlaneSettings,
        snapshot: Arc<ArcSwap<Snapshot>>,
        watch: Watch,
        host: Box<dyn PluginHost>,
        seed: u128,
    ) -> Rc<Self> {
        let logs = Logs::open(&settings);
        let trusted = settings.trusted_ips.iter().filter_map(|text| IpBlock::parse(text)).collect();
        Rc::new(Gateway {
            added: AddedHeaders::from_names(&settings.headers),
            token: format!("pylae/{}", settings.version),
            trusted,
            snapshot,
            watch,
            host,
            pool: Pool::new(
                settings.upstream_keepalive_pool_size,
                settings.upstream_keepalive_max_requests,
                settings.upstream_keepalive_idle_timeout_ms,
            ),
            guarded: resilience::Hosts::default(),
            resolver: Rc::new(Resolver::new(&settings.dns)),
            upstream_tls: UpstreamTls::new(settings.trusted_certificates.clone()),
            logs,
            probe_key: ProbeKey::from_hex(&settings.explain.probe_key),
            recorder: Recorder::new(&settings.explain, settings.large_client_header_buffers.1, seed),
            statistics: Statistics::default(),
            drain: Drain::default(),
            serial: Cell::new(0),
            task: Cell::new(u64::MAX),
            random: Cell::new(seed | 1),
            settings,
        })
    }

    /// The next connection's number.
    pub fn next_serial(&self) -> u64 {
        self.serial.set(self.serial.get() + 1);
        self.serial.get()
    }

    /// A name for a task that is no connection and waits for the drain.
    pub fn next_task(&self) -> u64 {
        self.task.set(self.task.get() - 1);
        self.task.get()
    }

    /// 128 bits that no other request of this or another worker has (a seeded PCG step; unique, not secret).
    pub fn next_request_id(&self) -> RequestId {
        RequestId::from_bits(self.next_random())
    }

    /// A UUID of version 4, as unique as a request id.
    pub fn next_uuid(&self) -> Id {
        let mut bytes = self.next_random().to_be_bytes();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Id(bytes)
    }

    fn next_random(&self) -> u128 {
        let state = self
            .random
            .get()
            .wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645)
            .wrapping_add(0x5851_F42D_4C95_7F2D_1405_7B7E_F767_814F);
        self.random.set(state);
        let mixed = (state ^ (state >> 64)).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        mixed ^ (mixed >> 61)
    }

    /// Something may break before long: control hears of it, at most once a minute for each kind and key. `facts`, a JSON object, is
    /// asked for only then.
    pub fn warn(&self, kind: &'static str, key: &str, facts: impl FnOnce() -> serde_json::Value) {
        self.recorder.warn(kind, key, Instant::now(), facts);
    }

    /// Is this peer believed?
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|block| block.contains(address))
    }

    /// Idle upstream connections that are too old go, and what was learned of their servers is said.
    pub async fn housekeeping(self: Rc<Self>) {
        let mut lost = 0;
        let mut last_whole = Instant::now();
        loop {
            let mut deadline = Deadline::new();
            deadline.arm(Duration::from_millis(if self.pool.is_hasty() { 100 } else { 1000 }));
            std::future::poll_fn(|cx| deadline.poll(cx)).await;
            let is_whole = last_whole.elapsed() >= Duration::from_millis(950);
            for learned in tokio::task::unconstrained(async { self.pool.sweep(is_whole) }).await {
                self.logs.log(Level::Notice, &learned.to_string());
            }
            if !is_whole {
                continue;
            }
            last_whole = Instant::now();
            for (address, learned, ours) in self.pool.hasty_servers() {
                let address = address.to_string();
                let ms = |time: Duration| time.as_secs_f64() * 1000.0;
                self.warn(
                    "idle_timeout",
                    &address,
                    || json!({"address": address, "idle_limit_ms": ms(learned), "our_idle_limit_ms": ours.map_or(0.0, ms)}),
                );
            }
            self.guarded.sweep(pylae_shared::monotonic());
            let now_lost = self.logs.lost();
            if now_lost > lost {
                self.logs.log(Level::Alert, &format!("{now_lost} log lines could not be written since the start: is the disk full?"));
                lost = now_lost;
            }
        }
    }
}

/// Tells idle connections and accept loops that the worker leaves.
#[derive(Default)]
pub struct Drain {
    begun: Cell<bool>,
    waiting: RefCell<std::collections::HashMap<u64, Waker>>,
}

impl Drain {
    /// Has it begun?
    pub fn is_begun(&self) -> bool {
        self.begun.get()
    }

    /// Begins it.
    pub fn begin(&self) {
        self.begun.set(true);
        for (_, waker) in self.waiting.take() {
            waker.wake();
        }
    }

    /// Ready once it has begun; `serial` names the task that waits, which calls [`Drain::forget`] at its end.
    pub fn poll(&self, serial: u64, is_known: &mut bool, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if self.begun.get() {
            return Poll::Ready(());
        }
        if !*is_known {
            *is_known = true;
            self.waiting.borrow_mut().insert(serial, cx.waker().clone());
        }
        Poll::Pending
    }

    /// The task is over.
    pub fn forget(&self, serial: u64) {
        self.waiting.borrow_mut().remove(&serial);
    }
}
