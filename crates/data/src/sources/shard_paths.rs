//! Names of shards as people write them: files, folders, patterns, WebDataset's counted braces.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Paths of shards, sorted: a file, a folder of `.tar` files, or a pattern with `*`, `?`, `[...]`, `{a,b}` and
/// WebDataset's `{000000..000146}`.
///
/// Errors: `ERR_FLATMIN_OPTION` when the pattern is malformed, `ERR_FLATMIN_PATH` when nothing is there.
pub fn shard_paths(pattern: &str) -> Result<Vec<PathBuf>> {
    let patterns = match Path::new(pattern).is_dir() {
        true => vec![format!("{}/*.tar", glob::Pattern::escape(pattern.trim_end_matches('/')))],
        false => expand_braces(pattern)?,
    };
    let mut paths = Vec::new();
    for plain in patterns {
        // A name that exists is taken as it is, whatever characters it has.
        if Path::new(&plain).is_file() {
            paths.push(PathBuf::from(plain));
            continue;
        }
        let found =
            glob::glob(&plain).map_err(|error| Error::option("shards", &plain, format!("a pattern: {error}")))?;
        let before = paths.len();
        paths.extend(found.filter_map(std::result::Result::ok));
        if paths.len() == before {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such shard");
            return Err(Error::Path { path: plain.into(), source });
        }
    }
    Ok(paths)
}

/// `a{1,2}b` is `a1b` and `a2b`; `{08..10}` counts, as wide as its first number.
fn expand_braces(pattern: &str) -> Result<Vec<String>> {
    const MOST: u64 = 1_000_000;
    let Some((before, (inner, after))) =
        pattern.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return Ok(vec![pattern.to_owned()]);
    };
    let number = |text: &str| text.parse::<u64>().ok();
    let choices: Vec<String> = match inner.split_once("..") {
        Some((first, last)) => {
            let range = number(first).zip(number(last)).filter(|(first, last)| last.saturating_sub(*first) < MOST);
            let (from, to) = range.ok_or_else(|| Error::option("shards", pattern, "two numbers, as in {000..146}"))?;
            (from..=to).map(|number| format!("{number:0width$}", width = first.len())).collect()
        }
        None => inner.split(',').map(str::to_owned).collect(),
    };
    let rest = expand_braces(after)?;
    if choices.len() as u64 * rest.len() as u64 > MOST {
        return Err(Error::option("shards", pattern, format!("at most {MOST} shards")));
    }
    Ok(choices.iter().flat_map(|choice| rest.iter().map(move |end| format!("{before}{choice}{end}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_count_and_choose() {
        assert_eq!(expand_braces("x-{08..10}.tar").unwrap(), ["x-08.tar", "x-09.tar", "x-10.tar"]);
        assert_eq!(expand_braces("{a,b}{1..2}").unwrap(), ["a1", "a2", "b1", "b2"]);
        assert_eq!(expand_braces("plain}{.tar").unwrap(), ["plain}{.tar"]);
        for bad in ["{1..x}", "{0..99999999}", "{0..9999}{0..9999}"] {
            assert_eq!(expand_braces(bad).unwrap_err().code(), "ERR_FLATMIN_OPTION", "{bad}");
        }
    }
}
