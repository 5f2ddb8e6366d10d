//! Durations, sizes and listen addresses as people write them in configuration files.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// The longest duration a configuration may name: beyond it, it is a mistake.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Reads a duration such as `500ms`, `30s`, `5m` or `1h30m`.
///
/// # Errors
/// Says what is wrong and shows what to write.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("is empty; write a duration such as \"30s\"".into());
    }
    if text != "0" && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("has no unit; write \"{text}s\" or \"{text}ms\""));
    }
    if text.contains(char::is_whitespace) || !text.is_ascii() {
        return Err("is not a duration; write it without spaces, such as \"1h30m\"".into());
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration > MAX_DURATION => Err("is longer than 100 years".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("is not a duration ({error}); write for example \"500ms\"")),
    }
}

/// Reads a size such as `256MB` (powers of 1000), `1GiB` (powers of 1024) or a number of bytes.
///
/// # Errors
/// Says what is wrong and shows what to write.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| "is not a size; write for example \"256MB\"".to_owned())?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000_u64.pow(2),
        "gb" => 1000_u64.pow(3),
        "tb" => 1000_u64.pow(4),
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        other => {
            return Err(format!(
                "has the unknown unit {other:?}; write KB, MB, GB, KiB, MiB or GiB"
            ));
        }
    };
    number.checked_mul(factor).ok_or_else(|| "is larger than 16 EiB".to_owned())
}

/// For `#[serde(with = "hsu_master::config::duration")]` in a module's own configuration.
pub mod duration {
    use super::{Deserializer, Duration, Serializer, Text, parse_duration};

    /// Reads a duration such as `"1h30m"`.
    ///
    /// # Errors
    /// The deserializer's own, and text that is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let expecting = "a duration such as \"30s\"";
        deserializer.deserialize_any(Text { expecting, parse: parse_duration, number: None })
    }

    /// Writes it as `deserialize` reads it.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let text = humantime::format_duration(*value).to_string();
        serializer.serialize_str(&text.replace(' ', ""))
    }
}

/// For `#[serde(with = "hsu_master::config::size")]` in a module's own configuration.
pub mod size {
    use super::{Deserializer, Serializer, Text, parse_size};

    /// Reads a size such as `"256MB"`, or a number of bytes.
    ///
    /// # Errors
    /// The deserializer's own, and text that is no size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let expecting = "a size such as \"256MB\" or a number of bytes";
        deserializer.deserialize_any(Text { expecting, parse: parse_size, number: Some(|n| n) })
    }

    /// Writes the number of bytes.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(*value)
    }
}

/// A visitor for values written as text, or as a number where that has a meaning.
struct Text<T> {
    expecting: &'static str,
    parse: fn(&str) -> Result<T, String>,
    number: Option<fn(u64) -> T>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(|problem| E::custom(format!("{text:?} {problem}")))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        match self.number {
            Some(convert) => Ok(convert(number)),
            None => (self.parse)(&number.to_string())
                .map_err(|problem| E::custom(format!("{number} {problem}"))),
        }
    }
}

/// An address to listen at: `":8080"`, `"host:0"`, or just `8080`.
///
/// Without a host it is the loopback address `127.0.0.1`: a service is reachable from outside only
/// when its configuration says so. The standard library cannot bind `":8080"`; this type can be
/// bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddr {
    host: String,
    port: u16,
}

impl ListenAddr {
    /// This port of the loopback address.
    pub fn local(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port }
    }

    /// The port; 0 asks the system for a free one.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Reads `host:port`, `:port` or `port`.
fn parse_address(text: &str) -> Result<ListenAddr, String> {
    let wrong = "is not an address; write \"host:port\", \"[::1]:8080\" or \":8080\"";
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = port.parse().map_err(|_| wrong.to_owned())?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err("is ambiguous; write an IPv6 host as \"[::1]:8080\"".to_owned());
    }
    Ok(match bare.unwrap_or(host) {
        "" => ListenAddr::local(port),
        host => ListenAddr { host: host.to_owned(), port },
    })
}

impl FromStr for ListenAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse_address(text).map_err(|problem| Error::configuration(format!("{text:?} {problem}")))
    }
}

impl Default for ListenAddr {
    /// A free port of the loopback address.
    fn default() -> Self {
        Self::local(0)
    }
}

impl ToSocketAddrs for ListenAddr {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> std::io::Result<Self::Iter> {
        (self.host.as_str(), self.port).to_socket_addrs()
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'de> Deserialize<'de> for ListenAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "an address such as \":8080\" or \"127.0.0.1:8080\"";
        deserializer.deserialize_any(Text { expecting, parse: parse_address, number: None })
    }
}

impl Serialize for ListenAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert!(parse_duration("30").unwrap_err().contains("\"30s\""));
        for bad in
            ["", "-1s", "NaN", "1e400s", "１０s", "10 s", "s", "1000000y", "99999999999999999999s"]
        {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("256MB", 256_000_000), ("1GiB", 1 << 30), ("17", 17), ("2mib", 2 << 20)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MB", "1.5MB", "-1", "1XB", "99999999TiB", "18446744073709551616"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn listen_addresses_without_a_host_are_local() {
        for (text, shown) in [
            (":8080", "127.0.0.1:8080"),
            ("8080", "127.0.0.1:8080"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:80", "[::1]:80"),
        ] {
            let address: ListenAddr = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(address.to_socket_addrs().unwrap().next().is_some());
        }
        for bad in ["", ":", "host", "::1:80", ":70000"] {
            assert!(bad.parse::<ListenAddr>().is_err(), "{bad:?}");
        }
        assert_eq!(serde_json::from_str::<ListenAddr>("8080").unwrap().port(), 8080);
        assert!(serde_json::from_str::<ListenAddr>("70000").is_err());
    }

    #[test]
    fn durations_and_sizes_can_be_read_by_modules() {
        #[derive(Debug, PartialEq, Deserialize, Serialize)]
        struct Config {
            #[serde(with = "duration")]
            timeout: Duration,
            #[serde(with = "size")]
            limit: u64,
        }
        let text = r#"{"timeout":"1h30m","limit":"1KiB"}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config, Config { timeout: Duration::from_secs(5400), limit: 1024 });
        let again = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&again).unwrap(), config);
        let error = serde_json::from_str::<Config>(r#"{"timeout":30,"limit":1}"#).unwrap_err();
        assert!(error.to_string().contains("30 has no unit; write \"30s\""), "{error}");
    }
}
