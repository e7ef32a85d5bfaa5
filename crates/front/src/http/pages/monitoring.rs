//! How it is doing: what was counted, as a page and as JSON with the names that WASIO's has.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{Counts, Snapshot, Target, Totals};

use super::{document, escape};
use crate::http::date;
use crate::http::seen::duration_text;
use crate::reply::json_text;

/// The numbers of one tenant.
struct Numbers {
    since: String,
    uptime: String,
    average: String,
    totals: Totals,
    /// Calls that found their module compiled: all of them do.
    module_hits: u64,
    /// Modules that were compiled, which each is once, when it is published.
    module_misses: u64,
    /// By the path of the route; those that nobody asked for too.
    routes: BTreeMap<String, u64>,
}

impl Numbers {
    fn of(tenant: &str, snapshot: &Snapshot) -> Self {
        let own = snapshot.routes.routes().iter().filter(|route| **route.target.tenant() == *tenant);
        let nothing = Counts::default();
        let counts = own.clone().find_map(|route| route.counts.as_deref()).unwrap_or(&nothing);
        let totals = counts.totals();
        let modules = snapshot.modules.values().filter(|module| *module.tenant.name == *tenant);
        let shown = own.filter(|route| !matches!(route.target, Target::Page(_))).map(|route| route.path.as_str());
        let routes = shown.map(|path| (path.to_owned(), totals.routes.get(path).copied().unwrap_or_default())).collect();
        let average = totals.time.checked_div(u32::try_from(totals.requests).unwrap_or(u32::MAX)).unwrap_or_default();
        Self {
            since: date::rfc3339(counts.since),
            uptime: uptime_text(counts.uptime()),
            average: duration_text(average),
            module_hits: totals.of_modules.saturating_sub(totals.cache_hits),
            module_misses: modules.count() as u64,
            totals,
            routes,
        }
    }
}

/// `{"start_time":…}`.
pub(super) fn json(tenant: &str, snapshot: &Snapshot) -> String {
    let n = Numbers::of(tenant, snapshot);
    let routes: Vec<_> = n.routes.iter().map(|(path, count)| format!("\"{}\":{count}", json_text(path))).collect();
    format!(
        "{{\"start_time\":\"{}\",\"total_requests\":{},\"success_requests\":{},\"error_requests\":{},\"cache_hits\":{},\
         \"cache_misses\":{},\"module_cache_hits\":{},\"module_cache_miss\":{},\"route_stats\":{{{}}},\
         \"average_response_time\":\"{}\",\"uptime\":\"{}\"}}\n",
        n.since,
        n.totals.requests,
        n.totals.requests - n.totals.errors,
        n.totals.errors,
        n.totals.cache_hits,
        n.totals.cache_misses,
        n.module_hits,
        n.module_misses,
        routes.join(","),
        n.average,
        n.uptime,
    )
}

pub(super) fn render(tenant: &str, snapshot: &Snapshot) -> String {
    let n = Numbers::of(tenant, snapshot);
    let row = |name: &str, value: &dyn std::fmt::Display| {
        format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(&value.to_string()))
    };
    let share = |part: u64, all: u64| match all {
        0 => "-".to_owned(),
        _ => format!("{}%", part * 100 / all),
    };
    let rows = [
        row("Since", &n.since),
        row("Uptime", &n.uptime),
        row("Requests", &n.totals.requests),
        row("Successful", &(n.totals.requests - n.totals.errors)),
        row("Errors", &n.totals.errors),
        row("Average response time", &n.average),
        row("Answers from the cache", &n.totals.cache_hits),
        row("Not in the cache", &n.totals.cache_misses),
        row("Share of the cache", &share(n.totals.cache_hits, n.totals.cache_hits + n.totals.cache_misses)),
        row("Calls of compiled modules", &n.module_hits),
        row("Modules compiled", &n.module_misses),
    ];
    let routes: String = n.routes.iter().map(|(path, count)| row(path, count)).collect();
    let body = format!(
        "<nav><a href=\"?format=json\">JSON</a></nav>\n<table>\n{}</table>\n<h1>Routes</h1>\n\
         <table>\n<tr><th>Route</th><th>Requests</th></tr>\n{routes}</table>\n",
        rows.concat()
    );
    document("Monitoring", &body)
}

/// `12s`, `1.5m`, `2.0h`, `3.1d`.
fn uptime_text(uptime: Duration) -> String {
    let seconds = uptime.as_secs_f64();
    match uptime.as_secs() {
        0..60 => format!("{seconds:.0}s"),
        60..3600 => format!("{:.1}m", seconds / 60.0),
        3600..86_400 => format!("{:.1}h", seconds / 3600.0),
        _ => format!("{:.1}d", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_are_short() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (90, "1.5m"), (7200, "2.0h"), (90_000, "1.0d")] {
            assert_eq!(uptime_text(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn nothing_counted_is_zero() {
        let text = json("t", &Snapshot::default());
        for part in ["\"total_requests\":0,", "\"route_stats\":{},", "\"average_response_time\":\"0s\",", "\"uptime\":\"0s\"}"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(render("t", &Snapshot::default()).contains("<tr><th>Requests</th><td>0</td></tr>"));
    }
}
