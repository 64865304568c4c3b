//! Lists through the fixed tables: first in, first out, with removal from the middle, and no memory of their own.
//!
//! A table's element is on at most one list of that table at a time.

/// The neighbours of an element on its list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    previous: Option<u16>,
    next: Option<u16>,
}

impl Link {
    /// On no list.
    pub const NONE: Self = Self { previous: None, next: None };
}

/// An element of a table that can be on a list.
pub trait Linked {
    /// Its link.
    fn link(&self) -> &Link;
    /// Its link, to change.
    fn link_mut(&mut self) -> &mut Link;
}

/// A list of elements of one table.
#[derive(Clone, Copy, Debug, Default)]
pub struct List {
    head: Option<u16>,
    tail: Option<u16>,
}

impl List {
    /// An empty list.
    pub const EMPTY: Self = Self { head: None, tail: None };

    /// The first element.
    #[inline]
    #[must_use]
    pub const fn head(&self) -> Option<u16> {
        self.head
    }

    /// Has it no element?
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// The element after `index`.
    #[must_use]
    pub fn after<T: Linked>(table: &[T], index: u16) -> Option<u16> {
        table[usize::from(index)].link().next
    }

    /// Adds an element at the end.
    #[inline]
    pub fn push_back<T: Linked>(&mut self, table: &mut [T], index: u16) {
        *table[usize::from(index)].link_mut() = Link { previous: self.tail, next: None };
        match self.tail {
            Some(tail) => table[usize::from(tail)].link_mut().next = Some(index),
            None => self.head = Some(index),
        }
        self.tail = Some(index);
    }

    /// Adds an element at the front.
    #[inline]
    pub fn push_front<T: Linked>(&mut self, table: &mut [T], index: u16) {
        *table[usize::from(index)].link_mut() = Link { previous: None, next: self.head };
        match self.head {
            Some(head) => table[usize::from(head)].link_mut().previous = Some(index),
            None => self.tail = Some(index),
        }
        self.head = Some(index);
    }

    /// Takes the first element.
    #[inline]
    pub fn pop_front<T: Linked>(&mut self, table: &mut [T]) -> Option<u16> {
        let index = self.head?;
        self.remove(table, index);
        Some(index)
    }

    /// Takes an element, which is on this list, out of it.
    #[inline]
    pub fn remove<T: Linked>(&mut self, table: &mut [T], index: u16) {
        let link = core::mem::take(table[usize::from(index)].link_mut());
        match link.previous {
            Some(previous) => table[usize::from(previous)].link_mut().next = link.next,
            None => self.head = link.next,
        }
        match link.next {
            Some(next) => table[usize::from(next)].link_mut().previous = link.previous,
            None => self.tail = link.previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    struct Element(Link);

    impl Linked for Element {
        fn link(&self) -> &Link {
            &self.0
        }
        fn link_mut(&mut self) -> &mut Link {
            &mut self.0
        }
    }

    #[test]
    fn order_holds_through_every_removal() {
        for out in 0..4u16 {
            let mut table: Vec<Element> = (0..5).map(|_| Element(Link::NONE)).collect();
            let mut list = List::EMPTY;
            (1..4).for_each(|i| list.push_back(&mut table, i));
            list.push_front(&mut table, 0);
            list.remove(&mut table, out);
            list.push_back(&mut table, 4);
            let mut got = Vec::new();
            while let Some(index) = list.pop_front(&mut table) {
                got.push(index);
            }
            let expected: Vec<u16> = (0..5).filter(|&i| i != out).collect();
            assert_eq!(got, expected);
            assert!(list.is_empty());
        }
    }
}
