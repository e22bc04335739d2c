// SPDX-License-Identifier: Apache-2.0
//! What do the name servers answer to one question? Over UDP, over TCP when the answer does not fit, from one server to the next.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Largest datagram that is read. Servers send 512 bytes, as we ask for no more; some send more all the same.
const DATAGRAM_BYTES: usize = 4096;
/// Largest answer over TCP, and most records of one: decoding more would hold up everything else.
const LARGEST_BYTES: usize = 32 * 1024;
const MOST_RECORDS: usize = 2048;
/// Most pointers one after the other, of a compressed name.
const MOST_POINTERS: u8 = 128;
const HEADER_BYTES: usize = 12;
/// For how long a server that failed is asked after the others.
const DOWN: Duration = Duration::from_secs(15);

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Type {
    A,
    Cname,
    Aaaa,
    Srv,
}

impl Type {
    /// Its number (RFC 1035 §3.2.2 and later).
    pub fn number(self) -> u16 {
        u16::from(self.record_type())
    }

    fn record_type(self) -> RecordType {
        match self {
            Type::A => RecordType::A,
            Type::Cname => RecordType::CNAME,
            Type::Aaaa => RecordType::AAAA,
            Type::Srv => RecordType::SRV,
        }
    }
}

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    Cname(String),
    Srv { priority: u16, weight: u16, port: u16, target: String },
}

/// A record of an answer; names are in lower case, without a dot at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub owner: String,
    pub ttl_s: u32,
    pub data: Data,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    /// 0: no error, 3: no such name (RFC 1035 §4.1.1).
    pub code: u16,
    pub answers: Vec<Item>,
    pub additionals: Vec<Item>,
    pub server: SocketAddr,
}

impl Reply {
    /// Did the server say how it is, be it that there is nothing?
    fn is_conclusive(&self) -> bool {
        matches!(self.code, 0 | 3)
    }
}

/// `server failure`: what a response code says.
pub(super) fn code_text(code: u16) -> &'static str {
    match code {
        1 => "format error",
        2 => "server failure",
        3 => "name error",
        4 => "not implemented",
        5 => "refused",
        _ => "unknown",
    }
}

/// How long a question may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Of one server, each time it is asked.
    pub timeout: Duration,
    /// How often the question is sent.
    pub tries: usize,
    /// The end of all patience.
    pub deadline: Instant,
    /// Each question begins with the next server, not with the first.
    pub rotates: bool,
}

/// Sockets that may be open at once.
const MOST_SOCKETS: usize = 512;

/// Asks name servers.
#[derive(Debug)]
pub(super) struct Client {
    sockets: Semaphore,
    /// Servers that failed lately, and until when they go after the others: one that is down costs its timeout once.
    down: RefCell<HashMap<SocketAddr, Instant>>,
    turn: Cell<usize>,
    secret: RandomState,
    count: Cell<u64>,
}

impl Default for Client {
    fn default() -> Self {
        let (down, turn, count) = Default::default();
        Client { sockets: Semaphore::new(MOST_SOCKETS), down, turn, secret: RandomState::new(), count }
    }
}

impl Client {
    /// A number that nobody can guess who does not see the question (RFC 5452 §9.2); the port is the kernel's choice.
    fn next_id(&self) -> u16 {
        self.count.set(self.count.get().wrapping_add(1));
        self.secret.hash_one(self.count.get()) as u16
    }

