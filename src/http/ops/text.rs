//! The text format of Prometheus, version 0.0.4.
//!
//! Names, helps and labels come from the source, but for the names of pools: these have no character that would have to be
//! escaped.

use std::fmt::{Display, Write};

use crate::http::meter::Snapshot;

/// The media type of the format.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4";

/// What the values of a family are.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Only rises, until the server is started again.
    Counter,
    Gauge,
    Histogram,
}

/// Metrics of one name. They differ by their labels.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
}

/// Defines families, each with its doc comment as its help. All names begin with the prefix.
macro_rules! families {
    ($prefix:literal; $($(#[doc = $help:literal])+ $family:ident: $kind:ident = $name:literal;)+) => {
        $(
            $(#[doc = $help])+
            const $family: Family = Family {
                name: concat!($prefix, $name),
                help: concat!($($help),+).trim_ascii_start(),
                kind: Kind::$kind,
            };
        )+
    };
}
pub(super) use families;

/// Names and values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Metrics as text.
pub(super) struct Text(String);

impl Text {
    /// An empty text with a capacity in bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    /// Begins a family. Its metrics must follow, with no other family's among them; without any, nothing
    /// is written.
    pub(super) fn family<'a>(&'a mut self, family: &'a Family) -> Lines<'a> {
        Lines { text: &mut self.0, family, is_begun: false }
    }

    /// A family of one metric without labels.
    pub(super) fn one(&mut self, family: &Family, value: impl Display) {
        self.family(family).add(&[], value);
    }

    /// A family of one metric for each value of a label.
    pub(super) fn each(&mut self, family: &Family, label: &str, values: &[(&str, u64)]) {
        let mut metrics = self.family(family);
        for (name, value) in values {
            metrics.add(&[(label, name)], value);
        }
    }
}

/// The metrics of one family, as they are written.
pub(super) struct Lines<'a> {
    text: &'a mut String,
    family: &'a Family,
    is_begun: bool,
}

impl Lines<'_> {
    /// Writes a metric.
    pub(super) fn add(&mut self, labels: Labels<'_>, value: impl Display) {
        self.begin();
        self.line("", labels, value);
    }

    /// Writes a histogram.
    pub(super) fn add_histogram(&mut self, labels: Labels<'_>, latencies: &Snapshot) {
        self.begin();
        for (bound_s, count) in latencies.cumulative() {
            let bound = bound_s.to_string();
            self.line("_bucket", &[labels, &[("le", &*bound)]].concat(), count);
        }
        self.line("_bucket", &[labels, &[("le", "+Inf")]].concat(), latencies.count());
        self.line("_sum", labels, latencies.sum_s());
        self.line("_count", labels, latencies.count());
    }

    fn begin(&mut self) {
        if self.is_begun {
            return;
        }
        self.is_begun = true;
        let Family { name, help, kind } = self.family;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let name = self.family.name;
        self.write(format_args!("{name}{suffix}"));
        for (i, (name, value)) in labels.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{name}=\"{value}\""));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{after} {value}\n"));
    }

    fn write(&mut self, what: std::fmt::Arguments<'_>) {
        self.text.write_fmt(what).expect("a string takes all text");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::meter::Metrics;
    use crate::http::route::Route;

    families! {
        "test_";
        /// How
        /// many.
        MANY: Counter = "many_total";
        /// How long.
        LONG: Histogram = "seconds";
    }

    #[test]
    fn the_format_is_that_of_prometheus() {
        let mut text = Text::with_capacity(0);
        text.family(&LONG);
        text.each(&MANY, "of", &[("a", 1), ("b", u64::MAX)]);
        text.one(&MANY, 2.5);
        let meter = Metrics::default();
        meter.shared().add(Route::Stats, 200, 3, Duration::from_secs(100));
        let latencies = meter.latencies(Route::Stats);
        text.family(&LONG).add_histogram(&[("of", "a"), ("by", "b")], &latencies);
        let text = String::from_utf8(text.into_bytes()).unwrap();
        let head = "# HELP test_many_total How many.\n# TYPE test_many_total counter\n";
        let (first, second) = (
            "test_many_total{of=\"a\"} 1\ntest_many_total{of=\"b\"} 18446744073709551615\n",
            "test_many_total 2.5\n",
        );
        let rest = text.strip_prefix(&[head, first, head, second].concat()).unwrap();
        let lines: Vec<_> = rest.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "# HELP test_seconds How long.",
                "# TYPE test_seconds histogram",
                "test_seconds_bucket{of=\"a\",by=\"b\",le=\"0.000004\"} 0",
            ]
        );
        assert_eq!(
            lines[lines.len() - 4..],
            [
                "test_seconds_bucket{of=\"a\",by=\"b\",le=\"67.108864\"} 0",
                "test_seconds_bucket{of=\"a\",by=\"b\",le=\"+Inf\"} 3",
                "test_seconds_sum{of=\"a\",by=\"b\"} 300",
                "test_seconds_count{of=\"a\",by=\"b\"} 3",
            ]
        );
    }
}
