// SPDX-License-Identifier: Apache-2.0
//! What do we remember? The access line, the lines of `error.log`, one record per failed request. Never fails a request.

pub mod authors;
pub mod head_sizes;
pub mod masking;
pub mod probe;
pub mod record;
pub mod recorder;
pub mod warnings;

use crate::clock::Clock;
use crate::config::DataPlaneSettings;
use crate::exchange::Exchange;
use crate::http::head::escape_into;
use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Severity, nginx's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum Level {
    Emerg,
    Alert,
    Crit,
    Error,
    Warn,
    Notice,
    Info,
    Debug,
}

impl Level {
    /// From its name; unknown names are `notice`.
    pub fn parse(name: &str) -> Level {
        match name {
            "emerg" => Level::Emerg,
            "alert" => Level::Alert,
            "crit" => Level::Crit,
            "error" | "err" => Level::Error,
            "warn" | "warning" => Level::Warn,
            "info" => Level::Info,
            "debug" => Level::Debug,
            _ => Level::Notice,
        }
    }

    /// As it stands in `error.log`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Emerg => "emerg",
            Level::Alert => "alert",
            Level::Crit => "crit",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Notice => "notice",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// What is shown of a request line at debug level.
const DEBUG_LINE_LIMIT: usize = 2048;

/// One log file, appended to with one system call a line; a full disk loses lines, counts them, and harms nobody.
struct LogFile {
    path: PathBuf,
    file: RefCell<Option<File>>,
    lost: Cell<u64>,
}

impl LogFile {
    fn open(path: &Path) -> Self {
        LogFile { path: path.to_owned(), file: RefCell::new(open_append(path)), lost: Cell::new(0) }
    }

    fn reopen(&self) {
        *self.file.borrow_mut() = open_append(&self.path);
    }

    fn write(&self, line: &[u8]) {
        let mut file = self.file.borrow_mut();
        if file.is_none() {
            *file = open_append(&self.path);
        }
        let written = file.as_mut().is_some_and(|f| f.write_all(line).is_ok());
        if !written {
            self.lost.set(self.lost.get() + 1);
        }
    }
}

fn open_append(path: &Path) -> Option<File> {
    OpenOptions::new().create(true).append(true).open(path).ok()
}

/// The logs of one worker.
pub struct Logs {
    level: Cell<Level>,
    access: Option<LogFile>,
    error: LogFile,
    failures: Option<LogFile>,
    line: RefCell<String>,
    /// The source of time.
    pub clock: Clock,
}

impl Logs {
    /// Opens what the settings name.
    pub fn open(settings: &DataPlaneSettings) -> Self {
        Logs {
            level: Cell::new(Level::parse(&settings.log_level)),
            access: settings.access_log.as_deref().map(LogFile::open),
            error: LogFile::open(&settings.error_log),
            failures: settings.failures_log.as_deref().map(LogFile::open),
            line: RefCell::new(String::with_capacity(512)),
            clock: Clock::new(settings.utc_offset_s),
        }
    }

    /// Opens all files anew (after they were moved away).
    pub fn reopen(&self) {
        for file in [self.access.as_ref(), Some(&self.error), self.failures.as_ref()].into_iter().flatten() {
            file.reopen();
        }
    }

    /// Lines that could not be written.
    pub fn lost(&self) -> u64 {
        [self.access.as_ref(), Some(&self.error), self.failures.as_ref()].into_iter().flatten().map(|f| f.lost.get()).sum()
    }

    /// Would a line of this level be written?
    pub fn is_enabled(&self, level: Level) -> bool {
        level <= self.level.get()
    }

    /// Writes lines of this level and above from now on.
    pub fn set_level(&self, level: Level) {
        self.level.set(level);
    }

    /// A line of `error.log` that belongs to no connection.
    pub fn log(&self, level: Level, message: &str) {
        if self.is_enabled(level) {
            let pid = std::process::id();
            let line = format!("{} [{}] {pid}#{pid}: {message}\n", self.clock.error_time(), level.name());
            self.error.write(line.as_bytes());
        }
    }