    /// Places in the list of servers, in the order in which they are asked: as configured, those that failed lately at the end.
    fn order(&self, servers: &[SocketAddr], rotates: bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..servers.len()).collect();
        if rotates {
            self.turn.set(self.turn.get().wrapping_add(1));
            order.rotate_left(self.turn.get() % servers.len());
        }
        let mut down = self.down.borrow_mut();
        if !down.is_empty() {
            let now = Instant::now();
            down.retain(|_, until| *until > now);
            order.sort_by_key(|&index| down.contains_key(&servers[index]));
        }
        order
    }

    fn mark_down(&self, server: SocketAddr) {
        self.down.borrow_mut().insert(server, Instant::now() + DOWN);
    }

    /// Asks one server after the other until one says how it is. One that says that it failed is not asked again.
    ///
    /// # Errors
    /// Nobody answered: what the last one did instead.
    pub async fn ask(&self, servers: &[SocketAddr], name: &str, kind: Type, patience: Patience) -> Result<Reply, String> {
        if servers.is_empty() {
            return Err("no name server is known".to_owned());
        }
        let question = question(self.next_id(), name, kind).ok_or("the question cannot be written")?;
        let mut failed = vec![false; servers.len()];
        let mut inconclusive = None;
        let mut problem = "timeout".to_owned();
        let order = self.order(servers, patience.rotates);
        for index in order.into_iter().cycle().take(patience.tries) {
            if failed.iter().all(|&is_failed| is_failed) || Instant::now() >= patience.deadline {
                break;
            }
            if failed[index] {
                continue;
            }
            let Ok(Ok(_socket)) = timeout_at(patience.deadline, self.sockets.acquire()).await else { break };
            let deadline = (Instant::now() + patience.timeout).min(patience.deadline);
            match ask_one(servers[index], &question, deadline).await {
                Ok(reply) if reply.is_conclusive() => {
                    self.down.borrow_mut().remove(&servers[index]);
                    return Ok(reply);
                }
                Ok(reply) => {
                    failed[index] = true;
                    self.mark_down(servers[index]);
                    inconclusive.get_or_insert(reply);
                }
                Err(error) => {
                    self.mark_down(servers[index]);
                    problem = error;
                }
            }
        }
        inconclusive.ok_or(problem)
    }
}

/// A question as it is sent, and what its answer must fit.
struct Question {
    bytes: Vec<u8>,
    id: u16,
    query: Query,
}

fn question(id: u16, name: &str, kind: Type) -> Option<Question> {
    // Of labels: what is a name has been decided, and a label may begin with `-`.
    let mut full = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
    full.set_fqdn(true);
    let query = Query::query(full, kind.record_type());
    let mut message = Message::new();
    message.set_id(id).set_message_type(MessageType::Query).set_op_code(OpCode::Query).set_recursion_desired(true);
    message.add_query(query.clone());
    Some(Question { bytes: message.to_vec().ok()?, id, query })
}

async fn ask_one(server: SocketAddr, question: &Question, deadline: Instant) -> Result<Reply, String> {
    let problem = |way: &str, error: &io::Error| {
        let error = if error.kind() == io::ErrorKind::TimedOut { "timeout".to_owned() } else { crate::upstream::errno_text(error) };
        format!("failed to receive reply from {way} server {server}: {error}")
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let by_udp = timeout_at(deadline, over_udp(server, question)).await.map_err(late).and_then(|outcome| outcome);
    if let Some(reply) = by_udp.map_err(|error| problem("UDP", &error))? {
        return Ok(reply);
    }
    let by_tcp = timeout_at(deadline, over_tcp(server, question)).await.map_err(late).and_then(|outcome| outcome);
    by_tcp.map_err(|error| problem("TCP", &error))
}

/// `None`: the answer did not fit. What does not fit the question, be it forged or late, is not listened to.
async fn over_udp(server: SocketAddr, question: &Question) -> io::Result<Option<Reply>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question.bytes).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match read(server, question, &buffer[..length]) {
            Some(Read::Reply(reply)) => return Ok(Some(reply)),
            Some(Read::Truncated) => return Ok(None),
            None => {}
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = Vec::with_capacity(question.bytes.len() + 2);
    framed.extend((question.bytes.len() as u16).to_be_bytes());
    framed.extend(&question.bytes);
    stream.write_all(&framed).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > LARGEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is larger than 32 KiB"));
    }
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await?;
    match read(server, question, &buffer) {
        Some(Read::Reply(reply)) => Ok(reply),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no answer to the question")),
    }
}

enum Read {
    Reply(Reply),
    Truncated,
}

