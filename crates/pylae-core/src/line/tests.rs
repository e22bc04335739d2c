// SPDX-License-Identifier: Apache-2.0
//! Does a worker keep to the line, whatever control does at the other end?

use super::*;
use crate::snapshot::Store;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

const LONG: Duration = Duration::from_secs(10);

/// Control, as far as a test lets it speak.
struct Control(UnixStream);

impl Control {
    fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().expect("a worker");
        stream.set_read_timeout(Some(LONG)).expect("a socket");
        Control(stream)
    }

    fn say(&mut self, message: &Value) {
        let mut bytes = vec![0; 4];
        rmpv::encode::write_value(&mut bytes, message).expect("writing to a Vec");
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.0.write_all(&bytes).expect("the worker reads");
    }

    fn hear(&mut self) -> Vec<Value> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("a message in time");
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut body).expect("the whole message");
        let Value::Array(parts) = rmpv::decode::read_value(&mut body.as_slice()).expect("MessagePack") else { panic!("an array") };
        parts
    }

    fn hear_as(&mut self, name: &str) -> Vec<Value> {
        let parts = self.hear();
        assert_eq!(parts[0].as_str(), Some(name), "{parts:?}");
        parts
    }

    /// Reads the hello, sends this version, reads the ack.
    fn configure(&mut self, sequence: u64) {
        self.hear_as("hello");
        self.say(&snapshot("db", sequence));
        assert_eq!(self.hear_as("ack")[1], version("db", sequence));
    }
}

fn text(text: &str) -> Value {
    text.into()
}

fn version(database_id: &str, sequence: u64) -> Value {
    Value::Array(vec![text(database_id), sequence.into()])
}

fn snapshot(database_id: &str, sequence: u64) -> Value {
    let tables = ["services", "routes", "plugins", "upstreams", "targets"];
    let entities = tables.iter().map(|table| (text(table), Value::Array(vec![]))).collect();
    let body = vec![(text("version"), version(database_id, sequence)), (text("entities"), Value::Map(entities))];
    Value::Array(vec![text("snapshot"), Value::Map(body)])
}

/// The same with one Upstream, whose health nobody watches.
fn snapshot_with_upstream(database_id: &str, sequence: u64) -> Value {
    let row: serde_json::Value = serde_json::json!({
        "id": "00000000-0000-4000-8000-000000000031", "created_at": 1, "updated_at": 1, "name": "up", "algorithm": "round-robin",
        "hash_on": "none", "hash_fallback": "none", "hash_on_header": null, "hash_fallback_header": null, "hash_on_cookie": null,
        "hash_on_cookie_path": "/", "hash_on_query_arg": null, "hash_fallback_query_arg": null, "hash_on_uri_capture": null,
        "hash_fallback_uri_capture": null, "slots": 10000, "tags": null, "host_header": null, "client_certificate": null,
        "use_srv_name": false, "healthchecks": {
            "active": {
                "unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "interval": 0, "http_statuses": []},
                "timeout": 1, "type": "http", "concurrency": 10, "http_path": "/", "https_sni": null, "https_verify_certificate": true,
                "healthy": {"http_statuses": [], "interval": 0, "successes": 0}, "headers": null
            },
            "passive": {
                "unhealthy": {"tcp_failures": 0, "timeouts": 0, "http_failures": 0, "http_statuses": []}, "type": "http",
                "healthy": {"http_statuses": [], "successes": 0}
            },
            "threshold": 0
        }
    });
    let packed = rmp_serde::to_vec(&serde_json::json!([row])).expect("JSON becomes MessagePack");
    let rows = rmpv::decode::read_value(&mut &packed[..]).expect("MessagePack");
    let entities = Value::Map(vec![(text("upstreams"), rows)]);
    let body = vec![(text("version"), version(database_id, sequence)), (text("entities"), entities)];
    Value::Array(vec![text("snapshot"), Value::Map(body)])
}

