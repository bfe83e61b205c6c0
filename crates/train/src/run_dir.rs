//! A run's folder: config.json says what was run, events.jsonl what happened, steps.jsonl how the steps went, and
//! checkpoints/ holds what can go on. Whoever puts a file `stop` there asks the run to end with a checkpoint.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::events::{CheckpointKind, Event, FailureEvent};
use crate::folder;

const CONFIG: &str = "config.json";
const EVENTS: &str = "events.jsonl";
const STEPS: &str = "steps.jsonl";
const STOP: &str = "stop";
const CHECKPOINTS: &str = "checkpoints";

pub struct RunDir {
    events: Log,
    steps: Log,
    thinning: Thinning,
    path: PathBuf,
}

/// A file of JSON lines, which other processes see as soon as they are written.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn open(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|error| Error::io("open", &path, error))?;
        Ok(Self { path, file })
    }

    fn append(&mut self, event: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(event).map_err(|error| Error::Internal(error.to_string()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| Error::io("write", &self.path, error))
    }
}

/// Which step events are kept: at most one a second, and after that the rarer the longer the run has lasted, so that
/// even a week's steps take a few megabytes.
struct Thinning {
    start: Instant,
    last: Option<Instant>,
}

impl Thinning {
    const SHORTEST: Duration = Duration::from_secs(1);
    /// Of the time that the run has lasted.
    const SHARE: u32 = 2000;

    fn new(start: Instant) -> Self {
        Self { start, last: None }
    }

    fn due(&mut self, now: Instant) -> bool {
        let interval = Self::SHORTEST.max(now.duration_since(self.start) / Self::SHARE);
        let due = self.last.is_none_or(|last| now.duration_since(last) >= interval);
        if due {
            self.last = Some(now);
        }
        due
    }
}

impl RunDir {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// `ERR_FLATMIN_PATH` if it cannot be written, `ERR_FLATMIN_OPTION` if it holds a run already.
    pub fn create(path: &Path, config: &Value) -> Result<Self> {
        if path.join(CONFIG).exists() || path.join(EVENTS).exists() {
            let expected = "a folder without a run in it; choose another one, or resume from this one";
            return Err(Error::option("runDir", path.display(), expected));
        }
        fs::create_dir_all(path).map_err(|error| Error::io("create", path, error))?;
        Self::open(path, config)
    }

    /// Goes on in the folder of a run that has done `epochs` whole epochs and `steps` steps: what was told of later ones
    /// is forgotten, since they will be run again.
    pub fn resume(path: &Path, config: &Value, epochs: u64, steps: u64) -> Result<Self> {
        let number = |event: &Value, key: &str| event[key].as_u64();
        keep_lines_while(&path.join(EVENTS), |event| {
            event["type"] != "epoch" || number(event, "epoch").is_some_and(|epoch| epoch <= epochs)
        })?;
        keep_lines_while(&path.join(STEPS), |event| number(event, "step").is_some_and(|step| step <= steps))?;
        folder::clean(&path.join(CHECKPOINTS));
        Self::open(path, config)
    }

    fn open(path: &Path, config: &Value) -> Result<Self> {
        let text = format!("{config:#}\n");
        replace_file(&path.join(CONFIG), text.as_bytes())?;
        let run_dir = Self {
            events: Log::open(path.join(EVENTS))?,
            steps: Log::open(path.join(STEPS))?,
            thinning: Thinning::new(Instant::now()),
            path: path.to_path_buf(),
        };
        forget(&run_dir.stop_file())?;
        Ok(run_dir)
    }

    /// Appends an event's line to its file.
    pub fn log(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(_) if !self.thinning.due(Instant::now()) => Ok(()),
            Event::Step(_) => self.steps.append(event),
            _ => self.events.append(event),
        }
    }

    /// Tells what the run failed of.
    pub fn log_failure(&mut self, error: &Error) -> Result<()> {
        self.events.append(&FailureEvent::of(error))
    }

    /// The file that asks the run to end.
    pub fn stop_file(&self) -> PathBuf {
        self.path.join(STOP)
    }

    pub fn checkpoint(&self, kind: CheckpointKind) -> PathBuf {
        checkpoint_in(&self.path, kind)
    }
}

