//! A server started for a while: waits until it says where it listens, and stops it as an operator would, by SIGTERM.

use crate::Result;
use crate::work;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The longest that a start may take: a debug build compiles every module of the app first.
const START: Duration = Duration::from_secs(120);

/// The longest that an end may take.
const STOP: Duration = Duration::from_secs(40);

/// Of what a server says, so much is kept: a storm of failures is a storm of lines.
const SAID_BYTES: usize = 16 << 10;

/// A child that listens. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    /// Where it listens: `host:port`.
    pub(crate) address: String,
    /// What it has said on stderr so far, or the beginning of it, shown when something goes wrong.
    said: Arc<Mutex<String>>,
}

impl Server {
    /// Starts it and waits for a line on stderr that names an address behind `marker`, such as `http://`.
    pub(crate) fn start(command: &mut Command, marker: &'static str) -> Result<Self> {
        let mut child = command.stderr(Stdio::piped()).spawn().map_err(|error| work::could_not_start(command, &error))?;
        let said = Arc::new(Mutex::new(String::new()));
        let (found, wait) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            let said = Arc::clone(&said);
            // Reads to the end, so that the child never blocks on a full pipe.
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
                    if let Some(address) = address(&line, marker) {
                        let _ = found.send(address);
                    }
                    if let Ok(mut said) = said.lock()
                        && said.len() < SAID_BYTES
                    {
                        said.push_str(&line);
                        said.push('\n');
                    }
                }
            });
        }
        let mut server = Self { child, address: String::new(), said };
        match wait.recv_timeout(START) {
            Ok(address) => server.address = address,
            Err(_) => return Err(format!("`{}` did not say where it listens\n{}", program(command), server.said())),
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits; an exit code other than 0 is an error.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.terminate()?;
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the server ended with {status} after SIGTERM\n{}", self.said())),
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
        Err(format!("the server did not end within {STOP:?} after SIGTERM\n{}", self.said()))
    }

    /// The shell's `kill`, because the standard library can only kill at once.
    fn terminate(&self) -> Result<()> {
        work::output(work::command("sh").args(["-c", "kill -TERM \"$1\"", "sh", &self.pid().to_string()])).map(drop)
    }

    /// What it has said.
    pub(crate) fn said(&self) -> String {
        self.said.lock().map(|said| said.clone()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `host:port` behind `marker`.
fn address(line: &str, marker: &str) -> Option<String> {
    let rest = &line[line.find(marker)? + marker.len()..];
    let end = rest.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(rest.len());
    let address = &rest[..end];
    address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()).then(|| address.to_string())
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_what_servers_say() {
        assert_eq!(address("listening on http://127.0.0.1:80", "http://").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(address("Serving HTTP on http://[::1]:8080/ now", "http://").as_deref(), Some("[::1]:8080"));
        assert_eq!(address("see http://example.com/", "http://"), None);
    }
}
