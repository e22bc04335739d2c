// SPDX-License-Identifier: Apache-2.0
//! What does control say, and what do we tell it? The worker's one line to control: config down, calls and streams up.
//!
//! [`Line`] is the data-plane thread's end. The other end of it, [`helper`], runs on the worker's helper thread, which has no
//! Python: it talks with control, decodes, compiles, swaps and drops snapshots, so that the data-plane thread never pays for
//! them.

mod helper;
mod retired;
#[cfg(test)]
mod tests;

use crate::observe::Level;
use crate::router::RouterOptions;
use crate::snapshot::{Invalidation, PluginRegistry, Snapshot};
use arc_swap::ArcSwap;
use helper::Helper;
use rmpv::Value;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait for an answer at once.
const CALLS_IN_FLIGHT: usize = 1024;
/// Stream bytes that may wait for control.
const STREAM_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// What a stream item counts beside its bytes.
const ITEM_OVERHEAD_BYTES: usize = 64;

/// Who we are and where control listens.
#[derive(Debug, Clone)]
pub struct LineSettings {
    /// Control's socket.
    pub socket: PathBuf,
    /// The snapshot on disk.
    pub snapshot_file: PathBuf,
    /// Our worker slot.
    pub worker: usize,
    /// Our generation.
    pub generation: u64,
    /// How Routes are compiled.
    pub router: RouterOptions,
    /// Gives what the helper thread has freed back to the system; called after a configuration was dropped.
    pub release_memory: fn(),
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// `unavailable`, `timeout`, `busy`, or the error's name at control.
    pub name: String,
    /// One line.
    pub message: String,
}

impl CallError {
    fn new(name: &str, message: &str) -> Self {
        CallError { name: name.to_owned(), message: message.to_owned() }
    }

    fn late() -> Self {
        CallError::new("timeout", "the control process did not answer in time")
    }
}

type Reply = oneshot::Sender<Result<Vec<u8>, CallError>>;

/// What goes up.
#[derive(Debug)]
enum Up {
    Call {
        operation: String,
        args: Vec<u8>,
        deadline: Instant,
        reply: Reply,
    },
    Stream {
        channel: String,
        item: Vec<u8>,
    },
    /// The rows of this version's changes are forgotten.
    Forgotten(Value),
}

/// Goes with rows to forget: once that is done, or this is dropped, control is told that their version is served.
#[derive(Debug)]
pub struct Forgetting(Option<(mpsc::WeakUnboundedSender<Up>, Value)>);

impl Forgetting {
    /// The rows are forgotten.
    pub fn done(&mut self) {
        if let Some((up, version)) = self.0.take()
            && let Some(up) = up.upgrade()
        {
            let _ = up.send(Up::Forgotten(version));
        }
    }
}

impl Drop for Forgetting {
    fn drop(&mut self) {
        self.done();
    }
}

/// What the data-plane thread is told.
#[derive(Debug)]
pub enum Event {
    /// A configuration is served (the first, or a later one).
    Served,
    /// Cached rows to forget; `None`: all of them. The guard is dropped when that is done.
    Invalidate(Option<Vec<Invalidation>>, Forgetting),
    /// A line for `error.log`.
    Log(Level, String),
    /// Control was greeted on a new line: it may know nothing of what was told before.
    Greeted,
    /// Lines below this level are no longer written.
    LogLevel(Level),
}

/// What both ends count.
#[derive(Default)]
struct Counts {
    calls: AtomicUsize,
    stream_bytes: AtomicUsize,
    lost: AtomicU64,
    /// Items lost since control was told, by channel. Locked for an addition at most, and never across a wait.
    lost_by_channel: Mutex<HashMap<String, u64>>,
}

impl Counts {
    fn lost_by_channel(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.lost_by_channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, channel: &str) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let mut lost = self.lost_by_channel();
        match lost.get_mut(channel) {
            Some(count) => *count += 1,
            None => {
                lost.insert(channel.to_owned(), 1);
            }
        }
    }
}

/// The data-plane thread's end of the line. When the last clone is dropped, what waits is sent and the helper thread ends.
#[derive(Clone)]
pub struct Line {
    up: mpsc::UnboundedSender<Up>,
    counts: Arc<Counts>,
}

impl Line {
    /// Asks control; MessagePack both ways. While control is away the question waits, within its deadline.
    ///
    /// # Errors
    /// `busy`, `timeout`, `unavailable` (the line broke before the answer: a write may have been made), or control's own.
    ///
    /// # Cancel safety
    /// The question may be asked all the same; its answer is dropped.
    pub async fn call(&self, operation: &str, args: Vec<u8>, patience: Duration) -> Result<Vec<u8>, CallError> {
        let _in_flight = InFlight::begin(&self.counts)?;
        let (reply, answer) = oneshot::channel();
        let leaving = || CallError::new("unavailable", "the worker is leaving");
        let call = Up::Call { operation: operation.to_owned(), args, deadline: Instant::now() + patience, reply };
        self.up.send(call).map_err(|_| leaving())?;
        answer.await.unwrap_or_else(|_| Err(leaving()))
    }

    /// Hands an item to control, some time; `false`: dropped and counted.
    pub fn stream(&self, channel: &str, item: Vec<u8>) -> bool {
        let size = item.len() + ITEM_OVERHEAD_BYTES;
        if self.counts.stream_bytes.fetch_add(size, Ordering::Relaxed) + size > STREAM_LIMIT_BYTES {
            self.counts.stream_bytes.fetch_sub(size, Ordering::Relaxed);
            self.counts.lose(channel);
            return false;
        }
        self.up.send(Up::Stream { channel: channel.to_owned(), item }).is_ok()
    }

    /// Stream items dropped.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

/// Counts a call for as long as it is waited for, however that ends.
struct InFlight<'a>(&'a Counts);

impl<'a> InFlight<'a> {
    fn begin(counts: &'a Counts) -> Result<Self, CallError> {
        let call = InFlight(counts);
        if counts.calls.fetch_add(1, Ordering::Relaxed) >= CALLS_IN_FLIGHT {
            return Err(CallError::new("busy", "too many calls wait for the control process"));
        }
        Ok(call)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The helper thread, to be waited for.
pub struct Ending(std::sync::mpsc::Receiver<()>);

impl Ending {
    /// Waits until the thread has sent what waited; call it after the last [`Line`] is gone. Says whether it has.
    pub fn wait(&self, patience: Duration) -> bool {
        self.0.recv_timeout(patience) != Err(std::sync::mpsc::RecvTimeoutError::Timeout)
    }
}

/// Starts the helper thread.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    settings: LineSettings,
    registry: Arc<PluginRegistry>,
    served: Arc<ArcSwap<Snapshot>>,
) -> io::Result<(Line, mpsc::UnboundedReceiver<Event>, Ending)> {
    let (up, from_data_plane) = mpsc::unbounded_channel();
    let (events, event_receiver) = mpsc::unbounded_channel();
    let (ended, ending) = std::sync::mpsc::channel();
    let counts = Arc::new(Counts::default());
    let helper = Helper::new(settings, registry, served, (events, up.downgrade()), Arc::clone(&counts));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("pylae-line".to_owned()).spawn(move || {
        pylae_shared::lower_thread_priority();
        runtime.block_on(helper.run(from_data_plane));
        drop(ended);
    })?;
    Ok((Line { up, counts }, event_receiver, Ending(ending)))
}
