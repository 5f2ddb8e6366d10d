//! The launcher: this program, run again for a moment. It sets on itself what only a process can
//! set on itself, as a socket in place of its standard input tells it, and becomes the program.

#[cfg(target_os = "linux")]
mod steps;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(target_os = "linux")]
pub(crate) use steps::main;

#[cfg(target_os = "linux")]
use super::sys::{Limit, Resource};

/// What the program is run as, if it is run to be a launcher.
pub(crate) const LAUNCH_ROLE: &str = "__hsu-launch";
/// No instructions are longer, in bytes: the system takes no longer arguments and variables.
#[cfg(target_os = "linux")]
const MAX_INSTRUCTIONS: usize = 64 << 20;

/// What a launcher is to do: one line of JSON from the master.
#[cfg(target_os = "linux")]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instructions {
    /// An absolute path.
    pub(crate) program: Raw,
    /// The program's name first.
    pub(crate) arguments: Vec<Raw>,
    /// Each `NAME=value`.
    pub(crate) variables: Vec<Raw>,
    /// A socket comes beside the line, to be its standard input. Else that is `/dev/null`.
    pub(crate) linked: bool,
    pub(crate) directory: Option<Raw>,
    /// In the order in which they are set.
    pub(crate) limits: Vec<(Resource, Limit)>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) nice: Option<i32>,
    pub(crate) umask: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) gid: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) no_new_privs: bool,
}

/// What a launcher does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Understanding what it is to do.
    Instructions,
    /// Passing its standard input on.
    Input,
    Limit,
    OomScore,
    Nice,
    Groups,
    Group,
    User,
    /// Seeing to it that nothing leads back to root.
    Verify,
    Directory,
    NoNewPrivs,
    Exec,
}

/// A line of JSON from the launcher. With an `errno` the step failed, and nothing follows. The one
/// line without says that the program is run now: if nothing follows that, it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Word {
    pub(crate) step: Step,
    pub(crate) errno: Option<i32>,
    #[serde(default)]
    pub(crate) detail: String,
}

/// Bytes as a JSON text: each is the character of its number, so that any path and any variable
/// can be sent, and most can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| char::from(*byte)).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = text.chars().map(|c| u8::try_from(u32::from(c)));
        let wrong = |_| serde::de::Error::custom("not bytes: a character is larger than 255");
        bytes.collect::<Result<_, _>>().map(Self).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_as_they_were() {
        let bytes = Raw((0..=255).collect());
        let line = serde_json::to_string(&bytes).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Raw>(&line).unwrap(), bytes);
        assert!(serde_json::from_str::<Raw>("\"\u{100}\"").is_err());
        assert_eq!(serde_json::to_string(&Raw(b"PATH=/bin".to_vec())).unwrap(), "\"PATH=/bin\"");
    }
}
