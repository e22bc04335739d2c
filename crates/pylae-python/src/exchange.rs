// SPDX-License-Identifier: Apache-2.0
//! What does a plugin see of an exchange? Views onto the data plane's own exchange; they copy nothing until asked, and
//! raise when kept beyond the log phase.

use crate::call_handler::over;
use crate::identity::Imprint;
use crate::recognition::Recognition;
use pylae_core::exchange::{BodyStore, Exchange as CoreExchange, ExchangeRef, Source};
use pylae_core::http::headers::{Headers, is_token, is_value};
use pylae_core::http::hop::is_dropped;
use pylae_core::phases::{Answer as CoreAnswer, AnswerBody, Phase};
use pylae_core::snapshot::Id;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;

/// The exchange behind all views of it; emptied when it is over.
#[derive(Default)]
pub struct Life {
    exchange: RefCell<Option<ExchangeRef>>,
    /// Bytes of body the plugin that runs now asked for.
    pub body_bytes: Cell<u64>,
    /// Hooks that await something, those whose client has left included.
    calls: Cell<u32>,
    /// The log phase is over; the views die with the last call.
    is_over: Cell<bool>,
    kept: RefCell<Kept>,
}

/// What is kept beside the exchange as long as it lives.
#[derive(Default)]
struct Kept {
    view: Option<Py<Exchange>>,
    ctx: Option<Py<PyDict>>,
    consumer: Option<Py<PyAny>>,
    credential: Option<Py<PyAny>>,
    log_values: Vec<(String, Py<PyAny>)>,
    /// Fields, lower case, that log plugins do not get.
    concealed_headers: Vec<String>,
    /// The piece of the body that a body filter has at hand.
    chunk: Option<Py<PyBytes>>,
    /// The upstream's fields, once a plugin has changed those of the answer.
    upstream_headers: Option<Headers>,
}

impl Life {
    /// This exchange's life and view, the same for all plugins.
    pub fn view_of<'py>(py: Python<'py>, exchange: &ExchangeRef) -> PyResult<(Rc<Self>, Bound<'py, Exchange>)> {
        let known = exchange.borrow().host_data.as_ref().and_then(|data| data.downcast_ref::<Rc<Life>>()).cloned();
        if let Some(life) = known {
            let view = life.kept.borrow().view.as_ref().map(|view| view.bind(py).clone());
            return Ok((life, view.ok_or_else(over)?));
        }
        let used = UNUSED.with_borrow_mut(Vec::pop);
        let life = used.unwrap_or_default();
        let known = life.kept.borrow().view.as_ref().map(|view| view.bind(py).clone());
        let view = match known {
            Some(view) => view,
            None => {
                let view = Bound::new(py, Exchange { life: Rc::clone(&life), parts: Parts::default() })?;
                life.kept.borrow_mut().view = Some(view.clone().unbind());
                view
            }
        };
        *life.exchange.borrow_mut() = Some(Rc::clone(exchange));
        exchange.borrow_mut().host_data = Some(Box::new(Rc::clone(&life)));
        Ok((life, view))
    }

    /// The exchange is over; whoever still awaits something may finish with it.
    pub fn end(self: &Rc<Self>, py: Python<'_>) {
        self.is_over.set(true);
        self.die_if_idle(py);
    }

    /// A hook awaits something.
    pub fn begin_call(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    /// It awaits no more.
    pub fn end_call(self: &Rc<Self>, py: Python<'_>) {
        self.calls.set(self.calls.get() - 1);
        self.die_if_idle(py);
    }

    /// The views die. Those that nobody has kept serve the next exchange: making and freeing half a dozen Python objects for
    /// each request costs more than what most hooks do with them.
    fn die_if_idle(self: &Rc<Self>, py: Python<'_>) {
        if !self.is_over.get() || self.calls.get() > 0 {
            return;
        }
        let exchange = self.exchange.borrow_mut().take();
        let mut kept = self.kept.take();
        let view = kept.view.take_if(|view| view.get_refcnt(py) == 1 && view.bind(py).borrow().parts.are_ours_alone(py));
        let ctx = kept.ctx.take_if(|ctx| ctx.get_refcnt(py) == 1);
        // Dropped outside of any borrow: what a plugin kept may run code of its own when it goes.
        drop((exchange, kept));
        if let Some(ctx) = &ctx {
            ctx.bind(py).clear();
        }
        if view.is_some() {
            *self.kept.borrow_mut() = Kept { view, ctx, ..Kept::default() };
            self.is_over.set(false);
            let is_kept = UNUSED.with_borrow_mut(|unused| {
                let has_room = unused.len() < UNUSED_KEPT;
                if has_room {
                    unused.push(Rc::clone(self));
                }
                has_room
            });
            if !is_kept {
                let kept = self.kept.take();
                drop(kept);
            }
        }
    }

    /// Frees the views that wait for an exchange.
    pub fn free_unused() {
        for life in UNUSED.take() {
            // It holds itself through its view.
            let kept = life.kept.take();
            drop(kept);
        }
    }

    fn read<R>(&self, f: impl FnOnce(&CoreExchange) -> R) -> PyResult<R> {
        let exchange = self.exchange.borrow();
        let exchange = exchange.as_ref().ok_or_else(over)?;
        Ok(f(&exchange.borrow()))
    }

    fn write<R>(&self, f: impl FnOnce(&mut CoreExchange) -> R) -> PyResult<R> {
        let exchange = self.exchange.borrow();
        let exchange = exchange.as_ref().ok_or_else(over)?;
        Ok(f(&mut exchange.borrow_mut()))
    }

    /// A body filter has this piece at hand, or none any more.
    pub fn set_chunk(&self, chunk: Option<Py<PyBytes>>) {
        let before = std::mem::replace(&mut self.kept.borrow_mut().chunk, chunk);
        drop(before);
    }
}

/// Views kept for exchanges to come; more are alive only while more exchanges are.
const UNUSED_KEPT: usize = 256;

