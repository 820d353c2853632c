// SPDX-License-Identifier: Apache-2.0
//! The catalogue of what goes wrong: for each signature what it means, its causes with the likeliest first, what to check or change,
//! and what bledfu does in the same place.

mod boot;
mod secure_dfu;
mod smp;

/// One signature.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its ID: S for Secure DFU, M for SMP, B for the boot stage.
    pub id: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// Causes, the likeliest first.
    pub causes: &'static [&'static str],
    /// What to check or change.
    pub checks: &'static [&'static str],
    /// What bledfu does in the same place.
    pub bledfu: &'static str,
}

/// All entries.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    secure_dfu::ENTRIES
        .iter()
        .chain(smp::ENTRIES)
        .chain(boot::ENTRIES)
}

/// The entry with this ID.
pub fn find(id: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_complete_and_says_something_in_every_place() {
        let ids: Vec<&str> = all().map(|entry| entry.id).collect();
        let wanted: Vec<String> = [('S', 28), ('M', 16), ('B', 7)]
            .into_iter()
            .flat_map(|(kind, count)| (1..=count).map(move |number| format!("{kind}{number}")))
            .collect();
        assert_eq!(ids, wanted);
        for entry in all() {
            assert!(
                !entry.title.is_empty() && !entry.bledfu.is_empty(),
                "{}",
                entry.id
            );
            assert!(
                !entry.causes.is_empty() && !entry.checks.is_empty(),
                "{}",
                entry.id
            );
        }
    }
}
