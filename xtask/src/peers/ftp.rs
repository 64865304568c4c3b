//! The other end of the guest's `ftp`: vsftpd (Debian's package), for one run.
//!
//! It serves a folder below the run's temporary one, to anonymous users, on a port of its own. As root it gives its rights up as it was
//! made to, and confines each session to the folder; without (a namespace of an ordinary user has no other user to become) it goes on as
//! whoever started it. Paths are relative to the folder in both cases, below [`PUBLIC`].

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use pattern::{Source, Verifier};

use super::wait_for_listener;
use crate::error::{Context as _, Error, Result, failed};
use crate::network::Link;
use crate::{setup, sys};

/// Where it listens, if that is free.
const PORT: u16 = 2121;
/// The only name that logs in.
pub const USER: &str = "ftp";
/// Any word does.
pub const PASSWORD: &str = "guest";
/// The folder in which files can be read and written.
pub const PUBLIC: &str = "pub";

/// A running server; dropped, it ends. Its sessions are processes that set themselves apart; they end with their client, or after a minute
/// without a word from it. Its files stay until the folder goes.
pub struct FtpServer {
    process: Child,
    folder: PathBuf,
    host: String,
    /// Where it listens.
    pub port: u16,
}

/// What lies in a file that the guest has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its bytes.
    pub bytes: u64,
    /// The digest of them.
    pub digest: u64,
    /// Where the first byte stands that is not the pattern's.
    pub first_error: Option<u64>,
}

impl FtpServer {
    /// Starts one on the host's end of the link, with its files in `folder`/ftp.
    pub fn start(link: &Link, folder: &Path) -> Result<Self> {
        let folder = folder.join("ftp");
        let (public, empty) = (folder.join(PUBLIC), folder.join("empty"));
        for it in [&folder, &public, &empty] {
            fs::create_dir_all(it).context(it.display())?;
            fs::set_permissions(it, fs::Permissions::from_mode(0o755)).context(it.display())?;
        }
        let drops_rights = is_real_root();
        if drops_rights {
            // The server refuses to be confined to a folder that its user can write, so that is one below.
            fs::set_permissions(&public, fs::Permissions::from_mode(0o777)).context(public.display())?;
        }
        let address = link.listen_address();
        // In the namespace it is free, and nobody else asks.
        let free = |port| TcpListener::bind((address, port)).and_then(|listener| listener.local_addr());
        let port = free(PORT).or_else(|_| free(0)).context("no free port for the FTP server")?.port();
        let settings = folder.join("vsftpd.conf");
        let text = format!(
            "listen=YES\nbackground=NO\nlisten_address={address}\nlisten_port={port}\n\
             anonymous_enable=YES\nlocal_enable=NO\nanon_root={root}\nsecure_chroot_dir={empty}\n\
             write_enable=YES\nanon_upload_enable=YES\nanon_other_write_enable=YES\nanon_umask=022\n\
             anon_world_readable_only=NO\nport_enable=NO\nmax_login_fails=1\ndelay_failed_login=0\n\
             idle_session_timeout=60\ndata_connection_timeout=60\n\
             seccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\nxferlog_enable=NO\n\
             run_as_launching_user={as_is}\n",
            root = folder.display(),
            empty = empty.display(),
            as_is = if drops_rights { "NO" } else { "YES" },
        );
        fs::write(&settings, text).context(settings.display())?;
        let mut command = setup::command(setup::VSFTPD);
        sys::die_with_parent(&mut command).arg(&settings);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let process = command.spawn().context("cannot start vsftpd")?;
        let mut server = Self { process, folder, host: link.host.to_string(), port };
        match wait_for_listener(port) {
            Ok(()) => Ok(server),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => failed(format!("vsftpd: {}", server.complaint().unwrap_or(error.message().into()))),
        }
    }

    /// What it said if it has ended.
    fn complaint(&mut self) -> Option<String> {
        self.process.try_wait().ok()??;
        let mut said = String::new();
        self.process.stdout.take()?.read_to_string(&mut said).ok()?;
        Some(said.trim().to_owned()).filter(|said| !said.is_empty())
    }

