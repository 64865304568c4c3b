//! The plugin: the few calls of QEMU's plugin API that it needs, declared here, and what it does with them.
//!
//! QEMU calls everything here on its one vCPU's thread (Oriel's machines have one), with its own lock held while it
//! translates, so the state needs no lock of ours.

#![expect(unsafe_code, reason = "QEMU's plugin interface is C")]

mod table;

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::ptr;
use core::slice;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;

use self::table::{Key, Table};
use crate::blocks;
use crate::layout::{
    COUNTERS, FILE_WORDS, HEADER_WORDS, MAGIC, RUNNING, SNAPSHOT_WORDS, SNAPSHOTS_MAX, TAKEN,
};
use crate::select::{MARK_BYTES, Ranges, mark_of};

/// The version of the interface that QEMU compares with its own.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 1;

/// `QEMU_PLUGIN_INLINE_ADD_U64`.
const INLINE_ADD_U64: c_int = 0;
/// `QEMU_PLUGIN_CB_NO_REGS`: the callback reads no guest registers.
const CB_NO_REGS: c_int = 0;

type PluginId = u64;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: PluginId, cb: extern "C" fn(PluginId, *mut c_void));
    fn qemu_plugin_register_vcpu_tb_exec_inline(tb: *mut c_void, op: c_int, to: *mut c_void, imm: u64);
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        insn: *mut c_void,
        cb: extern "C" fn(c_uint, *mut c_void),
        flags: c_int,
        userdata: *mut c_void,
    );
    fn qemu_plugin_tb_n_insns(tb: *const c_void) -> usize;
    fn qemu_plugin_tb_vaddr(tb: *const c_void) -> u64;
    fn qemu_plugin_tb_get_insn(tb: *const c_void, index: usize) -> *mut c_void;
    fn qemu_plugin_insn_data(insn: *const c_void) -> *const u8;
    fn qemu_plugin_insn_size(insn: *const c_void) -> usize;
}

unsafe extern "C" {
    fn mmap(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
}
const PROT_READ_WRITE: c_int = 3;
const MAP_SHARED: c_int = 1;

/// Where the files are mapped, and what is counted apart.
struct Counter {
    words: *mut u64,
    ranges: Ranges,
    blocks: Option<Table>,
}

// SAFETY: the words belong to the vCPU's thread, the only one that QEMU calls the plugin on after its start (see above).
unsafe impl Send for Counter {}
// SAFETY: as above; the ranges never change.
unsafe impl Sync for Counter {}

static COUNTER: OnceLock<Counter> = OnceLock::new();

impl Counter {
    fn from_arguments(arguments: &[&str]) -> Result<Self, String> {
        let (mut out, mut blocks, mut ranges) = (None, None, Ranges::default());
        for argument in arguments {
            match argument.split_once('=') {
                Some(("out", path)) => out = Some(path),
                Some(("blocks", path)) => blocks = Some(path),
                Some(("range", range)) => ranges.add(range)?,
                _ => return Err(format!("unknown argument `{argument}`")),
            }
        }
        let out = out.ok_or("out=FILE is missing")?;
        let complaint = |file: &str, error: std::io::Error| format!("{file}: {error}");
        let words = map_file(out, FILE_WORDS, MAGIC).map_err(|error| complaint(out, error))?;
        let blocks = blocks.map(|file| Table::create(file).map_err(|error| complaint(file, error)));
        Ok(Self { words, ranges, blocks: blocks.transpose()? })
    }

    /// Appends a snapshot.
    fn snapshot(&self, mark: u32) {
        // SAFETY: all indices are below FILE_WORDS, the length of the mapping (map_file): the snapshot's number is
        // compared with SNAPSHOTS_MAX. Volatile, since another process reads the file meanwhile.
        unsafe {
            let taken = self.words.add(TAKEN).read_volatile();
            if taken < SNAPSHOTS_MAX as u64 {
                let to = self.words.add(HEADER_WORDS + taken as usize * SNAPSHOT_WORDS);
                to.write_volatile(u64::from(mark));
                for i in 0..COUNTERS {
                    to.add(1 + i).write_volatile(self.words.add(RUNNING + i).read_volatile());
                }
            }
            // Last, so that who reads the file meanwhile sees complete snapshots only (on x86 stores stay in order).
            self.words.add(TAKEN).write_volatile(taken + 1);
        }
    }
}

/// Creates the file at its full length, maps it for good and writes its magic.
fn map_file(path: &str, words: usize, magic: u64) -> std::io::Result<*mut u64> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len((words * 8) as u64)?;
    // SAFETY: a fresh shared mapping of a file that is as long as the mapping; the result is checked.
    let at = unsafe { mmap(ptr::null_mut(), words * 8, PROT_READ_WRITE, MAP_SHARED, file.as_raw_fd(), 0) };
    if at.addr() == usize::MAX {
        return Err(std::io::Error::last_os_error());
    }
    let words: *mut u64 = at.cast();
    // SAFETY: the mapping is page-aligned, writable and not empty: both files have a header.
    unsafe { words.write_volatile(magic) };
    Ok(words)
}

