//! The shell around the gateway: one connection, a clock, lines in and lines out.

use crate::command;
use crate::event::Event;
use crate::frame;
use crate::gateway::{Gateway, Output, Settings};
use crate::limits::{CLOSE_MS, LINE_LEN_MAX, METER_MS, QUEUE_MAX};
use crate::shape::Shaper;
use std::io::Write;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("writing an event")]
    Event(#[source] std::io::Error),
}

/// A frame, or why there are no more.
type Heard = Result<Vec<u8>, String>;

struct Conn {
    frames: mpsc::Sender<Vec<u8>>,
    heard: mpsc::Receiver<Heard>,
}

impl Conn {
    fn new(stream: TcpStream) -> Conn {
        // Small messages one by one: waiting for more of them costs 40 ms each.
        let _ = stream.set_nodelay(true);
        let (read_half, write_half) = stream.into_split();
        let (frames, to_write) = mpsc::channel(QUEUE_MAX);
        let (from_read, heard) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(read_all(read_half, from_read));
        tokio::spawn(write_all(write_half, to_write));
        Conn { frames, heard }
    }
}

async fn read_all(mut stream: OwnedReadHalf, heard: mpsc::Sender<Heard>) {
    loop {
        let next = match frame::read(&mut stream).await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err("the peer closed the connection".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let is_last = next.is_err();
        if heard.send(next).await.is_err() || is_last {
            return;
        }
    }
}

async fn write_all(mut stream: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
    // An error here is a connection that is gone already.
    let _ = stream.shutdown().await;
}

async fn heard(conn: &mut Option<Conn>) -> Heard {
    match conn {
        Some(conn) => conn.heard.recv().await.unwrap_or_else(|| Err("the reader ended".into())),
        None => std::future::pending().await,
    }
}

type Dialing = Pin<Box<dyn Future<Output = std::io::Result<TcpStream>> + Send>>;

async fn dialed(dialing: &mut Option<Dialing>) -> std::io::Result<TcpStream> {
    match dialing {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Lines of a script; the channel ends with it, or at a line beyond [`LINE_LEN_MAX`].
fn read_lines(script: impl AsyncBufRead + Unpin + Send + 'static) -> mpsc::Receiver<Result<String, String>> {
    let (sender, lines) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut script = script;
        loop {
            let mut line = String::new();
            let mut bounded = (&mut script).take(LINE_LEN_MAX as u64);
            let next = match bounded.read_line(&mut line).await {
                Ok(0) => return,
                Ok(len) if len == LINE_LEN_MAX && !line.ends_with('\n') => {
                    Err(format!("a line of more than {LINE_LEN_MAX} bytes ends the script"))
                }
                Ok(_) => Ok(line),
                Err(error) => Err(format!("the script cannot be read: {error}")),
            };
            let is_last = next.is_err();
            if sender.send(next).await.is_err() || is_last {
                return;
            }
        }
    });
    lines
}

struct Shell<'a, W> {
    gateway: Gateway,
    address: String,
    conn: Option<Conn>,
    dialing: Option<Dialing>,
    shaper: Option<Shaper>,
    events: &'a mut W,
}

