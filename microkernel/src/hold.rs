//! What is kept for a while for the successor of a task that has ended: its place at the network device, and its addresses.
//!
//! A protocol server that dies is started again by the task that had started it. Until the next one is there, nobody else is to open the
//! device in its place, or to claim its addresses ([`abi::syscall::Syscall::DeviceClaim`]). What a task had is kept for tasks of the same
//! creator, for [`HOLD_NS`] at most and as long as that creator lives: whoever holds something back in this way, by tasks that come
//! and go, could have held it by a task that stays.

use abi::Error;
use netdev_driver::claims::{Address, CLAIMS_MAX};
use netdev_driver::endpoint::WINDOWS_MAX;

use crate::kernel::Kernel;
use crate::machine::Machine;

/// How long it is kept: longer than a supervisor takes to see that a server hangs, and to start another.
pub const HOLD_NS: u64 = 10_000_000_000;
/// Addresses that one task can have claimed, of both families.
pub const ADDRESSES: usize = 2 * CLAIMS_MAX;
/// Addresses that are kept, at most.
const KEPT_MAX: usize = WINDOWS_MAX * ADDRESSES;

/// For whom, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    creator: u64,
    until_ns: u64,
}

/// The addresses of tasks that have ended.
pub(crate) struct Kept([Option<(Address, Hold)>; KEPT_MAX]);

impl Kept {
    pub(crate) const NONE: Self = Self([None; KEPT_MAX]);
}

impl<M: Machine> Kernel<M> {
    /// What a task that ends leaves behind is kept for these. The first task has no creator, and no successor.
    pub(crate) fn hold_for_successor(&self, m: &M, task: u16) -> Option<Hold> {
        let creator = self.tasks[usize::from(task)].creator;
        (creator != 0).then(|| Hold { creator, until_ns: m.now_ns().saturating_add(HOLD_NS) })
    }

    /// Whether it is kept, and not for this task.
    pub(crate) fn is_kept_from(&self, m: &M, hold: Option<Hold>, task: u16) -> bool {
        hold.is_some_and(|hold| {
            hold.creator != self.tasks[usize::from(task)].creator
                && m.now_ns() < hold.until_ns
                && self.tasks.iter().any(|task| task.id == hold.creator)
        })
    }

    /// Whether it is kept for this task.
    pub(crate) fn is_kept_for(&self, hold: Option<Hold>, task: u16) -> bool {
        hold.is_some_and(|hold| hold.creator == self.tasks[usize::from(task)].creator)
    }

    /// Keeps the addresses of a task that ends.
    pub(crate) fn keep_addresses(&mut self, addresses: &[Option<Address>; ADDRESSES], hold: Hold) {
        for &address in addresses.iter().flatten() {
            // There is room for all that can be claimed at once; of what was kept before, the oldest makes room.
            let kept = &mut self.kept.0;
            let place = kept.iter().position(Option::is_none).unwrap_or_else(|| {
                let oldest = kept.iter().enumerate().min_by_key(|(_, it)| it.map(|(_, hold)| hold.until_ns));
                oldest.map_or(0, |(at, _)| at)
            });
            kept[place] = Some((address, hold));
        }
    }

    /// A task claims an address: it is no longer kept.
    ///
    /// # Errors
    /// [`Error::Exists`]: it is kept for somebody else.
    pub(crate) fn take_kept(&mut self, m: &M, address: Address, task: u16) -> Result<(), Error> {
        for at in 0..KEPT_MAX {
            if let Some((kept, hold)) = self.kept.0[at]
                && kept == address
            {
                if self.is_kept_from(m, Some(hold), task) {
                    return Err(Error::Exists);
                }
                self.kept.0[at] = None;
            }
        }
        Ok(())
    }
}
