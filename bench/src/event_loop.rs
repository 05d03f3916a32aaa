//! The program's two working threads, each with a single-threaded runtime: one for all clients, one for all services
//! (backend and push senders). Two, because server and load share the machine: the load must not crowd it out.

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A named thread that runs whatever is spawned on its handle, until this is dropped.
pub struct EventLoop {
    pub handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl EventLoop {
    pub fn start(name: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Ends when the sender is dropped.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, _stop: stop })
    }

    /// Runs `task` on this loop's thread and waits for what it gives.
    pub async fn run<T: Send + 'static>(
        &self,
        task: impl std::future::Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.handle.spawn(task).await.context("a task of the load program panicked")?
    }
}
