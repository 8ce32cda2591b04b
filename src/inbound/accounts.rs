//! Who may use a local inbound: names and passwords, compared in constant time.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};

pub use crate::session::Credentials;

/// The accounts of one inbound. Without any, everybody may use it.
#[derive(Clone, Default)]
pub struct Accounts(Vec<Account>);

#[derive(Clone)]
struct Account {
    name: Box<str>,
    digest: digest::Digest,
}

impl Accounts {
    /// Accounts of these names and passwords. The passwords are kept as digests only.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let account = |(name, password): (&str, &str)| Account {
            name: name.into(),
            digest: digest_of(name.as_bytes(), password.as_bytes()),
        };
        Self(pairs.into_iter().map(account).collect())
    }

    /// Whether nobody has to say who they are.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the account these belong to. The time it takes depends on the number of accounts
    /// and the length of what was sent, not on which account or byte was right.
    pub fn find(&self, credentials: &Credentials) -> Option<&str> {
        let claimed = digest_of(&credentials.user, &credentials.password);
        self.0.iter().fold(None, |found, account| {
            let is_same = verify_slices_are_equal(account.digest.as_ref(), claimed.as_ref()).is_ok();
            if is_same { Some(&*account.name) } else { found }
        })
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accounts({})", self.0.len())
    }
}

/// One digest for both, the name's length in front so that no two pairs have the same input.
fn digest_of(user: &[u8], password: &[u8]) -> digest::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&u64::try_from(user.len()).unwrap_or(u64::MAX).to_be_bytes());
    context.update(user);
    context.update(password);
    context.finish()
}

#[cfg(test)]
mod tests {
    use super::{Accounts, Credentials};

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }

    #[test]
    fn account_is_found_by_name_and_password_together() {
        let accounts = Accounts::new([("ann", "one"), ("bob", "two")]);
        assert_eq!(accounts.find(&credentials("ann", "one")), Some("ann"));
        assert_eq!(accounts.find(&credentials("bob", "two")), Some("bob"));
        for (user, password) in
            [("ann", "two"), ("an", "none"), ("annone", ""), ("", ""), ("ANN", "one"), ("ann", "on")]
        {
            assert_eq!(accounts.find(&credentials(user, password)), None, "{user} {password}");
        }
    }

    #[test]
    fn debug_shows_neither_names_nor_passwords() {
        let shown = format!("{:?} {:?}", Accounts::new([("ann", "one")]), credentials("ann", "one"));
        assert!(!shown.contains("ann") && !shown.contains("one"), "{shown}");
    }
}
