//! What `serde` needs beside derived code (feature `serde`): the forms of types whose values obey a
//! rule.

use alloc::string::String;
use alloc::vec::Vec;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use crate::identity::ClusterIdentity;
use crate::membership::{Member, Membership};

/// Only what a cluster can be is read. A membership without members is that of a server that has
/// yet to be told of its cluster.
impl<'de> Deserialize<'de> for Membership {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(rename = "Membership")]
        struct Unchecked {
            members: Vec<Member>,
            identity: Option<ClusterIdentity>,
        }

        let Unchecked { members, identity } = Unchecked::deserialize(deserializer)?;
        if members.is_empty() {
            return Ok(Self::default().identified(identity));
        }
        let membership = Self::of_members(members).map_err(D::Error::custom)?;
        Ok(membership.identified(identity))
    }
}

/// The text of its `Display`, because readers of JSON lose digits of a number of 128 bits.
impl Serialize for ClusterIdentity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterIdentity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
