// SPDX-License-Identifier: Apache-2.0
//! Where do bytes wait that memory should not hold? A queue in an unlinked file under PREFIX/spool.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes one answer may have waiting in a file: nginx's `proxy_max_temp_file_size`.
pub const SPOOL_LIMIT_BYTES: u64 = 1024 * 1024 * 1024;

/// Makes a file nobody else can name.
///
/// # Errors
/// The disk is full, or the folder is gone.
pub fn unlinked_file(prefix: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = prefix.join("spool");
    let path = folder.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// First in, first out.
pub struct Spool {
    file: File,
    read_at: u64,
    write_at: u64,
}

impl Spool {
    /// An empty one.
    ///
    /// # Errors
    /// See [`unlinked_file`].
    pub fn new(prefix: &Path) -> io::Result<Self> {
        Ok(Spool { file: unlinked_file(prefix)?, read_at: 0, write_at: 0 })
    }

    /// Bytes waiting.
    pub fn len(&self) -> u64 {
        self.write_at - self.read_at
    }

    /// None waiting?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// May more be put in?
    pub fn has_room(&self) -> bool {
        self.write_at < SPOOL_LIMIT_BYTES
    }

    /// Puts bytes at the end.
    ///
    /// # Errors
    /// The disk is full.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.write_at)?;
        self.write_at += bytes.len() as u64;
        Ok(())
    }

    /// Takes at most `most` bytes from the front.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn pull(&mut self, out: &mut Vec<u8>, most: usize) -> io::Result<()> {
        let want = most.min(usize::try_from(self.len()).unwrap_or(usize::MAX));
        let before = out.len();
        out.resize(before + want, 0);
        self.file.read_exact_at(&mut out[before..], self.read_at)?;
        self.read_at += want as u64;
        if self.is_empty() {
            // The room on disk goes back at once.
            self.file.set_len(0)?;
            self.read_at = 0;
            self.write_at = 0;
        }
        Ok(())
    }
}
