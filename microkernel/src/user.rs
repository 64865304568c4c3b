//! The kernel's only way to a task's memory: page by page through the task's page tables, then the direct map.
//!
//! Nothing here can fault, whatever address a task gives, and it does not matter which address space is active. Every
//! copy is made once; what the task changes afterwards changes nothing.

use abi::Error;
use abi::vm::PAGE_BYTES;

use crate::machine::Machine;
use crate::space::is_user_range;

/// Does something with each piece of a range, one for each page: its address, and which bytes of the range it is.
#[inline(always)]
fn each_piece(
    address: u64,
    length: usize,
    mut work: impl FnMut(u64, core::ops::Range<usize>) -> Result<(), Error>,
) -> Result<(), Error> {
    let first = (PAGE_BYTES - address % PAGE_BYTES) as usize;
    // Most of what is copied is short.
    if length <= first {
        return if length == 0 { Ok(()) } else { work(address, 0..length) };
    }
    work(address, 0..first)?;
    let mut done = first;
    while done < length {
        let bytes = (length - done).min(PAGE_BYTES as usize);
        work(address + done as u64, done..done + bytes)?;
        done += bytes;
    }
    Ok(())
}

/// Can the task read, or write, all of a range? A range of no bytes only has to be somewhere where a task can have memory.
///
/// # Errors
/// [`Error::BadAddress`].
pub fn check<M: Machine>(
    m: &M,
    space: &M::Space,
    address: u64,
    length: usize,
    write: bool,
) -> Result<(), Error> {
    if !is_user_range(address, length as u64) {
        return Err(Error::BadAddress);
    }
    each_piece(address, length, |at, _| m.translate(space, at, write).map(drop).ok_or(Error::BadAddress))
}

/// Copies from a task's memory.
///
/// # Errors
/// [`Error::BadAddress`]: not all of it can be read; some of `bytes` may have been overwritten.
pub fn copy_in<M: Machine>(m: &M, space: &M::Space, address: u64, bytes: &mut [u8]) -> Result<(), Error> {
    if !is_user_range(address, bytes.len() as u64) {
        return Err(Error::BadAddress);
    }
    each_piece(address, bytes.len(), |at, range| {
        let phys = m.translate(space, at, false).ok_or(Error::BadAddress)?;
        m.copy_from_phys(phys, &mut bytes[range]);
        Ok(())
    })
}

/// Copies to a task's memory: all, or nothing.
///
/// # Errors
/// [`Error::BadAddress`]: not all of it can be written.
pub fn copy_out<M: Machine>(m: &mut M, space: &M::Space, address: u64, bytes: &[u8]) -> Result<(), Error> {
    check(m, space, address, bytes.len(), true)?;
    fill(m, space, address, bytes, true)
}

/// Copies from a task's memory to the start of a frame, `bytes` of at most a page.
///
/// # Errors
/// [`Error::BadAddress`]: not all of it can be read; some of the frame may have been written.
pub fn copy_to_frame<M: Machine>(
    m: &mut M,
    space: &M::Space,
    address: u64,
    frame: u64,
    bytes: usize,
) -> Result<(), Error> {
    copy_frame(m, space, address, frame, bytes, false)
}

/// Copies from the start of a frame to a task's memory, `bytes` of at most a page.
///
/// # Errors
/// [`Error::BadAddress`]: not all of it can be written; some of it may have been.
pub fn copy_from_frame<M: Machine>(
    m: &mut M,
    space: &M::Space,
    address: u64,
    frame: u64,
    bytes: usize,
) -> Result<(), Error> {
    copy_frame(m, space, address, frame, bytes, true)
}

#[inline(always)]
fn copy_frame<M: Machine>(
    m: &mut M,
    space: &M::Space,
    address: u64,
    frame: u64,
    bytes: usize,
    to_task: bool,
) -> Result<(), Error> {
    if !is_user_range(address, bytes as u64) {
        return Err(Error::BadAddress);
    }
    each_piece(address, bytes, |at, range| {
        let phys = m.translate(space, at, to_task).ok_or(Error::BadAddress)?;
        let in_frame = frame + range.start as u64;
        let (to, from) = if to_task { (phys, in_frame) } else { (in_frame, phys) };
        m.copy_phys(to, from, range.len());
        Ok(())
    })
}

/// Where a range of at most a page, which can be read, lies in physical memory: one piece, or two.
///
/// # Errors
/// [`Error::BadAddress`]: not all of it can be read.
pub fn locate<M: Machine>(
    m: &M,
    space: &M::Space,
    address: u64,
    length: usize,
) -> Result<([(u64, usize); 2], usize), Error> {
    debug_assert!(length <= PAGE_BYTES as usize);
    if !is_user_range(address, length as u64) {
        return Err(Error::BadAddress);
    }
    let mut found = [(0, 0); 2];
    let mut count = 0;
    each_piece(address, length, |at, range| {
        let phys = m.translate(space, at, false).ok_or(Error::BadAddress)?;
        *found.get_mut(count).ok_or(Error::TooLong)? = (phys, range.len());
        count += 1;
        Ok(())
    })?;
    Ok((found, count))
}

/// Copies to pages that the task itself may not be able to write: what the loader does.
///
/// # Errors
/// [`Error::BadAddress`]: not all of it is mapped.
pub fn load<M: Machine>(m: &mut M, space: &M::Space, address: u64, bytes: &[u8]) -> Result<(), Error> {
    fill(m, space, address, bytes, false)
}

fn fill<M: Machine>(
    m: &mut M,
    space: &M::Space,
    address: u64,
    bytes: &[u8],
    write: bool,
) -> Result<(), Error> {
    each_piece(address, bytes.len(), |at, range| {
        let phys = m.translate(space, at, write).ok_or(Error::BadAddress)?;
        m.copy_to_phys(phys, &bytes[range]);
        Ok(())
    })
}
