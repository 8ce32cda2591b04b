//! Who is calling: the key of a user, and the search for the user of an auth ID.

use crate::{
    UserId,
    kdf::{kdf16, md5, salt},
    keyring::Keyring,
};
use aes::{
    Aes128Enc,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// An auth ID's length in bytes: one AES block.
pub(crate) const AUTH_ID_LEN: usize = 16;

/// What is hashed behind an id (v2fly/v2ray-core `common/protocol/id.go`).
const CMD_KEY_SALT: &[u8] = b"c48619fe-8f02-49e0-b9e9-edf763e17e21";

/// The key that a user's headers are sealed with. Secret; its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct CmdKey([u8; 16]);

impl CmdKey {
    /// The key of the user with this id.
    pub fn new(id: &UserId) -> Self {
        Self(md5(&[id.as_bytes(), CMD_KEY_SALT]))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The auth ID of a header made at `now` (Unix seconds).
    pub(crate) fn auth_id(&self, now: u64, random: [u8; 4]) -> [u8; AUTH_ID_LEN] {
        let mut plain = [0; AUTH_ID_LEN];
        plain[..8].copy_from_slice(&now.to_be_bytes());
        plain[8..12].copy_from_slice(&random);
        let sum = crc32fast::hash(&plain[..12]);
        plain[12..].copy_from_slice(&sum.to_be_bytes());
        let mut block = plain.into();
        Aes128Enc::new((&*self.auth_id_key()).into()).encrypt_block(&mut block);
        block.into()
    }

    fn auth_id_key(&self) -> Zeroizing<[u8; 16]> {
        kdf16(&self.0, &[salt::AUTH_ID])
    }
}

impl Drop for CmdKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for CmdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CmdKey(…)")
    }
}

/// A user's place in [`Users`], counted from 0 in the order added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserIndex(pub usize);

/// The users of an inbound. Each costs about 200 bytes; a search costs one AES block for each of them.
#[derive(Clone, Default)]
pub struct Users {
    /// The keys of the auth IDs: all that a search reads.
    auth_id_keys: Keyring,
    cmd_keys: Vec<CmdKey>,
}

impl Users {
    /// These users, numbered from 0. Of two with the same id the first is found.
    pub fn new(ids: impl IntoIterator<Item = UserId>) -> Self {
        let cmd_keys: Vec<_> = ids.into_iter().map(|id| CmdKey::new(&id)).collect();
        let mut auth_id_keys = Keyring::with_capacity(cmd_keys.len());
        for key in &cmd_keys {
            auth_id_keys.push(&key.auth_id_key());
        }
        Self { auth_id_keys, cmd_keys }
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.cmd_keys.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.cmd_keys.is_empty()
    }

    /// The user who made this auth ID and the time in it (Unix seconds). All users are tried, whoever it
    /// is, so that the time taken tells nothing.
    pub(crate) fn find(&self, auth_id: [u8; AUTH_ID_LEN]) -> Option<Found> {
        let mut found = None;
        self.auth_id_keys.decrypt(auth_id, |index, plain| {
            // A time before the year 36800 has three zero bytes in front; a wrong key gives them once in
            // 16 million, so that the sum is hardly ever computed.
            if plain[..3] == [0; 3] && plain[12..] == crc32fast::hash(&plain[..12]).to_be_bytes() {
                let time = plain[..8].iter().fold(0, |time, &byte| time << 8 | u64::from(byte));
                found = found.or(Some(Found { user: UserIndex(index), time }));
            }
        });
        found
    }

    pub(crate) fn cmd_key(&self, user: UserIndex) -> Option<&CmdKey> {
        self.cmd_keys.get(user.0)
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.len())
    }
}

/// Whose auth ID it is, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) user: UserIndex,
    pub(crate) time: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{bytes, number, text, vectors};

    #[test]
    fn cmd_keys_are_the_vectors() {
        for case in vectors("keys")["cmd_key"].as_array().unwrap() {
            let id: UserId = text(&case["uuid"]).parse().unwrap();
            assert_eq!(id.as_bytes().as_slice(), bytes(&case["uuid_bytes"]));
            assert_eq!(CmdKey::new(&id).as_bytes().as_slice(), bytes(&case["cmd_key"]));
        }
    }

    #[test]
    fn auth_ids_are_the_vectors_and_find_their_user() {
        let v = vectors("keys");
        let ids: Vec<UserId> =
            v["cmd_key"].as_array().unwrap().iter().map(|c| text(&c["uuid"]).parse().unwrap()).collect();
        let (first, others) = ids.split_first().unwrap();
        let users = Users::new(others.iter().chain([first]).copied());
        let strangers = Users::new(others.iter().copied());
        for case in v["auth_id"].as_array().unwrap() {
            let time = number(&case["time"]);
            let auth_id = CmdKey::new(first).auth_id(time, bytes(&case["random4"]).try_into().unwrap());
            assert_eq!(auth_id.as_slice(), bytes(&case["auth_id"]));
            assert_eq!(users.find(auth_id), Some(Found { user: UserIndex(others.len()), time }));
            assert_eq!(strangers.find(auth_id), None);
        }
    }

    #[test]
    fn of_two_users_with_one_id_the_first_is_found() {
        let id = UserId::from_bytes([3; 16]);
        let users = Users::new([UserId::from_bytes([1; 16]), id, id]);
        let found = users.find(CmdKey::new(&id).auth_id(5, [0; 4]));
        assert_eq!(found, Some(Found { user: UserIndex(1), time: 5 }));
    }

    /// For people who read `cargo test -- --nocapture`; machines differ too much to assert on.
    #[expect(clippy::print_stdout, reason = "a measurement to read")]
    fn report(line: fmt::Arguments<'_>) {
        println!("{line}");
    }

    #[test]
    fn ten_thousand_users_are_searched_whole() {
        let id = |n: u32| {
            let mut bytes = [7; 16];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            UserId::from_bytes(bytes)
        };
        let users = Users::new((0..10_000).map(id));
        assert_eq!(users.len(), 10_000);
        for n in [0, 5_000, 9_999] {
            let auth_id = CmdKey::new(&id(n)).auth_id(1_700_000_000, [1, 2, 3, 4]);
            let started = std::time::Instant::now();
            let found = users.find(auth_id);
            report(format_args!("user {n} of 10,000 found in {:?}", started.elapsed()));
            let user = UserIndex(usize::try_from(n).unwrap());
            assert_eq!(found, Some(Found { user, time: 1_700_000_000 }));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let key = CmdKey::new(&UserId::from_bytes([1; 16]));
        assert_eq!(format!("{key:?}"), "CmdKey(…)");
        assert_eq!(format!("{:?}", Users::new([UserId::from_bytes([1; 16])])), "Users(1)");
    }
}
