//! Standard error, without waiting for it: a reader that has stopped must not stop the server.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait to be written: some hundred kilobytes.
const LINES_MAX: usize = 2000;
/// How long the last lines may take when the server ends.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// Takes lines for a thread that writes them. A line that comes while too many wait is dropped and counted.
#[derive(Clone)]
pub(super) struct Lines {
    sender: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// Waits for the last lines when it is dropped.
pub(super) struct LastLines {
    lines: Lines,
    written: Receiver<()>,
}

impl Lines {
    /// Starts the thread. `tell` makes a line of a number of dropped ones.
    ///
    /// # Errors
    ///
    /// If the system has no more threads.
    pub(super) fn start(
        mut output: impl Write + Send + 'static,
        tell: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<(Self, LastLines)> {
        let (sender, lines) = sync_channel::<Vec<u8>>(LINES_MAX);
        let (flushed, written) = sync_channel(1);
        let dropped = Arc::<AtomicU64>::default();
        let count = Arc::clone(&dropped);
        let write = move || {
            let mut told = 0;
            for line in lines {
                if line.is_empty() {
                    // The mark of the last one.
                    break;
                }
                // Nobody can be told that standard error fails.
                let _ = output.write_all(&line);
                let now = count.load(Relaxed);
                if now > told {
                    let _ = output.write_all(tell(now - told).as_bytes());
                    told = now;
                }
            }
            let _ = flushed.send(());
        };
        Builder::new().name("log".to_owned()).spawn(write)?;
        let lines = Self { sender, dropped };
        Ok((lines.clone(), LastLines { lines, written }))
    }

    /// How many lines were dropped, to be read at any time.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !line.is_empty() && self.sender.try_send(line.to_vec()).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Drop for LastLines {
    fn drop(&mut self) {
        // If there is no room for the mark, nobody reads.
        if self.lines.sender.try_send(Vec::new()).is_ok() {
            let _ = self.written.recv_timeout(LAST_LINES_TIMEOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Writes to a channel; each write waits until it is allowed.
    struct Slow {
        allowed: Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.allowed.recv();
            self.written.send(String::from_utf8(line.to_vec()).unwrap()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_stopped_costs_lines_that_are_counted_and_nothing_else() {
        let (allow, allowed) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let tell = |dropped| format!("{dropped} dropped\n");
        let (mut log, last) = Lines::start(Slow { allowed, written }, tell).unwrap();
        for number in 0..LINES_MAX + 100 {
            log.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        // One more may be on its way already.
        let dropped = log.dropped().load(Relaxed);
        assert!((99..=100).contains(&dropped), "{dropped}");
        // The server ends although nobody reads.
        drop(last);
        drop(allow);
        drop(log);
        let lines: Vec<_> = lines.iter().collect();
        assert_eq!(lines[0], "0\n");
        assert_eq!(lines[1], format!("{dropped} dropped\n"));
        assert_eq!(lines.len() as u64, LINES_MAX as u64 + 100 - dropped + 1);
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let (written, lines) = mpsc::channel();
        let (allow, allowed) = mpsc::channel();
        drop(allow);
        let (mut log, last) = Lines::start(Slow { allowed, written }, |_| String::new()).unwrap();
        log.write_all(b"last\n").unwrap();
        drop(last);
        assert_eq!(lines.try_recv().unwrap(), "last\n");
    }
}
