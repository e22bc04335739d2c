// SPDX-License-Identifier: Apache-2.0
//! Is this one well-formed message? The one parser with authority over HTTP/1 framing, for clients and upstreams.

pub mod body;
pub mod head;
pub mod headers;
pub mod hop;
pub mod wire;
