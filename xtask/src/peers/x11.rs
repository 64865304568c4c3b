//! The other end of the guest's `xdots`: Xvfb (Debian's package), an X server whose screen is a file, for one run.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use x11::PORT_BASE;

use super::{wait_for_listener, xwd::Image};
use crate::error::{Context as _, Error, Result, failed};
use crate::network::{Link, Net};
use crate::{setup, sys};

/// A dot of `xdots` on the screen, whose pixels have eight bits of each colour.
pub const DOT: [u8; 3] = {
    let [red, green, blue] = x11::COLOUR;
    [(red >> 8) as u8, (green >> 8) as u8, (blue >> 8) as u8]
};
/// Displays that are tried: far from those that people use.
const DISPLAYS: std::ops::Range<u16> = 60..100;
/// How long it may take to end in good order.
const END: Duration = Duration::from_secs(3);

/// A running server; dropped, it ends.
pub struct XServer {
    process: Child,
    screen: PathBuf,
    host: String,
    /// The display's number.
    pub display: u16,
}

impl XServer {
    /// Starts one on the host's end of the link, with its screen in `folder`/x11.
    pub fn start(link: &Link, folder: &Path) -> Result<Self> {
        let folder = folder.join("x11");
        fs::create_dir_all(&folder).context(folder.display())?;
        let address = link.listen_address();
        let free = |display: &u16| TcpListener::bind((address, PORT_BASE + display)).is_ok();
        let Some(display) = DISPLAYS.clone().find(free) else {
            return failed(format!(
                "ports {} to {} are taken",
                PORT_BASE + DISPLAYS.start,
                PORT_BASE + DISPLAYS.end - 1
            ));
        };
        let mut command = setup::command(setup::XVFB);
        sys::die_with_parent(&mut command).arg(format!(":{display}"));
        // The namespace is the lock: other runs have displays of the same number.
        command.args(["-listen", "tcp", "-nolisten", "unix", "-nolisten", "local", "-nolock", "-noreset"]);
        command.args(["-screen", "0", "1024x768x24", "-fbdir"]).arg(&folder);
        // It listens on every address. In the namespace only the guest is there; elsewhere it admits this host alone, which is the
        // default, and QEMU's connections come from here.
        if link.net == Net::Tap {
            command.arg("-ac");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("cannot start Xvfb")?;
        let screen = folder.join("Xvfb_screen0");
        let server = Self { process, screen, host: link.host.to_string(), display };
        match wait_for_listener(PORT_BASE + display) {
            Ok(()) => Ok(server),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => failed(format!("Xvfb: {}", error.message())),
        }
    }

    /// The display as the guest names it, `10.9.0.1:60`.
    pub fn guest_display(&self) -> String {
        format!("{}:{}", self.host, self.display)
    }

    /// What is on the screen now.
    pub fn screenshot(&self) -> Result<Image> {
        let file = fs::read(&self.screen).context(self.screen.display())?;
        Image::from_xwd(&file).context(self.screen.display())
    }
}

impl Drop for XServer {
    fn drop(&mut self) {
        sys::ask_to_end(&self.process);
        let deadline = Instant::now() + END;
        while Instant::now() < deadline && self.process.try_wait().is_ok_and(|status| status.is_none()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    #[test]
    fn it_answers_and_shows_a_black_screen() {
        if !setup::present(setup::XVFB) {
            return;
        }
        let link = Link { net: Net::User, host: [10, 0, 2, 2].into(), forwards: Vec::new() };
        let folder = temp_dir::TempDir::with_prefix("oriel-").unwrap();
        let server = XServer::start(&link, folder.path()).unwrap();
        assert_eq!(server.guest_display(), format!("10.0.2.2:{}", server.display));
        let mut stream = TcpStream::connect(("127.0.0.1", PORT_BASE + server.display)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&[b'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], [1, 0, 11, 0], "success, and version 11");
        let image = server.screenshot().unwrap();
        assert_eq!((image.width, image.height), (1024, 768));
        assert_eq!(image.count([0, 0, 0]), 1024 * 768);
    }
}