thread_local! {
    static UNUSED: RefCell<Vec<Rc<Life>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
struct Parts {
    request: OnceCell<Py<Request>>,
    service: OnceCell<Py<Service>>,
    response: OnceCell<Py<Response>>,
    client: OnceCell<Py<Client>>,
}

fn is_ours_alone<T>(py: Python<'_>, part: &OnceCell<Py<T>>) -> bool {
    part.get().is_none_or(|part| part.get_refcnt(py) == 1)
}

impl Parts {
    /// Has no plugin kept one of them?
    fn are_ours_alone(&self, py: Python<'_>) -> bool {
        is_ours_alone(py, &self.request)
            && is_ours_alone(py, &self.response)
            && is_ours_alone(py, &self.client)
            && is_ours_alone(py, &self.service)
            && self.service.get().is_none_or(|service| {
                let service = service.bind(py).borrow();
                is_ours_alone(py, &service.request) && is_ours_alone(py, &service.response)
            })
    }
}

/// Bytes of a message as a `str`; what is not UTF-8 survives the way there and back (PEP 383).
fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) => PyString::new(py, text),
        Err(_) => PyString::from_encoded_object(&PyBytes::new(py, bytes), Some(c"utf-8"), Some(c"surrogateescape"))
            .unwrap_or_else(|_| PyString::new(py, &String::from_utf8_lossy(bytes))),
    }
}

/// The bytes of a `str`, the other way round.
pub fn bytes_of(text: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    match text.to_str() {
        Ok(text) => Ok(text.as_bytes().to_vec()),
        Err(_) => Ok(text.call_method1("encode", ("utf-8", "surrogateescape"))?.cast::<PyBytes>()?.as_bytes().to_vec()),
    }
}

fn get_header<'py>(py: Python<'py>, headers: &Headers, name: &str) -> Option<Bound<'py, PyString>> {
    headers.get(name).map(|value| text(py, value))
}

fn header_dict<'py>(py: Python<'py>, headers: &Headers) -> PyResult<Bound<'py, PyDict>> {
    wanted_headers_dict(py, headers, |_| true)
}

fn wanted_headers_dict<'py>(py: Python<'py>, headers: &Headers, is_wanted: impl Fn(&[u8]) -> bool) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in headers.iter().filter(|(name, _)| is_wanted(name)) {
        let key = text(py, &name.to_ascii_lowercase());
        let value = text(py, value);
        match dict.get_item(&key)? {
            None => dict.set_item(key, value)?,
            Some(known) => match known.cast::<PyList>() {
                Ok(list) => list.append(value)?,
                Err(_) => dict.set_item(key, PyList::new(py, [known, value.into_any()])?)?,
            },
        }
    }
    Ok(dict)
}

/// A `str` as the bytes of a field, where they lie.
fn borrowed_value<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(text) = value.cast::<PyString>()
        && let Ok(text) = text.to_str()
    {
        let bytes = text.as_bytes().trim_ascii();
        return if is_value(bytes) { Ok(Cow::Borrowed(bytes)) } else { Err(PyValueError::new_err("a header value holds CR, LF or NUL")) };
    }
    field_value(value).map(Cow::Owned)
}

/// A value as the bytes of a field; numbers are written out.
fn field_value(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let is_number = || (value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>()) && !value.is_instance_of::<PyBool>();
    let bytes = match value.cast::<PyString>() {
        Ok(text) => trimmed(text)?,
        Err(_) if is_number() => trimmed(&value.str()?)?,
        Err(_) => {
            let kind = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
            return Err(PyTypeError::new_err(format!("a header value is a `{kind}`, expected a str")));
        }
    };
    if is_value(&bytes) { Ok(bytes) } else { Err(PyValueError::new_err("a header value holds CR, LF or NUL")) }
}

fn trimmed(text: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    match text.to_str() {
        Ok(text) => Ok(text.as_bytes().trim_ascii().to_vec()),
        Err(_) => Ok(bytes_of(text)?.trim_ascii().to_vec()),
    }
}

fn field_values(value: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u8>>> {
    match value.cast::<PyList>() {
        Ok(list) => list.iter().map(|item| field_value(&item)).collect(),
        Err(_) => Ok(vec![field_value(value)?]),
    }
}

fn checked_name(name: &str) -> PyResult<&str> {
    if is_token(name.as_bytes()) {
        return Ok(name);
    }
    Err(PyValueError::new_err(format!("`{}` is no header name", name.escape_default())))
}

fn set_header(headers: &mut Headers, name: &str, values: &[Vec<u8>]) {
    match values {
        [] => {
            headers.remove(name);
        }
        [one] => headers.set(name, one),
        [first, rest @ ..] => {
            headers.set(name, first);
            for value in rest {
                headers.add(name, value);
            }
        }
    }
}

/// A name and its value, `None` for no value.
type Named<'a> = (&'a str, Option<Cow<'a, [u8]>>);

/// Names and values of a tuple or list of pairs, checked.
fn fields_of<'a>(pairs: &'a [Bound<'_, PyTuple>]) -> PyResult<Vec<Named<'a>>> {
    let mut fields = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let slice = pair.as_slice();
        let [name, value] = slice else { return Err(PyTypeError::new_err("a field is a pair of name and value")) };
        let name = checked_name(name.cast::<PyString>()?.to_str()?)?;
        fields.push((name, if value.is_none() { None } else { Some(borrowed_value(value)?) }));
    }
    Ok(fields)
}

/// The pairs of a tuple or list.
fn pairs_of<'py>(fields: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
    let pair = |item: Bound<'py, PyAny>| item.cast_into::<PyTuple>().map_err(PyErr::from);
    if let Ok(list) = fields.cast::<PyList>() {
        return list.iter().map(pair).collect();
    }
    if let Ok(tuple) = fields.cast::<PyTuple>() {
        return tuple.iter().map(pair).collect();
    }
    fields.try_iter()?.map(|item| pair(item?)).collect()
}

/// Lays fields over others: a value replaces all of that name, None removes them.
fn lay(headers: &mut Headers, fields: &[(&str, Option<Cow<'_, [u8]>>)]) {
    for (name, value) in fields {
        match value {
            Some(value) => headers.set(name, value),
            None => {
                headers.remove(name);
            }
        }
    }
}

fn headers_of(value: Option<&Bound<'_, PyAny>>) -> PyResult<Headers> {
    let mut headers = Headers::new();
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(headers) };
    for item in value.call_method0("items")?.try_iter()? {
        let (name, value) = item?.extract::<(String, Bound<'_, PyAny>)>()?;
        checked_name(&name)?;
        for value in field_values(&value)? {
            headers.add(&name, value);
        }
    }
    Ok(headers)
}

fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|b| (*b as char).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', _, _) => out.push(b' '),
            (other, _, _) => out.push(other),
        }
        at += 1;
    }
    out
}

