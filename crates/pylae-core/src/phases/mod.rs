// SPDX-License-Identifier: Apache-2.0
//! May it pass, as whom, at what rate? The corridor the journey passes at each phase, and the trait plugins live behind.

pub mod corridor;
pub mod plan;

use crate::exchange::ExchangeRef;
use crate::fault::FaultKind;
use crate::http::headers::Headers;
use crate::snapshot::PluginInstance;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A moment in a request's life at which plugins run, in walking order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// During the TLS handshake, before a certificate is chosen. Global plugins only.
    Certificate = 0,
    /// Before a Route is matched. Global plugins only.
    Rewrite = 1,
    /// After a Route is matched, before a Target is chosen.
    Access = 2,
    /// The whole answer of the upstream is at hand, nothing was sent to the client.
    Response = 3,
    /// The head of the answer is about to be sent.
    HeaderFilter = 4,
    /// A piece of the body is about to be sent.
    BodyFilter = 5,
    /// The exchange is over.
    Log = 6,
}

impl Phase {
    /// All phases in walking order.
    pub const ALL: [Phase; 7] =
        [Phase::Certificate, Phase::Rewrite, Phase::Access, Phase::Response, Phase::HeaderFilter, Phase::BodyFilter, Phase::Log];

    /// The phase's name as plugins spell it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Certificate => "certificate",
            Phase::Rewrite => "rewrite",
            Phase::Access => "access",
            Phase::Response => "response",
            Phase::HeaderFilter => "header_filter",
            Phase::BodyFilter => "body_filter",
            Phase::Log => "log",
        }
    }

    /// The phase's bit in a plugin's set of phases.
    pub fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// An answer a plugin gives in the upstream's place.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status, 100–599.
    pub status: u16,
    /// Headers to set, in order, beside what the gateway adds.
    pub headers: Headers,
    /// How the body is made.
    pub body: AnswerBody,
}

/// How the body of a plugin's answer is made.
#[derive(Debug, Clone)]
pub enum AnswerBody {
    /// As given (`exit`); the content type, if any, is among the headers.
    Exit(Vec<u8>),
    /// Negotiated by `Accept`, carries the request id (`error`). `None`: the status' own sentence.
    Error(Option<String>),
}

/// What a plugin decided.
#[derive(Debug)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// Answer with this; later plugins do not run their access.
    Answer(Box<Answer>),
    /// The plugin raised or returned rubbish: 500, the plugin named in the log.
    Failed(Box<PluginFailure>),
}

/// Why a plugin failed.
#[derive(Debug, Clone)]
pub struct PluginFailure {
    /// The plugin's name.
    pub plugin: String,
    /// The phase it failed in.
    pub phase: Phase,
    /// The plugin itself, or a system that it asks.
    pub kind: FaultKind,
    /// What went wrong, one line: `ValueError: … (my_plugin.py:12)`, `LDAP server ldap://10.0.0.1:389: connection refused`.
    pub detail: String,
}

/// A host call is ready at once or suspended; whoever drops the future of a suspended one cancels it.
pub enum HostCall {
    /// The verdict is in.
    Ready(Verdict),
    /// The plugin awaits something.
    Suspended(Pin<Box<dyn Future<Output = Verdict>>>),
}

/// What runs plugins: the seam `pylae-python` implements. Called on the data-plane thread only.
pub trait PluginHost {
    /// Runs one plugin's phase. The exchange must not be borrowed by the caller.
    fn run(&self, phase: Phase, instance: &Arc<PluginInstance>, exchange: &ExchangeRef) -> HostCall;

    /// Runs one plugin's body filter over one chunk; `None` leaves it unchanged.
    ///
    /// # Errors
    /// The plugin failed; the response is cut off.
    fn filter_body(
        &self,
        instance: &Arc<PluginInstance>,
        exchange: &ExchangeRef,
        chunk: &[u8],
        is_last: bool,
    ) -> Result<Option<Vec<u8>>, Box<PluginFailure>>;

    /// Bytes of the request body this instance wants at hand before it runs; 0: none.
    fn reads_body_bytes(&self, instance: &Arc<PluginInstance>) -> u64;

    /// Runs `f` with the interpreter attached, so that several calls share one attach.
    fn attached(&self, f: &mut dyn FnMut());

    /// The exchange is over: views of it die now.
    fn release(&self, exchange: &ExchangeRef);
}
