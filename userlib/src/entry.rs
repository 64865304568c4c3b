//! From the kernel's first instruction to `main`, and from there to the exit status.
//!
//! A first word `@NAME` is not `main`'s: it chooses the protocol server where several run (`ttcp @net1 -r -s`), for any program.
#![expect(unsafe_code, reason = "the argument string is where the kernel says")]

use core::{fmt::Display, panic::PanicInfo};

use crate::{console, net, println, task};

/// The status of a task that panicked.
pub const PANICKED: u64 = 101;

/// Makes a function the program's entry: `fn main(args: Args) -> impl Termination`.
///
/// For binaries only. It brings the panic handler, the global allocator and the memory functions that the compiler asks for, so the
/// package depends on `memfuncs`, and its build script includes `userlib/link-args.rs`.
///
/// ```ignore
/// #![no_std]
/// #![no_main]
/// userlib::entry!(main);
///
/// fn main(mut args: userlib::entry::Args) {
///     userlib::println!("hello, {}", args.next().unwrap_or("world"));
/// }
/// ```
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        use ::memfuncs as _;

        #[global_allocator]
        static HEAP: $crate::heap::Heap = $crate::heap::Heap::new();

        // The kernel jumps here with the stack as after a call.
        #[unsafe(no_mangle)]
        extern "C" fn _start(arguments: *const u8, length: usize) -> ! {
            // SAFETY: the kernel says where the string is, and how long.
            unsafe { $crate::entry::run(arguments, length, ::core::env!("CARGO_BIN_NAME"), $main) }
        }

        #[panic_handler]
        fn panicked(info: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::entry::panicked(::core::env!("CARGO_BIN_NAME"), info)
        }
    };
}

/// The words of the argument string.
pub type Args = core::str::SplitAsciiWhitespace<'static>;

/// What `main` may return.
pub trait Termination {
    /// The exit status; an error is printed here.
    fn report(self, program: &str) -> u64;
}

impl Termination for () {
    fn report(self, _: &str) -> u64 {
        0
    }
}

/// A status as it is: 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(pub u64);

impl Termination for ExitStatus {
    fn report(self, _: &str) -> u64 {
        self.0
    }
}

impl<T: Termination, E: Display> Termination for Result<T, E> {
    fn report(self, program: &str) -> u64 {
        match self {
            Ok(value) => value.report(program),
            Err(error) => {
                println!("{program}: {error}");
                1
            }
        }
    }
}

/// What [`entry!`] calls: runs `main` and ends the task.
///
/// # Safety
/// `length` bytes at `arguments` are valid for reads for as long as the task lives, and nobody writes them.
pub unsafe fn run<T: Termination>(
    arguments: *const u8,
    length: usize,
    program: &str,
    main: fn(Args) -> T,
) -> ! {
    let bytes: &'static [u8] = if length == 0 {
        &[]
    } else {
        // SAFETY: the caller's promise.
        unsafe { core::slice::from_raw_parts(arguments, length) }
    };
    let arguments = str::from_utf8(bytes).unwrap_or("");
    let mut words = arguments.split_ascii_whitespace();
    if let Some(server) = words.clone().next().and_then(|word| word.strip_prefix('@')) {
        net::choose(server);
        words.next();
    }
    let status = main(words).report(program);
    console::flush();
    task::exit(status)
}

/// What the panic handler of [`entry!`] calls.
pub fn panicked(program: &str, info: &PanicInfo<'_>) -> ! {
    // Past the buffer and its lock, which this very thread may hold.
    let mut report = Report { bytes: [0; 512], used: 0 };
    let _ = match info.location() {
        Some(at) => core::fmt::write(
            &mut report,
            format_args!("panic: {program}: {} at {}:{}\n", info.message(), at.file(), at.line()),
        ),
        None => core::fmt::write(&mut report, format_args!("panic: {program}: {}\n", info.message())),
    };
    console::write_bytes(&report.bytes[..report.used]);
    task::exit(PANICKED)
}

/// One line, cut where it is too long.
struct Report {
    bytes: [u8; 512],
    used: usize,
}

impl core::fmt::Write for Report {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.len() - self.used;
        let part = &text.as_bytes()[..text.len().min(room)];
        self.bytes[self.used..self.used + part.len()].copy_from_slice(part);
        self.used += part.len();
        Ok(())
    }
}
