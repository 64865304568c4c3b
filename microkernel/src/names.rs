//! Port name spaces: the small numbers by which a task denotes the rights that it holds.
//!
//! Send rights to one port share a name, which counts them (Mach's user references); every other right has a name of its
//! own. A name holds one reference to what it denotes, however many send rights it counts.

use abi::Error;
use abi::port::{HOST, NAMES_MAX};

/// A right, in a name space or on its way in a message. Whoever holds the value holds one reference to what it denotes
/// and must hand it on or have it dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// None.
    None,
    /// To send, to a port or to what the kernel has behind one.
    Send(u16),
    /// To send once.
    SendOnce(u16),
    /// To receive.
    Receive(u16),
    /// To receive from a port set.
    Set(u16),
    /// To map a memory object.
    Memory {
        /// Which.
        object: u16,
        /// Also for writing?
        write: bool,
    },
}

#[derive(Clone, Copy)]
struct Entry {
    right: Right,
    /// Send rights that the name stands for; 1 for any other right.
    count: u16,
}

/// What taking one right from a name left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The name is gone, and its reference is the caller's.
    Last(Right),
    /// The name still holds its reference; the caller has to count one if it needs it.
    Counted(Right),
}

/// What a right put into the name space came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// A name of its own, with the reference.
    New(u32),
    /// It was counted at a name that was there: the caller still has the reference.
    Counted(u32),
}

/// A task's name space.
pub struct Names {
    table: [Entry; NAMES_MAX],
    used: u16,
}

impl Names {
    /// An empty name space.
    pub const EMPTY: Self = Self { table: [Entry { right: Right::None, count: 0 }; NAMES_MAX], used: 0 };

    /// What a name denotes.
    ///
    /// # Errors
    /// [`Error::BadName`]: nothing.
    #[inline]
    pub fn get(&self, name: u32) -> Result<Right, Error> {
        match self.table.get(name as usize) {
            Some(Entry { right, .. }) if *right != Right::None => Ok(*right),
            _ => Err(Error::BadName),
        }
    }

    /// Puts a right in: at the name that its port has already, or at a free one.
    ///
    /// # Errors
    /// [`Error::NoResources`]: no name is free, or the count is at its end.
    pub fn insert(&mut self, right: Right) -> Result<Inserted, Error> {
        if let Right::Send(_) = right
            && let Some(name) = self.table.iter().position(|entry| entry.right == right)
        {
            let count = &mut self.table[name].count;
            *count = count.checked_add(1).ok_or(Error::NoResources)?;
            return Ok(Inserted::Counted(name as u32));
        }
        let name = self.free_name().ok_or(Error::NoResources)?;
        self.insert_at(name, right);
        Ok(Inserted::New(name))
    }

    /// Puts a right in at a name that is free.
    pub fn insert_at(&mut self, name: u32, right: Right) {
        self.table[name as usize] = Entry { right, count: 1 };
        self.used += 1;
    }

    /// Takes one right from a name.
    ///
    /// # Errors
    /// [`Error::BadName`]: it denotes nothing.
    pub fn remove(&mut self, name: u32) -> Result<Removed, Error> {
        let right = self.get(name)?;
        let entry = &mut self.table[name as usize];
        if entry.count > 1 {
            entry.count -= 1;
            return Ok(Removed::Counted(right));
        }
        Ok(Removed::Last(self.remove_all(name)?))
    }

    /// Takes a name with all the rights that it counts, and its one reference.
    ///
    /// # Errors
    /// [`Error::BadName`]: it denotes nothing.
    pub fn remove_all(&mut self, name: u32) -> Result<Right, Error> {
        let right = self.get(name)?;
        self.table[name as usize] = Entry { right: Right::None, count: 0 };
        self.used -= 1;
        Ok(right)
    }

    /// Does the task hold this right, under whatever name?
    #[must_use]
    pub fn holds(&self, right: Right) -> bool {
        self.table.iter().any(|entry| entry.right == right)
    }

    /// Could a send right to `port` be counted at a name that is there, or is a name free besides `others`?
    #[must_use]
    pub fn has_room(&self, count: usize) -> bool {
        self.table
            .iter()
            .skip(HOST as usize + 1)
            .filter(|entry| entry.right == Right::None)
            .take(count)
            .count()
            == count
    }

    /// Names in use.
    #[must_use]
    pub const fn used(&self) -> u16 {
        self.used
    }

    /// All names that denote something.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Right)> {
        let named = self.table.iter().enumerate().filter(|(_, entry)| entry.right != Right::None);
        named.map(|(name, entry)| (name as u32, entry.right))
    }

    /// The names up to [`HOST`] are for what every task is born with.
    fn free_name(&self) -> Option<u32> {
        let mut free = self.table.iter().enumerate().skip(HOST as usize + 1);
        free.find(|(_, entry)| entry.right == Right::None).map(|(name, _)| name as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_rights_to_one_port_share_a_name_and_others_do_not() {
        let mut names = Names::EMPTY;
        let first = names.insert(Right::Send(7)).unwrap();
        let Inserted::New(name) = first else { panic!("{first:?}") };
        assert_eq!(name, HOST + 1);
        assert_eq!(names.insert(Right::Send(7)), Ok(Inserted::Counted(name)));
        assert_eq!(names.insert(Right::SendOnce(7)), Ok(Inserted::New(name + 1)));
        assert_eq!(names.insert(Right::SendOnce(7)), Ok(Inserted::New(name + 2)));
        assert_eq!(names.remove(name), Ok(Removed::Counted(Right::Send(7))));
        assert_eq!(names.remove(name), Ok(Removed::Last(Right::Send(7))));
        assert_eq!(names.remove(name), Err(Error::BadName));
        assert_eq!(names.used(), 2);
    }

    #[test]
    fn a_full_space_refuses_but_still_counts() {
        let mut names = Names::EMPTY;
        for port in 0..(NAMES_MAX as u16 - HOST as u16 - 1) {
            names.insert(Right::Send(port)).unwrap();
        }
        assert_eq!(names.insert(Right::Receive(1)), Err(Error::NoResources));
        assert!(matches!(names.insert(Right::Send(3)), Ok(Inserted::Counted(_))));
        assert!(!names.has_room(1) && names.has_room(0));
        names.remove_all(200).unwrap();
        assert!(names.has_room(1) && !names.has_room(2));
        assert_eq!(names.get(u32::MAX), Err(Error::BadName));
        assert_eq!(names.get(0), Err(Error::BadName));
    }
}
