// SPDX-License-Identifier: Apache-2.0
//! Who talks with control? The helper thread: connects, asks again, applies what comes down, sends what goes up.
//!
//! Nothing here waits for control to read: what goes up lies in the outbox, deadlines run whatever control does.

use super::retired::Retired;
use super::{CallError, Counts, Event, Forgetting, ITEM_OVERHEAD_BYTES, LineSettings, Reply, Up};
use crate::observe::Level;
use crate::router::Router;
use crate::snapshot::{ApplyError, Invalidation, PluginRegistry, Snapshot, Store, frame_of};
use arc_swap::ArcSwap;
use rmpv::Value;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Largest frame either side may send.
const FRAME_LIMIT_BYTES: usize = 256 * 1024 * 1024;
/// Bytes that may wait in the outbox before more is put there.
const OUTBOX_BYTES: usize = 1024 * 1024;
/// Most bytes of stream items in one frame.
const BATCH_BYTES: usize = 256 * 1024;
/// Room for reading; grows to the size of a frame, and back.
const BUFFER_BYTES: usize = 64 * 1024;
/// First and longest pause between two tries to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(40));
/// Quiet time after which the snapshot is written to disk.
const PERSIST_AFTER: Duration = Duration::from_millis(500);
/// How often snapshots are looked at that are no longer served.
const RETIRE_EVERY: Duration = Duration::from_millis(500);
/// Pairs of Routes warned of, of which the order depends on `router_ranking`.
const CONFLICTS_SAID: usize = 20;
/// How long the last items may take when the worker leaves.
const FAREWELL: Duration = Duration::from_millis(800);

/// A call on its way.
struct Call {
    operation: String,
    args: Vec<u8>,
    deadline: Instant,
    reply: Reply,
}

/// Why a conversation ended.
#[derive(PartialEq, Eq)]
enum Parted {
    /// The line broke: connect again.
    Broken,
    /// The data plane is gone.
    Leaving,
}

/// The helper thread's state.
pub(super) struct Helper {
    settings: LineSettings,
    store: Store,
    served: Arc<ArcSwap<Snapshot>>,
    events: mpsc::UnboundedSender<Event>,
    /// Where the data plane answers.
    up: mpsc::WeakUnboundedSender<Up>,
    /// What is acknowledged next.
    forgotten: Option<Value>,
    counts: Arc<Counts>,
    retired: Retired,
    /// When it is looked next who still holds an old configuration.
    retire_at: Option<Instant>,
    /// Not sent yet.
    waiting: VecDeque<Call>,
    /// Sent, by id.
    asked: HashMap<u64, Call>,
    last_id: u64,
    streams: HashMap<String, VecDeque<Vec<u8>>>,
    /// Encoded, and how much of it was written.
    outbox: Vec<u8>,
    written: usize,
    /// A hello was sent that nothing has answered yet: what does not fit is on its way still.
    has_greeted: bool,
    changed_at: Option<Instant>,
    warned: Vec<String>,
    /// The router whose Routes were compared last, and what came of it.
    compared: Option<(Arc<Router>, Vec<String>)>,
}

/// What the frames read together came to.
struct Intake {
    is_changed: bool,
    /// None: everything.
    invalidations: Option<Vec<Invalidation>>,
}

impl Helper {
    pub(super) fn new(
        settings: LineSettings,
        registry: Arc<PluginRegistry>,
        served: Arc<ArcSwap<Snapshot>>,
        (events, up): (mpsc::UnboundedSender<Event>, mpsc::WeakUnboundedSender<Up>),
        counts: Arc<Counts>,
    ) -> Self {
        let store = Store::with_options(registry, settings.router);
        Helper {
            settings,
            store,
            served,
            events,
            up,
            forgotten: None,
            counts,
            retired: Retired::default(),
            retire_at: None,
            waiting: VecDeque::new(),
            asked: HashMap::new(),
            last_id: 0,
            streams: HashMap::new(),
            outbox: Vec::new(),
            written: 0,
            has_greeted: false,
            changed_at: None,
            warned: Vec::new(),
            compared: None,
        }
    }

