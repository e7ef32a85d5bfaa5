//! Pages as files. What a page says of itself, its tags and links, is in its text and nowhere else, so that nothing can disagree.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

const FOLDER: &str = "/wiki";

/// Of a page's name, in letters.
pub(crate) const NAME_MAX: usize = 60;

const PAGE_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) modified: SystemTime,
}

impl Page {
    pub(crate) fn new(name: &str, text: String) -> Self {
        Self { name: name.into(), text, modified: SystemTime::UNIX_EPOCH }
    }

    /// Those of its lines `tags: one, two`.
    pub(crate) fn tags(&self) -> impl Iterator<Item = String> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("tags:"));
        lines.flat_map(|tags| tags.split(',')).map(|tag| tag.trim().to_lowercase()).filter(|tag| !tag.is_empty())
    }

    /// The pages that its `[[Link]]`s lead to.
    pub(crate) fn links(&self) -> impl Iterator<Item = String> {
        self.text.split("[[").skip(1).filter_map(|rest| rest.split_once("]]")).filter_map(|(title, _)| linked(title))
    }
}

/// The page that `[[title]]` leads to: `[[New Page]]` is `new-page`.
pub(crate) fn linked(title: &str) -> Option<String> {
    let name = title.trim().to_lowercase().replace(' ', "-");
    is_name(&name).then_some(name)
}

pub(crate) fn is_name(text: &str) -> bool {
    let letter = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(letter)
}

fn file(name: &str) -> String {
    format!("{name}.txt")
}

pub(crate) fn read(name: &str) -> Result<Option<String>, String> {
    match fs::read(Path::new(FOLDER).join(file(name))) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &error)),
    }
}

/// The page as it was, or as it is to be, for whoever reads it at the same time; the last of several writers wins.
pub(crate) fn save(name: &str, text: &str) -> Result<(), String> {
    if text.len() > PAGE_BYTES_MAX {
        return Err(format!("this page has {} bytes; a page has at most {PAGE_BYTES_MAX}", text.len()));
    }
    whole::replace(Path::new(FOLDER), &file(name), text.as_bytes()).map_err(|error| failed("write", &error))
}

pub(crate) fn delete(name: &str) -> Result<(), String> {
    match fs::remove_file(Path::new(FOLDER).join(file(name))) {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("there is no page {name}")),
        done => done.map_err(|error| failed("delete", &error)),
    }
}

pub(crate) fn rename(old: &str, new: &str) -> Result<(), String> {
    match whole::rename(Path::new(FOLDER), &file(old), &file(new)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("there is a page {new} already")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("there is no page {old}")),
        Err(error) => Err(failed("rename", &error)),
    }
}

/// All of them, by name.
pub(crate) fn pages() -> Result<Vec<Page>, String> {
    let folder = Path::new(FOLDER);
    let mut pages = Vec::new();
    for file in whole::list(folder).map_err(|error| failed("list", &error))? {
        let Some(name) = file.strip_suffix(".txt").filter(|name| is_name(name)) else { continue };
        // One that was deleted meanwhile is no more.
        let Some(text) = read(name)? else { continue };
        let modified = fs::metadata(folder.join(&file)).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        pages.push(Page { modified, ..Page::new(name, text) });
    }
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pages)
}

/// The reason goes to the log: it may tell of the host.
fn failed(what: &str, error: &io::Error) -> String {
    eprintln!("wiki: cannot {what}: {error}");
    format!("cannot {what} pages")
}
