//! Failures per address, counted before anything is verified, so that floods buy no signature check.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{LimitState, Pace};
use crate::engine::decision::{Denial, Reason};

/// A limit on failures per address; IPv6 counts by /64. When its table is full, the address with the fewest recent
/// failures of a few is forgotten, so active offenders stay known.
#[derive(Debug)]
pub struct AddressLimit {
    pace: Pace,
    state: Arc<LimitState>,
}

impl AddressLimit {
    /// `count` failures in `period`; that many may come at once. Zero counts as one.
    #[must_use]
    pub fn new(count: u32, period: Duration) -> Self {
        Self { pace: Pace::new(count, period, count), state: Arc::default() }
    }

    /// The same limit at another rate after a reload: the fill is kept, scaled to the new rate.
    #[must_use]
    pub fn rescaled(&self, count: u32, period: Duration) -> Self {
        Self { pace: Pace::new(count, period, count), state: Arc::clone(&self.state) }
    }

    /// Whether requests of `address` are looked at.
    ///
    /// # Errors
    /// [`Reason::AddressLimited`] with the time to wait.
    pub fn allowed(&self, address: IpAddr, now: Instant) -> Result<(), Denial> {
        let key = self.state.key(&network(address));
        match self.state.wait(key, now, self.pace) {
            None => Ok(()),
            Some(wait) => Err(Denial::new(Reason::AddressLimited).retry_after(wait)),
        }
    }

    /// Counts a failure of `address`.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        self.state.charge(self.state.key(&network(address)), now, self.pace);
    }
}

/// What counts as one address: an IPv4 address, also when it is mapped into IPv6, or an IPv6 /64.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressLimit, network};
    use crate::engine::decision::Reason;
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn o02_failures_of_one_address_close_it_and_no_other() {
        let limit = AddressLimit::new(3, Duration::from_secs(60));
        let now = Instant::now();
        for _ in 0..3 {
            limit.allowed(ip("192.0.2.1"), now).expect("three failures are within the limit");
            limit.failed(ip("192.0.2.1"), now);
        }
        let denial = limit.allowed(ip("192.0.2.1"), now).unwrap_err();
        assert_eq!(denial.reason, Reason::AddressLimited);
        assert_eq!(denial.retry_after.map(|wait| wait.as_secs()), Some(20), "a third of a minute refills one of three");
        limit.allowed(ip("192.0.2.2"), now).expect("another address is another bucket");
        limit.allowed(ip("192.0.2.1"), now + Duration::from_secs(20)).expect("refilled");
    }

    #[test]
    fn failures_never_lock_an_address_out_for_longer_than_one_refill() {
        let limit = AddressLimit::new(2, Duration::from_secs(2));
        let now = Instant::now();
        (0..1000).for_each(|_| limit.failed(ip("192.0.2.1"), now));
        assert!(limit.allowed(ip("192.0.2.1"), now).is_err());
        limit.allowed(ip("192.0.2.1"), now + Duration::from_secs(1)).expect("an empty bucket does not sink deeper");
    }

    #[test]
    fn ipv6_counts_by_64_and_mapped_ipv4_is_ipv4() {
        assert_eq!(network(ip("2001:db8:0:1::1")), network(ip("2001:db8:0:1:ffff::2")));
        assert_ne!(network(ip("2001:db8:0:1::1")), network(ip("2001:db8:0:2::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn n11_a_reload_keeps_the_fill_scaled_to_the_new_rate() {
        let limit = AddressLimit::new(4, Duration::from_secs(4));
        let now = Instant::now();
        (0..2).for_each(|_| limit.failed(ip("192.0.2.1"), now));
        let limit = limit.rescaled(8, Duration::from_secs(8));
        for _ in 0..4 {
            limit.allowed(ip("192.0.2.1"), now).expect("half full before, half of eight left after");
            limit.failed(ip("192.0.2.1"), now);
        }
        assert!(limit.allowed(ip("192.0.2.1"), now).is_err(), "nothing was given away by the reload");
    }
}
