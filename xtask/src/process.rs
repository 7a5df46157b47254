//! Running another program: with its output captured and a time limit, or with our own terminal.

use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A program that ended, or that was killed.
#[derive(Debug)]
pub struct Finished {
    /// `None` if it was killed.
    pub status: Option<ExitStatus>,
    /// It was killed because the caller had seen enough, and not because it fell silent.
    pub seen_enough: bool,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

impl Finished {
    pub fn timed_out(&self) -> bool {
        self.status.is_none() && !self.seen_enough
    }

    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// A line that the program wrote.
#[derive(Debug, Clone, Copy)]
pub enum Line<'a> {
    Stdout(&'a str),
    Stderr(&'a str),
}

enum Event {
    Chunk { stderr: bool, bytes: Vec<u8> },
    Closed,
}

/// Runs `command` with its output captured and handed to `on_line` as it comes.
///
/// With `silence_limit` the program is killed once it has written nothing to standard output for
/// that long: a test binary writes a line for every test, so this bounds one test and not the sum.
pub fn run_captured(
    command: &mut Command,
    silence_limit: Option<Duration>,
    on_line: &mut dyn FnMut(Line<'_>),
) -> Result<Finished> {
    run_until(command, silence_limit, &mut |line| {
        on_line(line);
        ControlFlow::Continue(())
    })
}

/// As [`run_captured`], but the program is killed as soon as `on_line` breaks off.
pub fn run_until(
    command: &mut Command,
    silence_limit: Option<Duration>,
    on_line: &mut dyn FnMut(Line<'_>) -> ControlFlow<()>,
) -> Result<Finished> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| cannot_start(command, &e))?;

    let (sender, receiver) = mpsc::channel();
    let mut open = 0;
    if let Some(stdout) = child.stdout.take() {
        forward(stdout, false, sender.clone());
        open += 1;
    }
    if let Some(stderr) = child.stderr.take() {
        forward(stderr, true, sender);
        open += 1;
    }

    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut last_sign_of_life = Instant::now();
    while open > 0 {
        let wait =
            silence_limit.map_or(Duration::from_secs(3600), |limit| limit.saturating_sub(last_sign_of_life.elapsed()));
        match receiver.recv_timeout(wait) {
            Ok(Event::Chunk { stderr: is_stderr, bytes }) => {
                if !is_stderr {
                    last_sign_of_life = Instant::now();
                }
                let captured = if is_stderr { &mut stderr } else { &mut stdout };
                captured.extend(&bytes);
                if bytes.ends_with(b"\n") {
                    let line = last_line(captured);
                    let line = if is_stderr { Line::Stderr(&line) } else { Line::Stdout(&line) };
                    if on_line(line).is_break() {
                        kill(&mut child);
                        collect_the_rest(&receiver, open, &mut stdout, &mut stderr);
                        return Ok(Finished { seen_enough: true, ..finished(None, stdout, stderr, start) });
                    }
                }
            }
            Ok(Event::Closed) => open -= 1,
            Err(RecvTimeoutError::Timeout) if silence_limit.is_some() => {
                kill(&mut child);
                return Ok(finished(None, stdout, stderr, start));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().map_err(|e| cannot_start(command, &e))?;
    Ok(finished(Some(status), stdout, stderr, start))
}

/// Not finding it alive any more is as good as killing it.
fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// What a killed program had written and nobody had read. Its children may keep the streams open: they get a moment.
fn collect_the_rest(receiver: &Receiver<Event>, mut open: usize, stdout: &mut Vec<u8>, stderr: &mut Vec<u8>) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while open > 0 {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Chunk { stderr: is_stderr, bytes }) => {
                if is_stderr { &mut *stderr } else { &mut *stdout }.extend(bytes)
            }
            Ok(Event::Closed) => open -= 1,
            Err(_) => break,
        }
    }
}

/// The line that the text ends with; it may have come in several pieces.
fn last_line(text: &[u8]) -> String {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let start = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    String::from_utf8_lossy(&text[start..]).trim_end().to_owned()
}

fn finished(status: Option<ExitStatus>, stdout: Vec<u8>, stderr: Vec<u8>, start: Instant) -> Finished {
    Finished {
        status,
        seen_enough: false,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        elapsed: start.elapsed(),
    }
}

/// Reads lines on a thread of its own. The last piece may lack its newline: libtest writes
/// `test name ... ` before it runs the test, and that piece must survive a kill.
fn forward(stream: impl Read + Send + 'static, stderr: bool, sender: Sender<Event>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            let bytes = match reader.fill_buf() {
                Ok([]) | Err(_) => break,
                Ok(available) => {
                    let end = available.iter().position(|b| *b == b'\n');
                    available[..end.map_or(available.len(), |end| end + 1)].to_vec()
                }
            };
            reader.consume(bytes.len());
            if sender.send(Event::Chunk { stderr, bytes }).is_err() {
                break;
            }
        }
        let _ = sender.send(Event::Closed);
    });
}

