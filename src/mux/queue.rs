//! What waits to be sent on a connection, and who goes first.
//!
//! Little from sessions that send little goes ahead of bulk, which would keep it waiting for as long as the link takes
//! for a large batch of each other session. The order of one session's frames stays what it was.

use std::collections::{HashMap, VecDeque};

use super::hub::Serial;
use crate::stream::{Batch, SMALL_BYTES};

/// What waits to be sent.
pub(super) enum Outgoing {
    /// Frames of a flow.
    Frames(Serial, Batch),
    /// A frame without data, of a flow or in answer to an unknown one.
    Head(Option<Serial>, Vec<u8>),
}

/// Two lanes: what is in the quick one goes first.
#[derive(Default)]
pub(super) struct Queue {
    quick: VecDeque<Outgoing>,
    bulk: VecDeque<Outgoing>,
    /// How many items of a flow are in the lane for bulk, where its next ones have to go as well.
    in_bulk: HashMap<Serial, usize>,
    /// How many bytes of payload wait.
    bytes: usize,
    /// How many have overtaken the head of the lane for bulk.
    overtaken: usize,
}

/// What may overtake a batch of bulk, in bytes: about half of a full one, so that bulk never starves.
const MOST_OVERTAKING: usize = 64 * 1024;

impl Queue {
    pub(super) fn push(&mut self, item: Outgoing) {
        let (flow, bytes) = item.measure();
        self.bytes += bytes;
        if self.bulk.is_empty() {
            self.overtaken = 0;
        }
        if self.is_quick(flow, bytes) {
            self.overtaken += bytes;
            self.quick.push_back(item);
            return;
        }
        if let Some(flow) = flow {
            *self.in_bulk.entry(flow).or_default() += 1;
        }
        self.bulk.push_back(item);
    }

    fn is_quick(&self, flow: Option<Serial>, bytes: usize) -> bool {
        if flow.is_some_and(|flow| self.in_bulk.contains_key(&flow)) {
            return false;
        }
        bytes <= SMALL_BYTES && (self.bulk.is_empty() || self.overtaken + bytes <= MOST_OVERTAKING)
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        let item = match self.quick.pop_front() {
            Some(item) => item,
            None => self.pop_bulk()?,
        };
        self.bytes -= item.measure().1;
        Some(item)
    }

    fn pop_bulk(&mut self) -> Option<Outgoing> {
        let item = self.bulk.pop_front()?;
        self.overtaken = 0;
        if let Some(flow) = item.measure().0
            && let Some(left) = self.in_bulk.get_mut(&flow)
        {
            *left -= 1;
            if *left == 0 {
                self.in_bulk.remove(&flow);
            }
        }
        Some(item)
    }

    /// Forgets all that waits of a flow.
    pub(super) fn forget(&mut self, flow: Serial) {
        for lane in [&mut self.quick, &mut self.bulk] {
            lane.retain(|item| {
                let (of, bytes) = item.measure();
                let stays = of != Some(flow);
                self.bytes -= if stays { 0 } else { bytes };
                stays
            });
        }
        self.in_bulk.remove(&flow);
    }

    /// Whether a head is next, and may go along with the one before.
    pub(super) fn head_is_next(&self) -> bool {
        matches!(self.quick.front().or(self.bulk.front()), Some(Outgoing::Head(..)))
    }

    /// How many bytes of payload wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.quick.len() + self.bulk.len()
    }
}

impl Outgoing {
    /// Whose it is, and how many bytes of payload.
    fn measure(&self) -> (Option<Serial>, usize) {
        match self {
            Self::Frames(flow, batch) => (Some(*flow), batch.len()),
            Self::Head(flow, _) => (*flow, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{LARGE_BYTES, Pool};

    fn frames(flow: Serial, bytes: usize) -> Outgoing {
        let mut batch = Pool::new().batch(bytes);
        batch.push(0..bytes);
        Outgoing::Frames(flow, batch)
    }

    fn head(flow: Serial) -> Outgoing {
        Outgoing::Head(Some(flow), vec![0; 6])
    }

    /// Flow and bytes of all that waits, in the order in which it is sent.
    fn sent(queue: &mut Queue) -> Vec<(Option<Serial>, usize)> {
        std::iter::from_fn(|| queue.pop()).map(|item| item.measure()).collect()
    }

    #[test]
    fn little_overtakes_bulk_of_others() {
        let mut queue = Queue::default();
        for flow in 1..=3 {
            queue.push(frames(flow, LARGE_BYTES));
        }
        queue.push(frames(4, 64));
        queue.push(Outgoing::Head(None, vec![0; 6]));
        assert_eq!(queue.bytes(), 3 * LARGE_BYTES + 64);
        let order: Vec<_> = sent(&mut queue).into_iter().map(|(flow, _)| flow).collect();
        assert_eq!(order, [Some(4), None, Some(1), Some(2), Some(3)]);
        assert_eq!((queue.bytes(), queue.len()), (0, 0));
    }

    #[test]
    fn frames_of_a_flow_never_overtake_each_other() {
        let mut queue = Queue::default();
        queue.push(frames(1, LARGE_BYTES));
        queue.push(frames(2, LARGE_BYTES));
        queue.push(frames(2, 10));
        queue.push(head(2));
        let both = Some(2);
        assert_eq!(sent(&mut queue), [(Some(1), LARGE_BYTES), (both, LARGE_BYTES), (both, 10), (both, 0)]);
        // With nothing left in the lane for bulk it is quick again.
        queue.push(frames(1, LARGE_BYTES));
        queue.push(head(2));
        assert_eq!(sent(&mut queue), [(both, 0), (Some(1), LARGE_BYTES)]);
    }

    #[test]
    fn bulk_does_not_starve_beside_many_that_send_little() {
        let mut queue = Queue::default();
        queue.push(frames(1, LARGE_BYTES));
        let mut ahead = 0;
        for flow in 2..1000 {
            queue.push(frames(flow, 1000));
            let (next, bytes) = queue.pop().unwrap().measure();
            if next == Some(1) {
                break;
            }
            ahead += bytes;
        }
        assert!((32_000..=MOST_OVERTAKING).contains(&ahead), "{ahead} bytes went first");
    }

    #[test]
    fn flow_that_is_forgotten_leaves_nothing() {
        let mut queue = Queue::default();
        for item in [frames(1, LARGE_BYTES), frames(2, 10), head(1), head(2)] {
            queue.push(item);
        }
        queue.forget(1);
        assert_eq!((queue.bytes(), queue.len()), (10, 2));
        queue.push(frames(1, 20));
        assert_eq!(sent(&mut queue), [(Some(2), 10), (Some(2), 0), (Some(1), 20)]);
    }
}
