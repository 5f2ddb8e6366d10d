//! Just enough HTTP/1.1 for one request on a connection, bounded in size and in time.

use std::io::{self, BufRead, BufReader, Read, Take, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// The request line and all headers together, in bytes.
const MAX_HEAD: u64 = 8 << 10;
const MAX_BODY: u64 = 1 << 20;
/// How much of a refused request is still read, and for how long.
const MAX_DRAINED: u64 = 8 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// What the service needs of a request.
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

/// Why there is no request.
pub(super) enum Broken {
    /// It cannot be served; this is the answer.
    Refused(Response),
    /// The client is gone, or the service stops: nobody waits for an answer.
    Gone,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        // A read that runs into its timeout is told as one or the other, depending on the system.
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            refused("408 Request Timeout", "the request took too long\n")
        } else {
            Self::Gone
        }
    }
}

fn refused(status: &'static str, why: &'static str) -> Broken {
    Broken::Refused(Response::text(status, why))
}

fn bad_request(why: &'static str) -> Broken {
    refused("400 Bad Request", why)
}

/// Reads one request, which may take `patience` as a whole: bytes that drip in buy no time.
pub(super) fn read_request(stream: &TcpStream, patience: Duration) -> Result<Request, Broken> {
    let mut reader = BufReader::new(Timed::new(stream, patience));
    let head = read_head(&mut reader)?;
    if head.length > MAX_BODY {
        return Err(refused("413 Content Too Large", "the body is larger than 1 MiB\n"));
    }
    if head.expects_continue {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    let received = reader.take(head.length).read_to_end(&mut body)?;
    if received as u64 != head.length {
        return Err(Broken::Gone);
    }
    Ok(Request { method: head.method, path: head.path, body })
}

struct Head {
    method: String,
    path: String,
    length: u64,
    expects_continue: bool,
}

fn read_head(reader: &mut impl BufRead) -> Result<Head, Broken> {
    let mut rest = reader.take(MAX_HEAD);
    let (method, path, needs_host) = request_line(&read_line(&mut rest)?)?;
    let (mut length, mut hosts, mut expects_continue) = (None, 0, false);
    loop {
        let line = read_line(&mut rest)?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(bad_request("a header has no colon\n"));
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(bad_request("a header's name is empty or has spaces\n"));
        }
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" if length.is_some() => {
                return Err(bad_request("there are two lengths\n"));
            }
            "content-length" => length = Some(content_length(value)?),
            "transfer-encoding" => {
                return Err(refused("411 Length Required", "send the body with its length\n"));
            }
            "expect" => expects_continue = value.eq_ignore_ascii_case("100-continue"),
            "host" => hosts += 1,
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && needs_host) {
        return Err(bad_request("there must be one Host header\n"));
    }
    Ok(Head { method, path, length: length.unwrap_or(0), expects_continue })
}

/// One line of the head, without its end.
fn read_line(rest: &mut Take<impl BufRead>) -> Result<String, Broken> {
    let mut line = Vec::new();
    rest.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        let full = rest.limit() == 0;
        let too_large =
            || refused("431 Request Header Fields Too Large", "the head is larger than 8 KiB\n");
        return Err(if full { too_large() } else { Broken::Gone });
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| bad_request("the head is not UTF-8\n"))
}

/// Method, path, and whether the version asks for a Host header.
fn request_line(line: &str) -> Result<(String, String, bool), Broken> {
    let parts: Vec<_> = line.split(' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Err(bad_request("the first line is not METHOD PATH HTTP/1.1\n"));
    };
    let needs_host = match *version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(bad_request("the version is neither HTTP/1.1 nor HTTP/1.0\n")),
    };
    if method.is_empty() || !target.starts_with('/') {
        return Err(bad_request("there is no method, or the path does not begin with a slash\n"));
    }
    let path = target.split('?').next().unwrap_or_default();
    Ok(((*method).to_owned(), path.to_owned(), needs_host))
}

fn content_length(value: &str) -> Result<u64, Broken> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad_request("the length is not a number\n"));
    }
    // More digits than fit are too large, whatever they say.
    Ok(value.parse().unwrap_or(u64::MAX))
}

/// An answer; the connection is closed after it.
pub(super) struct Response {
    /// The code with its words, such as `200 OK`.
    status: &'static str,
    content_type: &'static str,
    /// The method to use instead.
    allow: Option<&'static str>,
    body: Vec<u8>,
}

impl Response {
    pub(super) fn text(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", allow: None, body: body.into() }
    }

    pub(super) fn json(value: &serde_json::Value) -> Self {
        let body = format!("{value}\n").into_bytes();
        Self { status: "200 OK", content_type: "application/json", allow: None, body }
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let text = format!("use {allow}\n");
        Self { allow: Some(allow), ..Self::text("405 Method Not Allowed", text) }
    }

    /// Sends it, which may take `patience` as a whole.
    pub(super) fn send(&self, stream: &TcpStream, patience: Duration) -> io::Result<()> {
        let Self { status, content_type, allow, body } = self;
        let allow = allow.map_or_else(String::new, |allow| format!("Allow: {allow}\r\n"));
        let length = body.len();
        let mut bytes = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{allow}\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Timed::new(stream, patience).write_all(&bytes)
    }
}

/// Ends a connection whose request was not read to its end. Were it closed with bytes unread, the
/// system would reset it, and the answer might be lost on its way.
pub(super) fn drain(stream: &TcpStream) {
    // Whatever fails here, the connection is closed next.
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = Timed::new(stream, DRAIN_TIME).take(MAX_DRAINED);
    let _ = io::copy(&mut rest, &mut io::sink());
}

/// A stream with one deadline for everything that is read from it or written to it.
struct Timed<'s> {
    stream: &'s TcpStream,
    deadline: Instant,
}

impl<'s> Timed<'s> {
    fn new(stream: &'s TcpStream, patience: Duration) -> Self {
        Self { stream, deadline: Instant::now() + patience }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