/// Is the work of decoding it bounded? Few records, and no long chains of pointers. A pointer that is none, in an address say, counts
/// too; so many of them in a row do not come about by chance.
fn is_bounded(bytes: &[u8]) -> bool {
    let counts = bytes[4..HEADER_BYTES].chunks_exact(2).map(|count| usize::from(u16::from_be_bytes([count[0], count[1]])));
    if counts.sum::<usize>() > MOST_RECORDS {
        return false;
    }
    // How many pointers follow one another from here on; they lead back.
    let mut chains = vec![0u8; bytes.len()];
    for at in HEADER_BYTES..bytes.len().saturating_sub(1) {
        if bytes[at] & 0xc0 == 0xc0 {
            let target = usize::from(u16::from_be_bytes([bytes[at] & 0x3f, bytes[at + 1]]));
            chains[at] = 1 + if target < at { chains[target] } else { 0 };
            if chains[at] > MOST_POINTERS {
                return false;
            }
        }
    }
    true
}

/// The answer to this question; `None`: it is none.
fn read(server: SocketAddr, question: &Question, bytes: &[u8]) -> Option<Read> {
    let header = bytes.get(..HEADER_BYTES)?;
    let (is_answer, is_truncated) = (header[2] & 0x80 != 0, header[2] & 0x02 != 0);
    if !is_answer || header[..2] != question.id.to_be_bytes() {
        return None;
    }
    if is_truncated {
        // What is left may end in the middle of a record, and is asked for again as a whole.
        return Some(Read::Truncated);
    }
    if !is_bounded(bytes) {
        return None;
    }
    let code = u16::from(header[3] & 0x0f);
    let message = Message::from_vec(bytes).ok()?;
    let fits = |asked: &Query| {
        *asked.name() == *question.query.name() && asked.query_type() == question.query.query_type() && asked.query_class() == DNSClass::IN
    };
    match message.queries() {
        [asked] if fits(asked) => {}
        // A server that failed may send nothing more than its header.
        [] if !matches!(code, 0 | 3) => {}
        _ => return None,
    }
    let items = |records: &[Record]| records.iter().filter_map(item).collect();
    let (answers, additionals) = (items(message.answers()), items(message.additionals()));
    Some(Read::Reply(Reply { code, answers, additionals, server }))
}

fn item(record: &Record) -> Option<Item> {
    if record.dns_class() != DNSClass::IN {
        return None;
    }
    let data = match record.data() {
        RData::A(address) => Data::Address(IpAddr::V4(address.0)),
        RData::AAAA(address) => Data::Address(IpAddr::V6(address.0)),
        RData::CNAME(target) => Data::Cname(text(&target.0)),
        RData::SRV(srv) => Data::Srv { priority: srv.priority(), weight: srv.weight(), port: srv.port(), target: text(srv.target()) },
        _ => return None,
    };
    Some(Item { owner: text(record.name()), ttl_s: record.ttl(), data })
}

