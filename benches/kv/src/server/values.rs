//! Keys and their values, in an order that is the same on every server: that of a hash of the key.
//!
//! So a SCAN can go on at any server, also at a new leader. Its cursor is a place in this order:
//! every key that is there from the first call to the last is told, whatever is written meanwhile,
//! because no key ever moves.

use std::hash::Hasher;

use bytes::Bytes;
use rpds::RedBlackTreeMapSync;
use siphasher::sip::SipHasher13;

use super::digest::Digest;
use super::glob;

/// The most keys that one call of SCAN looks at.
pub const SCAN_KEYS_MAX: usize = 512;
/// After how many bytes of keys one call of SCAN ends, although it could look at more keys.
pub const SCAN_BYTES_MAX: usize = 64 << 10;

/// Keys and their values, with a digest of them. A clone shares all of the original, and costs
/// nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Values {
    map: RedBlackTreeMapSync<Place, Bytes>,
    digest: Digest,
}

/// Where in the order a key is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    hash: u64,
    key: Bytes,
}

impl Values {
    /// The value of this key.
    pub fn get(&self, key: &Bytes) -> Option<&Bytes> {
        self.map.get(&Place::of(key.clone()))
    }

    /// Whether the key has a value.
    pub fn contains(&self, key: &Bytes) -> bool {
        self.get(key).is_some()
    }

    /// Gives the key this value, in the place of an older one.
    pub fn insert(&mut self, key: Bytes, value: Bytes) {
        let place = Place::of(key);
        self.digest.add(&place.key, &value);
        match self.map.get_mut(&place) {
            Some(old) => {
                self.digest.remove(&place.key, old);
                *old = value;
            }
            None => self.map.insert_mut(place, value),
        }
    }

    /// Takes the key out; says whether it was there.
    pub fn remove(&mut self, key: &Bytes) -> bool {
        let place = Place::of(key.clone());
        let Some(old) = self.map.get(&place) else { return false };
        self.digest.remove(key, old);
        self.map.remove_mut(&place)
    }

    /// How many keys there are.
    pub fn size(&self) -> usize {
        self.map.size()
    }

    /// The digest of all keys and values.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// All keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.map.iter().map(|(place, value)| (&place.key, value))
    }

    /// Looks at the next keys from `cursor` on, 0 at first: at `count` of them, at most
    /// [`SCAN_KEYS_MAX`]. Gives those of this pattern, and the cursor of the next call: 0 if there
    /// is no more.
    pub fn scan(&self, cursor: u64, count: usize, pattern: &[u8]) -> (u64, Vec<Bytes>) {
        let (mut found, mut bytes, mut last) = (Vec::new(), 0, None);
        let from = Place { hash: cursor, key: Bytes::new() };
        for (looked_at, (Place { hash, key }, _)) in self.map.range::<Place, _>(from..).enumerate()
        {
            let is_enough = looked_at >= count.min(SCAN_KEYS_MAX) || bytes >= SCAN_BYTES_MAX;
            // Keys of the same hash are not told apart by a cursor, so they go together.
            if is_enough && last != Some(*hash) {
                return (*hash, found);
            }
            last = Some(*hash);
            bytes += key.len();
            if glob::matches(pattern, key) {
                found.push(key.clone());
            }
        }
        (0, found)
    }
}

impl Place {
    /// Only 53 bits: clients in some languages take a cursor for a floating point number.
    fn of(key: Bytes) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(&key);
        Self { hash: hasher.finish() >> 11, key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn key(number: u32) -> Bytes {
        format!("key:{number}").into()
    }

    fn values(numbers: impl IntoIterator<Item = u32>) -> Values {
        let mut values = Values::default();
        numbers.into_iter().for_each(|number| values.insert(key(number), Bytes::new()));
        values
    }

    /// All that a client gets by SCAN; `between` is done between two calls.
    fn scanned(
        values: &mut Values,
        count: usize,
        mut between: impl FnMut(&mut Values),
    ) -> Vec<Bytes> {
        let (mut cursor, mut all) = (0, Vec::new());
        loop {
            let (next, found) = values.scan(cursor, count, b"*");
            assert!(next == 0 || next > cursor && next < 1 << 53);
            all.extend(found);
            if next == 0 {
                return all;
            }
            cursor = next;
            between(values);
        }
    }

    #[test]
    fn a_scan_tells_each_key_once() {
        let mut values = values(0..1000);
        for count in [1, 10, usize::MAX] {
            let all = scanned(&mut values, count, |_| ());
            assert_eq!(all.len(), 1000);
            assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), (0..1000).map(key).collect());
        }
    }

    #[test]
    fn a_scan_misses_no_key_that_stays_whatever_is_written_meanwhile() {
        let mut values = values(0..500);
        let mut next = 500;
        let all: BTreeSet<_> = scanned(&mut values, 7, |values| {
            values.insert(key(next), Bytes::new());
            values.remove(&key(next - 400));
            next += 1;
        })
        .into_iter()
        .collect();
        assert!((0..100).chain(next - 400..500).all(|number| all.contains(&key(number))));
    }

    #[test]
    fn a_scan_looks_at_few_keys_at_a_time() {
        let values = values(0..2000);
        let (next, found) = values.scan(0, usize::MAX, b"*");
        assert_eq!((found.len(), next == 0), (SCAN_KEYS_MAX, false));
        let (next, found) = values.scan(0, 100, b"none of them");
        assert_eq!((found.len(), next == 0), (0, false), "what does not match counts");

        let mut long = Values::default();
        for number in 0..10u8 {
            long.insert(vec![number; SCAN_BYTES_MAX].into(), Bytes::new());
        }
        assert_eq!(long.scan(0, 10, b"*").1.len(), 1);
    }

    #[test]
    fn the_order_does_not_depend_on_the_history() {
        let (one, other) = (values(0..100), values((0..200).rev()));
        let mut other = other;
        (100..200).for_each(|number| assert!(other.remove(&key(number))));
        assert!(one.iter().eq(other.iter()));
        assert_eq!(one, other);
    }
}
