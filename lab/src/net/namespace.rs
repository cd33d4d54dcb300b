//! A network namespace, held by a descriptor and by one thread that never leaves it.

use crate::error::{Error, Result};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

struct Inner {
    name: String,
    file: File,
    jobs: mpsc::Sender<Job>,
}

/// A namespace without a name in the file system: when the process ends, however it ends, it is gone.
#[derive(Clone)]
pub struct Namespace(Arc<Inner>);

impl Namespace {
    /// Makes a namespace and the thread that stays in it.
    pub fn new(name: &str) -> Result<Namespace> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (ready, opened) = mpsc::channel();
        thread::Builder::new()
            .name(format!("ns-{name}"))
            .spawn(move || {
                let file = enter_new();
                let entered = file.is_ok();
                if ready.send(file).is_err() || !entered {
                    return;
                }
                for job in work {
                    job();
                }
            })
            .map_err(Error::io("starting a namespace's thread"))?;
        let file = opened
            .recv()
            .map_err(|_| Error::Thread(format!("ns-{name}")))?
            .map_err(|e| Error::Host { capability: format!("network namespaces: {e}") })?;
        Ok(Namespace(Arc::new(Inner { name: name.to_owned(), file, jobs })))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The descriptor that names it to the kernel.
    pub fn fd(&self) -> RawFd {
        self.0.file.as_raw_fd()
    }

    /// Runs a function inside and waits for it.
    pub fn call<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (done, result) = mpsc::channel();
        let sent = self.0.jobs.send(Box::new(move || {
            let _ = done.send(job());
        }));
        let died = || Error::Thread(format!("ns-{}", self.0.name));
        sent.map_err(|_| died())?;
        result.recv().map_err(|_| died())
    }

    /// Starts a thread inside; a thread is born in its maker's namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        thread_name: &str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<T>> {
        let builder = thread::Builder::new().name(thread_name.to_owned());
        self.call(move || builder.spawn(job))?.map_err(Error::io(format!("starting {thread_name}")))
    }

    /// Starts a program inside. It is killed when the lab dies, because the thread that starts it lives as
    /// long as the lab does.
    pub fn start(&self, mut command: Command, what: &str) -> Result<Child> {
        use std::os::unix::process::CommandExt;
        let parent = std::process::id();
        // SAFETY: between fork and exec only prctl, getppid and _exit are called: all async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // Born orphaned: the lab died before the line above.
                if libc::getppid().cast_unsigned() != parent {
                    libc::_exit(1);
                }
                Ok(())
            });
        }
        self.call(move || command.spawn())?.map_err(Error::io(format!("starting {what}")))
    }

    /// Writes a sysctl of this namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{key}");
        let text = value.to_owned();
        self.call(move || std::fs::write(path, text))?.map_err(Error::io(format!("setting sysctl {key}")))
    }
}

fn enter_new() -> io::Result<File> {
    // SAFETY: unshare takes flags only and moves the calling thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    File::open("/proc/thread-self/ns/net")
}
