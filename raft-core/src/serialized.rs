//! What `serde` needs beside derived code (feature `serde`): the forms of types whose values obey a
//! rule.

use alloc::string::String;
use alloc::vec::Vec;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::identity::ClusterIdentity;
use crate::membership::{Member, Membership};

/// Only what a cluster can be is read. A membership without members is that of a server that has
/// yet to be told of its cluster.
impl Serialize for Membership {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Membership", 3)?;
        fields.serialize_field("members", self.members())?;
        fields.serialize_field("identity", &self.identity())?;
        fields.serialize_field("version", &self.version())?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Membership {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(rename = "Membership")]
        struct Unchecked {
            members: Vec<Member>,
            identity: Option<ClusterIdentity>,
            version: u32,
        }

        let Unchecked { members, identity, version } = Unchecked::deserialize(deserializer)?;
        let membership = if members.is_empty() {
            Self::default()
        } else {
            Self::of_members(members).map_err(D::Error::custom)?
        };
        Ok(membership.identified(identity).at_version(version))
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
