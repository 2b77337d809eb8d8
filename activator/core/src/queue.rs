//! A bounded first-in-first-out list that its members can leave from the middle.
//!
//! Invariant: a [`Place`] names one member for ever; after it left, the same place has another generation.

/// Names one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Node<T> {
    generation: u32,
    before: u32,
    after: u32,
    item: Option<T>,
}

const NONE: u32 = u32::MAX;

/// The list. Places are reused, so a queue that has been long once does not allocate again.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    head: u32,
    tail: u32,
    len: usize,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), head: NONE, tail: NONE, len: 0 }
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
        if let Some(index) = self.free.pop() {
            let node = &mut self.nodes[index as usize];
            (node.before, node.after, node.item) = (NONE, NONE, Some(item));
            index
        } else {
            self.nodes.push(Node { generation: 0, before: NONE, after: NONE, item: Some(item) });
            (self.nodes.len() - 1) as u32
        }
    }

    fn id(&self, index: u32) -> Place {
        Place { index, generation: self.nodes[index as usize].generation }
    }

    fn take(&mut self, index: u32) -> Option<T> {
        let node = self.nodes.get_mut(index as usize)?;
        let item = node.item.take()?;
        node.generation = node.generation.wrapping_add(1);
        let (before, after) = (node.before, node.after);
        match before {
            NONE => self.head = after,
            before => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => self.tail = before,
            after => self.nodes[after as usize].before = before,
        }
        self.free.push(index);
        self.len -= 1;
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
}
