// SPDX-License-Identifier: Apache-2.0
//! What does control say, and what do we tell it? The worker's one line to control: config down, calls and streams up.
//!
//! Runs on the worker's helper thread, which has no Python: it decodes, compiles, swaps and drops snapshots, so the
//! data-plane thread never pays for them.

use crate::observe::Level;
use crate::snapshot::{Invalidation, PluginRegistry, Snapshot, Store, frame_of};
use arc_swap::ArcSwap;
use rmpv::Value;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// Largest frame control may send.
const FRAME_LIMIT_BYTES: usize = 256 * 1024 * 1024;
/// Calls that may wait for an answer at once.
const CALLS_IN_FLIGHT: usize = 1024;
/// Stream bytes that may wait for control.
const STREAM_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// Quiet time after which the snapshot is written to disk.
const PERSIST_AFTER: Duration = Duration::from_millis(500);

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
}

/// What goes up.
enum Up {
    Call { operation: String, args: Vec<u8>, deadline: Instant, reply: oneshot::Sender<Result<Vec<u8>, CallError>> },
    Stream { channel: String, item: Vec<u8> },
}

/// What the data-plane thread is told.
#[derive(Debug)]
pub enum Event {
    /// A configuration is served (the first, or a later one).
    Served,
    /// Cached rows to forget; `None`: all of them.
    Invalidate(Option<Vec<Invalidation>>),
    /// A line for `error.log`.
    Log(Level, String),
}

/// The data-plane thread's end of the line.
#[derive(Clone)]
pub struct Line {
    up: mpsc::UnboundedSender<Up>,
    stream_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    calls: Arc<AtomicUsize>,
}

impl Line {
    /// Asks control; MessagePack both ways.
    ///
    /// # Errors
    /// `busy`, `timeout`, `unavailable`, or control's own.
    pub async fn call(&self, operation: &str, args: Vec<u8>, patience: Duration) -> Result<Vec<u8>, CallError> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= CALLS_IN_FLIGHT {
            self.calls.fetch_sub(1, Ordering::Relaxed);
            return Err(CallError::new("busy", "too many calls wait for the control process"));
        }
        let (reply, answer) = oneshot::channel();
        let sent = self.up.send(Up::Call { operation: operation.to_owned(), args, deadline: Instant::now() + patience, reply });
        let outcome = match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(CallError::new("unavailable", "the worker is leaving"))),
            Err(_) => Err(CallError::new("unavailable", "the worker is leaving")),
        };
        self.calls.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    /// Hands an item to control, some time; `false`: dropped and counted.
    pub fn stream(&self, channel: &str, item: Vec<u8>) -> bool {
        let size = item.len() + 64;
        if self.stream_bytes.fetch_add(size, Ordering::Relaxed) + size > STREAM_LIMIT_BYTES {
            self.stream_bytes.fetch_sub(size, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.up.send(Up::Stream { channel: channel.to_owned(), item }).is_ok()
    }

    /// Stream items dropped.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
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
) -> io::Result<(Line, mpsc::UnboundedReceiver<Event>)> {
    let (up, up_receiver) = mpsc::unbounded_channel();
    let (events, event_receiver) = mpsc::unbounded_channel();
    let line = Line { up, stream_bytes: Arc::default(), lost: Arc::default(), calls: Arc::default() };
    let helper = Helper {
        store: Store::new(registry),
        settings,
        served,
        events,
        retired: Vec::new(),
        pending: HashMap::new(),
        waiting: Vec::new(),
        streams: HashMap::new(),
        next_call: 0,
        stream_bytes: Arc::clone(&line.stream_bytes),
        lost: Arc::clone(&line.lost),
        reported_lost: 0,
        dirty_since: None,
        warned: Vec::new(),
    };
    std::thread::Builder::new().name("pylae-line".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(helper.run(up_receiver));
        }
    })?;
    Ok((line, event_receiver))
}

struct Pending {
    deadline: Instant,
    reply: oneshot::Sender<Result<Vec<u8>, CallError>>,
    /// A read may be asked again when control comes back; a write may have been made.
    again: Option<(String, Vec<u8>)>,
}

