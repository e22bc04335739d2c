// SPDX-License-Identifier: Apache-2.0
//! May this connection enter? Accept loops, the life of a client's connection, draining.

pub mod connection;

use crate::exchange::ConnectionFacts;
use crate::gateway::{Gateway, bump, drop_one};
use crate::http::wire::{Stream, Wire};
use crate::observe::Level;
use crate::tls::ServerTls;
use connection::ClientConnection;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Longest time a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// One address the gateway listens on, with one socket per worker slot.
pub struct Listener {
    /// The configured port, before `port_maps`.
    pub port: u16,
    /// TLS, when the listener terminates it.
    pub tls: Option<Rc<ServerTls>>,
    /// One `SO_REUSEPORT` socket per worker slot.
    pub sockets: Vec<Rc<TcpListener>>,
}

/// Accepts from one socket until `stop` says so or the drain begins.
pub async fn accept_loop(gateway: Rc<Gateway>, listener: Rc<Listener>, socket: Rc<TcpListener>, stop: Rc<dyn Fn() -> bool>) {
    let serial = gateway.next_task();
    let mut is_known = false;
    loop {
        let accepted = std::future::poll_fn(|cx| {
            if gateway.drain.poll(serial, &mut is_known, cx).is_ready() || stop() {
                return std::task::Poll::Ready(None);
            }
            socket.poll_accept(cx).map(Some)
        })
        .await;
        match accepted {
            None => break,
            Some(Ok((stream, peer))) => {
                bump(&gateway.statistics.accepted);
                if gateway.statistics.active.get() as usize >= gateway.settings.worker_connections {
                    gateway.logs.log(Level::Alert, &format!("{} worker_connections are not enough", gateway.settings.worker_connections));
                    continue;
                }
                bump(&gateway.statistics.handled);
                let _ = stream.set_nodelay(true);
                let (gateway, listener) = (Rc::clone(&gateway), Rc::clone(&listener));
                tokio::task::spawn_local(enter(gateway, listener, stream, peer));
            }
            Some(Err(error)) => {
                // Out of descriptors: the queue keeps the connection; try again when one has ended.
                gateway.logs.log(Level::Crit, &format!("accept() failed ({})", crate::upstream::errno_text(&error)));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    gateway.drain.forget(serial);
}

async fn enter(gateway: Rc<Gateway>, listener: Rc<Listener>, stream: TcpStream, peer: std::net::SocketAddr) {
    bump(&gateway.statistics.active);
    let serial = gateway.next_serial();
    let _guard = Leaving { gateway: Rc::clone(&gateway), serial };
    let Ok(local) = stream.local_addr() else { return };
    let listen_port = gateway.settings.port_maps.iter().find(|(from, _)| *from == listener.port).map_or(listener.port, |(_, to)| *to);
    let mut facts =
        ConnectionFacts { serial, peer, local, listen_port, tls: None, requests: Cell::new(0), authorities: RefCell::default() };
    let wire = match &listener.tls {
        None => Wire::new(Stream::Plain(stream)),
        Some(tls) => match handshake(&gateway, &facts, tls, stream).await {
            Some((wire, tls)) => {
                facts.tls = Some(tls);
                wire
            }
            None => return,
        },
    };
    let connection = ClientConnection::new(wire, Rc::new(facts));
    connection::serve(gateway, connection).await;
}

/// Counts the connection out however its task ends.
struct Leaving {
    gateway: Rc<Gateway>,
    serial: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        drop_one(&self.gateway.statistics.active);
        self.gateway.drain.forget(self.serial);
    }
}

async fn handshake(
    gateway: &Rc<Gateway>,
    facts: &ConnectionFacts,
    tls: &ServerTls,
    stream: TcpStream,
) -> Option<(Wire, crate::exchange::TlsFacts)> {
    let mut first = [0u8; 1];
    let mut is_known = false;
    // Who has said nothing yet has nothing to lose: a drain does not wait for a first byte.
    let peeked = tokio::select! {
        peeked = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)) => peeked,
        () = std::future::poll_fn(|cx| gateway.drain.poll(facts.serial, &mut is_known, cx)) => return None,
    };
    gateway.drain.forget(facts.serial);
    match peeked {
        Ok(Ok(1)) if first[0].is_ascii_uppercase() => {
            // Plain HTTP on a TLS port: nginx says so in the clear, and so do we.
            let plain = ConnectionFacts {
                serial: facts.serial,
                peer: facts.peer,
                local: facts.local,
                listen_port: facts.listen_port,
                tls: None,
                requests: Cell::new(0),
                authorities: RefCell::default(),
            };
            let mut connection = ClientConnection::new(Wire::new(Stream::Plain(stream)), Rc::new(plain));
            connection.is_plain_on_tls_port = true;
            connection::serve(Rc::clone(gateway), connection).await;
            return None;
        }
        Ok(Ok(1)) => {}
        _ => return None,
    }
    let accept = async {
        let start = tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let sni = start.client_hello().server_name().map(str::to_ascii_lowercase);
        let asking = Arc::clone(&gateway.snapshot.load().asking);
        let asked_by = asking.asked_by(sni.as_deref());
        let Some(authorities) = connection::certificate_phase(gateway, facts, sni, asked_by.as_deref().unwrap_or_default()).await else {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a plugin refused the handshake"));
        };
        let config = if asked_by.is_some() { tls.asking(authorities).map_err(io::Error::other)? } else { tls.plain() };
        start.into_stream(config).await
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, accept).await {
        Ok(Ok(stream)) => {
            let tls = crate::tls::facts(stream.get_ref().1);
            Some((Wire::new(Stream::Tls(Box::new(stream.into()))), tls))
        }
        Ok(Err(error)) => {
            let level = if error.kind() == io::ErrorKind::UnexpectedEof { Level::Info } else { Level::Crit };
            gateway.logs.log(
                level,
                &format!(
                    "*{} SSL_do_handshake() failed ({error}) while SSL handshaking, client: {}, server: {}",
                    facts.serial,
                    facts.peer.ip(),
                    facts.local
                ),
            );
            None
        }
        Err(_) => {
            gateway.logs.log(
                Level::Info,
                &format!(
                    "*{} client timed out (110: Connection timed out) while SSL handshaking, client: {}, server: {}",
                    facts.serial,
                    facts.peer.ip(),
                    facts.local
                ),
            );
            None
        }
    }
}

