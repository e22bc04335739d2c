// SPDX-License-Identifier: Apache-2.0
//! Which body goes with an answer the gateway makes? Three makers, as Kong has: exit, error, platform (proxy.md §5).

use crate::exchange::{Exchange, Response, Source};
use crate::http::headers::Headers;
use crate::phases::{Answer, AnswerBody};
use std::borrow::Cow;
use std::fmt::Write;

/// A form an error can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/json`
    Json,
    /// `text/html`
    Html,
    /// `text/plain`
    Plain,
    /// `application/xml`
    Xml,
    /// `application/grpc`
    Grpc,
}

impl Form {
    /// By media type, without parameters.
    pub fn of_media_type(media_type: &str) -> Option<Form> {
        match media_type {
            "application/json" | "application/*" | "*/*" => Some(Form::Json),
            "text/html" => Some(Form::Html),
            "text/plain" | "text/*" => Some(Form::Plain),
            "application/xml" => Some(Form::Xml),
            "application/grpc" => Some(Form::Grpc),
            _ => None,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json; charset=utf-8",
            Form::Html => "text/html; charset=utf-8",
            Form::Plain => "text/plain; charset=utf-8",
            Form::Xml => "application/xml; charset=utf-8",
            Form::Grpc => "",
        }
    }

    /// A message may quote somebody: it stays text in every form.
    fn render(self, message: &str, id: &str) -> String {
        let message = self.escaped(message);
        match self {
            Form::Json => format!("{{\n  \"message\":\"{message}\",\n  \"request_id\":\"{id}\"\n}}"),
            Form::Plain => format!("{message}\nrequest_id: {id}\n"),
            Form::Xml => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{message}</message>\n  <requestid>{id}</requestid>\n</error>\n"
            ),
            Form::Html => format!(
                "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    <p>{message}.</p>\n    <p>request_id: {id}</p>\n  </body>\n</html>\n"
            ),
            Form::Grpc => String::new(),
        }
    }
}

impl Form {
    fn escaped(self, message: &str) -> Cow<'_, str> {
        let is_special = |character: char| match self {
            Form::Json => character < ' ' || matches!(character, '"' | '\\'),
            Form::Html | Form::Xml => matches!(character, '<' | '>' | '&' | '"'),
            Form::Plain | Form::Grpc => false,
        };
        if !message.contains(is_special) {
            return Cow::Borrowed(message);
        }
        let mut escaped = String::with_capacity(message.len() + 16);
        for character in message.chars() {
            match character {
                _ if !is_special(character) => escaped.push(character),
                '<' => escaped.push_str("&lt;"),
                '>' => escaped.push_str("&gt;"),
                '&' => escaped.push_str("&amp;"),
                '"' if self != Form::Json => escaped.push_str("&quot;"),
                '"' | '\\' => {
                    escaped.push('\\');
                    escaped.push(character);
                }
                control => {
                    let _ = write!(escaped, "\\u{:04x}", u32::from(control));
                }
            }
        }
        Cow::Owned(escaped)
    }
}

/// What Accept asks for: the highest q wins, the first on a tie; what is not known is JSON.
pub fn negotiate(accept: &str) -> Form {
    let mut best: Option<(f32, Form)> = None;
    for entry in accept.split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1.0, |text| text.parse::<f32>().unwrap_or(1.0));
        if let Some(form) = Form::of_media_type(&media_type)
            && best.is_none_or(|(top, _)| quality > top)
        {
            best = Some((quality, form));
        }
    }
    best.map_or(Form::Json, |(_, form)| form)
}

/// Kong's sentence for a status.
pub fn message(status: u16) -> Cow<'static, str> {
    Cow::Borrowed(match status {
        400 => "Bad request",
        404 => "Not found",
        401 => "Unauthorized",
        403 => "Forbidden",
        405 => "Method not allowed",
        408 => "Request timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length required",
        412 => "Precondition failed",
        413 => "Payload too large",
        414 => "URI too long",
        415 => "Unsupported media type",
        417 => "Expectation failed",
        418 => "I'm a teapot",
        422 => "Unprocessable entity",
        426 => "Upgrade required",
        429 => "Too many requests",
        431 => "Request header fields too large",
        451 => "Unavailable for legal reasons",
        494 => "Request header or cookie too large",
        500 => "An unexpected error occurred",
        501 => "Not implemented",
        505 => "HTTP version not supported",
        502 => "An invalid response was received from the upstream server",
        503 => "The upstream server is currently unavailable",
        504 => "The upstream server is timing out",
        other => return format!("The upstream server responded with {other}").into(),
    })
}

fn grpc_status(status: u16) -> u8 {
    match status {
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        429 => 8,
        499 => 1,
        500 => 13,
        501 => 12,
        503 => 14,
        504 => 4,
        200..=299 => 0,
        402..=498 => 3,
        505..=599 => 13,
        _ => 2,
    }
}

/// Answers with `error`: negotiated by Accept, JSON without one.
pub fn error(exchange: &mut Exchange, status: u16, text: Option<&str>, headers: Headers) {
    let form = exchange.request.headers.get_str("accept").map_or(Form::Json, negotiate);
    let text = text.map_or_else(|| message(status), |t| std::borrow::Cow::Owned(t.to_owned()));
    render(exchange, status, &text, form, false, headers);
}

