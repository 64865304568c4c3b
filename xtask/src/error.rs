//! How a command fails: one line that says what to do, and an exit status.

use std::fmt::Display;
use std::process::ExitCode;

/// Why a command ended early.
#[derive(Debug)]
pub enum Error {
    /// The command line asks for something that can't be: status 2, as clap has it.
    Usage(String),
    /// It was tried and went wrong: status 1.
    Failed(String),
    /// Ctrl-C or SIGTERM: status 130.
    Interrupted,
}

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Prints the line and gives the status.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Usage(message) => {
                eprintln!("error: {message}");
                ExitCode::from(2)
            }
            Self::Failed(message) => {
                eprintln!("error: {message}");
                ExitCode::FAILURE
            }
            Self::Interrupted => {
                eprintln!("interrupted");
                ExitCode::from(130)
            }
        }
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        match self {
            Self::Usage(message) | Self::Failed(message) => message,
            Self::Interrupted => "interrupted",
        }
    }
}

/// A failure with this message.
pub fn failed<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Failed(message.into()))
}

/// Says what was being done when a lower layer failed.
pub trait Context<T> {
    /// `WHAT: the error`.
    fn context(self, what: impl Display) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|error| Error::Failed(format!("{what}: {error}")))
    }
}
