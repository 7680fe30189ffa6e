//! Work on many files at once: on all cores, with the results in the order of the files.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Items that one thread takes at a time. Fewer altogether are not worth a thread.
const CHUNK: usize = 16;

/// What `work` makes of each of `items`, in their order.
pub(super) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let helpers = cores.min(items.len() / CHUNK).saturating_sub(1);
    if helpers == 0 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            let Some(items) = items.chunks(CHUNK).nth(chunk) else { return done };
            done.push((chunk, items.iter().map(&work).collect::<Vec<R>>()));
        }
    };
    let mut done = thread::scope(|scope| {
        // A thread that cannot be had is one less: this one does whatever is left.
        let helpers: Vec<_> = (0..helpers)
            .filter_map(|_| thread::Builder::new().name("load".into()).spawn_scoped(scope, take).ok())
            .collect();
        let mut done = take();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(chunk, _)| *chunk);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        for count in [0, 1, CHUNK, 3 * CHUNK + 1, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let doubled = map(&items, |item| {
                // The first items are the slowest: others overtake them.
                thread::sleep(std::time::Duration::from_micros(if *item < CHUNK { 300 } else { 0 }));
                item * 2
            });
            assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