/// The value of a field that came once.
fn the_only<'a>(headers: &'a Headers, name: &'a str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn arguments(query: &[u8]) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
    let split = |part: &[u8]| match part.iter().position(|&b| b == b'=') {
        Some(at) => (percent_decode(&part[..at]), Some(percent_decode(&part[at + 1..]))),
        None => (percent_decode(part), None),
    };
    query.split(|&b| b == b'&').map(split).filter(|(name, _)| !name.is_empty())
}

fn query_value(py: Python<'_>, value: Option<Vec<u8>>) -> Bound<'_, PyAny> {
    match value {
        Some(value) => text(py, &value).into_any(),
        None => PyBool::new(py, true).to_owned().into_any(),
    }
}

fn query_dict<'py>(py: Python<'py>, query: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in arguments(query) {
        let key = text(py, &name);
        let value = query_value(py, value);
        match dict.get_item(&key)? {
            None => dict.set_item(key, value)?,
            Some(known) => match known.cast::<PyList>() {
                Ok(list) => list.append(value)?,
                Err(_) => dict.set_item(key, PyList::new(py, [known, value])?)?,
            },
        }
    }
    Ok(dict)
}

fn encode_argument(out: &mut Vec<u8>, text: &[u8]) {
    for &b in text {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') {
            out.push(b);
        } else {
            out.extend_from_slice(format!("%{b:02X}").as_bytes());
        }
    }
}

/// Rows kept as Python dicts; a row that changed has other bytes.
const ROWS_KEPT: usize = 65_536;

/// A row's bytes and what they decode to.
type DecodedRow = (Arc<[u8]>, Py<PyAny>);

thread_local! {
    static ROWS: RefCell<HashMap<[u8; 16], DecodedRow>> = RefCell::default();
}

/// A row as a dict, built once as long as the row stays the same.
fn row<'py>(py: Python<'py>, id: Id, raw: &Arc<[u8]>) -> PyResult<Bound<'py, PyAny>> {
    let known = ROWS.with_borrow(|rows| rows.get(&id.0).filter(|(kept, _)| Arc::ptr_eq(kept, raw)).map(|(_, dict)| dict.bind(py).clone()));
    if let Some(dict) = known {
        return Ok(dict);
    }
    let dict = py.import(pyo3::intern!(py, "msgspec.msgpack"))?.call_method1(pyo3::intern!(py, "decode"), (PyBytes::new(py, raw),))?;
    let kept = (Arc::clone(raw), dict.clone().unbind());
    let old = ROWS.with_borrow_mut(|rows| {
        let all = if rows.len() >= ROWS_KEPT { std::mem::take(rows) } else { HashMap::new() };
        (all, rows.insert(id.0, kept))
    });
    drop(old);
    Ok(dict)
}

/// The row of the Route that matched.
fn route_row<'py>(py: Python<'py>, life: &Life) -> PyResult<Option<Bound<'py, PyAny>>> {
    let route = life.read(|e| e.matched.as_ref().map(|matched| Arc::clone(&matched.route)))?;
    route.map(|route| row(py, route.id, &route.raw.0)).transpose()
}

/// The row of its Service.
fn service_row<'py>(py: Python<'py>, life: &Life) -> PyResult<Option<Bound<'py, PyAny>>> {
    let service = life.read(|e| e.matched.as_ref().and_then(|matched| matched.service.clone()))?;
    service.map(|service| row(py, service.id, &service.raw.0)).transpose()
}

fn body_bytes<'py>(py: Python<'py>, store: &BodyStore, limit: u64) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if limit == 0 {
        return Ok(None);
    }
    match store {
        BodyStore::Empty => Ok(Some(PyBytes::new(py, b""))),
        BodyStore::Unread => Ok(None),
        BodyStore::Memory(bytes) if bytes.len() as u64 <= limit => Ok(Some(PyBytes::new(py, bytes))),
        BodyStore::File(file, length) if *length <= limit => {
            let mut bytes = vec![0; *length as usize];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(Some(PyBytes::new(py, &bytes)))
        }
        _ => Ok(None),
    }
}

/// An answer a plugin gives.
#[pyclass(frozen, module = "pylae._core")]
pub struct Answer {
    /// What the data plane takes.
    pub inner: CoreAnswer,
}

#[pymethods]
impl Answer {
    #[getter]
    fn status(&self) -> u16 {
        self.inner.status
    }

    fn __repr__(&self) -> String {
        format!("<answer {}>", self.inner.status)
    }
}

/// One request, its answer and what plugins share about it.
#[pyclass(frozen, unsendable, module = "pylae._core")]
pub struct Exchange {
    life: Rc<Life>,
    parts: Parts,
}

macro_rules! part {
    ($self:ident, $py:ident, $field:ident, $class:ident) => {{
        match $self.parts.$field.get() {
            Some(part) => Ok(part.bind($py).clone()),
            None => {
                let part = Bound::new($py, $class::new(&$self.life))?;
                let _ = $self.parts.$field.set(part.clone().unbind());
                Ok(part)
            }
        }
    }};
}

fn checked_status(status: u16) -> PyResult<u16> {
    if (200..600).contains(&status) {
        return Ok(status);
    }
    Err(PyValueError::new_err(format!("{status} is no status to answer with, expected 200 to 599")))
}