/// Says of each worker slot whether another worker must accept from its sockets (dead, hung, replaced or surplus).
pub type IsStranded = Rc<dyn Fn(usize) -> bool>;

/// Accepts from our own sockets, and from a sibling's while it is stranded.
pub async fn run(gateway: Rc<Gateway>, listeners: Vec<Rc<Listener>>, own: usize, is_stranded: IsStranded) {
    // Which adoption of a slot is on; a loop of an earlier one ends when it is woken.
    let adopted: Rc<RefCell<Vec<Option<u64>>>> = Rc::default();
    let mut adoptions = 0;
    let slots = listeners.iter().map(|listener| listener.sockets.len()).max().unwrap_or(0);
    adopted.borrow_mut().resize(slots, None);
    for listener in &listeners {
        if let Some(socket) = listener.sockets.get(own) {
            tokio::task::spawn_local(accept_loop(Rc::clone(&gateway), Rc::clone(listener), Rc::clone(socket), Rc::new(|| false)));
        }
    }
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !gateway.drain.is_begun() {
        tick.tick().await;
        for slot in (0..slots).filter(|&slot| slot != own) {
            let stranded = is_stranded(slot);
            let was = adopted.borrow()[slot];
            if !stranded {
                adopted.borrow_mut()[slot] = None;
            } else if was.is_none() {
                adoptions += 1;
                let adoption = Some(adoptions);
                adopted.borrow_mut()[slot] = adoption;
                for listener in &listeners {
                    let Some(socket) = listener.sockets.get(slot) else { continue };
                    let adopted = Rc::clone(&adopted);
                    let stop: Rc<dyn Fn() -> bool> = Rc::new(move || adopted.borrow()[slot] != adoption);
                    tokio::task::spawn_local(accept_loop(Rc::clone(&gateway), Rc::clone(listener), Rc::clone(socket), stop));
                }
            }
        }
    }
}
