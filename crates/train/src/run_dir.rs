//! A run's folder: config.json says what was run, events.jsonl what happened, checkpoints/ holds what can go on.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::events::{CheckpointKind, Event};
use crate::folder;

const CONFIG: &str = "config.json";
const EVENTS: &str = "events.jsonl";
const CHECKPOINTS: &str = "checkpoints";

pub struct RunDir {
    path: PathBuf,
    events: File,
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

    /// Goes on in the folder of a run that has done `epochs` whole epochs: what was told of later ones is forgotten,
    /// since they will be run again.
    pub fn resume(path: &Path, config: &Value, epochs: u64) -> Result<Self> {
        forget_epochs_after(&path.join(EVENTS), epochs)?;
        folder::clean(&path.join(CHECKPOINTS));
        Self::open(path, config)
    }

    fn open(path: &Path, config: &Value) -> Result<Self> {
        let text = format!("{config:#}\n");
        replace_file(&path.join(CONFIG), text.as_bytes())?;
        let events_path = path.join(EVENTS);
        let events = OpenOptions::new().create(true).append(true).open(&events_path);
        let events = events.map_err(|error| Error::io("open", &events_path, error))?;
        Ok(Self { path: path.to_path_buf(), events })
    }

    /// Appends an event's line, which other processes see at once. Step events are not kept.
    pub fn log(&mut self, event: &Event) -> Result<()> {
        if matches!(event, Event::Step(_)) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(event).map_err(|error| Error::Internal(error.to_string()))?;
        line.push(b'\n');
        self.events.write_all(&line).map_err(|error| Error::io("write", &self.path.join(EVENTS), error))
    }

    pub fn checkpoint(&self, kind: CheckpointKind) -> PathBuf {
        checkpoint_in(&self.path, kind)
    }
}

/// Where a run in this folder keeps a checkpoint.
pub fn checkpoint_in(run_dir: &Path, kind: CheckpointKind) -> PathBuf {
    run_dir.join(CHECKPOINTS).join(kind.folder())
}

fn forget_epochs_after(path: &Path, epochs: u64) -> Result<()> {
    let Ok(text) = fs::read_to_string(path) else {
        return Ok(());
    };
    // A line that is no JSON was cut off when the process ended; it can only be the last.
    let earlier = |line: &str| {
        serde_json::from_str::<Value>(line)
            .is_ok_and(|event| event["type"] != "epoch" || event["epoch"].as_u64().is_some_and(|epoch| epoch <= epochs))
    };
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
        Event::Start(StartEvent { run_dir: None, steps: 1, epochs: 1, parameters: 1, seed, resumed_from: None })
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
            let mut run = RunDir::resume(root.path(), &json!({}), epochs).unwrap();
            run.log(&start(7)).unwrap();
            let text = fs::read_to_string(root.path().join(EVENTS)).unwrap();
            let kept: Vec<&str> = text.lines().collect();
            assert_eq!(kept[..expected], lines[..expected]);
            assert_eq!(kept.len(), expected + 1);
            assert!(kept[expected].contains("\"seed\":7"));
        }
    }
}