#[pymethods]
impl Exchange {
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.life.read(|exchange| PyString::new(py, exchange.id.as_str()))
    }

    fn __repr__(&self) -> String {
        self.life
            .read(|exchange| {
                format!(
                    "<exchange {} {} {}>",
                    exchange.id.as_str(),
                    exchange.request.method,
                    String::from_utf8_lossy(&exchange.request.path)
                )
            })
            .unwrap_or_else(|_| "<exchange, over>".to_owned())
    }

    #[getter]
    fn request<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Request>> {
        part!(self, py, request, Request)
    }

    #[getter]
    fn service<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Service>> {
        part!(self, py, service, Service)
    }

    #[getter]
    fn response<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Response>> {
        part!(self, py, response, Response)
    }

    #[getter]
    fn client<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Client>> {
        part!(self, py, client, Client)
    }

    #[getter]
    fn route<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        route_row(py, &self.life)
    }

    #[getter]
    fn ctx<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.life.read(|_| ())?;
        Ok(self.life.kept.borrow_mut().ctx.get_or_insert_with(|| PyDict::new(py).unbind()).bind(py).clone())
    }

    #[expect(clippy::unused_self, reason = "a method in Python")]
    #[pyo3(signature = (status, body = None, headers = None))]
    fn answer(&self, status: u16, body: Option<&Bound<'_, PyAny>>, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Answer> {
        let mut headers = headers_of(headers)?;
        let body = match body.filter(|body| !body.is_none()) {
            None => Vec::new(),
            Some(body) => {
                if let Ok(bytes) = body.cast::<PyBytes>() {
                    bytes.as_bytes().to_vec()
                } else if let Ok(text) = body.cast::<PyString>() {
                    text.to_str()?.as_bytes().to_vec()
                } else if body.is_instance_of::<PyDict>() || body.is_instance_of::<PyList>() {
                    if !headers.contains("content-type") {
                        headers.add("Content-Type", "application/json; charset=utf-8");
                    }
                    let encoded = body.py().import("msgspec.json")?.call_method1("encode", (body,))?;
                    encoded.cast::<PyBytes>()?.as_bytes().to_vec()
                } else {
                    return Err(PyTypeError::new_err("a body is str, bytes, dict or list"));
                }
            }
        };
        Ok(Answer { inner: CoreAnswer { status: checked_status(status)?, headers, body: AnswerBody::Exit(body) } })
    }

    #[expect(clippy::unused_self, reason = "a method in Python")]
    #[pyo3(signature = (status, message = None, headers = None))]
    fn error(&self, status: u16, message: Option<String>, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Answer> {
        let headers = headers_of(headers)?;
        Ok(Answer { inner: CoreAnswer { status: checked_status(status)?, headers, body: AnswerBody::Error(message) } })
    }

    fn set_log_value(&self, key: String, value: Py<PyAny>) -> PyResult<()> {
        self.life.read(|_| ())?;
        self.life.kept.borrow_mut().log_values.push((key, value));
        Ok(())
    }

    fn log(&self, level: &str, message: &str) -> PyResult<()> {
        let exchange = self.life.exchange.borrow().as_ref().cloned().ok_or_else(over)?;
        crate::gateway::log_exchange(level, &exchange, &message.replace(['\n', '\r'], " "));
        Ok(())
    }

    /// The request as log plugins send it (proxy.md §8).
    fn serialize<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let exchange = self.life.exchange.borrow().as_ref().cloned().ok_or_else(over)?;
        let (consumer, credential, log_values, concealed_headers) = {
            let kept = self.life.kept.borrow();
            let clone = |value: &Option<Py<PyAny>>| value.as_ref().map(|value| value.clone_ref(py));
            let log_values: Vec<_> = kept.log_values.iter().map(|(key, value)| (key.clone(), value.clone_ref(py))).collect();
            (clone(&kept.consumer), clone(&kept.credential), log_values, kept.concealed_headers.clone())
        };
        let dict = serialize(py, &exchange.borrow(), consumer, credential, &concealed_headers)?;
        for (key, value) in &log_values {
            put(py, &dict, key, value)?;
        }
        Ok(dict)
    }
}

/// Puts a value under a dotted key; `\.` is a dot inside a name.
fn put(py: Python<'_>, dict: &Bound<'_, PyDict>, key: &str, value: &Py<PyAny>) -> PyResult<()> {
    let parts: Vec<String> = key.replace("\\.", "\u{0}").split('.').map(|part| part.replace('\u{0}', ".")).collect();
    let mut current = dict.clone();
    for part in &parts[..parts.len() - 1] {
        let next = match current.get_item(part)?.and_then(|next| next.cast_into::<PyDict>().ok()) {
            Some(next) => next,
            None => {
                let next = PyDict::new(py);
                current.set_item(part, &next)?;
                next
            }
        };
        current = next;
    }
    match parts.last() {
        Some(last) if value.is_none(py) => {
            if current.contains(last)? {
                current.del_item(last)?;
            }
            Ok(())
        }
        Some(last) => current.set_item(last, value),
        None => Ok(()),
    }
}

fn ms(duration: std::time::Duration) -> u64 {
    duration.as_millis() as u64
}

