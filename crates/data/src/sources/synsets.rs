//! Readable names of ImageNet's class folders (`n01440764` is "tench"), from a mapping file beside the images or from the
//! table of the 1,000 classes of ILSVRC 2012 that travels in the library. WordNet 3.0, Princeton University.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

/// One line a class: the synset, a space, its words with commas between.
static TABLE: &[u8] = include_bytes!("../../assets/imagenet_synsets.txt.gz");
/// The same format, as ImageNet's own tools and its Kaggle version call it.
const FILES: [&str; 2] = ["LOC_synset_mapping.txt", "synset_words.txt"];
/// The Kaggle version keeps its file four folders above the classes.
const FOLDERS_ABOVE: usize = 4;

/// Names for class folders that are all synsets; `None` when they are not, or one is unknown.
pub(crate) fn names(dir: &Path, folders: &[String]) -> Option<Vec<String>> {
    if !folders.iter().all(|folder| is_synset(folder)) {
        return None;
    }
    let beside = dir.ancestors().take(FOLDERS_ABOVE + 1).flat_map(|above| FILES.map(|file| above.join(file)));
    let texts = beside.filter_map(|path| fs::read_to_string(path).ok()).chain([table()]);
    texts.into_iter().find_map(|text| look_up(&text, folders))
}

fn is_synset(folder: &str) -> bool {
    folder.strip_prefix('n').is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn table() -> String {
    let mut text = String::new();
    // The table is part of the program; a test reads all of it.
    let _ = GzDecoder::new(TABLE).read_to_string(&mut text);
    text
}

/// The first word of each synset, with its number where two synsets share it ("crane" is a bird and a machine).
fn look_up(text: &str, folders: &[String]) -> Option<Vec<String>> {
    let words: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once(char::is_whitespace)).collect();
    let first = |folder: &String| Some(words.get(folder.as_str())?.split(',').next()?.trim());
    let names: Vec<&str> = folders.iter().map(first).collect::<Option<_>>()?;
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for name in &names {
        *uses.entry(name).or_default() += 1;
    }
    let unique = |(name, folder): (&&str, &String)| match uses[name] {
        1 => (*name).to_owned(),
        _ => format!("{name} ({folder})"),
    };
    Some(names.iter().zip(folders).map(unique).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(dir: &Path, folders: &[&str]) -> Option<Vec<String>> {
        names(dir, &folders.iter().map(|&folder| folder.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_table_holds_the_thousand_classes_in_order() {
        let text = table();
        let synsets: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(synsets.len(), 1000);
        assert!(synsets.is_sorted() && synsets.iter().all(|synset| is_synset(synset)));
        assert_eq!((synsets[0], synsets[999]), ("n01440764", "n15075141"));
    }

    #[test]
    fn synsets_get_their_first_word_and_words_that_are_shared_their_number() {
        let nowhere = Path::new("/nonexistent");
        assert_eq!(named(nowhere, &["n01440764"]).unwrap(), ["tench"]);
        let cranes = named(nowhere, &["n02012849", "n03126707"]).unwrap();
        assert_eq!(cranes, ["crane (n02012849)", "crane (n03126707)"]);
        assert!(named(nowhere, &["n01440764", "n99999999"]).is_none());
        assert!(named(nowhere, &["n01440764", "cats"]).is_none());
    }

    #[test]
    fn a_mapping_file_above_the_classes_wins() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("LOC_synset_mapping.txt"), "n99999999 gryphon, griffin\n").unwrap();
        let train = dir.path().join("Data/CLS-LOC/train");
        assert_eq!(named(&train, &["n99999999"]).unwrap(), ["gryphon"]);
    }
}
