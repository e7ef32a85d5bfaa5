//! Flags of a command: enough for `--flag`, `--key value`, `--key=value` and a tail behind `--`, so that no argument parser has to compile
//! before the first command runs.

use crate::Result;
use std::collections::BTreeMap;
use std::str::FromStr;

/// What was given on the command line.
#[derive(Debug, Default)]
pub(crate) struct Args {
    switches: Vec<String>,
    values: BTreeMap<String, String>,
    /// Everything behind `--`; none where there was no `--`.
    pub(crate) tail: Option<Vec<String>>,
}

impl Args {
    /// Takes `args` apart. `switches` stand alone, `values` take one; both with their dashes. Anything else is an error that names it.
    pub(crate) fn parse(args: &[String], switches: &[&str], values: &[&str]) -> Result<Self> {
        let mut parsed = Self::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (key, inline) = match arg.split_once('=') {
                Some((key, value)) => (key, Some(value.to_string())),
                None => (arg.as_str(), None),
            };
            if arg == "--" {
                parsed.tail = Some(rest.cloned().collect());
                break;
            } else if switches.contains(&key) && inline.is_none() {
                parsed.switches.push(key.to_string());
            } else if values.contains(&key) {
                let value = inline.or_else(|| rest.next().cloned()).ok_or_else(|| format!("{key} needs a value"))?;
                parsed.values.insert(key.to_string(), value);
            } else {
                return Err(format!("unexpected argument `{arg}`; --help lists what there is"));
            }
        }
        Ok(parsed)
    }

    /// Like [`Args::parse`] for a command that takes nothing behind `--`.
    pub(crate) fn parse_whole(args: &[String], switches: &[&str], values: &[&str]) -> Result<Self> {
        let parsed = Self::parse(args, switches, values)?;
        match parsed.tail {
            None => Ok(parsed),
            Some(_) => Err("unexpected argument `--`; --help lists what there is".into()),
        }
    }

    pub(crate) fn has(&self, switch: &str) -> bool {
        self.switches.iter().any(|given| given == switch)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    pub(crate) fn number<T: FromStr>(&self, key: &str, default: T) -> Result<T> {
        match self.text(key) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{key} needs a number, not `{text}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args> {
        let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        Args::parse(&args, &["--fast"], &["--rounds"])
    }

    #[test]
    fn switches_values_and_the_tail() {
        let args = parse("--fast --rounds 3 -- name --fast").unwrap();
        assert!(args.has("--fast"));
        assert_eq!(args.number("--rounds", 10), Ok(3));
        assert_eq!(args.tail.unwrap(), ["name", "--fast"]);
        assert_eq!(parse("--rounds=4").unwrap().number("--rounds", 10), Ok(4));
        assert_eq!(parse("").unwrap().number("--rounds", 10), Ok(10));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse("--fsat").unwrap_err().contains("--fsat"));
        assert!(parse("--rounds").unwrap_err().contains("needs a value"));
        assert!(parse("--fast=yes").unwrap_err().contains("--fast=yes"));
        assert!(parse("--rounds many").unwrap().number("--rounds", 1).unwrap_err().contains("many"));
    }
}