fn serialize<'py>(
    py: Python<'py>,
    exchange: &CoreExchange,
    consumer: Option<Py<PyAny>>,
    credential: Option<Py<PyAny>>,
    concealed_headers: &[String],
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let request = PyDict::new(py);
    let scheme = exchange.scheme();
    let query = exchange.request.query.as_deref().map(|query| exchange.shown_query(query));
    let mut uri = exchange.request.raw_path.clone();
    if let Some(query) = &query {
        uri.push(b'?');
        uri.extend_from_slice(query);
    }
    request.set_item("id", exchange.id.as_str())?;
    request.set_item("uri", text(py, &uri))?;
    request.set_item(
        "url",
        format!("{scheme}://{}:{}{}", exchange.request.host, exchange.connection.listen_port, String::from_utf8_lossy(&uri)),
    )?;
    request.set_item("querystring", query_dict(py, query.as_deref().unwrap_or_default())?)?;
    request.set_item("method", &exchange.request.method)?;
    let headers = header_dict(py, &exchange.request.headers)?;
    for secret in ["authorization", "proxy-authorization"].into_iter().chain(concealed_headers.iter().map(String::as_str)) {
        if headers.contains(secret)? {
            headers.set_item(secret, "REDACTED")?;
        }
    }
    request.set_item("headers", headers)?;
    request.set_item("size", exchange.request.received_bytes)?;
    if let Some(tls) = &exchange.connection.tls {
        let facts = PyDict::new(py);
        facts.set_item("version", &tls.version)?;
        facts.set_item("cipher", &tls.cipher)?;
        facts.set_item("client_verify", "NONE")?;
        request.set_item("tls", facts)?;
    }
    dict.set_item("request", request)?;
    let mut upstream_uri = exchange.upstream.path.clone();
    if let Some(query) = &exchange.upstream.query {
        upstream_uri.push(b'?');
        upstream_uri.extend_from_slice(&exchange.shown_query(query));
    }
    dict.set_item(
        "upstream_uri",
        if exchange.matched.as_ref().is_some_and(|m| m.service.is_some()) { text(py, &upstream_uri) } else { text(py, b"") },
    )?;
    let statuses: Vec<String> = exchange
        .attempts
        .iter()
        .map(|attempt| {
            attempt
                .status
                .or_else(|| attempt.fault.as_ref().map(pylae_core::fault::Fault::status))
                .map_or_else(String::new, |s| s.to_string())
        })
        .collect();
    dict.set_item("upstream_status", statuses.join(", "))?;
    let response = PyDict::new(py);
    if let Some(answer) = &exchange.response {
        response.set_item("status", answer.status)?;
        response.set_item("headers", header_dict(py, &answer.headers)?)?;
    }
    response.set_item("size", exchange.sent_bytes)?;
    dict.set_item("response", response)?;
    let moments = &exchange.moments;
    let latencies = PyDict::new(py);
    let whole = exchange.started.elapsed();
    latencies.set_item("request", ms(whole))?;
    match moments.attempt_started {
        Some(attempt) => {
            latencies.set_item("kong", ms(attempt.saturating_duration_since(exchange.started)))?;
            let head = moments.head_received.or(moments.answer_started);
            latencies.set_item("proxy", head.map_or(-1, |head| head.saturating_duration_since(attempt).as_millis() as i64))?;
            latencies.set_item("receive", head.map_or(0, |head| ms(head.elapsed())))?;
        }
        None => {
            latencies.set_item("kong", ms(whole))?;
            latencies.set_item("proxy", -1)?;
        }
    }
    dict.set_item("latencies", latencies)?;
    let tries = PyList::empty(py);
    let last = exchange.attempts.len().saturating_sub(1);
    for (at, attempt) in exchange.attempts.iter().enumerate() {
        let entry = PyDict::new(py);
        if let Some(address) = attempt.address {
            entry.set_item("ip", address.ip().to_string())?;
            entry.set_item("port", address.port())?;
        }
        entry.set_item("balancer_start", attempt.started_at_ms)?;
        entry.set_item("balancer_start_ns", attempt.started_at_ms * 1_000_000)?;
        entry.set_item("balancer_latency", 0)?;
        entry.set_item("balancer_latency_ns", 0)?;
        if let Some(fault) = &attempt.fault {
            entry.set_item("state", if at == last { "failed" } else { "next" })?;
            entry.set_item("code", fault.status())?;
        }
        tries.append(entry)?;
    }
    dict.set_item("tries", tries)?;
    if let Some(credential) = credential {
        let credential = credential.bind(py);
        let entity = PyDict::new(py);
        entity.set_item("id", credential.get_item("id").ok())?;
        let owner = credential.get_item("consumer").ok().filter(|owner| !owner.is_none());
        if let Some(owner) = owner {
            entity.set_item("consumer_id", owner.get_item("id").ok())?;
        }
        dict.set_item("authenticated_entity", entity)?;
    }
    if let Some(matched) = &exchange.matched {
        dict.set_item("route", row(py, matched.route.id, &matched.route.raw.0)?)?;
        if let Some(service) = &matched.service {
            dict.set_item("service", row(py, service.id, &service.raw.0)?)?;
        }
    }
    if let Some(consumer) = consumer {
        dict.set_item("consumer", consumer)?;
    }
    dict.set_item("client_ip", exchange.client_ip.to_string())?;
    dict.set_item("started_at", exchange.started_at_ms)?;
    let from_service = exchange.response.as_ref().is_some_and(|answer| answer.source == Source::Service);
    dict.set_item("source", if from_service { "upstream" } else { "kong" })?;
    dict.set_item("workspace", "0dc6f45b-8f8d-40d2-a504-473544ee190b")?;
    dict.set_item("workspace_name", "default")?;
    Ok(dict)
}

/// What the client asked.
#[pyclass(frozen, unsendable, module = "pylae._core")]
pub struct Request {
    life: Rc<Life>,
}

impl Request {
    fn new(life: &Rc<Life>) -> Self {
        Request { life: Rc::clone(life) }
    }
}

