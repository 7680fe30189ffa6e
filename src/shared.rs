//! Equal values that are held once: what ten thousand policies say alike needs the memory of one.
//!
//! A value lives as long as somebody holds it; the table itself holds none. Knows nothing of what it keeps.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Entries below which nobody looks for values that are gone.
const FEW: usize = 64;

/// Values by what they were made from.
#[derive(Debug)]
pub struct Shared<K, V>(LazyLock<Mutex<Known<K, V>>>);

#[derive(Debug)]
struct Known<K, V> {
    values: HashMap<K, Weak<V>>,
    /// The number of entries at which those whose value is gone are dropped.
    swept_at: usize,
}

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), swept_at: FEW }
    }
}

impl<K: Hash + Eq, V> Shared<K, V> {
    /// A table that knows nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(LazyLock::new(Mutex::default))
    }

    /// The value that is held under `key`, or the one that `make` makes. Nobody else waits while it is made.
    ///
    /// # Errors
    /// Those of `make`; nothing is kept then.
    pub fn get_or_make<Q, E>(&self, key: &Q, make: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let held = |known: &Known<K, V>| known.values.get(key).and_then(Weak::upgrade);
        if let Some(value) = held(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(value);
        }
        let made = Arc::new(make()?);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have made the same meanwhile.
        if let Some(value) = held(&known) {
            return Ok(value);
        }
        if known.values.len() >= known.swept_at {
            known.values.retain(|_, value| value.strong_count() > 0);
            known.swept_at = FEW.max(2 * known.values.len());
        }
        known.values.insert(key.to_owned(), Arc::downgrade(&made));
        Ok(made)
    }
}

impl<K: Hash + Eq, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_while_it_is_held_and_its_entry_goes_with_it() {
        let shared: Shared<String, String> = Shared::new();
        let make = |key: &str| shared.get_or_make(key, || Ok::<_, ()>(key.to_uppercase())).unwrap();
        let first = make("a");
        assert!(Arc::ptr_eq(&first, &make("a")), "what is held is not made again");
        assert_eq!(*make("b"), "B");
        assert_eq!(shared.get_or_make("c", || Err("no")), Err("no"));
        assert_eq!(*make("c"), "C", "an error is not kept");
        (0..1000).for_each(|number| drop(make(&number.to_string())));
        let entries = shared.0.lock().unwrap().values.len();
        assert!(entries <= 2 * FEW, "{entries} entries of values that nobody holds");
        assert!(Arc::ptr_eq(&first, &make("a")), "and what is held was kept");
    }
}
