//! Worker threads: one single-threaded runtime each, on one listener of its own.
//!
//! Invariant: a worker that ends is noticed by whoever started it, whatever ended it.

use crate::serve::{ACCEPTS_A_TURN, Doors, WorkerRun};
use crate::tls::server::Server;
use runtime::net::Connect;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Tasks that a worker polls before it looks for connections and events again.
const TASKS_A_TURN: u32 = 64;
/// Events that it takes then. With [`ACCEPTS_A_TURN`] no more than it works off in a turn: tokio's run queue never shrinks,
/// and one that ten thousand clients at once made long would keep the pages around it for ever.
const EVENTS_A_TURN: usize = TASKS_A_TURN as usize - ACCEPTS_A_TURN;

/// Running worker threads.
#[derive(Debug)]
pub struct Threads {
    handles: Vec<JoinHandle<()>>,
    ended: CancellationToken,
}

struct Ended(CancellationToken);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn listen(doors: Doors<TcpListener>) -> io::Result<Doors<tokio::net::TcpListener>> {
    let listen = tokio::net::TcpListener::from_std;
    let Doors { public, internal, secure } = doors;
    let secure = secure.map(|(listener, server)| Ok::<_, io::Error>((listen(listener)?, server)));
    Ok(Doors { public: listen(public)?, internal: internal.map(listen).transpose()?, secure: secure.transpose()? })
}

impl Threads {
    /// Starts one thread for each worker and listener. `internal` are listeners for our own programs, as many or
    /// none; so are `secure` for TLS.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start<C: Connect + Clone>(
        runs: Vec<WorkerRun<C>>,
        listeners: Vec<TcpListener>,
        internal: Vec<TcpListener>,
        secure: Option<(Vec<TcpListener>, Arc<Server>)>,
    ) -> io::Result<Self> {
        let ended = CancellationToken::new();
        let mut handles = Vec::with_capacity(runs.len());
        let mut internal = internal.into_iter();
        let (secure, server) = secure.unzip();
        let mut secure = secure.unwrap_or_default().into_iter();
        for (index, (run, listener)) in runs.into_iter().zip(listeners).enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .event_interval(TASKS_A_TURN)
                .max_io_events_per_tick(EVENTS_A_TURN)
                .enable_all()
                .build()?;
            let ended = Ended(ended.clone());
            let doors =
                Doors { public: listener, internal: internal.next(), secure: secure.next().zip(server.clone()) };
            handles.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _ended = ended;
                runtime.block_on(async move {
                    match listen(doors) {
                        Ok(doors) => tokio::select! {
                            biased; // The other never ends.
                            () = run.serve_all(doors) => {}
                            () = runtime::memory::give_back() => {}
                        },
                        Err(error) => tracing::error!(%error, "a worker cannot listen"),
                    }
                });
            })?);
        }
        Ok(Self { handles, ended })
    }

    /// Cancelled when any worker has ended.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Waits for the threads; true when none of them panicked.
    #[must_use]
    pub fn join(self) -> bool {
        self.handles.into_iter().map(JoinHandle::join).filter(Result::is_err).count() == 0
    }
}
