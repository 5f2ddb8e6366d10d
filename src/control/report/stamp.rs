//! Times as RFC 3339 in UTC, to the millisecond: for `#[serde(with = "stamp")]`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serializer};

/// The last second of the year 9999: what is later has no such text.
const LAST: Duration = Duration::from_secs(253_402_300_799);

pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    to.collect_str(&humantime::format_rfc3339_millis(UNIX_EPOCH + since))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
    humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
}

/// The same for a time that may be null.
pub(super) mod optional {
    use serde::Serialize;

    use super::{Deserialize, Deserializer, Serializer, SystemTime};

    struct Stamp<'t>(&'t SystemTime);

    impl Serialize for Stamp<'_> {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            super::serialize(self.0, to)
        }
    }

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        time.as_ref().map(Stamp).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        humantime::parse_rfc3339(&text).map(Some).map_err(serde::de::Error::custom)
    }
}
