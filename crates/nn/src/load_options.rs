//! How weights are read: which of a file's state dicts, how its names become the model's, and what may be left open.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::{Error, Result};

/// What wrappers of PyTorch put before each name: data parallelism, `torch.compile`, Lightning.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadOptions {
    /// Refuses names that are missing or unexpected and shapes that differ; otherwise they are reported, and the model
    /// keeps its own values there.
    pub strict: bool,
    /// Reads only names that begin so, without it. By default the prefixes of PyTorch's wrappers (`module.`, `_orig_mod.`,
    /// `model.`) go where every name has one.
    pub prefix: Option<String>,
    /// Which entry of a `.pt` file is the state dict, if it has several; of an inner one, keys joined by dots.
    pub key: Option<String>,
    /// New names by old ones, after the prefix went. One `*` stands for any characters, the same on both sides; a name
    /// goes before a pattern, a longer pattern before a shorter one. None leaves an entry out.
    pub map: BTreeMap<String, Option<String>>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { strict: true, prefix: None, key: None, map: BTreeMap::new() }
    }
}

impl LoadOptions {
    /// The model's name for each given one; None for those that are left out.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a prefix or an entry of the map that fits no name.
    pub(crate) fn names(&self, given: &[&str], known: &[&str]) -> Result<Vec<Option<String>>> {
        let stripped = match &self.prefix {
            Some(prefix) => given.iter().map(|name| name.strip_prefix(prefix.as_str())).collect(),
            None => without_wrappers(given, known),
        };
        if let Some(prefix) = self.prefix.as_ref().filter(|_| stripped.iter().all(Option::is_none)) {
            let expected = format!("the beginning of names such as {}", sample(given));
            return Err(Error::option("prefix", format!("'{prefix}'"), expected));
        }
        let mut unused: BTreeSet<&str> = self.map.keys().map(String::as_str).collect();
        let names = stripped.iter().map(|name| {
            let name = (*name)?;
            let Some((pattern, target, middle)) = self.entry(name) else { return Some(name.to_owned()) };
            unused.remove(pattern);
            target.map(|target| target.replacen('*', middle, 1))
        });
        let names = names.collect();
        if let Some(pattern) = unused.first() {
            let present: Vec<&str> = stripped.into_iter().flatten().collect();
            let expected = format!("a name or pattern that fits, of names such as {}", sample(&present));
            return Err(Error::option("map", format!("'{pattern}', which fits no name"), expected));
        }
        Ok(names)
    }

    /// The entry of the map for a name, and what its `*` stands for.
    fn entry<'a>(&'a self, name: &'a str) -> Option<(&'a str, Option<&'a str>, &'a str)> {
        let fitting = self.map.iter().filter_map(|(pattern, target)| {
            let middle = match pattern.split_once('*') {
                None => (pattern == name).then_some(""),
                Some((start, end)) => name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)),
            };
            middle.map(|middle| (pattern.as_str(), target.as_deref(), middle))
        });
        fitting.max_by_key(|(pattern, ..)| (!pattern.contains('*'), pattern.len()))
    }
}

/// Drops wrappers' prefixes that every name has and the model itself has nowhere.
fn without_wrappers<'a>(given: &[&'a str], known: &[&str]) -> Vec<Option<&'a str>> {
    let mut names = given.to_vec();
    let worn = |names: &[&str], prefix: &str| {
        !names.is_empty() && names.iter().all(|name| name.starts_with(prefix) && name.len() > prefix.len())
    };
    let own = |prefix: &str| known.iter().any(|name| name.starts_with(prefix));
    while let Some(prefix) = WRAPPERS.into_iter().find(|prefix| worn(&names, prefix) && !own(prefix)) {
        for name in &mut names {
            *name = &name[prefix.len()..];
        }
    }
    names.into_iter().map(Some).collect()
}

/// A few names, for an error.
pub(crate) fn sample(names: &[&str]) -> String {
    let mut sample = names.iter().take(3).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    if sample.is_empty() {
        sample.push_str("(there are none)");
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["fc.weight", "fc.bias"];

    fn names(options: &LoadOptions, given: &[&str]) -> Vec<Option<String>> {
        options.names(given, &KNOWN).unwrap()
    }

    fn owned(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|&name| Some(name.to_owned())).collect()
    }

    fn map(entries: &[(&str, Option<&str>)]) -> LoadOptions {
        let entries = entries.iter().map(|&(from, to)| (from.to_owned(), to.map(str::to_owned)));
        LoadOptions { map: entries.collect(), ..LoadOptions::default() }
    }

    #[test]
    fn wrappers_go_where_every_name_has_one() {
        let options = LoadOptions::default();
        let wrapped = ["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"];
        assert_eq!(names(&options, &wrapped), owned(&KNOWN));
        assert_eq!(names(&options, &["module.fc.weight", "fc.bias"]), owned(&["module.fc.weight", "fc.bias"]));
        let own = options.names(&["model.fc.weight"], &["model.fc.weight"]).unwrap();
        assert_eq!(own, owned(&["model.fc.weight"]));
        assert_eq!(names(&options, &["module."]), owned(&["module."]));
    }

    #[test]
    fn a_prefix_selects() {
        let options = LoadOptions { prefix: Some("backbone.".into()), ..LoadOptions::default() };
        assert_eq!(names(&options, &["backbone.fc.bias", "loss.weight"]), vec![Some("fc.bias".into()), None]);
        let error = options.names(&["loss.weight"], &KNOWN).unwrap_err();
        assert!(error.to_string().contains("loss.weight"), "{error}");
    }

    #[test]
    fn a_map_renames_and_leaves_out() {
        let options = map(&[("head.*", Some("fc.*")), ("head.bias", None), ("*", Some("rest.*"))]);
        let found = names(&options, &["head.weight", "head.bias", "stem.weight"]);
        assert_eq!(found, vec![Some("fc.weight".into()), None, Some("rest.stem.weight".into())]);
        let error = map(&[("hed.*", Some("fc.*"))]).names(&["head.weight"], &KNOWN).unwrap_err();
        assert!(error.to_string().contains("'hed.*'"), "{error}");
    }
}