/// Where a run in this folder keeps a checkpoint.
pub fn checkpoint_in(run_dir: &Path, kind: CheckpointKind) -> PathBuf {
    run_dir.join(CHECKPOINTS).join(kind.folder())
}

/// Removes a file that a run of before left unread.
fn forget(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

fn keep_lines_while(path: &Path, keep: impl Fn(&Value) -> bool) -> Result<()> {
    let Ok(text) = fs::read_to_string(path) else {
        return Ok(());
    };
    // A line that is no JSON was cut off when the process ended; it can only be the last.
    let earlier = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|event| keep(&event));
    let mut kept = String::new();
    for line in text.lines().take_while(|line| earlier(line)) {
        kept.push_str(line);
        kept.push('\n');
    }
    replace_file(path, kept.as_bytes())
}

fn replace_file(path: &Path, contents: &[u8]) -> Result<()> {
    let failed = |error| Error::io("write", path, error);
    let temporary = path.with_extension("writing");
    let mut file = File::create(&temporary).map_err(failed)?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::StartEvent;
    use serde_json::json;

    fn start(seed: u64) -> Event {
        let (run_dir, resumed_from, device) = (None, None, "cpu".into());
        let (steps, epochs, steps_per_epoch, steps_done, parameters) = (1, 1, 1, 0, 1);
        Event::Start(StartEvent {
            run_dir,
            steps,
            epochs,
            steps_per_epoch,
            steps_done,
            parameters,
            device,
            seed,
            resumed_from,
        })
    }

    #[test]
    fn a_folder_with_a_run_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let mut run = RunDir::create(&path, &json!({"config": 1})).unwrap();
        run.log(&start(1)).unwrap();
        let error = RunDir::create(&path, &json!({})).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        assert_eq!(fs::read_to_string(path.join(CONFIG)).unwrap(), "{\n  \"config\": 1\n}\n");
        assert_eq!(fs::read_to_string(path.join(EVENTS)).unwrap().lines().count(), 1);
    }

    #[test]
    fn resuming_forgets_what_will_be_run_again() {
        let root = tempfile::tempdir().unwrap();
        let lines: Vec<String> = [
            json!({"type": "start"}),
            json!({"type": "epoch", "epoch": 1}),
            json!({"type": "checkpoint", "epoch": 1}),
            json!({"type": "epoch", "epoch": 2}),
            json!({"type": "checkpoint", "epoch": 2}),
        ]
        .map(|line| line.to_string())
        .into();
        for (epochs, expected) in [(2, 5), (1, 3)] {
            fs::write(root.path().join(EVENTS), lines.join("\n") + "\n{\"type\":\"ep").unwrap();
            fs::write(root.path().join(STEPS), "{\"step\":10}\n{\"step\":20}\n{\"st").unwrap();
            fs::write(root.path().join(STOP), "").unwrap();
            let mut run = RunDir::resume(root.path(), &json!({}), epochs, epochs * 10).unwrap();
            run.log(&start(7)).unwrap();
            let text = fs::read_to_string(root.path().join(EVENTS)).unwrap();
            let kept: Vec<&str> = text.lines().collect();
            assert_eq!(kept[..expected], lines[..expected]);
            assert_eq!(kept.len(), expected + 1);
            assert!(kept[expected].contains("\"seed\":7"));
            let steps = fs::read_to_string(root.path().join(STEPS)).unwrap();
            assert_eq!(steps.lines().count() as u64, epochs);
            assert!(!root.path().join(STOP).exists());
        }
    }

    #[test]
    fn steps_are_kept_the_rarer_the_longer_a_run_lasts() {
        let start = Instant::now();
        let kept = |seconds: std::ops::Range<u64>| {
            let mut thinning = Thinning::new(start);
            let tenths = (10 * seconds.start)..(10 * seconds.end);
            tenths.filter(|&tenth| thinning.due(start + Duration::from_millis(100 * tenth))).count()
        };
        assert_eq!(kept(0..100), 100);
        assert_eq!(kept(20_000..20_100), 10);
    }
}