fn text(name: &Name) -> String {
    let mut text = String::with_capacity(name.len());
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        for &byte in label {
            // A dot within a label must not look like one between two.
            if byte == b'.' || byte == b'\\' || !byte.is_ascii_graphic() {
                let _ = write!(text, "\\{byte:03}");
            } else {
                text.push(char::from(byte.to_ascii_lowercase()));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::rdata;

    fn server() -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53)
    }

    fn answer(asked: &Question, name: &str) -> Message {
        let mut message = Message::new();
        message.set_id(asked.id).set_message_type(MessageType::Response).add_query(asked.query.clone());
        let record = Record::from_rdata(Name::from_ascii(name).expect(name), 60, RData::A(rdata::A(Ipv4Addr::new(10, 0, 0, 1))));
        message.add_answer(record);
        message
    }

    fn reply(asked: &Question, message: &Message) -> Option<Read> {
        read(server(), asked, &message.to_vec().expect("a message"))
    }

    #[test]
    fn test_an_answer_is_read() {
        let asked = question(7, "a.test", Type::A).expect("a question");
        let Some(Read::Reply(reply)) = reply(&asked, &answer(&asked, "A.Test.")) else { panic!("no reply") };
        let data = Data::Address("10.0.0.1".parse().expect("an address"));
        assert_eq!(reply.answers, [Item { owner: "a.test".to_owned(), ttl_s: 60, data }]);
        assert_eq!(reply.code, 0);
    }

    #[test]
    fn test_what_does_not_fit_the_question_is_not_listened_to() {
        let asked = question(7, "a.test", Type::A).expect("a question");
        for other in [question(8, "a.test", Type::A), question(7, "b.test", Type::A), question(7, "a.test", Type::Srv)] {
            let other = other.expect("a question");
            assert!(reply(&asked, &answer(&other, "a.test.")).is_none());
        }
        assert!(read(server(), &asked, &asked.bytes).is_none(), "a question is no answer");
        let whole = answer(&asked, "a.test.").to_vec().expect("a message");
        for length in 0..whole.len() {
            assert!(read(server(), &asked, &whole[..length]).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn test_bytes_of_any_kind_do_no_harm() {
        let asked = question(7, "a.test", Type::Srv).expect("a question");
        let whole = answer(&asked, "a.test.").to_vec().expect("a message");
        for position in 0..whole.len() {
            for byte in 0..=255 {
                let mut bytes = whole.clone();
                bytes[position] = byte;
                let _ = read(server(), &asked, &bytes);
            }
        }
    }

    #[test]
    fn test_what_would_take_long_to_decode_is_not_decoded() {
        let asked = question(7, "a.test", Type::A).expect("a question");
        let whole = answer(&asked, "a.test.").to_vec().expect("a message");
        assert!(is_bounded(&whole));
        let mut many = whole.clone();
        many[6..8].copy_from_slice(&2049u16.to_be_bytes());
        assert!(!is_bounded(&many) && read(server(), &asked, &many).is_none());
        let chain = |length: u16| {
            let mut bytes = whole.clone();
            let begin = bytes.len() as u16;
            for at in 0..length {
                let target = if at == 0 { 12 } else { begin + 2 * (at - 1) };
                bytes.extend((0xc000 | target).to_be_bytes());
            }
            bytes
        };
        assert!(is_bounded(&chain(100)));
        assert!(!is_bounded(&chain(200)) && read(server(), &asked, &chain(200)).is_none());
    }

    #[test]
    fn test_a_label_may_begin_with_a_hyphen() {
        let asked = question(7, "-a.test", Type::A).expect("a question");
        let mut message = answer(&asked, "b.test.");
        let owner = Name::from_labels([b"-a".as_slice(), b"Test"]).expect("a name");
        message.add_answer(Record::from_rdata(owner, 60, RData::A(rdata::A(Ipv4Addr::LOCALHOST))));
        let Some(Read::Reply(reply)) = reply(&asked, &message) else { panic!("no reply") };
        assert_eq!(reply.answers[1].owner, "-a.test");
    }

    #[test]
    fn test_servers_are_asked_in_their_order_and_those_that_failed_last() {
        let servers: Vec<SocketAddr> = (1..=3).map(|last| SocketAddr::new(Ipv4Addr::new(10, 0, 0, last).into(), 53)).collect();
        let client = Client::default();
        assert_eq!(client.order(&servers, false), [0, 1, 2]);
        client.mark_down(servers[0]);
        assert_eq!(client.order(&servers, false), [1, 2, 0]);
        client.mark_down(servers[2]);
        assert_eq!(client.order(&servers, false), [1, 0, 2]);
        client.down.borrow_mut().insert(servers[0], Instant::now());
        assert_eq!(client.order(&servers, false), [0, 1, 2]);
        assert_eq!((client.order(&servers[..2], true), client.order(&servers[..2], true)), (vec![1, 0], vec![0, 1]));
    }

    #[test]
    fn test_a_truncated_answer_is_not_used() {
        let asked = question(7, "a.test", Type::A).expect("a question");
        let mut message = answer(&asked, "a.test.");
        message.set_truncated(true);
        assert!(matches!(reply(&asked, &message), Some(Read::Truncated)));
        let bytes = message.to_vec().expect("a message");
        assert!(matches!(read(server(), &asked, &bytes[..bytes.len() - 3]), Some(Read::Truncated)));
    }

    #[test]
    fn test_a_failure_may_be_a_header_alone() {
        let asked = question(7, "a.test", Type::A).expect("a question");
        let mut message = Message::new();
        message.set_id(7).set_message_type(MessageType::Response).set_response_code(ResponseCode::Refused);
        let Some(Read::Reply(reply)) = reply(&asked, &message) else { panic!("no reply") };
        assert_eq!((reply.code, code_text(reply.code)), (5, "refused"));
    }
}
