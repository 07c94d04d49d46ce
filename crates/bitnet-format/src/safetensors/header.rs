//! The JSON header, read so that a name that appears twice is seen.

use std::{collections::BTreeMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// All entries in the order of the text.
pub(super) struct Header {
    pub(super) metadata: Option<BTreeMap<String, String>>,
    pub(super) entries: Vec<(String, Entry)>,
}

/// What the header says of one tensor.
#[derive(Deserialize)]
pub(super) struct Entry {
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Entry {
    pub(super) fn range(&self) -> Range<u64> {
        self.data_offsets.0..self.data_offsets.1
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { metadata: None, entries: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name != "__metadata__" {
                        header.entries.push((name, map.next_value()?));
                    } else if header.metadata.replace(map.next_value()?).is_some() {
                        return Err(A::Error::duplicate_field("__metadata__"));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
