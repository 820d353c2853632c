// SPDX-License-Identifier: Apache-2.0
//! The `index.json` of a release: which file is for which running image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name, beside the index.
    pub file: String,
    /// Its size in bytes.
    pub size: usize,
    /// The version from which it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_version: Option<String>,
}

/// The index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The version that every file makes.
    pub to_version: String,
    /// Its digest.
    pub to_digest: String,
    /// Packed updates, by the digest of the running image, as `image list` shows it.
    pub from: BTreeMap<String, Entry>,
    /// For every other device.
    pub full: Entry,
}

impl Index {
    /// The file for a device that runs the image with this digest; `None` if it runs the new one already. A device that does not
    /// tell gets the full image.
    pub fn file_for(&self, running: Option<&str>) -> Option<&Entry> {
        match running {
            Some(digest) if digest == self.to_digest => None,
            Some(digest) => Some(self.from.get(digest).unwrap_or(&self.full)),
            None => Some(&self.full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: &str) -> Entry {
        Entry {
            file: file.to_owned(),
            size: 1,
            from_version: None,
        }
    }

    #[test]
    fn the_packed_update_is_for_its_base_only_and_the_full_image_for_all_others() {
        let index = Index {
            to_version: "2.0.0".to_owned(),
            to_digest: "22".to_owned(),
            from: BTreeMap::from([("11".to_owned(), entry("app-from-1.zip"))]),
            full: entry("app-full.zip"),
        };
        let file = |running| index.file_for(running).map(|entry| entry.file.as_str());
        assert_eq!(file(Some("11")), Some("app-from-1.zip"));
        assert_eq!(file(Some("33")), Some("app-full.zip"));
        assert_eq!(file(None), Some("app-full.zip"));
        assert_eq!(file(Some("22")), None);
    }
}
