//! What `boot` starts at the host's end of the link for the guest's applications: servers of FTP and X11, the end of a capture.

use std::path::PathBuf;

use crate::capture::{self, Capture};
use crate::cli::BootArgs;
use crate::error::Result;
use crate::peers::ftp::{FtpServer, PUBLIC};
use crate::peers::x11::XServer;
use crate::report;
use crate::session::Session;
use crate::setup::{self, Tool};

/// How many bytes the file has that the FTP server offers.
const SAMPLE_BYTES: u64 = 10_000_000;

/// What was asked for, running.
pub struct Services {
    ftp: Option<FtpServer>,
    x11: Option<(XServer, PathBuf)>,
    capture: Option<(Capture, PathBuf)>,
}

impl Services {
    /// The programs that are needed.
    pub fn tools(args: &BootArgs) -> Vec<Tool> {
        let ftp = args.ftp.then_some(setup::VSFTPD);
        let x11 = args.x11.is_some().then_some(setup::XVFB);
        ftp.into_iter().chain(x11).collect()
    }

    /// Starts all, and says how the guest reaches them.
    pub fn start(args: &BootArgs, session: &Session) -> Result<Self> {
        let (link, folder) = (&session.link, session.folder.path());
        [&args.x11, &args.capture]
            .into_iter()
            .try_for_each(|file| report::check_writable(file.as_deref()))?;
        let ftp = args.ftp.then(|| FtpServer::start(link, folder)).transpose()?;
        if let Some(ftp) = &ftp {
            let (to, sample) = (ftp.arguments(), ftp.offer("sample", SAMPLE_BYTES)?);
            println!("An FTP server waits: `ftp get {to} {sample}`, `ftp put {to} {PUBLIC}/NAME BYTES`");
        }
        let x11 = match &args.x11 {
            Some(file) => Some((XServer::start(link, folder)?, file.clone())),
            None => None,
        };
        if let Some((x11, _)) = &x11 {
            println!("An X server waits: `xdots -k {}`", x11.guest_display());
        }
        let capture = match &args.capture {
            Some(file) => Some((Capture::start(link, file)?, file.clone())),
            None => None,
        };
        if capture.is_some() {
            println!("A capture is waited for: `tcpdump -w {}:{}`", link.host, capture::PORT);
        }
        Ok(Self { ftp, x11, capture })
    }

    /// Ends all, and writes the files.
    pub fn finish(self) -> Result<()> {
        drop(self.ftp);
        if let Some((x11, file)) = self.x11 {
            x11.screenshot()?.write_png(&file)?;
            println!("The X server's screen is in {}", file.display());
        }
        if let Some((capture, file)) = self.capture {
            let packets = capture.finish()?;
            println!("{} frames are in {}", packets.len(), file.display());
        }
        Ok(())
    }
}