struct Helper {
    settings: LineSettings,
    store: Store,
    served: Arc<ArcSwap<Snapshot>>,
    events: mpsc::UnboundedSender<Event>,
    /// Snapshots no longer served, kept until no exchange holds them, so that they are dropped on this thread.
    retired: Vec<Arc<Snapshot>>,
    pending: HashMap<u64, Pending>,
    waiting: Vec<(String, Vec<u8>, Pending)>,
    streams: HashMap<String, Vec<Vec<u8>>>,
    next_call: u64,
    stream_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    reported_lost: u64,
    dirty_since: Option<Instant>,
    warned: Vec<String>,
}

/// Why a connection with control ended.
enum Parted {
    /// It broke; connect again.
    Broken,
    /// The data plane is gone: the thread ends.
    Finished,
}

impl Helper {
    fn log(&self, level: Level, message: String) {
        let _ = self.events.send(Event::Log(level, message));
    }

    async fn run(mut self, mut up: mpsc::UnboundedReceiver<Up>) {
        let mut pause = Duration::from_millis(5);
        loop {
            match UnixStream::connect(&self.settings.socket).await {
                Ok(stream) => {
                    pause = Duration::from_millis(5);
                    if matches!(self.converse(stream, &mut up).await, Parted::Finished) {
                        return;
                    }
                    self.part();
                }
                Err(_) => {
                    // Control starts or restarts: what comes up meanwhile is kept, within its bounds and deadlines.
                    let until = Instant::now() + pause;
                    pause = (pause * 2).min(Duration::from_millis(250));
                    loop {
                        let left = until.saturating_duration_since(Instant::now());
                        match tokio::time::timeout(left, up.recv()).await {
                            Ok(Some(item)) => self.queue(item),
                            Ok(None) => return,
                            Err(_) => break,
                        }
                    }
                    self.expire();
                    self.retire();
                }
            }
        }
    }

    fn queue(&mut self, item: Up) {
        match item {
            Up::Call { operation, args, deadline, reply } => {
                let again = (operation == "select_by").then(|| (operation.clone(), args.clone()));
                self.waiting.push((operation, args, Pending { deadline, reply, again }));
            }
            Up::Stream { channel, item } => self.streams.entry(channel).or_default().push(item),
        }
    }

