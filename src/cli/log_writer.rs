//! Lines for a file or a pipe, without waiting for it: a reader that has stopped, or a disk that is full, must not
//! stop the server. The log and the audit log are written so.

use std::io::{self, Stderr, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long the last lines may take when the server ends.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);
/// Up to about how many bytes are written at once, if so many wait.
const GROUP_BYTES: usize = 64 * 1024;

/// What lines are written to.
pub(super) trait Output: Write + Send + 'static {
    /// Called before each group of lines, so that no line is torn by what it does.
    fn renew(&mut self) {}
}

impl Output for Stderr {}

/// Takes lines for a thread that writes them. A line that comes while too many wait is dropped and counted.
#[derive(Clone)]
pub(super) struct Lines {
    sender: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    is_ending: Arc<AtomicBool>,
}

/// Waits for the last lines when it is dropped.
pub(super) struct LastLines {
    lines: Lines,
    written: Receiver<()>,
}

impl Lines {
    /// Starts the thread. At most `lines_max` lines wait to be written. `tell` makes a line of a number of lost ones:
    /// those that were dropped, and those that could not be written.
    ///
    /// # Errors
    ///
    /// If the system has no more threads.
    pub(super) fn start(
        output: impl Output,
        lines_max: usize,
        tell: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<(Self, LastLines)> {
        let (sender, lines) = sync_channel::<Vec<u8>>(lines_max);
        let (flushed, written) = sync_channel(1);
        let sending = Self { sender, dropped: Arc::default(), is_ending: Arc::default() };
        let (dropped, is_ending) = (Arc::clone(&sending.dropped), Arc::clone(&sending.is_ending));
        let mut writer = Writer { output, dropped, tell, told: 0, is_torn: false };
        let write = move || {
            let mut group = Vec::new();
            // Asked first, so that what was there before the end is still found.
            let next = || {
                if is_ending.load(SeqCst) { lines.try_recv().ok() } else { lines.recv().ok() }
            };
            while let Some(first) = next() {
                group.extend(first);
                while group.len() < GROUP_BYTES
                    && let Ok(line) = lines.try_recv()
                {
                    group.extend(line);
                }
                writer.write(&group);
                group.clear();
            }
            let _ = flushed.send(());
        };
        Builder::new().name("log".to_owned()).spawn(write)?;
        Ok((sending.clone(), LastLines { lines: sending, written }))
    }

    /// Takes a line with its newline, or drops it.
    pub(super) fn take(&self, line: Vec<u8>) {
        if self.sender.try_send(line).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// How many lines were lost, to be read at any time.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }
}

/// Writes groups of lines, and tells of those that are missing.
struct Writer<O, T> {
    output: O,
    dropped: Arc<AtomicU64>,
    tell: T,
    /// How many lost lines were told of.
    told: u64,
    /// The last line was not written to its end.
    is_torn: bool,
}

impl<O: Output, T: Fn(u64) -> Vec<u8>> Writer<O, T> {
    fn write(&mut self, group: &[u8]) {
        self.output.renew();
        let lost = self.write_lines(group);
        let now = self.dropped.fetch_add(lost, Relaxed) + lost;
        // While lines are lost for want of space, that cannot be told either.
        if now > self.told && lost == 0 {
            let line = (self.tell)(now - self.told);
            if self.write_lines(&line) == 0 {
                self.told = now;
            }
        }
    }

    /// Writes lines, and returns how many of them were not written to their ends.
    fn write_lines(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && !lines.is_empty() {
            self.is_torn = self.output.write_all(b"\n").is_err();
        }
        let mut rest = lines;
        while !rest.is_empty() && !self.is_torn {
            match self.output.write(rest) {
                Ok(length) if length > 0 => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nobody can be told here that the output fails.
                _ => break,
            }
        }
        if rest.is_empty() {
            return 0;
        }
        let written = &lines[..lines.len() - rest.len()];
        self.is_torn |= written.last().is_some_and(|byte| *byte != b'\n');
        rest.split(|byte| *byte == b'\n').count() as u64 - 1
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !line.is_empty() {
            self.take(line.to_vec());
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
        self.lines.is_ending.store(true, SeqCst);
        // It wakes the thread. If there is no room for it, the thread has lines to write, or nobody reads.
        let _ = self.lines.sender.try_send(Vec::new());
        let _ = self.written.recv_timeout(LAST_LINES_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    const LINES_MAX: usize = 2000;

    /// Writes to a channel; each write waits until it is allowed.
    struct Slow {
        begun: mpsc::Sender<()>,
        allowed: Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Output for Slow {}

    impl Write for Slow {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.begun.send(());
            let _ = self.allowed.recv();
            self.written.send(String::from_utf8(lines.to_vec()).unwrap()).unwrap();
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(dropped: u64) -> Vec<u8> {
        format!("{dropped} dropped\n").into_bytes()
    }

    #[test]
    fn a_reader_that_has_stopped_costs_lines_that_are_counted_and_nothing_else() {
        let (allow, allowed) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let (mut log, last) =
            Lines::start(Slow { begun, allowed, written }, LINES_MAX, told).unwrap();
        log.write_all(b"first\n").unwrap();
        begins.recv().unwrap();
        for number in 0..LINES_MAX + 100 {
            log.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(log.dropped().load(Relaxed), 100);
        // The server ends although nobody reads.
        drop(last);
        drop(allow);
        drop(log);
        let lines = lines.iter().collect::<String>();
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines[..3], ["first", "100 dropped", "0"]);
        assert_eq!(lines.len(), LINES_MAX + 2);
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let (written, lines) = mpsc::channel();
        let (begun, _begins) = mpsc::channel();
        let (allow, allowed) = mpsc::channel();
        drop(allow);
        // Also if so many wait that there is no room for the mark of the end.
        let (log, last) = Lines::start(Slow { begun, allowed, written }, LINES_MAX, told).unwrap();
        for _ in 0..LINES_MAX {
            log.take(b"last\n".to_vec());
        }
        let dropped = log.dropped().load(Relaxed);
        drop(last);
        let lines = lines.try_iter().collect::<String>();
        let written = lines.lines().filter(|line| *line == "last").count() as u64;
        assert_eq!(written, LINES_MAX as u64 - dropped);
    }

    /// A disk with room for so many bytes.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, String)>>);

    impl Disk {
        fn with<T>(&self, act: impl FnOnce(&mut (usize, String)) -> T) -> T {
            act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    impl Output for Disk {}

    impl Write for Disk {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            self.with(|(room, text)| {
                let length = lines.len().min(*room);
                if length == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                *room -= length;
                text.push_str(str::from_utf8(&lines[..length]).unwrap());
                Ok(length)
            })
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_of_once_there_is_room_again() {
        let (disk, dropped) = (Disk::default(), Arc::<AtomicU64>::default());
        let output = disk.clone();
        let mut writer =
            Writer { output, dropped: Arc::clone(&dropped), tell: told, told: 0, is_torn: false };
        for (room, group, lost) in [
            (4, "one\n", 0),
            (6, "two\nthree\nfour\n", 2),
            (0, "five\n", 3),
            (1, "six\n", 4),
            (5, "seven\n", 5),
            (100, "eight\n", 5),
            (100, "nine\n", 5),
        ] {
            disk.with(|(now, _)| *now = room);
            writer.write(group.as_bytes());
            assert_eq!(dropped.load(Relaxed), lost, "{group}");
        }
        let expected = "one\ntwo\nth\nseven\neight\n5 dropped\nnine\n";
        assert_eq!(disk.with(|(_, text)| text.clone()), expected);
    }
}
