//! Who is who: the identities of specification §3, as types that cannot be mixed.
//!
//! A network address or a pod name is never an identity. Sets of replicas are always sets of [`Member`]s: a restarted
//! process is a different member (N1), and what the old one was entitled to passes on only by registering (§8.3).

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not the 32 hexadecimal digits of an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an identity of 32 hexadecimal digits")]
pub struct IdentityError {
    /// The text that was refused, cut to 64 characters.
    pub text: String,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Written as 32 lower-case hexadecimal digits, in JSON as a string.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, IdentityError> {
                let hexadecimal = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
                let value = hexadecimal.then(|| u128::from_str_radix(text, 16).ok()).flatten();
                value.map(Self).ok_or_else(|| IdentityError { text: text.chars().take(64).collect() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

random_id!(
    /// Identity of the coordinator object: a deleted and re-created object has another one (§3).
    GroupUid
);
random_id!(
    /// 128 random bits made when a data directory is formatted (§3).
    DiskId
);
random_id!(
    /// 128 random bits made at every process start (§3).
    Incarnation
);
random_id!(
    /// Identity of one write to the coordinator object, fresh for every write (C1).
    Proposal
);

impl GroupUid {
    /// The identity in a UUID such as Kubernetes gives to every object: its digits without the hyphens.
    ///
    /// # Errors
    /// [`IdentityError`] when the text has not 32 hexadecimal digits besides hyphens.
    pub fn from_uuid(text: &str) -> Result<Self, IdentityError> {
        text.replace('-', "").parse()
    }
}

/// The group that a directory belonged to before it adopted an object that was made anew (§8.16).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Former {
    /// Its object, which was lost.
    pub group_uid: GroupUid,
    /// The highest epoch that was seen of it here.
    pub max_epoch: Epoch,
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            ///
            /// # Panics
            /// At the end of the number range, which no real group reaches.
            #[must_use]
            pub fn next(self) -> Self {
                match self.0.checked_add(1) {
                    Some(next) => Self(next),
                    None => unreachable!("2^32 replicas or 2^64 elections of one group do not happen"),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

number!(
    /// Small integer that the coordinator gives to a disk; never used again in a group (§3).
    ReplicaId(u32)
);
number!(
    /// Number of a mastership; grows with every new master member (§3). Zero: nobody was master yet.
    Epoch(u64)
);
number!(
    /// Counts the changes of the coordinator object (§3).
    Version(u64)
);

/// A replica during one run of its process: the unit of every set in the protocol (§3, N1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Which data directory.
    pub replica_id: ReplicaId,
    /// Which run of the process on it.
    pub incarnation: Incarnation,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.replica_id, self.incarnation)
    }
}

/// Makes the fresh proposal of every write (C1) from 128 random bits that the caller drew once, at process start.
///
/// Two processes draw different bits and one process counts, so no two writes of a group ever carry the same proposal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Proposals {
    next: u128,
}

impl Proposals {
    /// Starts after `seed`: the process's incarnation, or any other 128 random bits of its own.
    pub fn new(seed: u128) -> Self {
        Self { next: seed }
    }

    /// A proposal that was never given before.
    pub fn fresh(&mut self) -> Proposal {
        self.next = self.next.wrapping_add(1);
        Proposal(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_32_hexadecimal_digits_and_nothing_else() {
        let id = Incarnation(0xab);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "ab",
            "+00000000000000000000000000000ab",
            "0x000000000000000000000000000000a",
        ] {
            assert!(wrong.parse::<Incarnation>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn group_uid_is_taken_from_the_uuid_of_an_object() {
        let uid = GroupUid::from_uuid("6e2d9d3c-5d9b-4a57-8b3f-0d3ad5f0a1b2").unwrap();
        assert_eq!(uid.to_string(), "6e2d9d3c5d9b4a578b3f0d3ad5f0a1b2");
    }

    #[test]
    fn proposals_never_repeat() {
        let mut proposals = Proposals::new(7);
        assert_ne!(proposals.fresh(), proposals.fresh());
    }
}
