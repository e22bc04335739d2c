// SPDX-License-Identifier: Apache-2.0
//! Who wrote this 502? An answer that came broken from behind tells by its fields and its shape what made it.

/// Who wrote an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// `nginx`, `haproxy`, `elb` …; `application`: a body of another shape; `unknown`: nothing tells.
    pub name: &'static str,
    /// What gave it away, at most 80 characters.
    pub mark: String,
}
