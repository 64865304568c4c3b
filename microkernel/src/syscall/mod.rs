//! System calls: the number to the family, the words to arguments, results to registers.
//!
//! Each family is a file: [`console`], [`task`], [`thread`], [`port`] (with messages), [`memory`], [`device`], [`net_io`], [`socket`].
//! What a call means is written at [`abi::syscall::Syscall`]. A call either answers at once or leaves the caller waiting
//! ([`crate::thread::State`]).

mod console;
mod device;
mod memory;
mod net_io;
mod port;
mod socket;
mod task;
mod thread;

use abi::Error;
use abi::counters::Counter;
use abi::syscall::Syscall;

use crate::kernel::Kernel;
use crate::machine::{Machine, Outcome};

/// The answer of one call.
type Answer = Result<Outcome, Error>;

impl<M: Machine> Kernel<M> {
    /// Carries out a system call of the running thread.
    ///
    /// The calls on the way of a packet come first and are decoded by hand; everything else goes through one table.
    #[inline]
    pub fn system_call(&mut self, m: &mut M, number: u64, args: [u64; 6]) -> Outcome {
        const RESUME: u64 = Syscall::ThreadResume.raw() as u64;
        const SUSPEND: u64 = Syscall::ThreadSuspend.raw() as u64;
        const START: u64 = Syscall::DeviceStart.raw() as u64;
        const WRITE: u64 = Syscall::SocketWrite.raw() as u64;
        const READ: u64 = Syscall::SocketRead.raw() as u64;
        self.count(Counter::Syscalls);
        let Some(thread) = self.current else { return Outcome::error(Error::BadCall) };
        let answer = match number {
            RESUME => self.thread_resume(m, args[0]),
            SUSPEND => self.thread_suspend(m, thread, args[0]),
            START => self.device_start(m, args[0]),
            WRITE => self.socket_write(m, args[0], args[1], args[2], args[3]),
            READ => self.socket_read(m, args[0], args[1], args[2], args[3]),
            _ => self.other_call(m, thread, number, &args),
        };
        match answer {
            Ok(outcome) => outcome,
            Err(error) => Outcome::error(error),
        }
    }

    #[inline(never)]
    fn other_call(&mut self, m: &mut M, thread: u16, number: u64, args: &[u64; 6]) -> Answer {
        let call = u32::try_from(number).ok().and_then(Syscall::from_raw).ok_or(Error::BadCall)?;
        let task = self.current_task;
        let [a, b, c, d, ..] = *args;
        match call {
            Syscall::ConsoleWrite => self.console_write(m, a, b),
            Syscall::ConsoleRead => self.console_read(m, thread, a, b, c),
            Syscall::PowerOff => self.power_off(m, task, a),
            Syscall::TaskSpawn => self.task_spawn(m, args),
            Syscall::TaskTerminate => self.task_terminate(m, a),
            Syscall::TaskExit => self.task_exit(m, a),
            Syscall::TaskInfo => self.task_info(m, a, b),
            Syscall::ThreadCreate => self.thread_create(m, a, b, c, d),
            Syscall::ThreadExit => self.thread_exit(m, thread),
            Syscall::ThreadSuspend => self.thread_suspend(m, thread, a),
            Syscall::ThreadResume => self.thread_resume(m, a),
            Syscall::ThreadYield => self.thread_yield(m, thread),
            Syscall::ThreadSetPriority => self.thread_set_priority(a, b),
            Syscall::PortAllocate => self.port_allocate(),
            Syscall::PortSetAllocate => self.port_set_allocate(),
            Syscall::PortMoveMember => self.port_move_member(m, a, b),
            Syscall::PortDeallocate => self.port_deallocate(m, a),
            Syscall::PortNotifyDead => self.port_notify_dead(m, a, b),
            Syscall::PortBindThread => self.port_bind_thread(m, a, b),
            Syscall::PortMakeSend => self.port_make_send(a),
            Syscall::MessageSend => self.message_send(m, thread, a, b),
            Syscall::MessageReceive => self.message_receive(m, thread, a, b, c),
            Syscall::MessageCall => self.message_call(m, thread, [a, b, c, d]),
            Syscall::VmAllocate => self.vm_allocate(m, a, b),
            Syscall::VmDeallocate => self.vm_deallocate(m, a, b),
            Syscall::MemoryObjectCreate => self.memory_object_create(m, a),
            Syscall::VmMap => self.vm_map(m, a, b, c, d),
            Syscall::MemoryObjectReadOnly => self.memory_object_read_only(m, a),
            Syscall::DeviceOpen => self.device_open(m, a, b),
            Syscall::DeviceMap => self.device_map(m, a),
            Syscall::DeviceStart => self.device_start(m, a),
            Syscall::DeviceInfo => self.device_info(m, a, b),
            Syscall::DeviceBindThread => self.device_bind_thread(a, b),
            Syscall::DeviceAudit => self.device_audit(m, a, b),
            Syscall::DeviceClaim => self.device_claim(m, a, b, c, d),
            Syscall::CountersRead => self.counters_read(m, a, b),
            Syscall::UsageRead => self.usage_read(m, a),
            Syscall::Entropy => Ok(Outcome::ok(m.entropy())),
            Syscall::DeviceSetFilter => self.device_set_filter(m, args),
            Syscall::DeviceWrite => self.device_write(m, a, b, c, d),
            Syscall::DeviceWritePage => self.device_write_page(m, a, b, c, d),
            Syscall::SocketRequest => self.socket_request(m, a),
            Syscall::SocketWrite => self.socket_write(m, a, b, c, d),
            Syscall::SocketRead => self.socket_read(m, a, b, c, d),
        }
    }

    /// Copies a short string from the running task: a name, or arguments.
    fn copy_string<'b>(
        &self,
        m: &M,
        address: u64,
        length: u64,
        room: &'b mut [u8],
    ) -> Result<&'b [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::BadArgument)?;
        let bytes = room.get_mut(..length).ok_or(Error::BadArgument)?;
        crate::user::copy_in(m, self.tasks[usize::from(self.current_task)].tables(), address, bytes)?;
        Ok(bytes)
    }

    /// Copies a result to the running task.
    fn answer_at(&self, m: &mut M, address: u64, bytes: &[u8]) -> Result<(), Error> {
        crate::user::copy_out(m, self.tasks[usize::from(self.current_task)].tables(), address, bytes)
    }
}

/// A port name as a task gave it.
///
/// # Errors
/// [`Error::BadName`]: no name is that large.
#[inline]
fn name(raw: u64) -> Result<u32, Error> {
    u32::try_from(raw).map_err(|_| Error::BadName)
}

/// The bytes of a structure that is copied to a task, field by field.
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Bytes<N> {
    const fn new() -> Self {
        Self([0; N])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
