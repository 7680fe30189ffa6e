//! How many connections each address has open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::limits::network;

/// Open connections by address; IPv6 counts by /64.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One open connection, given back when it is dropped.
#[derive(Debug)]
pub struct Entered<'a> {
    addresses: &'a Addresses,
    network: Option<IpAddr>,
}

impl Addresses {
    /// Counts a connection of `peer`; `None` when it has `most` already.
    pub fn enter(&self, peer: Option<IpAddr>, most: usize) -> Option<Entered<'_>> {
        let network = peer.map(network);
        if let Some(network) = network {
            let mut open = self.open();
            let count = open.entry(network).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        Some(Entered { addresses: self, network })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut open = self.addresses.open();
        if let Some(count) = open.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l10_one_address_has_its_share_and_gives_it_back() {
        let addresses = Addresses::default();
        let ip = |text: &str| Some(text.parse().unwrap());
        let (one, two) = (addresses.enter(ip("192.0.2.1"), 2), addresses.enter(ip("::ffff:192.0.2.1"), 2));
        assert!(one.is_some() && two.is_some());
        assert!(addresses.enter(ip("192.0.2.1"), 2).is_none(), "a third is one too many");
        assert!(addresses.enter(ip("192.0.2.2"), 2).is_some(), "another address has its own share");
        drop(one);
        assert!(addresses.enter(ip("192.0.2.1"), 2).is_some());
        drop(two);
        assert!(addresses.open().is_empty(), "nothing is remembered of who has left");
    }
}