fn delta(from: u64, to: u64, invalidations: Vec<Value>) -> Value {
    let body = vec![
        (text("from"), from.into()),
        (text("to"), to.into()),
        (text("database_id"), text("db")),
        (text("changes"), Value::Array(vec![])),
        (text("invalidations"), Value::Array(invalidations)),
    ];
    Value::Array(vec![text("delta"), Value::Map(body)])
}

fn reply(id: &Value, is_ok: bool, value: Value) -> Value {
    Value::Array(vec![text("reply"), id.clone(), is_ok.into(), value])
}

/// A worker's end, without a worker.
struct Worker {
    line: Line,
    events: mpsc::UnboundedReceiver<Event>,
    ending: Ending,
    served: Arc<ArcSwap<Snapshot>>,
    listener: UnixListener,
    folder: Folder,
    /// While it is held, no row is forgotten.
    busy: Arc<Mutex<()>>,
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("pylae-line-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Worker {
    fn start() -> Self {
        Self::start_in(Folder::new())
    }

    fn start_in(folder: Folder) -> Self {
        let listener = UnixListener::bind(folder.file("control.sock")).expect("a socket");
        let registry = Arc::new(PluginRegistry::default());
        let served = Arc::new(ArcSwap::new(Store::new(Arc::clone(&registry)).compile().snapshot));
        let settings = LineSettings {
            socket: folder.file("control.sock"),
            snapshot_file: folder.file("snapshot.bin"),
            worker: 0,
            generation: 3,
            router: RouterOptions::default(),
            release_memory: || {},
        };
        let (line, mut told, ending) = super::start(settings, registry, Arc::clone(&served)).expect("a thread");
        let (forward, events) = mpsc::unbounded_channel();
        let busy = Arc::new(Mutex::new(()));
        let free = Arc::clone(&busy);
        // Ends with the line's thread.
        std::thread::spawn(move || {
            while let Some(mut event) = told.blocking_recv() {
                if let Event::Invalidate(_, forgetting) = &mut event {
                    drop(free.lock());
                    forgetting.done();
                }
                let _ = forward.send(event);
            }
        });
        Worker { line, events, ending, served, listener, folder, busy }
    }

    fn event(&mut self) -> Event {
        // Made inside the runtime: a timer needs one around it.
        loop {
            let event = wait(async { tokio::time::timeout(LONG, self.events.recv()).await }).expect("in time").expect("the thread lives");
            if !matches!(event, Event::Greeted) {
                return event;
            }
        }
    }

    fn until_served(&mut self, sequence: u64) {
        while self.served.load().version.sequence != sequence {
            self.event();
        }
    }

    fn until_logged(&mut self, part: &str) {
        loop {
            if let Event::Log(_, line) = self.event()
                && line.contains(part)
            {
                return;
            }
        }
    }

    /// A call whose outcome is waited for later.
    fn ask(&self, operation: &'static str, args: &Value, patience: Duration) -> std::thread::JoinHandle<Result<Vec<u8>, CallError>> {
        let line = self.line.clone();
        let args = bytes(args);
        std::thread::spawn(move || wait(line.call(operation, args, patience)))
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("writing to a Vec");
    bytes
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

fn error_of(outcome: std::thread::Result<Result<Vec<u8>, CallError>>) -> String {
    outcome.expect("no panic").expect_err("an error").name
}

#[test]
fn test_a_snapshot_is_served_acknowledged_and_kept_on_disk() {
    let mut worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    let hello = control.hear_as("hello");
    let of = |key: &str| hello[1].as_map().and_then(|map| map.iter().find(|(k, _)| k.as_str() == Some(key))).map(|(_, v)| v.clone());
    assert_eq!(of("version"), Some(Value::Nil));
    assert_eq!(of("generation"), Some(3.into()));
    control.say(&snapshot("db", 7));
    assert_eq!(control.hear_as("ack")[1], version("db", 7));
    assert!(matches!(worker.event(), Event::Invalidate(None, _)), "what was cached may be older");
    assert!(matches!(worker.event(), Event::Served));
    assert_eq!(worker.served.load().version.sequence, 7);
    let path = worker.folder.file("snapshot.bin");
    let begun = Instant::now();
    while !path.exists() && begun.elapsed() < LONG {
        std::thread::yield_now();
    }
    assert_eq!(std::fs::metadata(&path).expect("written").permissions().mode() & 0o777, 0o600);
}

#[test]
fn test_a_delta_is_applied_and_its_invalidations_are_told() {
    let mut worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    control.configure(7);
    worker.until_served(7);
    control.say(&delta(7, 9, vec![Value::Array(vec![text("consumers"), text("username"), text("alice")])]));
    assert_eq!(control.hear_as("ack")[1], version("db", 9));
    loop {
        if let Event::Invalidate(Some(rows), _) = worker.event() {
            assert_eq!((rows[0].table.as_str(), rows[0].field.as_str()), ("consumers", "username"));
            break;
        }
    }
    worker.until_served(9);
}

#[test]
fn test_a_version_is_acknowledged_when_its_rows_are_forgotten_and_not_before() {
    let mut worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    control.configure(7);
    let busy = Arc::clone(&worker.busy);
    let held = busy.lock().expect("nobody panicked");
    control.say(&delta(7, 9, vec![Value::Array(vec![text("consumers"), text("username"), text("alice")])]));
    while worker.served.load().version.sequence != 9 {
        std::thread::yield_now();
    }
    assert!(worker.line.stream("log:a", vec![1]));
    control.hear_as("stream");
    drop(held);
    assert_eq!(control.hear_as("ack")[1], version("db", 9));
    worker.until_served(9);
}

#[test]
fn test_an_old_snapshot_is_never_dropped_by_who_held_it_last() {
    let worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    control.configure(7);
    let held = worker.served.load_full();
    let parts = (Arc::clone(held.watched()), Arc::clone(held.named()));
    assert_eq!(held.version.sequence, 7);
    // A whole snapshot of other rows: nothing is shared with the one before.
    control.say(&snapshot_with_upstream("db", 8));
    control.hear_as("ack");
    assert!(!Arc::ptr_eq(held.watched(), worker.served.load().watched()), "the parts were replaced");
    let (snapshot, watched, named) = (Arc::downgrade(&held), Arc::downgrade(&parts.0), Arc::downgrade(&parts.1));
    // A request and a health check have them; the helper thread has them too, so neither's drop is the last.
    assert!(Arc::strong_count(&held) > 1);
    drop(held);
    assert!(Arc::strong_count(&parts.0) > 1 && Arc::strong_count(&parts.1) > 1);
    drop(parts);
    let begun = Instant::now();
    while snapshot.strong_count() + watched.strong_count() + named.strong_count() > 0 {
        assert!(begun.elapsed() < LONG, "the helper thread lets them go");
        std::thread::yield_now();
    }
}

#[test]
fn test_what_does_not_fit_is_asked_for_once() {
    let mut worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    control.configure(7);
    for from in [8, 9, 10] {
        control.say(&delta(from, from + 1, vec![]));
    }
    let hello = control.hear_as("hello");
    assert!(format!("{hello:?}").contains('7'), "it says what it holds: {hello:?}");
    control.say(&snapshot("db", 11));
    assert_eq!(control.hear_as("ack")[1], version("db", 11), "and not hello again");
    worker.until_served(11);
    control.say(&delta(30, 31, vec![]));
    control.hear_as("hello");
}

#[test]
fn test_what_can_not_be_read_leaves_what_is_served() {
    let mut worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    control.configure(7);
    let broken = Value::Map(vec![
        (text("version"), version("db", 8)),
        (text("entities"), Value::Map(vec![(text("nonsense"), Value::Array(vec![]))])),
    ]);
    control.say(&Value::Array(vec![text("snapshot"), broken]));
    worker.until_logged("refused");
    assert_eq!(worker.served.load().version.sequence, 7);
    control.0.write_all(&[0xff; 8]).expect("the worker reads");
    worker.until_logged("over 256 MiB");
    Control::accept(&worker.listener).configure(12);
    worker.until_served(12);
}

#[test]
fn test_replies_find_their_calls_in_any_order() {
    let worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    control.hear_as("hello");
    let calls: Vec<_> = (0..3u64).map(|n| worker.ask("insert", &n.into(), LONG)).collect();
    let mut heard: Vec<Vec<Value>> = (0..3).map(|_| control.hear_as("call")).collect();
    heard.reverse();
    for call in &heard {
        assert!(call[2].as_u64().is_some_and(|patience_ms| patience_ms <= LONG.as_millis() as u64));
        let refused = Value::Map(vec![(text("error"), text("unique violation")), (text("message"), text("twice"))]);
        let is_ok = call[4] != Value::from(1);
        control.say(&reply(&call[1], is_ok, if is_ok { call[4].clone() } else { refused }));
    }
    for (n, call) in calls.into_iter().enumerate() {
        match (n, call.join().expect("no panic")) {
            (1, outcome) => assert_eq!(outcome, Err(CallError::new("unique violation", "twice"))),
            (_, outcome) => assert_eq!(outcome, Ok(bytes(&(n as u64).into()))),
        }
    }
}

#[test]
fn test_a_call_ends_in_time_though_control_reads_nothing() {
    let worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    control.hear_as("hello");
    // More than the socket and the outbox hold, then a call behind it.
    for _ in 0..40 {
        assert!(worker.line.stream("log:x", vec![0; 128 * 1024]));
    }
    assert_eq!(error_of(worker.ask("select_by", &Value::Nil, Duration::from_millis(100)).join()), "timeout");
    let begun = Instant::now();
    let late = worker.ask("insert", &Value::Nil, LONG);
    let call = loop {
        let parts = control.hear();
        if parts[0].as_str() == Some("call") && parts[3].as_str() == Some("insert") {
            break parts;
        }
    };
    control.say(&reply(&call[1], true, true.into()));
    assert_eq!(late.join().expect("no panic"), Ok(vec![0xc3]));
    assert!(begun.elapsed() < LONG);
}

#[test]
fn test_a_read_is_asked_again_when_control_is_back_and_a_write_is_not() {
    let worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    control.hear_as("hello");
    let read = worker.ask("select_by", &Value::Nil, LONG);
    control.hear_as("call");
    let write = worker.ask("insert", &Value::Nil, LONG);
    control.hear_as("call");
    drop(control);
    assert_eq!(error_of(write.join()), "unavailable");
    let mut control = Control::accept(&worker.listener);
    control.hear_as("hello");
    let call = control.hear_as("call");
    assert_eq!(call[3].as_str(), Some("select_by"));
    control.say(&reply(&call[1], true, Value::Nil));
    assert_eq!(read.join().expect("no panic"), Ok(vec![0xc0]));
}

#[test]
fn test_calls_are_bounded_and_those_given_up_make_room() {
    let worker = Worker::start();
    let waiting: Vec<_> = (0..CALLS_IN_FLIGHT).filter_map(|_| InFlight::begin(&worker.line.counts).ok()).collect();
    assert_eq!(error_of(worker.ask("select_by", &Value::Nil, LONG).join()), "busy");
    drop(waiting);
    assert_eq!(error_of(worker.ask("select_by", &Value::Nil, Duration::from_millis(20)).join()), "timeout");
}

#[test]
fn test_what_is_streamed_beyond_the_bound_is_lost_and_counted_by_channel() {
    let worker = Worker::start();
    let item = 1024 * 1024;
    let taken = (0..40).filter(|_| worker.line.stream("log:a", vec![1; item])).count();
    // Some of them are on their way already: control's socket takes them, though control does not.
    assert!((STREAM_LIMIT_BYTES / item - 1..30).contains(&taken), "{taken}");
    assert!(!worker.line.stream("log:b", vec![1; item]));
    assert_eq!(worker.line.lost(), 41 - taken as u64);
    let mut control = Control::accept(&worker.listener);
    control.hear_as("hello");
    let (mut items, mut lost) = (0, HashMap::new());
    while items < taken || lost.len() < 2 {
        let parts = control.hear_as("stream");
        items += parts[2].as_array().map_or(0, Vec::len);
        if parts[3] != Value::from(0) {
            lost.insert(parts[1].as_str().expect("text").to_owned(), parts[3].as_u64());
        }
    }
    assert_eq!(lost["log:a"], Some(40 - taken as u64));
    assert_eq!(lost["log:b"], Some(1));
    assert!(worker.line.stream("log:a", vec![1; item]), "there is room again");
}

#[test]
fn test_items_go_up_together_and_in_order() {
    let worker = Worker::start();
    for n in 0..100u8 {
        assert!(worker.line.stream("metrics", vec![n]));
    }
    let mut control = Control::accept(&worker.listener);
    control.hear_as("hello");
    let mut heard = Vec::new();
    while heard.len() < 100 {
        heard.extend(control.hear_as("stream")[2].as_array().expect("items").iter().map(|item| item.as_slice().expect("bytes")[0]));
    }
    assert_eq!(heard, (0..100).collect::<Vec<u8>>());
}

#[test]
fn test_the_last_items_are_sent_before_the_thread_ends() {
    let worker = Worker::start();
    let mut control = Control::accept(&worker.listener);
    control.hear_as("hello");
    for n in 0..50u8 {
        assert!(worker.line.stream("log:x", vec![n]));
    }
    let Worker { line, ending, folder, .. } = worker;
    drop(line);
    assert!(ending.wait(LONG));
    let mut count = 0;
    while count < 50 {
        count += control.hear_as("stream")[2].as_array().map_or(0, Vec::len);
    }
    drop(folder);
}

fn unavailable(database_id: Value) -> Value {
    let about = vec![(text("database_id"), database_id), (text("reason"), text("it is on fire"))];
    Value::Array(vec![text("unavailable"), Value::Map(about)])
}

fn with_snapshot_of(database_id: &str, path: &Path) {
    std::fs::write(path, bytes(&snapshot(database_id, 5))).expect("a file");
}

#[test]
fn test_the_snapshot_on_disk_serves_when_the_database_is_away() {
    for known in [text("db"), Value::Nil] {
        let folder = Folder::new();
        with_snapshot_of("db", &folder.file("snapshot.bin"));
        let mut worker = Worker::start_in(folder);
        let mut control = Control::accept(&worker.listener);
        control.hear_as("hello");
        control.say(&unavailable(known));
        worker.until_logged("serving the snapshot on disk, version db@5");
        worker.until_served(5);
        // The database is back.
        control.say(&snapshot("db", 6));
        assert_eq!(control.hear_as("ack")[1], version("db", 6));
    }
}

#[test]
fn test_the_snapshot_on_disk_does_not_serve_for_another_database_or_when_broken() {
    let folder = Folder::new();
    with_snapshot_of("other", &folder.file("snapshot.bin"));
    let mut worker = Worker::start_in(folder);
    let mut control = Control::accept(&worker.listener);
    control.hear_as("hello");
    control.say(&unavailable(text("db")));
    worker.until_logged("is of database other, not of db: not served");
    std::fs::write(worker.folder.file("snapshot.bin"), b"rubbish").expect("a file");
    control.say(&unavailable(text("db")));
    worker.until_logged("can't be read");
    std::fs::remove_file(worker.folder.file("snapshot.bin")).expect("a file");
    control.say(&unavailable(text("db")));
    worker.until_logged("there is no snapshot on disk");
    assert_eq!(worker.served.load().version.sequence, 0);
}
