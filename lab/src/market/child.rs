//! The broker's and the agent's processes.

use crate::clock;
use crate::error::{Error, Result};
use crate::net::namespace::Namespace;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A graceful stop may take this long before it is killed.
const STOP_WITHIN_NS: u64 = 3 * clock::SECOND;

/// Where the two programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub broker: PathBuf,
    pub agent: PathBuf,
}

impl Binaries {
    /// Given paths first, then `TOLLWAY_BIN` and `TOLLWAY_AGENT_BIN`, then beside this program.
    pub fn find(broker: Option<PathBuf>, agent: Option<PathBuf>) -> Result<Binaries> {
        Ok(Binaries {
            broker: find(broker, "TOLLWAY_BIN", "tollway")?,
            agent: find(agent, "TOLLWAY_AGENT_BIN", "tollway-agent")?,
        })
    }
}

fn find(given: Option<PathBuf>, variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = given.or_else(|| std::env::var_os(variable).map(PathBuf::from)) {
        return Ok(path);
    }
    let exe = std::env::current_exe().map_err(Error::io("finding this program"))?;
    // Beside it, or one up: examples and tests lie one folder deeper.
    let candidates = exe.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| Error::Host {
        capability: format!("the program {name} beside {} (or set {variable})", exe.display()),
    })
}

/// A child process with its log.
pub struct Running {
    who: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::ChildEnded {
                who: self.who.into(),
                status: status.to_string(),
                log: self.log.clone(),
            }),
            Err(source) => Err(Error::Io { doing: format!("looking at the {}", self.who), source }),
        }
    }

    /// SIGKILL, and waits for the body.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().map_err(Error::io(format!("killing the {}", self.who)))?;
        self.child.wait().map_err(Error::io(format!("waiting for the {}", self.who)))?;
        Ok(())
    }

    /// SIGTERM, then SIGKILL when that is not heard.
    pub fn stop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: the pid is our own child's, which has not been waited for.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let until = clock::now_ns() + STOP_WITHIN_NS;
        while clock::now_ns() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            clock::sleep_until(clock::now_ns() + 10 * clock::MS);
        }
        let _ = self.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.kill();
        }
    }
}

fn log(dir: &Path, name: &str) -> Result<(PathBuf, File)> {
    let path = dir.join(format!("{name}.log"));
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::io(format!("opening {}", path.display())))?;
    Ok((path, file))
}

fn start(ns: &Namespace, who: &'static str, mut command: Command, dir: &Path) -> Result<Running> {
    let (path, file) = log(dir, who)?;
    let errors = file.try_clone().map_err(Error::io("opening a log"))?;
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    let child = ns.start(command, who)?;
    Ok(Running { who, child, log: path })
}

/// `tollway serve` on the lab's configuration and data.
pub fn broker(ns: &Namespace, binaries: &Binaries, dir: &Path) -> Result<Running> {
    let mut command = Command::new(&binaries.broker);
    command.arg("serve");
    command.arg("--config").arg(dir.join("broker.toml")).arg("--data").arg(dir.join("broker-data"));
    start(ns, "broker", command, dir)
}

/// `tollway-agent` on the router's ports.
pub fn agent(ns: &Namespace, binaries: &Binaries, dir: &Path) -> Result<Running> {
    let mut command = Command::new(&binaries.agent);
    command.arg("--config").arg(dir.join("agent.toml"));
    start(ns, "agent", command, dir)
}
