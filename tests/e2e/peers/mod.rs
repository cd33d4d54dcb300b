//! Both ends of Gx in one process: the node and the session machine as a PCRF, and real peers to talk with. Every
//! frame that the PCRF sends or gets is kept for a capture file.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod capture;
pub mod fd;
pub mod namespace;
pub mod pcrf;
pub mod script;

use std::future::Future;
use std::time::Duration;

/// Far above what anything here takes, also on a busy host.
pub const BOUND: Duration = Duration::from_secs(60);

/// Waits for an event; the bound fails the test.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {BOUND:?}: {what}"),
    }
}

/// Runs a test's body on a runtime of one thread, which stays in the thread's namespace.
pub fn block_on<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(body)
}

/// Fails with the line that installs what is missing.
pub fn need(program: &str, packages: &str) {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        std::env::split_paths(&paths).chain(["/usr/sbin".into()]).any(|dir| dir.join(program).exists());
    assert!(is_there, "{program} is missing: apt-get install --no-install-recommends {packages}");
}
