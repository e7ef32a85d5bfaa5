//! What guests share that has nothing to do with any version of WASI.

pub mod keyvalue;
pub mod query;

/// The WIT name of an error code, from the `Debug` text of its binding: `ErrorCode::DnsError(…)` is `DNS-error`.
pub fn error_code_name(debug: &str) -> String {
    let variant = debug.strip_prefix("ErrorCode::").unwrap_or(debug);
    let mut words: Vec<String> = Vec::new();
    for letter in variant.chars().take_while(char::is_ascii_alphanumeric) {
        match words.last_mut() {
            Some(word) if !letter.is_ascii_uppercase() => word.push(letter),
            _ => words.push(letter.to_ascii_lowercase().into()),
        }
    }
    for word in &mut words {
        if ["dns", "http", "ip", "tls", "uri"].contains(&word.as_str()) {
            word.make_ascii_uppercase();
        }
    }
    words.join("-")
}