#[pymethods]
impl Request {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.life.read(|e| PyString::new(py, &e.request.method))
    }
    #[getter]
    fn scheme(&self) -> PyResult<&'static str> {
        self.life.read(CoreExchange::scheme)
    }
    #[getter]
    fn host(&self) -> PyResult<String> {
        self.life.read(|e| e.request.host.to_ascii_lowercase())
    }
    #[getter]
    fn port(&self) -> PyResult<u16> {
        self.life.read(|e| e.connection.listen_port)
    }
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.life.read(|e| text(py, &e.request.path))
    }
    #[getter]
    fn raw_path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.life.read(|e| text(py, &e.request.raw_path))
    }
    #[getter]
    fn raw_query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.life.read(|e| text(py, e.request.query.as_deref().unwrap_or_default()))
    }
    #[getter]
    fn path_with_query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.life.read(|e| {
            let mut whole = e.request.raw_path.clone();
            if let Some(query) = &e.request.query {
                whole.push(b'?');
                whole.extend_from_slice(query);
            }
            text(py, &whole)
        })
    }
    #[getter]
    fn http_version(&self) -> PyResult<&'static str> {
        self.life.read(|e| e.request.version.number())
    }
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.life.read(|e| body_bytes(py, &e.request.body, self.life.body_bytes.get()))?
    }
    #[getter]
    fn uri_captures<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.life.read(|e| {
            let Some(captures) = e.matched.as_ref().and_then(|m| m.captures.as_ref()) else { return Ok(None) };
            let dict = PyDict::new(py);
            for (number, value) in captures.numbers() {
                dict.set_item(number, text(py, value))?;
            }
            for (name, value) in captures.names() {
                dict.set_item(name, text(py, value))?;
            }
            Ok(Some(dict))
        })?
    }
    fn get_header<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        self.life.read(|e| get_header(py, &e.request.headers, name))
    }
    fn get_header_values<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Vec<Bound<'py, PyString>>> {
        self.life.read(|e| e.request.headers.get_all(name).map(|value| text(py, value)).collect())
    }
    fn get_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.life.read(|e| header_dict(py, &e.request.headers))?
    }
    /// What was remembered of the value of this field, if it came once.
    fn recognize(&self, remembered: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<Py<PyAny>>> {
        let py = remembered.py();
        let memory = Recognition::of(remembered)?;
        self.life.read(|e| memory.get().find(py, the_only(&e.request.headers, name)?, e.started_at_ms))
    }
    /// Remembers a decision about it; of a field that came several times or not at all nothing is remembered.
    #[pyo3(signature = (remembered, name, decision, expires_at_ms = 0))]
    fn remember(&self, remembered: &Bound<'_, PyAny>, name: &str, decision: Py<PyAny>, expires_at_ms: u64) -> PyResult<()> {
        let memory = Recognition::of(remembered)?;
        let value = self.life.read(|e| the_only(&e.request.headers, name).map(<[u8]>::to_vec))?;
        if let Some(value) = value {
            memory.get().keep(&value, decision, expires_at_ms);
        }
        Ok(())
    }
    /// Keeps the value of a parameter out of every log.
    fn conceal_argument(&self, name: &str) -> PyResult<()> {
        self.life.write(|e| e.conceal_argument(name))
    }
    /// Keeps the values of a field out of what log plugins send.
    fn conceal_header(&self, name: &str) -> PyResult<()> {
        self.life.read(|_| ())?;
        self.life.kept.borrow_mut().concealed_headers.push(name.to_ascii_lowercase());
        Ok(())
    }
    fn get_query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.life.read(|e| query_dict(py, e.request.query.as_deref().unwrap_or_default()))?
    }
    fn get_query_arg<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.life.read(|e| {
            let query = e.request.query.as_deref()?;
            arguments(query).find(|(key, _)| key == name.as_bytes()).map(|(_, value)| query_value(py, value))
        })
    }
}

/// Is this a field of the request upstream that only the gateway writes (framing, hop by hop, `X-Forwarded-*`)? As in Kong, a plugin
/// that sets one sets nothing.
fn is_ours(name: &str) -> bool {
    !name.eq_ignore_ascii_case("host") && is_dropped(name.as_bytes(), &[])
}

/// The Service and both messages exchanged with it.
#[pyclass(frozen, unsendable, module = "pylae._core")]
pub struct Service {
    life: Rc<Life>,
    request: OnceCell<Py<ServiceRequest>>,
    response: OnceCell<Py<ServiceResponse>>,
}

impl Service {
    fn new(life: &Rc<Life>) -> Self {
        Service { life: Rc::clone(life), request: OnceCell::new(), response: OnceCell::new() }
    }
}

#[pymethods]
impl Service {
    #[getter]
    fn entity<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        service_row(py, &self.life)
    }
    #[getter]
    fn id(&self) -> PyResult<Option<String>> {
        self.life.read(|e| e.matched.as_ref().and_then(|m| m.service.as_ref()).map(|service| service.id.to_string()))
    }
    #[getter]
    fn request<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, ServiceRequest>> {
        if let Some(request) = self.request.get() {
            return Ok(request.bind(py).clone());
        }
        let request = Bound::new(py, ServiceRequest::new(&self.life))?;
        let _ = self.request.set(request.clone().unbind());
        Ok(request)
    }
    #[getter]
    fn response<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, ServiceResponse>> {
        if let Some(response) = self.response.get() {
            return Ok(response.bind(py).clone());
        }
        let response = Bound::new(py, ServiceResponse::new(&self.life))?;
        let _ = self.response.set(response.clone().unbind());
        Ok(response)
    }
    fn set_target(&self, host: String, port: u16) -> PyResult<()> {
        self.life.write(|e| {
            e.upstream.target_host = host;
            e.upstream.target_port = port;
        })
    }
    fn set_upstream(&self, name: String) -> PyResult<()> {
        let known = self.life.read(|e| e.snapshot.upstream(&name).is_some())?;
        if !known {
            return Err(PyValueError::new_err(format!("there is no Upstream `{name}`")));
        }
        self.life.write(|e| e.upstream.target_host = name)
    }
}

/// What goes upstream.
#[pyclass(frozen, unsendable, module = "pylae._core")]
pub struct ServiceRequest {
    life: Rc<Life>,
}

impl ServiceRequest {
    fn new(life: &Rc<Life>) -> Self {
        ServiceRequest { life: Rc::clone(life) }
    }
}

