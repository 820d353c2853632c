// SPDX-License-Identifier: Apache-2.0
//! For the build script: Kconfig options that need a feature of this crate as well. In an application in C the module's CMake
//! turns the features on; one in Rust names them in its own Cargo.toml, which Kconfig does not see.

#[cfg(test)]
use std::{format, string::String, vec::Vec};

/// A feature of this crate, the option it belongs to, and whether other processors than Arm have it.
const PAIRS: [(&str, &str, bool); 4] = [
    ("cortex-m", "BLEDFU_CRYPTO_CORTEX_M", false),
    ("psa", "BLEDFU_CRYPTO_PSA", true),
    ("log-numbers", "BLEDFU_LOG_NUMBERS", true),
    ("small-updates", "BLEDFU_SMALL_UPDATES", true),
];

/// What does not fit together, one sentence each. The stack of the worker follows the option, and what needs it follows the
/// feature: a build in which they differ would overflow it.
pub fn mistakes(option: impl Fn(&str) -> bool, feature: impl Fn(&str) -> bool, is_arm: bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, config, everywhere) in PAIRS {
        match (option(config), feature(name)) {
            (true, false) => found.push(format!(
                "CONFIG_{config}=y needs the feature {name} of the crate bledfu-firmware: add it to Cargo.toml, or remove the line that sets it"
            )),
            (false, true) if everywhere || is_arm => found.push(format!(
                "the feature {name} of the crate bledfu-firmware needs CONFIG_{config}=y: set it, or remove the feature from Cargo.toml"
            )),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(options: &[&str], features: &[&str], is_arm: bool) -> Vec<String> {
        mistakes(
            |name| options.contains(&name),
            |name| features.contains(&name),
            is_arm,
        )
    }

    #[test]
    fn what_fits_together_is_built() {
        assert!(told(&[], &["small"], true).is_empty());
        for (feature, option, _) in PAIRS {
            assert!(told(&[option], &[feature], true).is_empty());
        }
        // For a processor of another kind this feature means nothing.
        assert!(told(&[], &["cortex-m"], false).is_empty());
    }

    /// The stack would be 1.8 KB too small without the assembly.
    #[test]
    fn an_option_needs_its_feature() {
        assert_eq!(
            told(&["BLEDFU_CRYPTO_CORTEX_M"], &["small"], true),
            ["CONFIG_BLEDFU_CRYPTO_CORTEX_M=y needs the feature cortex-m of the crate bledfu-firmware: add it to Cargo.toml, or remove the line that sets it"]
        );
    }

    /// The stack would be 7 KB too small with packed updates.
    #[test]
    fn a_feature_needs_its_option() {
        for is_arm in [true, false] {
            assert_eq!(
                told(&[], &["small-updates"], is_arm),
                ["the feature small-updates of the crate bledfu-firmware needs CONFIG_BLEDFU_SMALL_UPDATES=y: set it, or remove the feature from Cargo.toml"]
            );
        }
        assert_eq!(told(&[], &["cortex-m", "psa"], true).len(), 2);
    }
}
