// SPDX-License-Identifier: Apache-2.0
//! SHA-256 for campaigns, which hash the same few images millions of times: while the bytes are those of a known image,
//! they are only compared. Every result is the one that SHA-256 gives.

use std::rc::Rc;

use bledfu_slot::{Crypto, Digest, Key, Sha256, Signature, SignatureCheck, SoftCrypto};

use super::device::Images;

type SoftSha256 = <SoftCrypto as Crypto>::Sha256;

/// [`SoftCrypto`] for devices with known images.
pub(super) struct KnownHashes(pub Rc<Images>);

impl Crypto for KnownHashes {
    type Sha256 = KnownSha256;

    fn verify(&self, key: &Key, digest: &Digest, signature: &Signature) -> SignatureCheck {
        SoftCrypto.verify(key, digest, signature)
    }

    fn sha256(&self) -> KnownSha256 {
        KnownSha256::Known {
            images: self.0.clone(),
            possible: [true; 4],
            length: 0,
        }
    }
}

/// A running hash.
#[derive(Clone)]
pub(super) enum KnownSha256 {
    /// The bytes so far are the first ones of every image that is still possible.
    Known {
        images: Rc<Images>,
        possible: [bool; 4],
        length: usize,
    },
    /// They are of no known image.
    Other(SoftSha256),
}

impl Sha256 for KnownSha256 {
    fn new() -> Self {
        Self::Other(SoftSha256::new())
    }

    fn update(&mut self, bytes: &[u8]) {
        let (images, possible, length) = match self {
            Self::Known {
                images,
                possible,
                length,
            } => (images, possible, length),
            Self::Other(hash) => return hash.update(bytes),
        };
        let goes_on = |index: usize| {
            let behind = images.bytes[index].get(*length..);
            possible[index] && behind.is_some_and(|behind| behind.starts_with(bytes))
        };
        let still = [goes_on(0), goes_on(1), goes_on(2), goes_on(3)];
        if still.contains(&true) {
            (*possible, *length) = (still, *length + bytes.len());
            return;
        }
        let mut hash = hash_of(images, possible, *length);
        hash.update(bytes);
        *self = Self::Other(hash);
    }

    fn finish(self) -> Digest {
        match self {
            Self::Known {
                images,
                possible,
                length,
            } => match (0..4).find(|index| possible[*index] && images.hashed[*index] == length) {
                Some(index) => images.digests[index],
                None => hash_of(&images, &possible, length).finish(),
            },
            Self::Other(hash) => hash.finish(),
        }
    }
}

/// The hash of the first bytes of an image that is possible.
fn hash_of(images: &Images, possible: &[bool; 4], length: usize) -> SoftSha256 {
    let mut hash = SoftSha256::new();
    let index = possible.iter().position(|possible| *possible).unwrap_or(0);
    hash.update(&images.bytes[index][..length]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(bytes: &[u8]) -> Digest {
        <sha2::Sha256 as sha2::Digest>::digest(bytes).into()
    }

    #[test]
    fn every_hash_is_that_of_sha_256() {
        let images = Rc::new(Images {
            bytes: [
                b"first".to_vec(),
                b"fires".to_vec(),
                b"other".to_vec(),
                b"fi".to_vec(),
            ],
            hashed: [4, 5, 5, 2],
            digests: [b"firs".as_slice(), b"fires", b"other", b"fi"].map(sha256),
        });
        for text in [
            "",
            "f",
            "fi",
            "firs",
            "first",
            "fires",
            "fire!",
            "first, and more",
            "others",
            "none",
        ] {
            for split in 0..=text.len() {
                let mut hash = KnownHashes(images.clone()).sha256();
                hash.update(&text.as_bytes()[..split]);
                let snapshot = hash.clone();
                hash.update(&text.as_bytes()[split..]);
                assert_eq!(hash.finish(), sha256(text.as_bytes()), "{text} from {split}");
                assert_eq!(
                    snapshot.finish(),
                    sha256(&text.as_bytes()[..split]),
                    "{text} up to {split}"
                );
            }
        }
    }
}
