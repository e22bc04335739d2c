// SPDX-License-Identifier: Apache-2.0
//! Have the hosts file and resolv.conf changed? They are looked at once a second at most, and read again when they are others.

use super::hosts::Hosts;
use super::resolv_conf::ResolvConf;
use std::cell::{Cell, RefCell};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Larger files are none of these.
const LARGEST_BYTES: u64 = 16 * 1024 * 1024;

/// A file, and what told it from others when it was read.
struct Watched {
    path: PathBuf,
    stamp: Cell<Option<Stamp>>,
}

/// When it was changed, its length, its inode.
type Stamp = (i64, i64, u64, u64);

impl Watched {
    fn new(path: &Path) -> Self {
        Watched { path: path.to_owned(), stamp: Cell::new(None) }
    }

    fn stamp(&self) -> Option<Stamp> {
        let about = std::fs::metadata(&self.path).ok().filter(|about| about.is_file() && about.len() <= LARGEST_BYTES)?;
        Some((about.mtime(), about.mtime_nsec(), about.len(), about.ino()))
    }

    /// What it holds, if it is another than last time. What is not there may be about to be replaced, and is no other.
    fn changed(&self) -> Option<String> {
        let stamp = self.stamp()?;
        if self.stamp.get() == Some(stamp) {
            return None;
        }
        let bytes = std::fs::read(&self.path).ok()?;
        self.stamp.set(Some(stamp));
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The hosts file and resolv.conf, as they are now.
pub(super) struct Files {
    hosts_file: Watched,
    conf_file: Watched,
    prefers_ipv6: bool,
    hosts: RefCell<Rc<Hosts>>,
    conf: RefCell<Rc<ResolvConf>>,
    looked: Cell<Instant>,
}

impl Files {
    pub fn new(hosts_file: &Path, resolv_conf: &Path, prefers_ipv6: bool) -> Self {
        let (hosts_file, conf_file) = (Watched::new(hosts_file), Watched::new(resolv_conf));
        let hosts = Hosts::parse(&hosts_file.changed().unwrap_or_default(), prefers_ipv6, &Hosts::default());
        let conf = ResolvConf::parse(&conf_file.changed().unwrap_or_default());
        let (hosts, conf) = (RefCell::new(Rc::new(hosts)), RefCell::new(Rc::new(conf)));
        Files { hosts_file, conf_file, prefers_ipv6, hosts, conf, looked: Cell::new(Instant::now()) }
    }

    /// Reads again what has changed. `true`: names in the hosts file have other addresses.
    pub fn freshen(&self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.looked.get()) < LOOK_EVERY {
            return false;
        }
        self.looked.set(now);
        if let Some(text) = self.conf_file.changed() {
            *self.conf.borrow_mut() = Rc::new(ResolvConf::parse(&text));
        }
        let Some(text) = self.hosts_file.changed() else { return false };
        let before = self.hosts();
        let hosts = Hosts::parse(&text, self.prefers_ipv6, &before);
        let is_other = !hosts.is_same(&before);
        *self.hosts.borrow_mut() = Rc::new(hosts);
        is_other
    }

    pub fn hosts(&self) -> Rc<Hosts> {
        Rc::clone(&self.hosts.borrow())
    }

    pub fn resolv_conf(&self) -> Rc<ResolvConf> {
        Rc::clone(&self.conf.borrow())
    }
}