    /// Calls whose time is over get an answer.
    fn expire(&mut self) {
        let now = Instant::now();
        let late = || CallError::new("timeout", "the control process did not answer in time");
        let (over, waiting): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|(_, _, p)| p.deadline <= now);
        self.waiting = waiting;
        for (_, _, pending) in over {
            let _ = pending.reply.send(Err(late()));
        }
        let ids: Vec<u64> = self.pending.iter().filter(|(_, p)| p.deadline <= now).map(|(&id, _)| id).collect();
        for id in ids {
            if let Some(pending) = self.pending.remove(&id) {
                let _ = pending.reply.send(Err(late()));
            }
        }
    }

    /// The connection broke: reads are asked again, writes are unknown.
    fn part(&mut self) {
        for (_, mut pending) in std::mem::take(&mut self.pending) {
            match pending.again.take() {
                Some((operation, args)) => {
                    pending.again = Some((operation.clone(), args.clone()));
                    self.waiting.push((operation, args, pending));
                }
                None => {
                    let _ = pending.reply.send(Err(CallError::new("unavailable", "the control process went away before it answered")));
                }
            }
        }
    }

    async fn converse(&mut self, stream: UnixStream, up: &mut mpsc::UnboundedReceiver<Up>) -> Parted {
        // Only who runs as we do may configure us.
        let ours = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m));
        match (stream.peer_cred(), ours) {
            (Ok(peer), Ok(uid)) if peer.uid() == uid || peer.uid() == 0 => {}
            _ => {
                self.log(Level::Crit, "the control socket belongs to another user: not listened to".to_owned());
                tokio::time::sleep(Duration::from_secs(1)).await;
                return Parted::Broken;
            }
        }
        let (mut reader, mut writer) = stream.into_split();
        if self.hello(&mut writer).await.is_err() {
            return Parted::Broken;
        }
        let mut buffer = Vec::with_capacity(64 * 1024);
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.flush(&mut writer).await.is_err() {
                return Parted::Broken;
            }
            tokio::select! {
                read = reader.read_buf(&mut buffer) => {
                    if !matches!(read, Ok(count) if count > 0) {
                        return Parted::Broken;
                    }
                    match self.take_frames(&mut buffer, &mut reader, &mut writer).await {
                        Ok(()) => {}
                        Err(error) => {
                            self.log(Level::Error, format!("the line to control broke: {error}"));
                            return Parted::Broken;
                        }
                    }
                }
                item = up.recv() => match item {
                    None => return Parted::Finished,
                    Some(item) => {
                        self.queue(item);
                        while let Ok(item) = up.try_recv() {
                            self.queue(item);
                        }
                    }
                },
                _ = tick.tick() => {
                    self.expire();
                    self.retire();
                    self.persist();
                }
            }
        }
    }

    async fn hello(&mut self, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        let version = self.store.version();
        let version = if version.database_id.is_empty() {
            Value::Nil
        } else {
            Value::Array(vec![version.database_id.as_str().into(), version.sequence.into()])
        };
        let about = Value::Map(vec![
            ("worker".into(), (self.settings.worker as u64).into()),
            ("generation".into(), self.settings.generation.into()),
            ("pid".into(), std::process::id().into()),
            ("version".into(), version),
        ]);
        send(writer, &Value::Array(vec!["hello".into(), about])).await
    }

    /// Sends what waits: calls first, then streams.
    async fn flush(&mut self, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        for (operation, args, pending) in std::mem::take(&mut self.waiting) {
            let now = Instant::now();
            if pending.deadline <= now || pending.reply.is_closed() {
                let _ = pending.reply.send(Err(CallError::new("timeout", "the control process did not answer in time")));
                continue;
            }
            self.next_call += 1;
            let id = self.next_call;
            let patience = pending.deadline.duration_since(now).as_millis() as u64;
            let args = rmpv::decode::read_value(&mut args.as_slice()).unwrap_or(Value::Nil);
            self.pending.insert(id, pending);
            send(writer, &Value::Array(vec!["call".into(), id.into(), patience.into(), operation.into(), args])).await?;
        }
        if self.streams.is_empty() {
            return Ok(());
        }
        let lost = self.lost.load(Ordering::Relaxed);
        for (channel, items) in std::mem::take(&mut self.streams) {
            let bytes: usize = items.iter().map(|item| item.len() + 64).sum();
            let newly_lost = lost - self.reported_lost;
            self.reported_lost = lost;
            let items = Value::Array(items.into_iter().map(Value::Binary).collect());
            let outcome = send(writer, &Value::Array(vec!["stream".into(), channel.into(), items, newly_lost.into()])).await;
            self.stream_bytes.fetch_sub(bytes, Ordering::Relaxed);
            outcome?;
        }
        Ok(())
    }

    /// Takes in every whole frame at hand, then compiles once and acknowledges.
    async fn take_frames(&mut self, buffer: &mut Vec<u8>, reader: &mut OwnedReadHalf, writer: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut changed = false;
        let mut invalidations: Option<Vec<Invalidation>> = Some(Vec::new());
        let mut start = 0;
        loop {
            let rest = &buffer[start..];
            let Some((length_bytes, body)) = rest.split_first_chunk::<4>() else { break };
            let length = u32::from_be_bytes(*length_bytes) as usize;
            if length > FRAME_LIMIT_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is over 256 MiB"));
            }
            if body.len() < length {
                if start > 0 {
                    buffer.drain(..start);
                    start = 0;
                }
                if changed {
                    break;
                }
                buffer.reserve(length + 4 - buffer.len().min(length + 4));
                // A long frame: read on without going round.
                if reader.read_buf(buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            let frame = body[..length].to_vec();
            start += 4 + length;
            match frame.first() {
                Some(0x92) => {
                    let (name, body) = frame_of(&frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                    match name {
                        "snapshot" => match self.store.apply_snapshot(body) {
                            Ok(()) => {
                                changed = true;
                                invalidations = None;
                            }
                            Err(error) => self.log(Level::Error, format!("the configuration from control was refused: {error}")),
                        },
                        "delta" => match self.store.apply_delta(body) {
                            Ok(more) => {
                                changed = true;
                                if let Some(all) = &mut invalidations {
                                    all.extend(more);
                                }
                            }
                            Err(error) => {
                                self.log(Level::Info, format!("a change from control does not fit, asking for the whole: {error}"));
                                self.hello(writer).await?;
                            }
                        },
                        "unavailable" => self.fall_back(body),
                        _ => {}
                    }
                }
                _ => self.take_reply(&frame)?,
            }
        }
        buffer.drain(..start);
        if changed {
            let warnings = self.swap();
            for warning in warnings {
                self.log(Level::Warn, warning);
            }
            match invalidations {
                Some(list) if list.is_empty() => {}
                other => {
                    let _ = self.events.send(Event::Invalidate(other));
                }
            }
            let _ = self.events.send(Event::Served);
            let version = self.store.version();
            let ack = Value::Array(vec![
                "ack".into(),
                Value::Array(vec![version.database_id.as_str().into(), version.sequence.into()]),
            ]);
            send(writer, &ack).await?;
            self.dirty_since = Some(Instant::now());
        }
        Ok(())
    }

    /// Compiles what is held and serves it; answers warnings not given before.
    fn swap(&mut self) -> Vec<String> {
        let compiled = self.store.compile();
        let old = self.served.swap(compiled.snapshot);
        self.retired.push(old);
        self.retire();
        let fresh = compiled.warnings.iter().filter(|warning| !self.warned.contains(warning)).cloned().collect();
        self.warned = compiled.warnings;
        fresh
    }

    fn retire(&mut self) {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    fn take_reply(&mut self, frame: &[u8]) -> io::Result<()> {
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "a reply is malformed");
        let value = rmpv::decode::read_value(&mut &frame[..]).map_err(|_| broken())?;
        let Value::Array(mut parts) = value else { return Err(broken()) };
        if parts.len() != 4 || parts[0].as_str() != Some("reply") {
            return Ok(());
        }
        let (Some(id), Some(ok)) = (parts[1].as_u64(), parts[2].as_bool()) else { return Err(broken()) };
        let Some(pending) = self.pending.remove(&id) else { return Ok(()) };
        let value = parts.pop().unwrap_or(Value::Nil);
        let outcome = if ok {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).map_err(|_| broken())?;
            Ok(bytes)
        } else {
            let text = |key: &str| {
                value.as_map().and_then(|map| map.iter().find(|(k, _)| k.as_str() == Some(key))).and_then(|(_, v)| v.as_str()).unwrap_or("error").to_owned()
            };
            Err(CallError { name: text("error"), message: text("message") })
        };
        let _ = pending.reply.send(outcome);
        Ok(())
    }

    /// Control cannot reach the database: the snapshot on disk serves, if it is of the same database.
    fn fall_back(&mut self, body: &[u8]) {
        if !self.store.version().database_id.is_empty() {
            return;
        }
        let about = rmpv::decode::read_value(&mut &body[..]).unwrap_or(Value::Nil);
        let text = |key: &str| {
            about.as_map().and_then(|map| map.iter().find(|(k, _)| k.as_str() == Some(key))).and_then(|(_, v)| v.as_str()).map(str::to_owned)
        };
        let reason = text("reason").unwrap_or_default();
        let Ok(bytes) = std::fs::read(&self.settings.snapshot_file) else {
            self.log(Level::Error, format!("the database can't be reached ({reason}) and there is no snapshot on disk"));
            return;
        };
        let outcome = frame_of(&bytes).map_err(|error| error.to_string()).and_then(|(_, body)| self.store.apply_snapshot(body).map_err(|e| e.to_string()));
        if let Err(error) = outcome {
            self.log(Level::Error, format!("the snapshot on disk can't be read: {error}"));
            return;
        }
        let ours = self.store.version().database_id.clone();
        if let Some(wanted) = text("database_id")
            && wanted != ours
        {
            self.log(Level::Error, format!("the snapshot on disk is of database {ours}, not of {wanted}: not served"));
            self.store = Store::new(Arc::clone(self.store.registry()));
            return;
        }
        let sequence = self.store.version().sequence;
        self.swap();
        self.log(Level::Warn, format!("the database can't be reached ({reason}): serving the snapshot on disk, version {sequence}"));
        let _ = self.events.send(Event::Served);
    }

    /// Writes the snapshot to disk once it has been quiet; one worker does it for all.
    fn persist(&mut self) {
        if self.settings.worker != 0 || self.dirty_since.is_none_or(|since| since.elapsed() < PERSIST_AFTER) {
            return;
        }
        self.dirty_since = None;
        if let Err(error) = write_private(&self.settings.snapshot_file, &self.store.encode_frame()) {
            self.log(Level::Warn, format!("the snapshot could not be written to disk: {error}"));
        }
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let draft = path.with_extension("draft");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

async fn send(writer: &mut OwnedWriteHalf, value: &Value) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    rmpv::encode::write_value(&mut bytes, value).map_err(io::Error::other)?;
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    writer.write_all(&bytes).await
}