#[pymethods]
impl ServiceRequest {
    #[getter]
    fn method<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.life.read(|e| PyString::new(py, e.upstream.method.as_deref().unwrap_or(&e.request.method)))
    }
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.life.read(|e| text(py, &e.upstream.path))
    }
    #[getter]
    fn raw_query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.life.read(|e| text(py, e.upstream.query.as_deref().unwrap_or_default()))
    }
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.life.read(|e| match &e.upstream.body {
            Some(body) => Ok(Some(PyBytes::new(py, body))),
            None => body_bytes(py, &e.request.body, self.life.body_bytes.get()),
        })?
    }
    fn get_header<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        self.life.read(|e| {
            if name.eq_ignore_ascii_case("host") {
                // Among the fields to send only when a plugin has set it.
                return get_header(py, e.upstream_headers(), name).or_else(|| get_header(py, &e.request.headers, name));
            }
            if is_dropped(name.as_bytes(), &e.nominated) { None } else { get_header(py, e.upstream_headers(), name) }
        })
    }
    fn get_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.life.read(|e| {
            let headers = e.upstream_headers();
            let dict = wanted_headers_dict(py, headers, |name| name.eq_ignore_ascii_case(b"host") || !is_dropped(name, &e.nominated))?;
            if !headers.contains("host")
                && let Some(host) = get_header(py, &e.request.headers, "host")
            {
                dict.set_item("host", host)?;
            }
            Ok(dict)
        })?
    }
    fn get_query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.life.read(|e| query_dict(py, e.upstream.query.as_deref().unwrap_or_default()))?
    }
    fn set_method(&self, method: String) -> PyResult<()> {
        if !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b == b'-') || method.is_empty() {
            return Err(PyValueError::new_err("a method is made of capital letters"));
        }
        self.life.write(|e| e.upstream.method = Some(method))
    }
    fn set_scheme(&self, scheme: &str) -> PyResult<()> {
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(PyValueError::new_err("a scheme is `http` or `https`")),
        };
        self.life.write(|e| e.upstream.is_tls = is_tls)
    }
    fn set_path(&self, path: &str) -> PyResult<()> {
        if !path.starts_with('/') {
            return Err(PyValueError::new_err("a path starts with `/`"));
        }
        let path = pylae_core::router::path::escape(path.as_bytes()).into_owned();
        self.life.write(|e| e.upstream.path = path)
    }
    fn set_raw_query(&self, query: &str) -> PyResult<()> {
        if query.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'#') {
            return Err(PyValueError::new_err("a raw query holds no space, control byte or `#`"));
        }
        self.life.write(|e| e.upstream.query = (!query.is_empty()).then(|| query.as_bytes().to_vec()))
    }
    fn set_query(&self, arguments: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut query = Vec::new();
        for item in arguments.call_method0("items")?.try_iter()? {
            let (name, value) = item?.extract::<(String, Bound<'_, PyAny>)>()?;
            let values: Vec<Bound<'_, PyAny>> = match value.cast::<PyList>() {
                Ok(list) => list.iter().collect(),
                Err(_) => vec![value],
            };
            for value in values {
                if value.is_instance_of::<PyBool>() && !value.is_truthy()? {
                    continue;
                }
                if !query.is_empty() {
                    query.push(b'&');
                }
                encode_argument(&mut query, name.as_bytes());
                if !value.is_instance_of::<PyBool>() {
                    query.push(b'=');
                    encode_argument(&mut query, value.str()?.to_str()?.as_bytes());
                }
            }
        }
        self.life.write(|e| e.upstream.query = (!query.is_empty()).then_some(query))
    }
    fn set_header(&self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        checked_name(name)?;
        let values = field_values(value)?;
        self.life.write(|e| {
            if !is_ours(name) {
                set_header(e.upstream_headers_mut(), name, &values);
            }
        })
    }
    /// Lays `(name, value)` pairs over what goes upstream; None removes a name.
    fn set_headers(&self, fields: &Bound<'_, PyAny>) -> PyResult<()> {
        let pairs = pairs_of(fields)?;
        let mut fields = fields_of(&pairs)?;
        fields.retain(|(name, _)| !is_ours(name));
        self.life.write(|e| lay(e.upstream_headers_mut(), &fields))
    }
    fn add_header(&self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        checked_name(name)?;
        let values = field_values(value)?;
        self.life.write(|e| {
            if !is_ours(name) {
                for value in &values {
                    e.upstream_headers_mut().add(name, value);
                }
            }
        })
    }
    fn clear_header(&self, name: &str) -> PyResult<()> {
        self.life.write(|e| {
            if e.upstream_headers().contains(name) {
                e.upstream_headers_mut().remove(name);
            }
        })
    }
    fn set_body(&self, body: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = match body.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes().to_vec(),
            Err(_) => body.extract::<String>()?.into_bytes(),
        };
        self.life.write(|e| e.upstream.body = Some(bytes))
    }
}

/// What the upstream answered.
#[pyclass(frozen, unsendable, module = "pylae._core")]
pub struct ServiceResponse {
    life: Rc<Life>,
}

impl ServiceResponse {
    fn new(life: &Rc<Life>) -> Self {
        ServiceResponse { life: Rc::clone(life) }
    }
}

#[pymethods]
impl ServiceResponse {
    #[getter]
    fn status(&self) -> PyResult<Option<u16>> {
        self.life.read(|e| e.response.as_ref().and_then(|r| r.status_of_upstream))
    }
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.life.read(|e| {
            let response = e.response.as_ref().filter(|r| r.source == Source::Service)?;
            response.body.as_ref().map(|body| PyBytes::new(py, body))
        })
    }
    fn get_header<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        self.with_headers(|headers| headers.and_then(|headers| get_header(py, headers, name)))
    }
    fn get_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.with_headers(|headers| headers.map_or_else(|| Ok(PyDict::new(py)), |headers| header_dict(py, headers)))?
    }
}

impl ServiceResponse {
    fn with_headers<R>(&self, f: impl FnOnce(Option<&Headers>) -> R) -> PyResult<R> {
        let kept = self.life.kept.borrow();
        self.life.read(|e| {
            let unchanged = e.response.as_ref().filter(|r| r.source == Source::Service).map(|r| &r.headers);
            f(kept.upstream_headers.as_ref().or(unchanged))
        })
    }
}

/// What the client will see.
#[pyclass(frozen, unsendable, module = "pylae._core")]
pub struct Response {
    life: Rc<Life>,
}

impl Response {
    fn new(life: &Rc<Life>) -> Self {
        Response { life: Rc::clone(life) }
    }
}

impl Response {
    fn edit<R>(&self, f: impl FnOnce(&mut pylae_core::exchange::Response) -> R) -> PyResult<R> {
        self.life.write(|e| {
            if e.phase > Phase::HeaderFilter || e.phase < Phase::Response {
                return Err(PyRuntimeError::new_err(format!(
                    "the answer can't be changed in the {} phase, only in response and header_filter",
                    e.phase.name()
                )));
            }
            let response = e.response.as_mut().ok_or_else(|| PyRuntimeError::new_err("there is no answer yet"))?;
            if response.source == Source::Service {
                self.life.kept.borrow_mut().upstream_headers.get_or_insert_with(|| response.headers.clone());
            }
            Ok(f(response))
        })?
    }

    /// The answer's fields; before there is an answer, those laid over whatever will be answered.
    fn edit_headers<R>(&self, f: impl FnOnce(&mut Headers) -> R) -> PyResult<R> {
        if self.life.read(|e| e.phase < Phase::Response)? {
            return self.life.write(|e| f(&mut e.early_headers));
        }
        self.edit(|response| f(&mut response.headers))
    }
}