/// Runs `command` with its output captured, and fails only if it cannot be started.
pub fn output(command: &mut Command) -> Result<Finished> {
    run_captured(command, None, &mut |_| {})
}

/// Runs `command` on our own terminal and waits for it.
pub fn run_attached(command: &mut Command) -> Result<ExitStatus> {
    let mut child: Child = command.spawn().map_err(|e| cannot_start(command, &e))?;
    child.wait().map_err(|e| cannot_start(command, &e))
}

/// The error for a program that could not be started.
pub fn cannot_start(command: &Command, source: &std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    let error = Error::new(format!("cannot run `{program}`: {source}"));
    if source.kind() == std::io::ErrorKind::NotFound {
        error.remedy(format!("install {program}, or put it on PATH; `cargo xtask doctor` says what is missing"))
    } else {
        error
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_captured_and_seen_line_by_line() {
        let mut lines = Vec::new();
        let script = "printf 'a '; sleep 0.1; echo a; echo b >&2; exit 3";
        let finished = run_captured(&mut shell(script), None, &mut |line| {
            lines.push(format!("{line:?}"));
        })
        .unwrap();
        lines.sort();
        assert_eq!(lines, ["Stderr(\"b\")", "Stdout(\"a a\")"]);
        assert_eq!(finished.status.unwrap().code(), Some(3));
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("a a\n", "b\n"));
    }

    #[test]
    fn a_silent_program_is_killed_and_its_last_words_are_kept() {
        let limit = Duration::from_millis(300);
        // Noise on standard error is not a sign of life.
        let script = "printf 'test slow ... '; while true; do echo tick >&2; sleep 0.05; done";
        let finished = run_captured(&mut shell(script), Some(limit), &mut |_| {}).unwrap();
        assert!(finished.timed_out());
        assert_eq!(finished.stdout, "test slow ... ");
        assert!(finished.elapsed < Duration::from_secs(5));
    }

    #[test]
    fn a_program_is_stopped_when_enough_was_seen() {
        let script = "echo why >&2; echo enough; exec sleep 60";
        let start = Instant::now();
        let finished = run_until(&mut shell(script), None, &mut |line| match line {
            Line::Stdout("enough") => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
        assert!(finished.seen_enough && !finished.timed_out() && !finished.succeeded());
        // What came before is kept, in whatever order the two streams were read.
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("enough\n", "why\n"));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_talkative_program_may_take_longer_than_the_limit() {
        let limit = Duration::from_millis(500);
        let script = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done";
        let finished = run_captured(&mut shell(script), Some(limit), &mut |_| {}).unwrap();
        assert!(finished.succeeded());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert!(error.starts_with("cannot run `no-such-program-here`"), "{error}");
        assert!(error.contains("install no-such-program-here"), "{error}");
    }
}