    fn log(&self, level: Level, message: String) {
        // Nobody listens when the worker leaves.
        let _ = self.events.send(Event::Log(level, message));
    }

    /// Talks with control, whenever it is there, until the data plane is gone.
    pub(super) async fn run(mut self, mut up: mpsc::UnboundedReceiver<Up>) {
        let mut pause = PAUSES.0;
        loop {
            if let Ok(stream) = UnixStream::connect(&self.settings.socket).await
                && self.is_ours(&stream)
            {
                pause = PAUSES.0;
                let parted = self.converse(stream, &mut up).await;
                self.part();
                if parted == Parted::Leaving {
                    return;
                }
            }
            // Control starts or restarts: what comes up meanwhile is kept, within its bounds and deadlines.
            let until = Instant::now() + pause;
            pause = (pause * 2).min(PAUSES.1);
            loop {
                let due = self.next_due().map_or(until, |due| due.min(until));
                tokio::select! {
                    item = up.recv() => match item {
                        Some(item) => self.queue(item),
                        None => return self.persist_if(true),
                    },
                    () = tokio::time::sleep_until(due.into()) => {
                        self.keep_house();
                        if Instant::now() >= until {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Only who runs as we do may configure us.
    fn is_ours(&self, stream: &UnixStream) -> bool {
        let uid = std::fs::metadata("/proc/self").map(|metadata| metadata.uid());
        let is_ours = matches!((stream.peer_cred(), uid), (Ok(peer), Ok(uid)) if peer.uid() == uid || peer.uid() == 0);
        if !is_ours {
            self.log(Level::Crit, "the control socket belongs to another user: not listened to".to_owned());
        }
        is_ours
    }

    fn queue(&mut self, item: Up) {
        match item {
            Up::Call { operation, args, deadline, reply } => self.waiting.push_back(Call { operation, args, deadline, reply }),
            Up::Stream { channel, item } => self.streams.entry(channel).or_default().push_back(item),
            Up::Forgotten(version) => self.forgotten = Some(version),
        }
    }

    /// When there is something to do though nobody says anything.
    fn next_due(&self) -> Option<Instant> {
        let calls = self.waiting.iter().chain(self.asked.values()).map(|call| call.deadline).min();
        let persist = self.changed_at.filter(|_| self.settings.worker == 0).map(|at| at + PERSIST_AFTER);
        [calls, persist, self.retire_at].into_iter().flatten().min()
    }

    /// Calls whose time is over get an answer, old snapshots go, the new one is written to disk.
    fn keep_house(&mut self) {
        let now = Instant::now();
        let is_over = |call: &Call| call.deadline <= now || call.reply.is_closed();
        let mut over: Vec<Call> = self.asked.extract_if(|_, call| is_over(call)).map(|(_, call)| call).collect();
        let (late, waiting) = std::mem::take(&mut self.waiting).into_iter().partition::<VecDeque<_>, _>(is_over);
        self.waiting = waiting;
        over.extend(late);
        for call in over {
            let _ = call.reply.send(Err(CallError::late()));
        }
        if self.retire_at.is_some_and(|at| at <= now) {
            if self.retired.sweep() {
                (self.settings.release_memory)();
            }
            self.retire_at = (!self.retired.is_empty()).then(|| now + RETIRE_EVERY);
        }
        self.persist_if(false);
    }

    /// The line broke: a read is asked again when control is back, of a write nobody knows whether it was made.
    fn part(&mut self) {
        self.outbox.clear();
        self.written = 0;
        self.has_greeted = false;
        // The next hello says it.
        self.forgotten = None;
        let mut asked: Vec<(u64, Call)> = self.asked.drain().collect();
        asked.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        for (_, call) in asked {
            if call.operation == "select_by" {
                self.waiting.push_front(call);
            } else {
                let _ = call.reply.send(Err(CallError::new("unavailable", "the control process went away before it answered")));
            }
        }
    }

    async fn converse(&mut self, stream: UnixStream, up: &mut mpsc::UnboundedReceiver<Up>) -> Parted {
        let (mut reader, mut writer) = stream.into_split();
        self.greet(true);
        let _ = self.events.send(Event::Greeted);
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut leaving: Option<Instant> = None;
        loop {
            self.fill_outbox();
            let has_mail = self.written < self.outbox.len();
            if leaving.is_some_and(|until| !has_mail || Instant::now() >= until) {
                self.persist_if(true);
                return Parted::Leaving;
            }
            let due = [self.next_due(), leaving].into_iter().flatten().min();
            let rest = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = reader.read_buf(&mut buffer) => {
                    if !matches!(read, Ok(count) if count > 0) {
                        return Parted::Broken;
                    }
                    if let Err(error) = self.take_frames(&mut buffer) {
                        self.log(Level::Error, format!("the line to control broke: {error}"));
                        return Parted::Broken;
                    }
                }
                written = writer.write(&self.outbox[self.written..]), if has_mail => match written {
                    Ok(count) => self.written += count,
                    Err(_) => return Parted::Broken,
                },
                item = up.recv(), if leaving.is_none() => match item {
                    None => leaving = Some(Instant::now() + FAREWELL),
                    Some(item) => {
                        self.queue(item);
                        while let Ok(item) = up.try_recv() {
                            self.queue(item);
                        }
                    }
                },
                () = rest => self.keep_house(),
            }
        }
    }

    /// Puts what waits into the outbox, as far as there is room: calls first, then streams.
    fn fill_outbox(&mut self) {
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.written = 0;
        }
        if let Some(version) = self.forgotten.take() {
            self.post(vec!["ack".into(), version]);
        }
        while self.outbox.len() - self.written < OUTBOX_BYTES
            && let Some(call) = self.waiting.pop_front()
        {
            self.last_id += 1;
            let patience_ms = call.deadline.saturating_duration_since(Instant::now()).as_millis() as u64;
            let args = rmpv::decode::read_value(&mut call.args.as_slice()).unwrap_or(Value::Nil);
            self.post(vec!["call".into(), self.last_id.into(), patience_ms.into(), call.operation.as_str().into(), args]);
            self.asked.insert(self.last_id, call);
        }
        if self.counts.lost.load(Ordering::Relaxed) > 0 {
            for channel in self.counts.lost_by_channel().keys() {
                if !self.streams.contains_key(channel) {
                    self.streams.insert(channel.clone(), VecDeque::new());
                }
            }
        }
        while self.outbox.len() - self.written < OUTBOX_BYTES
            && let Some(channel) = self.streams.keys().next().cloned()
        {
            self.post_batch(&channel);
        }
    }

    /// Sends the first items of a channel, and how many of it were lost.
    fn post_batch(&mut self, channel: &str) {
        let Some(items) = self.streams.get_mut(channel) else { return };
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(item) = items.pop_front()
        {
            bytes += item.len() + ITEM_OVERHEAD_BYTES;
            batch.push(Value::Binary(item));
        }
        if items.is_empty() {
            self.streams.remove(channel);
        }
        self.counts.stream_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let lost = self.counts.lost_by_channel().remove(channel).unwrap_or(0);
        if !batch.is_empty() || lost > 0 {
            self.post(vec!["stream".into(), channel.into(), Value::Array(batch), lost.into()]);
        }
    }

    fn post(&mut self, parts: Vec<Value>) {
        let start = self.outbox.len();
        self.outbox.extend_from_slice(&[0; 4]);
        let encoded = rmpv::encode::write_value(&mut self.outbox, &Value::Array(parts));
        let length = self.outbox.len() - start - 4;
        if encoded.is_err() || length > FRAME_LIMIT_BYTES {
            self.outbox.truncate(start);
            return;
        }
        self.outbox[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
    }

    /// Says who we are and what we serve. `knows`: what we hold can be continued.
    fn greet(&mut self, knows: bool) {
        let version = self.store.version();
        let version = if version.database_id.is_empty() || !knows { Value::Nil } else { version_value(version) };
        let about = Value::Map(vec![
            ("worker".into(), (self.settings.worker as u64).into()),
            ("generation".into(), self.settings.generation.into()),
            ("pid".into(), std::process::id().into()),
            ("version".into(), version),
        ]);
        self.post(vec!["hello".into(), about]);
    }

    /// Takes in every whole frame at hand, then compiles once and acknowledges.
    fn take_frames(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut intake = Intake { is_changed: false, invalidations: Some(Vec::new()) };
        let outcome = self.take_whole_frames(buffer, &mut intake);
        // Also what came before a frame that is none: the next hello will say that we have it.
        if intake.is_changed {
            self.has_greeted = false;
            self.serve();
            let version = version_value(self.store.version());
            match intake.invalidations {
                Some(list) if list.is_empty() => self.post(vec!["ack".into(), version]),
                other => {
                    // Whoever hears the acknowledgement may rely on it that no worker answers from an old row.
                    let _ = self.events.send(Event::Invalidate(other, Forgetting(Some((self.up.clone(), version)))));
                }
            }
            let _ = self.events.send(Event::Served);
            self.changed_at = Some(Instant::now());
        }
        outcome
    }

    fn take_whole_frames(&mut self, buffer: &mut Vec<u8>, intake: &mut Intake) -> io::Result<()> {
        let mut start = 0;
        while let Some((length, body)) = buffer[start..].split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > FRAME_LIMIT_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is over 256 MiB"));
            }
            let Some(frame) = body.get(..length) else {
                let missing = length - body.len();
                buffer.reserve(missing);
                break;
            };
            self.take_frame(frame, intake)?;
            start += 4 + length;
        }
        buffer.drain(..start);
        if buffer.is_empty() && buffer.capacity() > 16 * BUFFER_BYTES {
            buffer.shrink_to(BUFFER_BYTES);
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: &[u8], intake: &mut Intake) -> io::Result<()> {
        // Config messages have two elements and may be large: their rows are read where they lie.
        if frame.first() != Some(&0x92) {
            return self.take_reply(frame);
        }
        let (name, body) = frame_of(frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        match name {
            "snapshot" => match self.store.apply_snapshot(body) {
                Ok(()) => {
                    intake.is_changed = true;
                    intake.invalidations = None;
                }
                // What we serve stays; asking again would bring the same.
                Err(error) => self.log(Level::Error, format!("the configuration from control was refused: {error}")),
            },
            "delta" => match self.store.apply_delta(body) {
                Ok(more) => {
                    intake.is_changed = true;
                    if let Some(all) = &mut intake.invalidations {
                        all.extend(more);
                    }
                }
                Err(error) => self.ask_anew(&error),
            },
            "unavailable" => self.fall_back(body),
            "log_level" => {
                if let Ok(Value::String(name)) = rmpv::decode::read_value(&mut &body[..]) {
                    let _ = self.events.send(Event::LogLevel(Level::parse(name.as_str().unwrap_or_default())));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A delta does not fit: once, not for each that follows it.
    fn ask_anew(&mut self, error: &ApplyError) {
        let is_mismatch = matches!(error, ApplyError::VersionMismatch { .. });
        if is_mismatch && self.has_greeted {
            return;
        }
        let level = if is_mismatch { Level::Info } else { Level::Error };
        self.log(level, format!("a change from control does not fit, asking for the whole: {error}"));
        self.has_greeted = true;
        self.greet(is_mismatch);
    }

    /// Compiles what is held and serves it.
    fn serve(&mut self) {
        let mut compiled = self.store.compile();
        let old = self.served.swap(Arc::clone(&compiled.snapshot));
        // After the swap: no change waits for what is only said about it.
        let router = &compiled.snapshot.router;
        if !self.compared.as_ref().is_some_and(|(compared, _)| Arc::ptr_eq(compared, router)) {
            self.compared = Some((Arc::clone(router), router.ranking_conflicts(CONFLICTS_SAID)));
        }
        compiled.warnings.extend(self.compared.iter().flat_map(|(_, conflicts)| conflicts.iter().cloned()));
        self.retired.take(old, &compiled.snapshot);
        self.retire_at.get_or_insert_with(|| Instant::now() + RETIRE_EVERY);
        for warning in compiled.warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            self.log(Level::Warn, warning.clone());
        }
        self.warned = compiled.warnings;
    }

    fn take_reply(&mut self, frame: &[u8]) -> io::Result<()> {
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "a message is malformed");
        let value = rmpv::decode::read_value(&mut &frame[..]).map_err(|_| broken())?;
        let Value::Array(mut parts) = value else { return Err(broken()) };
        if parts.len() != 4 || parts[0].as_str() != Some("reply") {
            return Ok(());
        }
        let (Some(id), Some(is_ok)) = (parts[1].as_u64(), parts[2].as_bool()) else { return Err(broken()) };
        // Too late, or of a conversation before this one.
        let Some(call) = self.asked.remove(&id) else { return Ok(()) };
        let value = parts.pop().unwrap_or(Value::Nil);
        let outcome = if is_ok {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).map_err(|_| broken())?;
            Ok(bytes)
        } else {
            let of = |key: &str| text_of(&value, key).unwrap_or_else(|| "error".to_owned());
            Err(CallError { name: of("error"), message: of("message") })
        };
        let _ = call.reply.send(outcome);
        Ok(())
    }

    /// Control cannot reach the database: the snapshot on disk serves, if it is of the same database.
    fn fall_back(&mut self, body: &[u8]) {
        let about = rmpv::decode::read_value(&mut &body[..]).unwrap_or(Value::Nil);
        let reason = text_of(&about, "reason").unwrap_or_default();
        if !self.store.version().database_id.is_empty() {
            self.log(Level::Warn, format!("the database can't be reached ({reason}): serving version {} on", self.store.version()));
            return;
        }
        let Ok(bytes) = std::fs::read(&self.settings.snapshot_file) else {
            self.log(Level::Error, format!("the database can't be reached ({reason}) and there is no snapshot on disk"));
            return;
        };
        let mut store = Store::with_options(Arc::clone(self.store.registry()), self.store.options());
        let applied = match frame_of(&bytes) {
            Ok((_, body)) => store.apply_snapshot(body).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let ours = &store.version().database_id;
        match (applied, text_of(&about, "database_id")) {
            (Err(error), _) => self.log(Level::Error, format!("the snapshot on disk can't be read: {error}")),
            (Ok(()), Some(wanted)) if wanted != *ours => {
                self.log(Level::Error, format!("the snapshot on disk is of database {ours}, not of {wanted}: not served"));
            }
            (Ok(()), _) => {
                self.store = store;
                self.serve();
                let version = self.store.version();
                self.log(Level::Warn, format!("the database can't be reached ({reason}): serving the snapshot on disk, version {version}"));
                let _ = self.events.send(Event::Served);
            }
        }
    }

    /// Writes the snapshot to disk once it has been quiet, or now; one worker does it for all.
    fn persist_if(&mut self, now: bool) {
        if self.settings.worker != 0 || self.changed_at.is_none_or(|at| !now && at.elapsed() < PERSIST_AFTER) {
            return;
        }
        self.changed_at = None;
        if let Err(error) = write_private(&self.settings.snapshot_file, &self.store.encode_frame()) {
            self.log(Level::Warn, format!("the snapshot could not be written to disk: {error}"));
        }
    }
}

fn version_value(version: &crate::snapshot::Version) -> Value {
    Value::Array(vec![version.database_id.as_str().into(), version.sequence.into()])
}

fn text_of(map: &Value, key: &str) -> Option<String> {
    map.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key)).and_then(|(_, value)| value.as_str()).map(str::to_owned)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let draft = path.with_extension("draft");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}
