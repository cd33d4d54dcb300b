//! Inputs that aborted the broker. A panic is a broken invariant: the process aborts and nothing of the
//! input is journaled. Its hash goes to `DIR/poison`; what is named there twice is refused at the edge.

use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tollway_core::{Input, RequestId};

/// File name inside the data directory: one hexadecimal hash a line.
pub const POISON_FILE: &str = "poison";

/// Times an input may abort the broker before it is refused: once may be chance.
const STRIKES: u32 = 2;

thread_local! {
    static CURRENT: RefCell<Option<Input>> = const { RefCell::new(None) };
}

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// Hashes that were read at the start.
#[derive(Debug, Default)]
pub struct Poison {
    strikes: BTreeMap<String, u32>,
}

impl Poison {
    /// Reads `DIR/poison`; a missing file is an empty one.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn load(dir: &Path) -> std::io::Result<Poison> {
        let text = match std::fs::read_to_string(dir.join(POISON_FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut strikes: BTreeMap<String, u32> = BTreeMap::new();
        for line in text.lines() {
            *strikes.entry(line.trim().to_owned()).or_default() += 1;
        }
        Ok(Poison { strikes })
    }

    /// Whether the input aborted the broker twice.
    pub fn refuses(&self, input: &Input) -> bool {
        !self.strikes.is_empty() && self.strikes.get(&hash(input)).is_some_and(|n| *n >= STRIKES)
    }
}

/// Hash of an input's text, whatever request carried it.
pub fn hash(input: &Input) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("{:?}", without_request(input)).as_bytes()).into();
    crate::auth::sha256_hex(&digest)
}

fn without_request(input: &Input) -> Input {
    let mut plain = input.clone();
    match &mut plain {
        Input::Configure { request, .. } | Input::Client { request, .. } | Input::TopUp { request, .. } => {
            *request = RequestId(0);
        }
        Input::AdapterConnected { connection, .. } | Input::AdapterDisconnected { connection, .. } => {
            *connection = 0;
        }
        Input::MakeMarket { .. } | Input::Reports { .. } | Input::Tick => {}
    }
    plain
}

/// Names the input that the engine handles next on this thread; `None` when it is done.
pub(crate) fn set_current(input: Option<Input>) {
    CURRENT.with_borrow_mut(|current| *current = input);
}

/// From now on a panic writes the hash of the input in hand to `DIR/poison` and aborts the process.
pub fn install_hook(dir: &Path) {
    if FILE.set(dir.join(POISON_FILE)).is_err() {
        return;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        let input = CURRENT.try_with(|current| current.try_borrow_mut().ok().and_then(|mut c| c.take()));
        if let (Ok(Some(input)), Some(file)) = (input, FILE.get()) {
            // Nothing can be done about a failure here; the process ends anyway.
            let _ = note(file, &hash(&input));
        }
        std::process::abort();
    }));
}

fn note(file: &Path, hash: &str) -> std::io::Result<()> {
    let mut out = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    writeln!(out, "{hash}")?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollway_core::Command;
    use tollway_model::{CustomerId, ReservationId};

    fn cancel(request: u64, reservation: u64) -> Input {
        Input::Client {
            request: RequestId(request),
            customer: CustomerId(1),
            key: None,
            command: Command::Cancel { reservation: ReservationId(reservation) },
        }
    }

    #[test]
    fn the_second_strike_refuses_whatever_the_request_number() {
        let dir = std::env::temp_dir().join(format!("tollway-poison-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(!Poison::load(&dir).unwrap().refuses(&cancel(1, 7)));
        note(&dir.join(POISON_FILE), &hash(&cancel(1, 7))).unwrap();
        assert!(!Poison::load(&dir).unwrap().refuses(&cancel(2, 7)));
        note(&dir.join(POISON_FILE), &hash(&cancel(9, 7))).unwrap();
        let poison = Poison::load(&dir).unwrap();
        assert!(poison.refuses(&cancel(3, 7)));
        assert!(!poison.refuses(&cancel(3, 8)));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    /// Set in the process that is to abort.
    const VICTIM: &str = "TOLLWAY_TEST_POISON_DIR";

    #[test]
    fn a_panic_names_its_input_and_aborts_the_process() {
        use std::os::unix::process::ExitStatusExt;
        if let Some(dir) = std::env::var_os(VICTIM) {
            install_hook(Path::new(&dir));
            set_current(Some(cancel(1, 7)));
            panic!("an invariant is broken");
        }
        let dir = std::env::temp_dir().join(format!("tollway-abort-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for strikes in 1..=2 {
            let test = "driver::poison::tests::a_panic_names_its_input_and_aborts_the_process";
            let victim = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test])
                .env(VICTIM, &dir)
                .output()
                .unwrap();
            assert_eq!(victim.status.signal(), Some(libc::SIGABRT));
            assert_eq!(Poison::load(&dir).unwrap().refuses(&cancel(5, 7)), strikes == 2);
        }
        assert!(!Poison::load(&dir).unwrap().refuses(&cancel(5, 8)));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