/// QEMU calls this once, before the machine starts.
///
/// # Safety
/// `argv` points to `argc` C strings, as QEMU promises.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    _info: *const c_void,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let arguments: Vec<&str> = (0..usize::try_from(argc).unwrap_or(0))
        // SAFETY: the caller promises `argc` strings, which live until this function returns.
        .filter_map(|i| unsafe { CStr::from_ptr(*argv.add(i)) }.to_str().ok())
        .collect();
    let counter = match Counter::from_arguments(&arguments) {
        Ok(counter) => counter,
        Err(message) => {
            eprintln!("insn-counter: {message}");
            return 1;
        }
    };
    if COUNTER.set(counter).is_err() {
        eprintln!("insn-counter: loaded twice");
        return 1;
    }
    // SAFETY: `id` is the one that QEMU gave, and the callback lives as long as the process.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    0
}

/// A block was translated: counts its instructions each time it runs, and calls back at its marks.
extern "C" fn translated(_id: PluginId, tb: *mut c_void) {
    let Some(counter) = COUNTER.get() else { return };
    // SAFETY: `tb` is valid during this call, so are its instructions, and `insn_data` gives `insn_size` bytes. The
    // counter that the inline code adds to is inside the mapping, which is never unmapped.
    unsafe {
        let count = qemu_plugin_tb_n_insns(tb);
        let to = counter.words.add(RUNNING + counter.ranges.counter_of(qemu_plugin_tb_vaddr(tb)));
        qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, to.cast(), count as u64);
        let (mut lengths, mut digest) = (Vec::with_capacity(count), blocks::DIGEST_START);
        for i in 0..count {
            let insn = qemu_plugin_tb_get_insn(tb, i);
            let bytes = slice::from_raw_parts(qemu_plugin_insn_data(insn), qemu_plugin_insn_size(insn));
            lengths.push(bytes.len() as u8);
            digest = blocks::digest(digest, bytes);
            if let Some(mark) = bytes.try_into().ok().and_then(|bytes: &[u8; MARK_BYTES]| mark_of(bytes)) {
                let userdata = ptr::without_provenance_mut(mark as usize);
                qemu_plugin_register_vcpu_insn_exec_cb(insn, marked, CB_NO_REGS, userdata);
            }
        }
        if let Some(table) = &counter.blocks {
            let key = Key { address: qemu_plugin_tb_vaddr(tb), digest, instructions: count };
            let increment = table.increment_for(key, &lengths);
            qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, increment.to, increment.by);
        }
    }
}

/// A mark is about to run.
extern "C" fn marked(_vcpu: c_uint, userdata: *mut c_void) {
    let Some(counter) = COUNTER.get() else { return };
    let mark = userdata.addr() as u32;
    counter.snapshot(mark);
    match (mark, &counter.blocks) {
        (abi::mark::START, Some(table)) => table.start(),
        (abi::mark::STOP, Some(table)) => table.stop(),
        _ => {}
    }
}
