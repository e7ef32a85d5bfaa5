//! The instrument /wiki: pages in the directory `/wiki`, with tags, links, backlinks and a search. Proves that a guest may keep files, and
//! that they stay whole under writers that know nothing of each other.

mod html;
mod store;

use html::{Look, escaped};
use std::fmt::Write;
use std::process::ExitCode;
use store::{NAME_MAX, Page};
use wasio::Request;

/// Shown on the front page.
const RECENT: usize = 5;

fn main() -> ExitCode {
    wasio::text(|request| {
        let look = Look { dark: request.param("theme") == Some("dark") };
        let (title, body) = respond(request, &look).unwrap_or_else(|error| {
            ("Error".into(), format!("<p class=\"error\">{}</p>\n{}", escaped(&error), look.form("Go to a page", "page", "")))
        });
        Ok(look.page(&title, &body))
    })
}

/// A title and what stands below it. The first parameter of these decides.
fn respond(request: &Request, look: &Look) -> Result<(String, String), String> {
    if let Some(content) = request.param("content") {
        let name = name(request.param("edit").or(request.param("page")).unwrap_or_default())?;
        store::save(name, &content.replace("\r\n", "\n"))?;
        return view(name, look, "<p class=\"note\">Saved.</p>\n");
    }
    if let Some(edit) = request.param("edit") {
        let name = name(edit)?;
        return Ok((format!("Edit {name}"), look.editor(name, &store::read(name)?.unwrap_or_default())));
    }
    if let Some(delete) = request.param("delete") {
        let name = name(delete)?;
        store::delete(name)?;
        return Ok((format!("Deleted {name}"), front(look)?));
    }
    if let Some(rename) = request.param("rename") {
        let (old, new) = (name(rename)?, name(request.param("new").unwrap_or_default())?);
        store::rename(old, new)?;
        return view(new, look, &format!("<p class=\"note\">This page was {old}.</p>\n"));
    }
    if let Some(text) = request.param("search") {
        let needle = text.to_lowercase();
        let found = |page: &Page| page.name.contains(&needle) || page.text.to_lowercase().contains(&needle);
        return Ok((format!("Pages with “{text}”"), look.list(store::pages()?.iter().filter(|page| found(page)))));
    }
    if let Some(tag) = request.param("tag") {
        let tag = tag.trim().to_lowercase();
        let pages = store::pages()?;
        return Ok((format!("Pages tagged {tag}"), look.list(pages.iter().filter(|page| page.tags().any(|other| other == tag)))));
    }
    if request.param("list").is_some() {
        return Ok(("All pages".into(), look.list(store::pages()?.iter())));
    }
    match request.param("page") {
        Some(page) => view(name(page)?, look, ""),
        None => Ok(("Wiki".into(), front(look)?)),
    }
}

/// A name that a page may have.
fn name(text: &str) -> Result<&str, String> {
    if store::is_name(text) {
        return Ok(text);
    }
    Err(format!("“{text}” is no name of a page: it has 1 to {NAME_MAX} of a to z, 0 to 9, _ and -"))
}

fn front(look: &Look) -> Result<String, String> {
    let mut pages = store::pages()?;
    let mut tags: Vec<String> = pages.iter().flat_map(Page::tags).collect();
    tags.sort();
    tags.dedup();
    pages.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.name.cmp(&b.name)));
    let mut body = look.form("Search", "search", "");
    body += &look.form("Write a page", "edit", "");
    // Writing to a String does not fail.
    let _ = write!(body, "<h2>Recent</h2>\n{}", look.list(pages.iter().take(RECENT)));
    if !tags.is_empty() {
        let _ = writeln!(body, "<p>Tags: {}</p>", look.tags(tags.iter()));
    }
    let _ = writeln!(body, "<p>{}</p>", look.link("list", "1", &format!("All {} pages", pages.len())));
    Ok(body)
}

fn view(name: &str, look: &Look, note: &str) -> Result<(String, String), String> {
    let Some(text) = store::read(name)? else {
        let write = look.link("edit", name, "Write it");
        return Ok((name.into(), format!("{note}<p class=\"missing\">There is no page {name}. {write}.</p>\n")));
    };
    let pages = store::pages()?;
    let page = Page::new(name, text);
    let mut body = format!("{note}{}", look.content(&page.text));
    let tags: Vec<String> = page.tags().collect();
    if !tags.is_empty() {
        let _ = writeln!(body, "<p>Tags: {}</p>", look.tags(tags.iter()));
    }
    let mut backlinks = pages.iter().filter(|other| other.links().any(|link| link == name)).peekable();
    if backlinks.peek().is_some() {
        let _ = write!(body, "<h2>Links to this page</h2>\n{}", look.list(backlinks));
    }
    let _ = writeln!(body, "<p>{} {}</p>", look.link("edit", name, "Edit"), look.link("delete", name, "Delete"));
    body += &look.form("Rename", "new", &format!("<input type=\"hidden\" name=\"rename\" value=\"{name}\">"));
    Ok((name.into(), body))
}
