//! A TCP relay between two parties that can be turned against one of them: refused, closed, paused, slow. It is also what
//! stands before several replicas, and can send callers to the one or the other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nobody listens, and connections that are open end.
    Refused,
    /// Connections end as soon as they are made.
    Closed,
    /// Connections are made, and nothing comes through either way.
    Paused,
    /// What the server says arrives so much later.
    Slow(Duration),
}

/// The relay; it ends with its owner.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepted: Arc<Mutex<Vec<Instant>>>,
}

#[derive(Debug, Clone)]
struct State {
    fault: Fault,
    targets: Vec<SocketAddr>,
    /// Connections that were made before another turn end.
    turn: usize,
}

impl Relay {
    /// A relay to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound address");
        let (state, seen) = watch::channel(State { fault: Fault::None, targets: vec![target], turn: 0 });
        let accepted = Arc::<Mutex<Vec<Instant>>>::default();
        tokio::spawn(serve(listener, address, seen, Arc::clone(&accepted)));
        Self { address, state, accepted }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this goes wrong.
    pub fn fault(&self, fault: Fault) {
        let closes = matches!(fault, Fault::Refused | Fault::Closed);
        self.state.send_modify(|state| {
            state.fault = fault;
            state.turn += usize::from(closes);
        });
    }

    /// From now on connections go to these, in turn; those that are open end.
    pub fn send_to(&self, targets: &[SocketAddr]) {
        self.state.send_modify(|state| {
            state.targets = targets.to_vec();
            state.turn += 1;
        });
    }

    /// When connections were made.
    pub fn accepted(&self) -> Vec<Instant> {
        self.accepted.lock().expect("no test panics here").clone()
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    mut state: watch::Receiver<State>,
    accepted: Arc<Mutex<Vec<Instant>>>,
) {
    let turns = AtomicUsize::new(0);
    let mut listener = Some(listener);
    loop {
        if state.borrow_and_update().fault == Fault::Refused {
            drop(listener.take());
            if state.changed().await.is_err() {
                return;
            }
            continue;
        }
        if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let Some(open) = &listener else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            connection = open.accept() => {
                let Ok((client, _)) = connection else { continue };
                accepted.lock().expect("no test panics here").push(Instant::now());
                let targets = state.borrow().targets.clone();
                let target = targets[turns.fetch_add(1, Ordering::Relaxed) % targets.len()];
                tokio::spawn(carry(client, target, state.clone()));
            }
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let turn = state.borrow_and_update().turn;
    if state.borrow().fault == Fault::Closed {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (asking, answering) = (state.clone(), state.clone());
    tokio::select! {
        () = one_way(from_client, to_server, asking, false) => {}
        () = one_way(from_server, to_client, answering, true) => {}
        _ = state.wait_for(|state| state.turn != turn) => {}
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    answers: bool,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let came = Instant::now();
        loop {
            let fault = state.borrow_and_update().fault;
            match fault {
                Fault::Paused => {}
                Fault::Slow(wait) if answers && came.elapsed() < wait => {
                    tokio::select! {
                        () = sleep_until(came + wait) => {}
                        _ = state.changed() => {}
                    }
                    continue;
                }
                _ => break,
            }
            if state.changed().await.is_err() {
                return;
            }
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
