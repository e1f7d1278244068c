//! The types that a key may have.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::table::Rule;

/// A type that a key's text can be parsed into.
pub trait Value: Sized {
    /// The type in words, for the table.
    const KIND: &'static str;
    /// Reads the text; `unit` is the row's.
    ///
    /// # Errors
    /// Says what is expected.
    fn read(text: &str, rule: Rule, unit: &str) -> Result<Self, String>;
    /// The text that would give this value.
    fn show(&self, unit: &str) -> String;
}

/// Reads a value under a rule.
///
/// # Errors
/// Says what is expected.
pub fn parse<V: Value>(text: &str, rule: Rule, unit: &str) -> Result<V, String> {
    if let Rule::OneOf(choices) = rule
        && !choices.contains(&text)
    {
        return Err(format!("must be one of {}", choices.join(", ")));
    }
    V::read(text, rule, unit)
}

fn integer(text: &str, rule: Rule, unit: &str) -> Result<u64, String> {
    let unit = if unit.is_empty() {
        String::new()
    } else {
        format!(" ({unit})")
    };
    let range = match rule {
        Rule::Between(low, u64::MAX) => format!("must be an integer of at least {low}{unit}"),
        Rule::Between(low, high) => format!("must be an integer from {low} to {high}{unit}"),
        Rule::Any | Rule::OneOf(_) => format!("must be a whole number that is not negative{unit}"),
    };
    match text.parse::<u64>() {
        Ok(number) if matches!(rule, Rule::Between(low, high) if number < low || number > high) => {
            Err(range)
        }
        Ok(number) => Ok(number),
        Err(_) => Err(range),
    }
}

macro_rules! integers {
    ($($ty:ty),+) => {$(
        impl Value for $ty {
            const KIND: &'static str = "integer";
            fn read(text: &str, rule: Rule, unit: &str) -> Result<Self, String> {
                let number = integer(text, rule, unit)?;
                Self::try_from(number).map_err(|_| format!("must be at most {}", Self::MAX))
            }
            fn show(&self, _unit: &str) -> String {
                self.to_string()
            }
        }
    )+};
}
integers!(u16, u32, u64, usize);

impl Value for bool {
    const KIND: &'static str = "boolean";
    fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }
    fn show(&self, _unit: &str) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    const KIND: &'static str = "integer";
    fn read(text: &str, rule: Rule, unit: &str) -> Result<Self, String> {
        let number = integer(text, rule, unit)?;
        let too_long = || "is too long".to_owned();
        match unit {
            "ms" => Ok(Self::from_millis(number)),
            "s" => Ok(Self::from_secs(number)),
            "h" => number
                .checked_mul(3600)
                .map(Self::from_secs)
                .ok_or_else(too_long),
            _ => Err(format!("`{unit}` is not a unit of time")),
        }
    }
    fn show(&self, unit: &str) -> String {
        match unit {
            "s" => self.as_secs().to_string(),
            "h" => (self.as_secs() / 3600).to_string(),
            _ => self.as_millis().to_string(),
        }
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As the size of something in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Value for ByteSize {
    const KIND: &'static str = "integer";
    fn read(text: &str, rule: Rule, unit: &str) -> Result<Self, String> {
        integer(text, rule, unit).map(Self)
    }
    fn show(&self, _unit: &str) -> String {
        self.0.to_string()
    }
}

/// A name of a cluster, broker or replica: 1 to 127 letters, digits, `-`, `_`, `.`.
///
/// Routes carry these names through clients that split text at commas, colons and quotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for Name {
    const KIND: &'static str = "name";
    fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > 127 || !text.chars().all(good) {
            return Err("must be 1 to 127 letters, digits, `-`, `_` or `.`".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
    fn show(&self, _unit: &str) -> String {
        self.0.clone()
    }
}

impl Value for String {
    const KIND: &'static str = "text";
    fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn show(&self, _unit: &str) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "path";
    fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("must name a folder".to_owned())
        } else {
            Ok(Self::from(text))
        }
    }
    fn show(&self, _unit: &str) -> String {
        self.display().to_string()
    }
}

impl Value for IpAddr {
    const KIND: &'static str = "IP address";
    fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be an IP address".to_owned())
    }
    fn show(&self, _unit: &str) -> String {
        self.to_string()
    }
}

/// Nothing given is a value of its own.
impl<V: Value> Value for Option<V> {
    const KIND: &'static str = V::KIND;
    fn read(text: &str, rule: Rule, unit: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            V::read(text, rule, unit).map(Some)
        }
    }
    fn show(&self, unit: &str) -> String {
        self.as_ref()
            .map(|value| value.show(unit))
            .unwrap_or_default()
    }
}

