//! A number that stands for what was read or configured: another one as soon as that says anything
//! else, and the same in every build and version, which std's own hashes need not be.

use std::hash::Hasher;

/// The hash of Fowler, Noll and Vo: FNV-1a with 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// As it is shown: 16 digits.
    pub(crate) fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_common_one() {
        for (text, digest) in
            [("", "cbf29ce484222325"), ("a", "af63dc4c8601ec8c"), ("foobar", "85944171f73967e8")]
        {
            let mut known = Fnv::default();
            known.write(text.as_bytes());
            assert_eq!((known.text().as_str(), known.finish()), (digest, known.0), "{text}");
        }
    }
}
