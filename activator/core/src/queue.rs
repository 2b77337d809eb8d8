//! A bounded first-in-first-out list that its members can leave from the middle.
//!
//! Invariant: a [`Place`] names one member for ever; whoever comes to the same place later has another generation.

/// Room for so many members is kept by a queue that is empty.
const KEPT_MAX: usize = 1024;

/// Names one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    index: u32,
    generation: u64,
}

#[derive(Debug)]
struct Node<T> {
    generation: u64,
    before: u32,
    after: u32,
    item: Option<T>,
}

const NONE: u32 = u32::MAX;

/// The list. Places are reused, so a queue does not allocate while it is no longer than it was; one that was very long
/// gives its room back when it is empty.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    head: u32,
    tail: u32,
    len: usize,
    /// Members so far.
    generation: u64,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), head: NONE, tail: NONE, len: 0, generation: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push_back(&mut self, item: T) -> Place {
        let index = self.place(item);
        self.nodes[index as usize].before = self.tail;
        match self.tail {
            NONE => self.head = index,
            tail => self.nodes[tail as usize].after = index,
        }
        self.tail = index;
        self.id(index)
    }

    pub(crate) fn push_front(&mut self, item: T) -> Place {
        let index = self.place(item);
        self.nodes[index as usize].after = self.head;
        match self.head {
            NONE => self.tail = index,
            head => self.nodes[head as usize].before = index,
        }
        self.head = index;
        self.id(index)
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.nodes.get(self.head as usize).and_then(|node| node.item.as_ref())
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.take(self.head)
    }

    /// Takes a member out, wherever it stands; `None` when it has left already.
    pub(crate) fn remove(&mut self, id: Place) -> Option<T> {
        let node = self.nodes.get(id.index as usize)?;
        if node.generation == id.generation { self.take(id.index) } else { None }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the queue's bound is far below 2^32")]
    fn place(&mut self, item: T) -> u32 {
        self.len += 1;
        self.generation += 1;
        let node = Node { generation: self.generation, before: NONE, after: NONE, item: Some(item) };
        if let Some(index) = self.free.pop() {
            self.nodes[index as usize] = node;
            index
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        }
    }

    fn id(&self, index: u32) -> Place {
        Place { index, generation: self.nodes[index as usize].generation }
    }

    fn take(&mut self, index: u32) -> Option<T> {
        let node = self.nodes.get_mut(index as usize)?;
        let item = node.item.take()?;
        let (before, after) = (node.before, node.after);
        match before {
            NONE => self.head = after,
            before => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => self.tail = before,
            after => self.nodes[after as usize].before = before,
        }
        self.len -= 1;
        if self.len == 0 && self.nodes.len() > KEPT_MAX {
            (self.nodes, self.free) = (Vec::new(), Vec::new());
        } else {
            self.free.push(index);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn behaves_as_a_plain_list(steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..300)) {
            let mut queue = Queue::new();
            let mut plain: VecDeque<(Place, u32)> = VecDeque::new();
            let mut gone = Vec::new();
            for (number, (step, which)) in steps.into_iter().enumerate() {
                let number = u32::try_from(number).unwrap();
                match step {
                    0 => { let id = queue.push_back(number); plain.push_back((id, number)); }
                    1 => { let id = queue.push_front(number); plain.push_front((id, number)); }
                    2 => {
                        let popped = plain.pop_front();
                        prop_assert_eq!(queue.pop_front(), popped.map(|(_, item)| item));
                        gone.extend(popped.map(|(id, _)| id));
                    }
                    _ if !plain.is_empty() => {
                        let (id, item) = plain.remove(which.index(plain.len())).unwrap();
                        prop_assert_eq!(queue.remove(id), Some(item));
                        gone.push(id);
                    }
                    _ => {}
                }
                prop_assert_eq!(queue.len(), plain.len());
                prop_assert_eq!(queue.front(), plain.front().map(|(_, item)| item));
            }
            for id in gone {
                prop_assert!(queue.remove(id).is_none(), "a ticket that left stays gone");
            }
        }
    }

    #[test]
    fn one_that_was_very_long_gives_its_room_back_and_forgets_nobody() {
        for (long, kept) in [(KEPT_MAX, true), (KEPT_MAX + 1, false)] {
            let mut queue = Queue::new();
            let gone: Vec<Place> = (0..long).map(|number| queue.push_back(number)).collect();
            assert_eq!(std::iter::from_fn(|| queue.pop_front()).count(), long);
            assert_eq!(queue.nodes.capacity() > 0, kept, "{long}");
            let places: Vec<Place> = (0..long).map(|number| queue.push_back(number)).collect();
            assert!(gone.into_iter().all(|id| queue.remove(id).is_none()), "a ticket that left stays gone");
            assert_eq!(places.into_iter().filter_map(|id| queue.remove(id)).sum::<usize>(), long * (long - 1) / 2);
        }
    }
}
