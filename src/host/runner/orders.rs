//! The orders that an apartment has not taken yet. A channel would do the same, and keep more than
//! a kilobyte for each module: it has room for many orders, and at most a few are ever there.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::host::Order;

/// One apartment's orders, in the order in which they were given.
#[derive(Default)]
pub(super) struct Orders {
    state: Mutex<State>,
    /// Told when there is one, and when there will be no more.
    told: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Order>,
    closed: bool,
    left: bool,
}

impl Orders {
    /// Never blocks. Nothing is kept for a taker that has left.
    pub(super) fn give(&self, order: Order) {
        let mut state = self.state();
        if !state.left {
            state.waiting.push_back(order);
        }
        drop(state);
        self.told.notify_one();
    }

    /// None will be taken any more.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.left = true;
        state.waiting = VecDeque::new();
    }

    /// There will be no more: nobody is left who could give one.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.told.notify_one();
    }

    /// Waits for the next one. `None`: all were taken, and there will be no more.
    pub(super) fn take(&self) -> Option<Order> {
        let mut state = self.state();
        while state.waiting.is_empty() && !state.closed {
            state = self.told.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.pop_front()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is a single one: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::threads;

    #[test]
    fn orders_are_taken_as_they_were_given_and_end_with_who_gives_them() {
        let orders = Arc::<Orders>::default();
        let taker = Arc::clone(&orders);
        let (tell, told) = crossbeam_channel::unbounded();
        let take = move || std::iter::from_fn(|| taker.take()).for_each(|o| tell.send(o).unwrap());
        let thread = threads::spawn("taker", 64 << 10, take).unwrap();
        let given = [Order::Start, Order::Probe { probe: 1 }, Order::Info, Order::Abandon];
        for order in &given {
            orders.give(order.clone());
        }
        orders.close();
        thread.join().unwrap();
        assert_eq!(told.iter().collect::<Vec<_>>(), given);
        orders.give(Order::Info);
        assert_eq!((orders.take(), orders.take()), (Some(Order::Info), None));
        orders.give(Order::Info);
        orders.leave();
        orders.give(Order::Info);
        assert_eq!(orders.take(), None);
    }
}
