//! How pages look. Whatever came from a person is escaped here, on its way into HTML.

use crate::store::{Page, linked};
use std::fmt::Write;

/// What stays the same from link to link.
pub(crate) struct Look {
    pub(crate) dark: bool,
}

impl Look {
    pub(crate) fn page(&self, title: &str, body: &str) -> String {
        let theme = if self.dark { "dark" } else { "light" };
        let title = escaped(title);
        let other = if self.dark { "<a href=\"?theme=light\">Light</a>" } else { "<a href=\"?theme=dark\">Dark</a>" };
        let front = if self.dark { "?theme=dark" } else { "?" };
        format!(
            "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
             <body class=\"{theme}\">\n<nav><a href=\"{front}\">Wiki</a> {other}</nav>\n<h1>{title}</h1>\n{body}</body>\n</html>\n"
        )
    }

    /// A link to `?key=value`.
    pub(crate) fn link(&self, key: &str, value: &str, text: &str) -> String {
        let theme = if self.dark { "&amp;theme=dark" } else { "" };
        format!("<a href=\"?{key}={}{theme}\">{}</a>", encoded(value), escaped(text))
    }

    pub(crate) fn list<'a>(&self, pages: impl Iterator<Item = &'a Page>) -> String {
        let items: String = pages.map(|page| format!("<li>{}</li>\n", self.link("page", &page.name, &page.name))).collect();
        if items.is_empty() { "<p>None.</p>\n".into() } else { format!("<ul>\n{items}</ul>\n") }
    }

    pub(crate) fn tags<'a>(&self, tags: impl Iterator<Item = &'a String>) -> String {
        tags.map(|tag| self.link("tag", tag, tag)).collect::<Vec<_>>().join(", ")
    }

    /// A form of one line that sends `name`.
    pub(crate) fn form(&self, label: &str, name: &str, more: &str) -> String {
        let theme = self.hidden();
        format!("<form>{theme}{more}<input name=\"{name}\" required> <button>{label}</button></form>\n")
    }

    pub(crate) fn editor(&self, page: &str, text: &str) -> String {
        let (theme, text) = (self.hidden(), escaped(text));
        format!(
            "<form method=\"post\" action=\"?edit={page}\">{theme}\n<textarea name=\"content\" rows=\"20\">\n{text}</textarea>\n\
             <button>Save</button></form>\n"
        )
    }

    fn hidden(&self) -> &'static str {
        if self.dark { "<input type=\"hidden\" name=\"theme\" value=\"dark\">" } else { "" }
    }

    /// A page's text: paragraphs, lines `# heading`, and links. Its `tags:` lines are shown elsewhere.
    pub(crate) fn content(&self, text: &str) -> String {
        let mut html = String::new();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("tags:")).collect();
        for paragraph in lines.split(|line| line.trim().is_empty()).filter(|paragraph| !paragraph.is_empty()) {
            if let [line] = paragraph
                && let Some(heading) = line.strip_prefix("# ")
            {
                // Writing to a String does not fail.
                let _ = writeln!(html, "<h2>{}</h2>", self.line(heading));
                continue;
            }
            let lines: Vec<String> = paragraph.iter().map(|line| self.line(line)).collect();
            let _ = writeln!(html, "<p>{}</p>", lines.join("<br>\n"));
        }
        html
    }

    fn line(&self, line: &str) -> String {
        let mut pieces = line.split("[[");
        let mut html = escaped(pieces.next().unwrap_or_default());
        for piece in pieces {
            match piece.split_once("]]").and_then(|(title, rest)| Some((linked(title)?, title, rest))) {
                Some((name, title, rest)) => html += &(self.link("page", &name, title.trim()) + &escaped(rest)),
                None => html += &format!("[[{}", escaped(piece)),
            }
        }
        html
    }
}

const STYLE: &str = "body{font-family:sans-serif;max-width:44em;margin:2em auto;padding:0 1em}textarea{width:100%}.error{color:#c00}\
                     .dark{background:#111;color:#ddd}.dark a{color:#8cf}";

pub(crate) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#39;",
            letter => html.push(letter),
        }
    }
    html
}

/// For a query.
fn encoded(text: &str) -> String {
    let mut url = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(byte)),
            // Writing to a String does not fail.
            _ => drop(write!(url, "%{byte:02X}")),
        }
    }
    url
}
