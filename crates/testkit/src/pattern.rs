//! Texts with places for what varies.
//!
//! | placeholder | stands for |
//! | --- | --- |
//! | `<<int>>` | a whole number |
//! | `<<hex>>` | hexadecimal digits, one or more |
//! | `<<word>>` | anything without spaces, but something |
//! | `<<line>>` | anything without a newline |
//! | `<<any>>` | anything |

/// Whether the whole of `text` is as `pattern` says.
///
/// # Panics
///
/// If there is no such placeholder.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((literal, rest)) = pattern.split_once("<<") else { return pattern == text };
    let Some(text) = text.strip_prefix(literal) else { return false };
    let (kind, rest) = rest.split_once(">>").unwrap_or_else(|| panic!("`<<` without `>>` in {pattern:?}"));
    let stands_for = predicate(kind);
    let next = rest.split("<<").next().unwrap_or_default();
    if next.len() == rest.len() {
        return text.strip_suffix(next).is_some_and(stands_for);
    }
    text.match_indices(next).any(|(at, _)| stands_for(&text[..at]) && matches(rest, &text[at..]))
}

fn predicate(kind: &str) -> fn(&str) -> bool {
    match kind {
        "int" => |text| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        },
        "hex" => |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "word" => |text| !text.is_empty() && !text.contains(char::is_whitespace),
        "line" => |text| !text.contains('\n'),
        "any" => |_| true,
        _ => panic!("there is no placeholder <<{kind}>>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_stand_for_what_varies_and_for_nothing_else() {
        for (pattern, text, same) in [
            ("", "", true),
            ("a", "ab", false),
            ("n: <<int>>\n", "n: -12\n", true),
            ("n: <<int>>\n", "n: \n", false),
            ("n: <<int>>\n", "n: 1.5\n", false),
            ("<<int>>-<<int>>", "12-34", true),
            ("<<int>>", "-", false),
            ("<<hex>>00ff", "ab00cd00ff", true),
            ("<<hex>>00<<hex>>ff", "ab00ff", false),
            ("<<word>> <<line>>!\n<<any>>", "one two three!\nmore\nlines", true),
            ("<<line>>", "two\nlines", false),
            ("<<any>>a<<int>>b", "a1a2b", true),
            ("ä<<any>>ü", "äöü", true),
        ] {
            assert_eq!(matches(pattern, text), same, "{pattern:?} {text:?}");
        }
    }
}