/// `host:port`, the host being a DNS name or an address (IPv6 in brackets).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// DNS name or address, without brackets.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
}

impl Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Value for HostPort {
    const KIND: &'static str = "host:port";
    fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` must be host:port");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        let port = port
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(wrong)?;
        let bad = |c: char| c.is_whitespace() || matches!(c, ',' | '"' | '/' | '[' | ']');
        if host.is_empty() || host.contains(bad) || (bracketed.is_none() && host.contains(':')) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
    fn show(&self, _unit: &str) -> String {
        self.to_string()
    }
}

/// A list, `;` between the items.
impl Value for Vec<HostPort> {
    const KIND: &'static str = "host:port list (;)";
    fn read(text: &str, rule: Rule, unit: &str) -> Result<Self, String> {
        let items = text
            .split(';')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items.map(|item| HostPort::read(item, rule, unit)).collect()
    }
    fn show(&self, _unit: &str) -> String {
        self.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(";")
    }
}

/// Hours of a day, 0 to 23, `;` between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours(pub Vec<u8>);

impl Value for Hours {
    const KIND: &'static str = "hour list (;)";
    fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
        let hour = |item: &str| item.trim().parse::<u8>().ok().filter(|hour| *hour < 24);
        text.split(';')
            .map(hour)
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| "must be hours from 00 to 23 with `;` between them".to_owned())
    }
    fn show(&self, _unit: &str) -> String {
        self.0
            .iter()
            .map(|hour| format!("{hour:02}"))
            .collect::<Vec<_>>()
            .join(";")
    }
}

/// The delays of levels 1, 2, …: `1s 5s 10s 1m 2h 1d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayLevels(pub Vec<Duration>);

impl Value for DelayLevels {
    const KIND: &'static str = "delay list";
    fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
        let delay = |item: &str| {
            let at = item.len().checked_sub(1)?;
            let (number, unit) = item.split_at_checked(at)?;
            let seconds = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                "d" => 86_400,
                _ => return None,
            };
            number
                .parse::<u64>()
                .ok()?
                .checked_mul(seconds)
                .map(Duration::from_secs)
        };
        let levels: Option<Vec<Duration>> = text.split_whitespace().map(delay).collect();
        levels
            .filter(|levels| !levels.is_empty())
            .map(Self)
            .ok_or_else(|| "must be delays such as `1s 5s 1m 2h`, blanks between them".to_owned())
    }
    fn show(&self, _unit: &str) -> String {
        let show = |delay: &Duration| match delay.as_secs() {
            seconds if seconds > 0 && seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
            seconds if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
            seconds if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
            seconds => format!("{seconds}s"),
        };
        self.0.iter().map(show).collect::<Vec<_>>().join(" ")
    }
}

macro_rules! choices {
    ($(#[$outer:meta])* $Name:ident { $($(#[$inner:meta])* $Variant:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Name {$($(#[$inner])* $Variant,)+}

        impl Value for $Name {
            const KIND: &'static str = "choice";
            fn read(text: &str, _rule: Rule, _unit: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$Variant),)+
                    _ => Err(format!("must be one of {}", [$($text),+].join(", "))),
                }
            }
            fn show(&self, _unit: &str) -> String {
                match self {$(Self::$Variant => $text.to_owned(),)+}
            }
        }
    };
}

choices! {
    /// RocketMQ's role of a broker.
    BrokerRole {
        /// A master that answers before any slave has the message.
        AsyncMaster = "ASYNC_MASTER",
        /// A master that answers when enough replicas have the message.
        SyncMaster = "SYNC_MASTER",
        /// Not a master.
        Slave = "SLAVE",
    }
}

choices! {
    /// When a message is answered relative to the disk.
    FlushDiskType {
        /// After it was appended.
        Async = "ASYNC_FLUSH",
        /// After it was flushed.
        Sync = "SYNC_FLUSH",
    }
}

choices! {
    /// When a message is answered relative to the slaves.
    ReplicationMode {
        /// Without waiting for a slave.
        Async = "ASYNC",
        /// When the whole in-sync set has it.
        Sync = "SYNC",
    }
}

choices! {
    /// How the bytes of a commit log file are reserved ahead.
    SegmentPreallocate {
        /// Zeros with SYNC_FLUSH, reserve with ASYNC_FLUSH.
        Auto = "auto",
        /// The file system is asked for the blocks: quick.
        Reserve = "reserve",
        /// Zeros are written: slower, but later flushes need no journal commit of the file system.
        Zeros = "zeros",
    }
}

/// What an acknowledgement promises about replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replication {
    /// Whether an answer waits for the in-sync set.
    pub mode: ReplicationMode,
    /// The smallest in-sync set, the master included, with which a master takes writes.
    pub in_sync_min: u32,
}
