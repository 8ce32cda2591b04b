//! Names of domains with labels, looked up by name and by every suffix of it.
//!
//! All names lie in one run of bytes and the table holds numbers only: some 20 bytes an entry besides its name, where
//! a map of strings takes more than a hundred. A lookup reads the name once, from its end: each dot on the way is one
//! probe.

/// The longest name, in bytes (RFC 1035 section 2.3.4 allows 255 with the lengths; V2Ray sends the length in a byte).
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// What an entry is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// The whole name.
    Full,
    /// The name or its suffix behind a dot.
    Suffix,
}

/// The names and their labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Each name, its length in front.
    arena: Box<[u8]>,
    /// Ordered by name, then reach, then label: those of one name are neighbours.
    entries: Box<[Entry]>,
    /// Open addressing: the first entry of a name, counted from 1; 0 is free. A power of two, or nothing.
    slots: Box<[u32]>,
}

/// One condition.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where its name is in the arena.
    name: u32,
    label: u32,
    reach: Reach,
}

impl Names {
    /// The table of these, which are in lower case and not empty. Names too long to be looked up are left out.
    pub(crate) fn new(mut names: Vec<(&str, Reach, u32)>) -> Self {
        names.retain(|(name, ..)| !name.is_empty() && name.len() <= MAX_NAME_BYTES);
        names.sort_unstable();
        names.dedup();
        let mut arena: Vec<u8> = Vec::new();
        let mut entries = Vec::with_capacity(names.len());
        let mut table = Slots::for_names(names.len());
        let mut last = None;
        for (text, reach, label) in names {
            let start = if let Some((name, start)) = last
                && name == text
            {
                start
            } else {
                let start = index(arena.len());
                arena.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                arena.extend(text.as_bytes());
                table.put(hash(text.as_bytes()), index(entries.len()));
                start
            };
            last = Some((text, start));
            entries.push(Entry { name: start, label, reach });
        }
        Self { arena: arena.into(), entries: entries.into(), slots: table.0 }
    }

    /// Calls `found` for each entry that the name (in lower case) falls under, with the length of the entry's name,
    /// shortest first, until it says that this is enough.
    pub(crate) fn find(&self, name: &[u8], mut found: impl FnMut(usize, Reach, u32) -> Search) -> Search {
        if self.slots.is_empty() {
            return Search::GoOn;
        }
        let mut state = HASH_START;
        for at in (0..name.len()).rev() {
            state = hash_step(state, name[at]);
            let whole = at == 0;
            if !whole && name[at - 1] != b'.' {
                continue;
            }
            for entry in self.group(state, &name[at..]) {
                let under = whole || entry.reach == Reach::Suffix;
                if under && found(name.len() - at, entry.reach, entry.label) == Search::Enough {
                    return Search::Enough;
                }
            }
        }
        Search::GoOn
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries of exactly this name.
    fn group(&self, state: u64, name: &[u8]) -> &[Entry] {
        let mask = self.slots.len() - 1;
        let mut slot = slot(state, mask);
        // The table is never full, so that a free slot ends every search.
        while let Some(first) = (self.slots[slot] as usize).checked_sub(1) {
            let start = self.entries[first].name;
            if self.name(start) == name {
                let len = self.entries[first..].iter().take_while(|entry| entry.name == start).count();
                return &self.entries[first..first + len];
            }
            slot = (slot + 1) & mask;
        }
        &[]
    }

    fn name(&self, start: u32) -> &[u8] {
        let start = start as usize;
        &self.arena[start + 1..][..usize::from(self.arena[start])]
    }
}

/// Whether a search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// Look for more.
    GoOn,
    /// Stop here.
    Enough,
}

/// The table while it is filled.
struct Slots(Box<[u32]>);

impl Slots {
    /// Half full at most.
    fn for_names(count: usize) -> Self {
        let len = if count == 0 { 0 } else { (count * 2).next_power_of_two() };
        Self(vec![0; len].into())
    }

    fn put(&mut self, state: u64, entry: u32) {
        let mask = self.0.len() - 1;
        let mut slot = slot(state, mask);
        while self.0[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        self.0[slot] = entry + 1;
    }
}

/// FNV-1a, 64 bits (RFC 9923), over the bytes from the last to the first.
fn hash(name: &[u8]) -> u64 {
    name.iter().rev().fold(HASH_START, |state, &byte| hash_step(state, byte))
}

const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

fn hash_step(state: u64, byte: u8) -> u64 {
    (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

#[expect(clippy::cast_possible_truncation, reason = "folded and masked")]
fn slot(state: u64, mask: usize) -> usize {
    (state ^ state >> 32) as usize & mask
}

/// Names of a configuration do not reach 4 GiB.
fn index(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
