//! The keys of an LXD object that a step owns.

use std::collections::BTreeMap;

/// What is wanted of each owned key: a value, or that it be gone.
pub type Keys = BTreeMap<String, Option<String>>;

/// What is wanted of each owned device: its owned keys, or that it be gone.
pub type Devices = BTreeMap<String, Option<Keys>>;

/// Keys that are to have these values.
pub fn set<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Keys {
    pairs.into_iter().map(|(key, value)| (key.into(), Some(value.into()))).collect()
}

/// Wants every key gone that only the other catalogue sets, so that changing catalogues leaves nothing behind.
#[must_use]
pub fn without_rest_of(mut keys: Keys, other: &Keys) -> Keys {
    for key in other.keys() {
        keys.entry(key.clone()).or_insert(None);
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_other_catalogue_are_unset() {
        let keys = without_rest_of(set([("a", "1"), ("b", "2")]), &set([("b", "3"), ("c", "4")]));
        let expected = [("a", Some("1")), ("b", Some("2")), ("c", None)];
        assert_eq!(keys, expected.into_iter().map(|(key, value)| (key.to_owned(), value.map(str::to_owned))).collect());
    }
}