/// Answers as the platform does: Accept, else the request's Content-Type, else `error_default_type`.
pub fn platform(exchange: &mut Exchange, status: u16, default_type: &str) {
    let form = match exchange.request.headers.get_str("accept") {
        Some(accept) => negotiate(accept),
        None => {
            let media_type = exchange.request.headers.get_str("content-type").unwrap_or_default();
            let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            Form::of_media_type(&media_type).or_else(|| Form::of_media_type(default_type)).unwrap_or(Form::Plain)
        }
    };
    let text = message(status);
    let status = if status == 494 { 400 } else { status };
    render(exchange, status, &text, form, true, Headers::new());
}

/// gRPC's percent-encoding of a message: printable ASCII but `%` stands for itself.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut safe = String::with_capacity(text.len());
    for b in text.bytes() {
        if (0x20..0x7f).contains(&b) && b != b'%' {
            safe.push(b as char);
        } else {
            let _ = write!(safe, "%{b:02X}");
        }
    }
    safe
}

fn render(exchange: &mut Exchange, status: u16, text: &str, form: Form, is_platform: bool, mut headers: Headers) {
    let is_grpc = exchange.request.headers.get("content-type").is_some_and(|v| v.starts_with(b"application/grpc"));
    let (content_type, body) = if is_grpc {
        headers.set("grpc-status", grpc_status(status).to_string());
        headers.set("grpc-message", percent_encoded(text));
        ("application/grpc", String::new())
    } else if form == Form::Grpc && is_platform {
        ("application/json; charset=utf-8", format!("{{\"message\":\"{text}\"}}"))
    } else {
        (form.content_type(), form.render(text, exchange.id.as_str()))
    };
    let mut all = Headers::with_capacity(4, 128);
    all.add("Content-Type", content_type);
    for (name, value) in headers.iter() {
        all.add(name, value);
    }
    exchange.response = Some(Response {
        status,
        reason: None,
        headers: all,
        source: Source::Error,
        body: Some(body.into_bytes()),
        status_of_upstream: None,
    });
}

/// nginx's own page: what Kong lets nginx answer itself (501, 505, redirects).
pub fn nginx_page(exchange: &mut Exchange, status: u16, location: Option<&str>) {
    let title = format!("{status} {}", super::reason(status));
    page(exchange, status, &title, &format!("<center><h1>{title}</h1></center>\r\n"), location);
}

/// nginx's page for plain HTTP on a TLS port (its 497, sent as 400).
pub fn plain_on_tls_port(exchange: &mut Exchange) {
    let why = "The plain HTTP request was sent to HTTPS port";
    page(exchange, 400, &format!("400 {why}"), &format!("<center><h1>400 Bad Request</h1></center>\r\n<center>{why}</center>\r\n"), None);
}

fn page(exchange: &mut Exchange, status: u16, title: &str, text: &str, location: Option<&str>) {
    let body = format!("<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n{text}</body>\r\n</html>\r\n");
    let mut headers = Headers::with_capacity(2, 96);
    headers.add("Content-Type", if location.is_some() { "text/html" } else { "text/html; charset=UTF-8" });
    if let Some(location) = location {
        headers.add("Location", location);
    }
    exchange.response =
        Some(Response { status, reason: None, headers, source: Source::Error, body: Some(body.into_bytes()), status_of_upstream: None });
}

/// Answers with what a plugin asked for.
pub fn plugin_answer(exchange: &mut Exchange, answer: Answer) {
    match answer.body {
        AnswerBody::Error(text) => error(exchange, answer.status, text.as_deref(), answer.headers),
        AnswerBody::Exit(body) => {
            exchange.response = Some(Response {
                status: answer.status,
                reason: None,
                headers: answer.headers,
                source: Source::Exit,
                body: Some(body),
                status_of_upstream: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_script_in_a_message_stays_text() {
        let evil = "<script>alert(\"1\")</script>\\&\n";
        assert!(Form::Html.render(evil, "id").contains("<p>&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;\\&amp;\n.</p>"));
        assert!(Form::Xml.render(evil, "id").contains("<message>&lt;script&gt;"));
        let json: serde_json::Value = serde_json::from_str(&Form::Json.render(evil, "id")).expect("JSON");
        assert_eq!(json["message"], evil);
        assert_eq!(Form::Plain.render("I'm a teapot", "id"), "I'm a teapot\nrequest_id: id\n");
        assert!(Form::Html.render("I'm a teapot", "id").contains("<p>I'm a teapot.</p>"));
    }

    #[test]
    fn test_highest_q_wins_and_the_first_on_a_tie() {
        for (accept, form) in [
            ("text/html", Form::Html),
            ("application/json;q=0.5, text/html;q=0.9", Form::Html),
            ("text/plain, text/html", Form::Plain),
            ("text/*", Form::Plain),
            ("image/png", Form::Json),
            ("*/*", Form::Json),
            ("application/xml;level=1;q=0.2, image/png", Form::Xml),
            ("", Form::Json),
        ] {
            assert_eq!(negotiate(accept), form, "{accept}");
        }
    }
}
