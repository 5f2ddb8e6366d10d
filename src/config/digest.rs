//! Stands for what was read: a number that is another one as soon as a file says anything else.
//! FNV-1a with 64 bits, which no later version of this program computes otherwise.

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The digest of the files so far, in the order in which they were read.
#[derive(Clone, Copy)]
pub(super) struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(BASIS)
    }
}

impl Digest {
    /// One more file.
    pub(super) fn add(&mut self, file: &[u8]) {
        for byte in file {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    /// As it is shown: 16 digits.
    pub(super) fn text(self) -> String {
        format!("{:016x}", self.0)
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
            let mut known = Digest::default();
            known.add(text.as_bytes());
            assert_eq!(known.text(), digest, "{text}");
        }
    }
}