/// Runs a gateway until its script ends or says so.
///
/// # Errors
/// Standard output is gone.
pub async fn run(
    settings: Settings,
    address: String,
    shaper: Option<Shaper>,
    script: impl AsyncBufRead + Unpin + Send + 'static,
    events: &mut (impl Write + Send),
) -> Result<(), Error> {
    let gateway = Gateway::new(settings);
    let mut shell = Shell { gateway, address, conn: None, dialing: None, shaper, events };
    let mut lines = read_lines(script);
    let mut meter = tokio::time::interval(Duration::from_millis(METER_MS));
    shell.gateway.command(now_ms(), command::Command::Connect {});
    while !shell.drain()? {
        let wait_ms = shell.gateway.poll_timeout().map(|due| due.saturating_sub(now_ms()));
        let due = Instant::now() + Duration::from_millis(wait_ms.unwrap_or(60_000));
        tokio::select! {
            line = lines.recv() => {
                shell.count();
                shell.line(line);
            }
            next = heard(&mut shell.conn) => match next {
                Ok(frame) => {
                    // What takes a rule away must find its last bytes counted.
                    shell.count();
                    shell.gateway.received(now_ms(), &frame);
                }
                Err(why) => {
                    shell.conn = None;
                    shell.gateway.disconnected(now_ms(), &why);
                }
            },
            stream = dialed(&mut shell.dialing) => shell.dialed(stream),
            () = sleep_until(due) => {
                shell.count();
                shell.gateway.tick(now_ms());
            }
            _ = meter.tick(), if shell.shaper.is_some() => shell.count(),
        }
    }
    // What was written last is on its way while the process still has the socket.
    if let Some(Conn { frames, mut heard }) = shell.conn.take() {
        drop(frames);
        let gone = async { while heard.recv().await.is_some_and(|next| next.is_ok()) {} };
        // A peer that does not close is left after its time.
        let _ = timeout(Duration::from_millis(CLOSE_MS), gone).await;
    }
    Ok(())
}

impl<W: Write> Shell<'_, W> {
    fn line(&mut self, line: Option<Result<String, String>>) {
        let parsed = match line {
            None => Ok(command::Command::Quit {}),
            Some(Ok(text)) if text.trim().is_empty() => return,
            Some(Ok(text)) => command::parse(&text),
            Some(Err(what)) => Err(what),
        };
        match parsed {
            Ok(command) => self.gateway.command(now_ms(), command),
            Err(what) => self.gateway.refuse_command(&what),
        }
    }

    fn dialed(&mut self, stream: std::io::Result<TcpStream>) {
        self.dialing = None;
        match stream {
            Ok(stream) => {
                self.conn = Some(Conn::new(stream));
                self.gateway.connected();
            }
            Err(error) => self.gateway.disconnected(now_ms(), &error.to_string()),
        }
    }

    fn count(&mut self) {
        let Some(shaper) = &mut self.shaper else { return };
        match shaper.counted() {
            Ok(counted) => {
                for (key, up, down) in counted {
                    self.gateway.counted(&key.session, &key.rule, up, down);
                }
            }
            Err(error) => self.gateway.odd(error.to_string()),
        }
    }

    /// Carries outputs out; true at the end.
    fn drain(&mut self) -> Result<bool, Error> {
        while let Some(output) = self.gateway.poll_output() {
            match output {
                Output::Dial => {
                    let address = self.address.clone();
                    self.dialing = Some(Box::pin(TcpStream::connect(address)));
                }
                Output::Send(frame) => self.send(frame),
                Output::Close => {
                    self.dialing = None;
                    // The writer sends what it has and closes.
                    self.conn = None;
                }
                Output::Event(event) => self.say(&event)?,
                Output::Enforce { session, address, rule } => {
                    let refused = self.shaper.as_mut().map(|shaper| shaper.enforce(&session, address, &rule));
                    if let Some(Err(error)) = refused {
                        let what = error.to_string();
                        self.say(&Event::NotEnforced { session, rule: rule.name, what })?;
                    }
                }
                Output::Lift { session, rule } => {
                    let refused = self.shaper.as_mut().map(|shaper| shaper.lift(&session, &rule));
                    if let Some(Err(error)) = refused {
                        self.say(&Event::NotEnforced { session, rule, what: error.to_string() })?;
                    }
                }
                Output::Done => return Ok(true),
            }
        }
        Ok(false)
    }

    fn send(&mut self, frame: Vec<u8>) {
        let is_taken = self.conn.as_ref().is_none_or(|conn| conn.frames.try_send(frame).is_ok());
        if !is_taken {
            self.conn = None;
            self.gateway.disconnected(now_ms(), "the peer does not read");
        }
    }

    fn say(&mut self, event: &Event) -> Result<(), Error> {
        let line = serde_json::to_string(event).expect("an event is plain data");
        writeln!(self.events, "{line}").and_then(|()| self.events.flush()).map_err(Error::Event)
    }
}