#[pymethods]
impl Response {
    #[getter]
    fn status(&self) -> PyResult<u16> {
        self.life.read(|e| e.response.as_ref().map_or(0, |r| r.status))
    }
    #[setter]
    fn set_status(&self, status: u16) -> PyResult<()> {
        checked_status(status)?;
        self.edit(|response| {
            response.status = status;
            response.reason = None;
        })
    }
    #[getter]
    fn source(&self) -> PyResult<&'static str> {
        self.life.read(|e| e.response.as_ref().map_or("error", |r| r.source.name()))
    }
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if let Some(chunk) = &self.life.kept.borrow().chunk {
            return Ok(Some(chunk.bind(py).clone()));
        }
        self.life.read(|e| e.response.as_ref().and_then(|r| r.body.as_ref()).map(|body| PyBytes::new(py, body)))
    }
    fn get_header<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyString>>> {
        self.life.read(|e| e.response.as_ref().and_then(|r| get_header(py, &r.headers, name)))
    }
    fn get_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.life.read(|e| match &e.response {
            Some(response) => header_dict(py, &response.headers),
            None => Ok(PyDict::new(py)),
        })?
    }
    fn set_header(&self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        checked_name(name)?;
        let values = field_values(value)?;
        self.edit_headers(|headers| set_header(headers, name, &values))
    }
    /// Lays `(name, value)` pairs over the answer's; None removes a name.
    fn set_headers(&self, fields: &Bound<'_, PyAny>) -> PyResult<()> {
        let pairs = pairs_of(fields)?;
        let fields = fields_of(&pairs)?;
        self.edit_headers(|headers| lay(headers, &fields))
    }
    fn add_header(&self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        checked_name(name)?;
        let values = field_values(value)?;
        self.edit_headers(|headers| values.iter().for_each(|value| headers.add(name, value)))
    }
    fn clear_header(&self, name: &str) -> PyResult<()> {
        self.edit_headers(|headers| headers.remove(name)).map(|_| ())
    }
    fn set_body(&self, body: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = match body.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes().to_vec(),
            Err(_) => body.extract::<String>()?.into_bytes(),
        };
        self.life.write(|e| {
            if e.phase != Phase::Response {
                return Err(PyRuntimeError::new_err("the whole body can be replaced in the response phase only"));
            }
            if let Some(response) = &mut e.response {
                response.body = Some(bytes);
            }
            Ok(())
        })?
    }
}

/// Who called.
#[pyclass(frozen, unsendable, module = "pylae._core")]
pub struct Client {
    life: Rc<Life>,
}

impl Client {
    fn new(life: &Rc<Life>) -> Self {
        Client { life: Rc::clone(life) }
    }

    fn keep(&self, consumer: Option<Py<PyAny>>, credential: Option<Py<PyAny>>) {
        let mut kept = self.life.kept.borrow_mut();
        let before = (std::mem::replace(&mut kept.consumer, consumer), std::mem::replace(&mut kept.credential, credential));
        // Dropped outside of any borrow: what a plugin kept may run code of its own when it goes.
        drop(kept);
        drop(before);
    }
}

#[pymethods]
impl Client {
    #[getter]
    fn ip(&self) -> PyResult<String> {
        self.life.read(|e| e.connection.peer.ip().to_string())
    }
    #[getter]
    fn forwarded_ip(&self) -> PyResult<String> {
        self.life.read(|e| e.client_ip.to_string())
    }
    #[getter]
    fn port(&self) -> PyResult<u16> {
        self.life.read(|e| e.connection.peer.port())
    }
    #[getter]
    fn forwarded_port(&self) -> PyResult<u16> {
        self.life.read(|e| e.client_port)
    }
    #[getter]
    fn protocol(&self) -> PyResult<&'static str> {
        self.life.read(CoreExchange::scheme)
    }
    #[getter]
    fn forwarded_protocol(&self) -> PyResult<String> {
        self.life.read(|e| e.forwarded.proto.clone())
    }
    /// What the client presented in the TLS handshake and has the key of (DER, its own first); whether it is trusted was not asked.
    #[getter]
    fn certificate_chain<'py>(&self, py: Python<'py>) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
        self.life.read(|e| {
            let client = e.connection.tls.as_ref()?.client.as_ref()?;
            Some(client.chain.iter().map(|certificate| PyBytes::new(py, certificate)).collect())
        })
    }
    /// SHA-256 over the lengths and bytes of that chain.
    #[getter]
    fn certificate_digest<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.life.read(|e| Some(PyBytes::new(py, &e.connection.tls.as_ref()?.client.as_ref()?.digest)))
    }
    /// In the certificate phase: adds names (DER) of authorities by which the client may choose its certificate.
    fn offer_authorities(&self, names: Vec<Vec<u8>>) -> PyResult<()> {
        self.life.read(|e| e.connection.authorities.borrow_mut().extend(names))
    }
    #[getter]
    fn consumer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.life.kept.borrow().consumer.as_ref().map(|consumer| consumer.clone_ref(py))
    }
    #[getter]
    fn credential(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.life.kept.borrow().credential.as_ref().map(|credential| credential.clone_ref(py))
    }
    #[pyo3(signature = (consumer, credential))]
    fn authenticate(&self, consumer: Option<Bound<'_, PyAny>>, credential: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let id = crate::identity::consumer_id(consumer.as_ref())?;
        let credential_id = crate::identity::credential_id(credential.as_ref());
        self.life.write(|e| {
            e.consumer_id = id;
            e.credential_id = credential_id;
        })?;
        self.keep(consumer.map(Bound::unbind), credential.map(Bound::unbind));
        Ok(())
    }

    /// Says who the client is, to the gateway and to the upstream.
    fn identify(&self, identity: &Bound<'_, PyAny>) -> PyResult<()> {
        let imprint = Imprint::of(identity)?;
        let imprint = imprint.get();
        self.life.write(|e| {
            e.consumer_id = imprint.consumer_id;
            e.credential_id = imprint.credential_id;
            imprint.lay(e.upstream_headers_mut());
        })?;
        let py = identity.py();
        let clone = |row: &Option<Py<PyAny>>| row.as_ref().map(|row| row.clone_ref(py));
        self.keep(clone(&imprint.consumer), clone(&imprint.credential));
        Ok(())
    }
}
