//! Keys, each decoded once: a device's key recurs with every event of it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};

use crate::claim::{Key, PUBLIC_KEY_BYTES};

/// Places of the cache: what a hash table of 2^17 holds, and about 30 MB when all of them are taken.
pub const PLACES: usize = 7 << 14;

type Encoded = [u8; PUBLIC_KEY_BYTES];

/// Remembers what keys decode to, also those that are no points: hostile ones shall not cost more than
/// others.
///
/// When it is full, a place drawn at random is given to the newcomer. With a rule such as the least
/// recently used, a fleet one larger than the cache, heard in turn, would find none of its keys; so it
/// finds most of them. Nobody who sends keys can tell which ones go.
pub struct Keys {
    places: usize,
    at: HashMap<Encoded, usize>,
    slots: Vec<(Encoded, Option<EdwardsPoint>)>,
    dice: RandomState,
    throws: u64,
}

impl Default for Keys {
    fn default() -> Self {
        Self::with_places(PLACES)
    }
}

impl Keys {
    /// A cache that grows to `places` keys.
    pub fn with_places(places: usize) -> Self {
        Self {
            places: places.max(1),
            at: HashMap::new(),
            slots: Vec::new(),
            dice: RandomState::new(),
            throws: 0,
        }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Decode a key by ZIP 215; None where it is no point or has a wrong length.
    pub fn decode(&mut self, raw: &[u8]) -> Option<Key> {
        let encoded: Encoded = raw.try_into().ok()?;
        let known = self.at.get(&encoded).and_then(|&place| self.slots.get(place));
        let point = match known {
            Some((_, point)) => *point,
            None => {
                let point = CompressedEdwardsY(encoded).decompress();
                self.remember(encoded, point);
                point
            }
        };
        point.map(|point| Key { encoded, point })
    }

    fn remember(&mut self, encoded: Encoded, point: Option<EdwardsPoint>) {
        let mut place = self.slots.len();
        if place >= self.places {
            place = self.draw();
        }
        match self.slots.get_mut(place) {
            Some(slot) => {
                self.at.remove(&slot.0);
                *slot = (encoded, point);
            }
            None => self.slots.push((encoded, point)),
        }
        self.at.insert(encoded, place);
    }

    fn draw(&mut self) -> usize {
        self.throws = self.throws.wrapping_add(1);
        let places = self.slots.len().max(1) as u64;
        (self.dice.hash_one(self.throws) % places) as usize
    }
}
