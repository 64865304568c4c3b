//! Who runs next: the first thread of the highest priority that has one; equals in turn.

use abi::thread::PRIORITY_MAX;

use crate::list::List;
use crate::thread::Thread;

const PRIORITIES: usize = PRIORITY_MAX as usize + 1;
const _: () = assert!(PRIORITIES <= 8, "the map has a bit for each");

/// The threads that are ready.
pub struct Ready {
    queues: [List; PRIORITIES],
    /// Bit set: the queue of that priority is not empty.
    map: u8,
}

impl Ready {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { queues: [List::EMPTY; PRIORITIES], map: 0 }
    }

    /// The highest priority that has a ready thread.
    #[inline]
    #[must_use]
    pub const fn top(&self) -> Option<u8> {
        if self.map == 0 { None } else { Some(7 - self.map.leading_zeros() as u8) }
    }

    /// Is a thread of this priority, or of a higher one, ready?
    #[inline]
    #[must_use]
    pub const fn any_at_least(&self, priority: u8) -> bool {
        (self.map as u16) >> priority != 0
    }

    /// Is a thread of this priority, or of a lower one, ready?
    #[inline]
    #[must_use]
    pub const fn any_to(&self, priority: u8) -> bool {
        self.map & (u8::MAX >> (7 - priority)) != 0
    }

    /// Adds a thread behind its equals.
    #[inline]
    pub fn push_back(&mut self, threads: &mut [Thread], thread: u16) {
        let priority = threads[usize::from(thread)].priority;
        self.queues[usize::from(priority)].push_back(threads, thread);
        self.map |= 1 << priority;
    }

    /// Adds a thread before its equals: it was preempted and has time left.
    pub fn push_front(&mut self, threads: &mut [Thread], thread: u16) {
        let priority = threads[usize::from(thread)].priority;
        self.queues[usize::from(priority)].push_front(threads, thread);
        self.map |= 1 << priority;
    }

    /// Takes the thread that runs next.
    #[inline]
    pub fn pop(&mut self, threads: &mut [Thread]) -> Option<u16> {
        let head = self.queues[usize::from(self.top()?)].head()?;
        self.remove(threads, head);
        Some(head)
    }

    /// Takes the thread that runs next among those of this priority or of a lower one.
    pub fn pop_to(&mut self, threads: &mut [Thread], priority: u8) -> Option<u16> {
        let top = (self.map & (u8::MAX >> (7 - priority))).checked_ilog2()?;
        let head = self.queues[top as usize].head()?;
        self.remove(threads, head);
        Some(head)
    }

    /// Takes a thread that is ready out.
    #[inline]
    pub fn remove(&mut self, threads: &mut [Thread], thread: u16) {
        let priority = threads[usize::from(thread)].priority;
        let queue = &mut self.queues[usize::from(priority)];
        queue.remove(threads, thread);
        if queue.is_empty() {
            self.map &= !(1 << priority);
        }
    }

    /// All threads that are ready, each once, if the lists and the map are right.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn all(&self, threads: &[Thread]) -> std::vec::Vec<u16> {
        let mut out = std::vec::Vec::new();
        for (priority, queue) in self.queues.iter().enumerate() {
            assert_eq!(self.map >> priority & 1 == 0, queue.is_empty());
            let mut next = queue.head();
            while let Some(thread) = next {
                assert_eq!(usize::from(threads[usize::from(thread)].priority), priority);
                out.push(thread);
                next = List::after(threads, thread);
            }
        }
        out
    }
}

impl Default for Ready {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_priorities_first_and_equals_in_turn() {
        let mut threads = [Thread::FREE; 8];
        for (thread, priority) in [3, 7, 3, 0, 5, 3, 7, 1].into_iter().enumerate() {
            threads[thread].priority = priority;
        }
        let mut ready = Ready::new();
        assert_eq!(ready.top(), None);
        (0..7).for_each(|thread| ready.push_back(&mut threads, thread));
        ready.remove(&mut threads, 2);
        ready.push_front(&mut threads, 2);
        assert!(ready.any_at_least(7));
        let order: std::vec::Vec<_> = core::iter::from_fn(|| ready.pop(&mut threads)).collect();
        assert_eq!(order, [1, 6, 4, 2, 0, 5, 3]);
        assert_eq!(ready.top(), None);
        ready.push_back(&mut threads, 4);
        ready.push_back(&mut threads, 3);
        assert!(ready.any_to(3) && ready.any_to(7) && ready.any_to(0));
        assert_eq!(ready.pop_to(&mut threads, 4), Some(3));
        assert_eq!((ready.pop_to(&mut threads, 4), ready.any_to(4), ready.any_to(5)), (None, false, true));
        assert_eq!(ready.pop_to(&mut threads, 5), Some(4));
        ready.push_back(&mut threads, 7);
        assert!(ready.any_at_least(1) && !ready.any_at_least(2));
        ready.remove(&mut threads, 7);
        assert_eq!(ready.top(), None);
    }
}
