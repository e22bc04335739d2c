// SPDX-License-Identifier: Apache-2.0
//! Do the counters hold between processes, some of them killed in the middle? Real processes: this test binary run again.

use pylae_shared::Segment;
use pylae_shared::counters::{BUCKET_SLOTS, Window};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NOW_MS: u64 = 1_767_225_602_000;
const ROLE: &str = "PYLAE_SHARED_TEST_ROLE";
const KEYS: u64 = 40;
const LIMIT: u64 = 25;

fn window_of(key: u64) -> Window {
    Window { limit: LIMIT, start_ms: NOW_MS - key, end_ms: NOW_MS + 50_000 + key * 100 }
}

/// Another process that maps the same segment and plays `role`.
fn start(role: &str, descriptor: &OwnedFd) -> Child {
    // SAFETY: clears close-on-exec of a descriptor this test owns; both sides of the fork keep it open.
    assert_eq!(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "role", "--nocapture", "--include-ignored"])
        .env(ROLE, format!("{role} {}", descriptor.as_raw_fd()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process")
}

/// Not a test: what a process started by one does.
#[test]
#[ignore = "run by the other tests in a process of its own"]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (role, descriptor) = role.split_once(' ').expect("role and descriptor");
    let segment = Segment::open(descriptor.parse().expect("a number")).expect("the segment");
    let mut out = std::io::stdout();
    writeln!(out, "\nready").expect("the parent reads");
    match role {
        "insert-for-ever" => {
            let mut key = 0u64;
            loop {
                key += 1;
                segment.take(&key.to_le_bytes(), &[window_of(key % 1000)], 1, NOW_MS);
            }
        }
        "count" => {
            let mut seed = [0; 1];
            std::io::stdin().read_exact(&mut seed).expect("the parent says go");
            let mut admitted: HashMap<u64, u64> = HashMap::new();
            let mut state = u64::from(std::process::id());
            for _ in 0..20_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let key = (state >> 33) % KEYS;
                if segment.take(&key.to_le_bytes(), &[window_of(key)], 1, NOW_MS).0 {
                    *admitted.entry(key).or_default() += 1;
                }
            }
            for (key, count) in admitted {
                writeln!(out, "{key} {count}").expect("the parent reads");
            }
        }
        other => panic!("no such role: {other}"),
    }
}

fn await_ready(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert!(lines.read_line(&mut line).expect("text") > 0, "the process ended before it was ready");
    }
    lines
}

fn count_in_processes(descriptor: &OwnedFd, processes: usize) -> HashMap<u64, u64> {
    let mut children: Vec<Child> = (0..processes).map(|_| start("count", descriptor)).collect();
    let readers: Vec<_> = children.iter_mut().map(await_ready).collect();
    for child in &mut children {
        child.stdin.take().expect("piped").write_all(b"g").expect("the process reads");
    }
    let mut admitted = HashMap::new();
    for reader in readers {
        for line in reader.lines().map_while(Result::ok) {
            let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
            if let [key, count] = numbers[..] {
                *admitted.entry(key).or_default() += count;
            }
        }
    }
    for mut child in children {
        assert!(child.wait().expect("an end").success());
    }
    admitted
}

#[test]
fn test_processes_together_reach_a_limit_and_never_exceed_it() {
    let descriptor = pylae_shared::create(2, 4096, 64).expect("a segment");
    let admitted = count_in_processes(&descriptor, 3);
    assert_eq!(admitted.len() as u64, KEYS);
    assert!(admitted.values().all(|&count| count == LIMIT), "{admitted:?}");
}

#[test]
fn test_processes_that_crowd_one_bucket_never_exceed_a_limit() {
    let descriptor = pylae_shared::create(2, BUCKET_SLOTS, 64).expect("a segment");
    let admitted = count_in_processes(&descriptor, 3);
    assert!(admitted.values().all(|&count| count <= LIMIT), "{admitted:?}");
}

#[test]
fn test_workers_killed_amid_inserts_lose_no_slot_and_lift_no_limit() {
    let descriptor = pylae_shared::create(2, BUCKET_SLOTS, 64).expect("a segment");
    let segment = Segment::open(descriptor.as_raw_fd()).expect("the same");
    let mut admitted = 0;
    let survivor = Window { limit: 500, start_ms: NOW_MS, end_ms: NOW_MS + 3_000_000 };
    for round in 0..25u32 {
        let mut children: Vec<Child> = (0..2).map(|_| start("insert-for-ever", &descriptor)).collect();
        for child in &mut children {
            await_ready(child);
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(u64::from(500 + 137 * round)) {
            admitted += u64::from(segment.take(b"survivor", &[survivor], 1, NOW_MS).0);
        }
        for child in &mut children {
            child.kill().expect("SIGKILL");
        }
        for mut child in children {
            child.wait().expect("an end");
        }
        admitted += u64::from(segment.take(b"survivor", &[survivor], 1, NOW_MS).0);
    }
    assert!(admitted <= survivor.limit, "{admitted}");
    // The windows of those who were killed are over: every counter is to be had, though nobody gave it back.
    let later_ms = NOW_MS + 10_000_000;
    let evicted = segment.counter_events().evicted;
    assert!(evicted > 0);
    for key in 0..BUCKET_SLOTS as u64 {
        let window = Window { limit: 1, start_ms: later_ms, end_ms: later_ms + 60_000 };
        assert!(segment.take(&key.to_le_bytes(), &[window], 1, later_ms).0, "counter {key}");
    }
    assert_eq!(segment.counter_events().evicted, evicted, "none had to give way for another");
}
