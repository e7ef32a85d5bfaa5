//! The instrument /calculator: `a` and `b` under `op`, with two decimals.

use std::process::ExitCode;

const OPS: &str = "add, sub, mul, div, pow, mod or + - * / ** %";

fn main() -> ExitCode {
    wasio::text(|request| {
        // A plus sign in a query is a space.
        let op = match request.param("op") {
            Some(" ") => "+",
            _ => request.need("op").map_err(|error| format!("{error}; use {OPS}"))?.trim(),
        };
        let result = calculate(op, number("a", request.need("a")?)?, number("b", request.need("b")?)?)?;
        match result {
            _ if result.is_nan() => Err("the result is not a number".into()),
            _ if result.is_infinite() => Err("the result is too large".into()),
            // What rounds to zero has no sign.
            _ if result.abs() < 0.005 => Ok("0.00\n".to_string()),
            _ => Ok(format!("{result:.2}\n")),
        }
    })
}

fn number(name: &str, text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("'{text}' is not a number; '{name}' has to be one"))
}

fn calculate(op: &str, a: f64, b: f64) -> Result<f64, String> {
    match op {
        "add" | "+" => Ok(a + b),
        "sub" | "-" => Ok(a - b),
        "mul" | "*" => Ok(a * b),
        "div" | "/" | "mod" | "%" if b == 0.0 => Err("division by zero".into()),
        "div" | "/" => Ok(a / b),
        "mod" | "%" => Ok(a % b),
        "pow" | "**" if b < 0.0 => Err("negative powers are not supported".into()),
        "pow" | "**" => Ok(a.powf(b)),
        _ => Err(format!("unknown op '{op}'; use {OPS}")),
    }
}
