//! The task that owns the store: one append at a time, in the order of the engine.

use crate::store::{Error, Loaded, Store};
use tokio::sync::{mpsc, oneshot};
use tollway_core::{Engine, Envelope};
use tollway_model::Seq;

enum Task {
    Append(Vec<Envelope>, oneshot::Sender<Result<Seq, Error>>),
    Rebuild(oneshot::Sender<Result<(Box<Engine>, Loaded), Error>>),
    Close(oneshot::Sender<()>),
}

/// The driver's end.
pub(super) struct Writer {
    tasks: mpsc::Sender<Task>,
}

/// The writer's task is gone: a panic, which ends the process anyway.
const GONE: &str = "the writer lives as long as the driver";

impl Writer {
    pub(super) fn spawn<S: Store>(store: S) -> Writer {
        let (tasks, inbox) = mpsc::channel(1);
        tokio::spawn(serve(store, inbox));
        Writer { tasks }
    }

    /// Begins an append; the answer comes when the batch is durable, or is not.
    pub(super) fn append(&self, batch: Vec<Envelope>) -> oneshot::Receiver<Result<Seq, Error>> {
        let (done, answer) = oneshot::channel();
        assert!(self.tasks.try_send(Task::Append(batch, done)).is_ok(), "{GONE}");
        answer
    }

    /// Probes the store and replays it into a fresh engine.
    pub(super) async fn rebuild(&self) -> Result<(Box<Engine>, Loaded), Error> {
        let (done, answer) = oneshot::channel();
        assert!(self.tasks.send(Task::Rebuild(done)).await.is_ok(), "{GONE}");
        answer.await.expect(GONE)
    }

    pub(super) async fn close(self) {
        let (done, answer) = oneshot::channel();
        if self.tasks.send(Task::Close(done)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

async fn serve<S: Store>(mut store: S, mut inbox: mpsc::Receiver<Task>) {
    while let Some(task) = inbox.recv().await {
        // Who asked may be gone at a stop; the store is in order all the same.
        match task {
            Task::Append(batch, done) => {
                let last = batch.last().map(|envelope| envelope.seq).unwrap_or_default();
                let appended = store.append(&batch).await.map(|()| last);
                let _ = done.send(appended);
            }
            Task::Rebuild(done) => {
                let rebuilt = rebuild(&mut store).await;
                let _ = done.send(rebuilt);
            }
            Task::Close(done) => {
                store.close().await;
                let _ = done.send(());
                return;
            }
        }
    }
}

async fn rebuild<S: Store>(store: &mut S) -> Result<(Box<Engine>, Loaded), Error> {
    store.probe().await?;
    load(store).await
}

/// Replays the whole store into a fresh engine.
pub(super) async fn load<S: Store>(store: &mut S) -> Result<(Box<Engine>, Loaded), Error> {
    let mut engine = Box::new(Engine::new());
    let loaded = store.load(&mut |envelope| engine.replay(&envelope)).await?;
    Ok((engine, loaded))
}