    /// A line of `error.log` that belongs to an exchange; `phrase` is nginx's, `doing` what it says it was doing
    /// (`while reading response header from upstream`) or empty.
    pub fn log_exchange(&self, level: Level, exchange: &Exchange, phrase: &str, doing: &str) {
        if !self.is_enabled(level) {
            return;
        }
        let pid = std::process::id();
        let mut line = format!("{} [{}] {pid}#{pid}: *{} {phrase}", self.clock.error_time(), level.name(), exchange.connection.serial);
        if !doing.is_empty() {
            line.push(' ');
            line.push_str(doing);
        }
        line.push_str(", client: ");
        line.push_str(&exchange.client_ip.to_string());
        line.push_str(", server: pylae, request: \"");
        if level == Level::Debug {
            // Decisions are told before plugins have said which arguments hold credentials.
            line.push_str(&masking::line(&exchange.request.line, !exchange.request.method.is_empty(), DEBUG_LINE_LIMIT));
        } else {
            escape_into(&mut line, &exchange.request.line);
        }
        line.push('"');
        if !exchange.upstream.uri.is_empty() {
            line.push_str(", upstream: \"");
            escape_into(&mut line, exchange.upstream.uri.as_bytes());
            line.push('"');
        }
        if !exchange.request.authority.is_empty() {
            line.push_str(", host: \"");
            escape_into(&mut line, &exchange.request.authority);
            line.push('"');
        }
        line.push_str(", request_id: \"");
        line.push_str(exchange.id.as_str());
        line.push_str("\"\n");
        self.error.write(line.as_bytes());
    }

    /// The exchange is over: its access line.
    pub fn finish(&self, exchange: &Exchange, status: u16) {
        if let Some(access) = &self.access {
            let mut line = self.line.borrow_mut();
            line.clear();
            self.access_line(&mut line, exchange, status);
            access.write(line.as_bytes());
        }
    }

    /// Are records of failed requests kept in a file?
    pub fn keeps_failures(&self) -> bool {
        self.failures.is_some()
    }

    /// A record of a failed request, newline included.
    pub fn failure(&self, line: &[u8]) {
        if let Some(failures) = &self.failures {
            failures.write(line);
        }
    }

    /// `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"
    /// kong_request_id: "$kong_request_id"`, and ` fault: "name"` where there is one.
    fn access_line(&self, line: &mut String, exchange: &Exchange, status: u16) {
        use std::fmt::Write;
        let request = &exchange.request;
        let _ = write!(line, "{} - ", exchange.client_ip);
        match request.headers.get("authorization").and_then(basic_user) {
            Some(user) => escape_into(line, &user),
            None => line.push('-'),
        }
        line.push_str(" [");
        self.clock.with_access_time(|time| line.push_str(time));
        line.push_str("] \"");
        escape_into(line, &request.line);
        let mut digits = itoa::Buffer::new();
        line.push_str("\" ");
        if status < 100 {
            let _ = write!(line, "{status:03}");
        } else {
            line.push_str(digits.format(status));
        }
        line.push(' ');
        line.push_str(digits.format(exchange.sent_body_bytes));
        for name in ["referer", "user-agent"] {
            line.push_str(" \"");
            match request.headers.get(name) {
                Some(value) if !value.is_empty() => escape_into(line, value),
                _ => line.push('-'),
            }
            line.push('"');
        }
        line.push_str(" kong_request_id: \"");
        line.push_str(exchange.id.as_str());
        line.push('"');
        if let Some(fault) = exchange.told_fault() {
            line.push_str(" fault: \"");
            line.push_str(fault.kind.facts().name);
            line.push('"');
        }
        line.push('\n');
    }
}

/// The user of `Authorization: Basic`, as nginx's `$remote_user`.
fn basic_user(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = decode_base64(encoded.trim_ascii())?;
    let colon = decoded.iter().position(|&b| b == b':')?;
    (colon > 0).then(|| decoded[..colon].to_vec())
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for &byte in text.iter().filter(|&&b| b != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_remote_user_is_the_name_before_the_colon() {
        assert_eq!(basic_user(b"Basic YWxpY2U6c2VjcmV0"), Some(b"alice".to_vec()));
        assert_eq!(basic_user(b"Bearer YWxpY2U6c2VjcmV0"), None);
        assert_eq!(basic_user(b"Basic !!"), None);
    }
}
