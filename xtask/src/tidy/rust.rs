//! Just enough of Rust's grammar to tell code from words: comments and the contents of literals become blanks, so that a check that
//! searches for a name does not find it in prose. Lines and columns stay where they are.

/// `text` with comments and the contents of string and character literals blanked.
pub(super) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (keep, end) = token(&chars, at);
        for (index, &c) in chars[at..end].iter().enumerate() {
            let kept =
                keep == Keep::All || (keep == Keep::Quotes && (c == '"' || c == '\'') && (index == 0 || at + index + 1 == end));
            out.push(if kept || c == '\n' { c } else { ' ' });
        }
        at = end;
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    All,
    Quotes,
    Nothing,
}

/// What stands at `at`, and where it ends.
fn token(chars: &[char], at: usize) -> (Keep, usize) {
    let next = chars.get(at + 1).copied().unwrap_or('\0');
    let word_before = at > 0 && is_word(chars[at - 1]);
    match (chars[at], next) {
        ('/', '/') => (Keep::Nothing, chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |length| at + length)),
        ('/', '*') => (Keep::Nothing, block_comment(chars, at)),
        ('"', _) => (Keep::Quotes, quoted(chars, at, '"')),
        ('r', '"' | '#') if !word_before || (at > 0 && matches!(chars[at - 1], 'b' | 'c')) => raw(chars, at),
        // A lifetime has no closing quote; a character has one right behind it.
        ('\'', '\\') => (Keep::Quotes, quoted(chars, at, '\'')),
        ('\'', _) if chars.get(at + 2) == Some(&'\'') => (Keep::Quotes, at + 3),
        _ => (Keep::All, at + 1),
    }
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn quoted(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `r"…"`, `r#"…"#` and so on; `r#name` is a name.
fn raw(chars: &[char], start: usize) -> (Keep, usize) {
    let hashes = chars[start + 1..].iter().take_while(|&&c| c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return (Keep::All, start + 1);
    }
    let mut at = open + 1;
    while at < chars.len() {
        if chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes {
            return (Keep::Nothing, at + 1 + hashes);
        }
        at += 1;
    }
    (Keep::Nothing, chars.len())
}

/// `code` with the bodies of `#[cfg(test)]` items blanked.
pub(super) fn without_tests(code: &str) -> String {
    let mut out = code.to_string();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let Some(open) = out[start..].find(['{', ';']).map(|length| start + length) else { break };
        let end = if out.as_bytes()[open] == b'{' { closing(&out, open) } else { open + 1 };
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
        from = start + blank.len();
    }
    out
}

/// Behind the bracket that closes the one at `open`; the end where none does.
pub(super) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (index, c) in code[open..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return open + index + 1;
        }
    }
    code.len()
}

/// Whether `word` occurs with no letter, digit or underscore on either side.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        !text[..start].chars().next_back().is_some_and(is_word) && !text[start + word.len()..].chars().next().is_some_and(is_word)
    })
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code(r#"f("x \" y", 'z', '\'')"#), r#"f("      ", ' ', '  ')"#);
        assert_eq!(code("r#\"wasm\"time\"# + r\"x\""), "               +     ");
    }

    #[test]
    fn names_and_lifetimes_stay() {
        assert_eq!(code("fn f<'a>(r#type: &'a str) {}"), "fn f<'a>(r#type: &'a str) {}");
        assert_eq!(code("for r in 0..1 {}"), "for r in 0..1 {}");
    }

    #[test]
    fn test_modules_are_blank() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { c() } }\nfn d() {}\n#[cfg(test)]\nmod e;\nfn f() {}";
        let left = without_tests(text);
        assert_eq!(left.lines().count(), 7);
        assert!(left.contains("fn a") && left.contains("fn d") && left.contains("fn f"), "{left}");
        assert!(!left.contains("fn b") && !left.contains("mod e"), "{left}");
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("use redb::Database", "redb"));
        assert!(!has_word("use redbull::Database; my_redb", "redb"));
    }
}
