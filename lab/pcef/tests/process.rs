//! The binary: commands in, events out, an end when its script ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(60);

fn start(to: &str, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollway-pcef"));
    command.args(["--connect", to]).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Its lines, read beside the test.
fn lines(child: &mut Child) -> mpsc::Receiver<String> {
    let output = BufReader::new(child.stdout.take().expect("it has an output"));
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

#[test]
fn it_dials_complains_and_ends_with_its_script() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut child = start(&listener.local_addr().expect("an address").to_string(), &["--host", "a.example"]);
    let lines = lines(&mut child);
    let (mut stream, _) = listener.accept().expect("it dials");
    let mut cer = [0; 8];
    stream.read_exact(&mut cer).expect("it says something");
    // Version 1, a request, Capabilities-Exchange (RFC 6733 §5.3.1).
    assert_eq!((cer[0], cer[4], cer[7]), (1, 0x80, 1));
    let mut script = child.stdin.take().expect("it has an input");
    script.write_all(b"nonsense\n\n{\"do\":\"repeat\"}\n").expect("it reads");
    for problem in ["expected", "nothing was sent yet"] {
        let line = lines.recv_timeout(BOUND).expect("it complains");
        assert!(line.starts_with("{\"event\":\"problem\"") && line.contains(problem), "{line}");
    }
    // Not a frame: the connection ends, and it dials again.
    stream.write_all(&[9; 20]).expect("it reads");
    let line = lines.recv_timeout(BOUND).expect("it says so");
    assert!(line.contains("disconnected") && line.contains("version 9"), "{line}");
    let _again = listener.accept().expect("it dials again");
    script.write_all(&[b'x'; 70_000]).expect("it reads");
    let line = lines.recv_timeout(BOUND).expect("it complains");
    assert!(line.contains("more than 65536 bytes"), "{line}");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_wrong_command_line_is_told() {
    for (more, said) in [
        (&["--address", "nowhere"][..], "invalid value 'nowhere'"),
        (&["--up-device", "wan0"][..], "--down-device"),
        (&["--up-device", "nothere", "--down-device", "nothere"][..], "show the device nothere"),
    ] {
        let output = start("127.0.0.1:1", more).wait_with_output().expect("it ends");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{error}");
    }
}
