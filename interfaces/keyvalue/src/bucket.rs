//! Whose pairs.

use std::sync::Arc;

/// A namespace within a store: a tenant and a name. Cheap to clone.
///
/// Two buckets never share a key, however nasty their names are: see [`Bucket::prefix`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    tenant: Arc<str>,
    name: Arc<str>,
    prefix: Arc<str>,
}

impl Bucket {
    /// The bucket `name` of `tenant`.
    pub fn new(tenant: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        let (tenant, name) = (tenant.into(), name.into());
        let prefix = format!("{}:{tenant}/{}:{name}/", tenant.len(), name.len()).into();
        Self { tenant, name, prefix }
    }

    /// Who owns it.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Its name among the buckets of the tenant.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands before its keys in a backend that has one space for all: tenant and name, each after its length in bytes,
    /// as in `4:acme/8:sessions/`. Read from the left it can be taken apart in one way only, so no prefix and key of one
    /// bucket equal those of another.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The prefix and `key`.
    pub fn key(&self, key: &str) -> String {
        let mut whole = String::with_capacity(self.prefix.len() + key.len());
        whole.push_str(&self.prefix);
        whole.push_str(key);
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_buckets_have_a_key_in_common() {
        assert_eq!(Bucket::new("acme", "sessions").key("a/b"), "4:acme/8:sessions/a/b");
        let names = ["", "a", "b", "/", ":", "1:a", "1:a/", "a/1:b", "a/1:b/", "b/0:", "0:/0:/", "*", "ä"];
        let buckets: Vec<_> = names.iter().flat_map(|t| names.iter().map(|n| Bucket::new(*t, *n))).collect();
        for (i, a) in buckets.iter().enumerate() {
            for b in &buckets[i + 1..] {
                assert!(!a.prefix().starts_with(b.prefix()) && !b.prefix().starts_with(a.prefix()), "{a:?} {b:?}");
            }
        }
    }
}
