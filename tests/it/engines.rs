//! The engines that all tests of this process share.

use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use crate::engine::{Engine, Node};

/// Starts what is killed when the thread ends that has started it, in one that never does.
fn start(engine: fn() -> Engine) -> Engine {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        sender.send(engine()).unwrap();
        loop {
            thread::park();
        }
    });
    receiver.recv().expect("the engine starts")
}

/// The single node that all tests of this process share.
pub(crate) fn single() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| start(|| Engine::from(Node::start(&[]))))
}

/// The cluster that all tests of this process share.
pub(crate) fn cluster() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| start(|| Engine::cluster(Duration::from_mins(5))))
}