    /// The words behind `ftp get` or `ftp put` that lead here: host, port, user, password.
    pub fn arguments(&self) -> String {
        format!("{} {} {USER} {PASSWORD}", self.host, self.port)
    }

    /// Makes a file of the pattern; what the guest calls it.
    pub fn offer(&self, name: &str, bytes: u64) -> Result<String> {
        let path = self.file(name);
        let mut file = File::create(&path).context(path.display())?;
        let mut source = Source::new();
        while source.position() < bytes {
            let piece = (bytes - source.position()).min(pattern::MAX_CHUNK as u64) as usize;
            file.write_all(source.peek(piece)).context(path.display())?;
            source.advance(piece);
        }
        Ok(self.name(name))
    }

    /// What the guest calls a file.
    pub fn name(&self, name: &str) -> String {
        format!("{PUBLIC}/{name}")
    }

    /// Looks at a file that the guest has written, and takes it away.
    pub fn take(&self, name: &str) -> Result<Stored> {
        let path = self.file(name);
        let mut file = File::open(&path).context(path.display())?;
        let (mut verifier, mut digest, mut bytes) = (Verifier::new(), pattern::Digest::new(), 0);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = file.read(&mut buffer).context(path.display())?;
            if n == 0 {
                break;
            }
            verifier.check(&buffer[..n]);
            digest.update(&buffer[..n]);
            bytes += n as u64;
        }
        fs::remove_file(&path).context(path.display())?;
        Ok(Stored { bytes, digest: digest.finish(), first_error: verifier.first_error() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(PUBLIC).join(name)
    }
}

impl Drop for FtpServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Root that can become somebody else: the first user namespace maps all users, that of an ordinary user one.
fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let users = map.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok());
    sys::is_root() && users.is_some_and(|users| users > 65_536)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Net;
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpStream;
    use std::time::Duration;

    struct Client(BufReader<TcpStream>);

    impl Client {
        fn command(&mut self, line: &str) -> String {
            self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
            self.reply()
        }

        fn reply(&mut self) -> String {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            line
        }

        fn data(&mut self) -> TcpStream {
            let reply = self.command("EPSV");
            let port = reply.split('|').nth(3).unwrap().parse::<u16>().unwrap();
            TcpStream::connect(("127.0.0.1", port)).unwrap()
        }
    }

    #[test]
    fn files_go_both_ways() {
        if !setup::present(setup::VSFTPD) {
            return;
        }
        let link = Link { net: Net::User, host: [10, 0, 2, 2].into(), forwards: Vec::new() };
        let folder = temp_dir::TempDir::with_prefix("oriel-").unwrap();
        let server = FtpServer::start(&link, folder.path()).unwrap();
        assert!(server.arguments().starts_with("10.0.2.2 "));
        let down = server.offer("down", 200_000).unwrap();

        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Client(BufReader::new(stream));
        assert!(client.reply().starts_with("220"));
        assert!(client.command(&format!("USER {USER}")).starts_with("331"));
        assert!(client.command(&format!("PASS {PASSWORD}")).starts_with("230"));
        assert!(client.command("TYPE I").starts_with("200"));

        let mut data = client.data();
        assert!(client.command(&format!("RETR {down}")).starts_with("150"));
        let mut read = Vec::new();
        data.read_to_end(&mut read).unwrap();
        assert!(client.reply().starts_with("226"));
        let mut verifier = Verifier::new();
        verifier.check(&read);
        assert_eq!((read.len(), verifier.first_error()), (200_000, None));

        for _ in 0..2 {
            let mut data = client.data();
            assert!(client.command(&format!("STOR {}", server.name("up"))).starts_with("150"));
            data.write_all(&read[..150_000]).unwrap();
            drop(data);
            assert!(client.reply().starts_with("226"));
        }
        let stored = server.take("up").unwrap();
        assert_eq!((stored.bytes, stored.first_error), (150_000, None));
        assert_eq!(stored.digest, pattern::Digest::of_pattern(150_000));
        assert!(server.take("up").is_err());

        let address = ("127.0.0.1", server.port);
        drop(server);
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    }
}
