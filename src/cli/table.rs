//! A table whose rows come a page at a time.

use serde_json::Value;

use super::counts::number;

/// A column of a table.
pub(super) struct Column {
    heading: &'static str,
    /// Where its value is in an item, as a JSON pointer.
    place: &'static str,
    /// What stands for `null`.
    none: &'static str,
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    Text,
    Count,
    Labels,
}

impl Column {
    /// A column of texts.
    pub(super) const fn text(
        heading: &'static str,
        place: &'static str,
        none: &'static str,
    ) -> Self {
        Self { heading, place, none, kind: Kind::Text }
    }

    /// A column of numbers.
    pub(super) const fn count(heading: &'static str, place: &'static str) -> Self {
        Self { heading, place, none: "-", kind: Kind::Count }
    }

    /// A column of labels, each a name and a value.
    pub(super) const fn labels(heading: &'static str, place: &'static str) -> Self {
        Self { heading, place, none: "-", kind: Kind::Labels }
    }

    /// The value of an item. It stays in its line, whatever the server sends.
    fn cell(&self, item: &Value) -> String {
        match item.pointer(self.place) {
            // The server always sends it.
            None => "?".to_owned(),
            Some(Value::Null) => self.none.to_owned(),
            Some(Value::String(text)) => one_line(text),
            Some(Value::Object(labels)) if self.kind == Kind::Labels => match labels.len() {
                0 => self.none.to_owned(),
                _ => labels.iter().map(label).collect::<Vec<_>>().join(","),
            },
            Some(value) => number(value),
        }
    }
}

/// A label as options have it.
fn label((name, value): (&String, &Value)) -> String {
    let value = value.as_str().map_or_else(|| value.to_string(), one_line);
    format!("{}:{value}", one_line(name))
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// A table. Its columns are as wide as what they have had so far, so a page needs no other page.
pub(super) struct Table {
    columns: &'static [Column],
    /// In characters; empty before the first page.
    widths: Vec<usize>,
}

impl Table {
    pub(super) const fn new(columns: &'static [Column]) -> Self {
        Self { columns, widths: Vec::new() }
    }

    /// The lines of a page, after the headings if it is the first one. O(length).
    pub(super) fn page(&mut self, items: &[Value]) -> String {
        let mut rows = Vec::with_capacity(items.len() + 1);
        if self.widths.is_empty() {
            self.widths.resize(self.columns.len(), 0);
            rows.push(self.columns.iter().map(|column| column.heading.to_owned()).collect());
        }
        let row = |item| self.columns.iter().map(|column| column.cell(item)).collect::<Vec<_>>();
        rows.extend(items.iter().map(row));
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        rows.iter().map(|row| self.line(row)).collect::<Vec<_>>().join("\n")
    }

    fn line(&self, row: &[String]) -> String {
        let cells = self.columns.iter().zip(&self.widths).zip(row);
        let cells = cells.map(|((column, width), cell)| {
            let is_count = column.kind == Kind::Count;
            if is_count { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        Column::text("id", "/id", "-"),
        Column::text("until", "/a/until", "never"),
        Column::count("n", "/n"),
    ];

    #[test]
    fn columns_are_as_wide_as_what_they_have_had() {
        let mut table = Table::new(COLUMNS);
        let first = [json!({"id": "ü1", "a": {"until": null}, "n": 1_000}), json!({"id": "a\nb"})];
        assert_eq!(
            table.page(&first),
            "id   until      n\n\
             ü1   never  1,000\n\
             a b  ?          ?"
        );
        assert_eq!(table.page(&[]), "");
        let second = [json!({"id": null, "a": {"until": "2026-11-27"}, "n": 12})];
        assert_eq!(table.page(&second), "-    2026-11-27     12");
        assert_eq!(Table::new(COLUMNS).page(&[]), "id  until  n");
    }

    #[test]
    fn labels_stand_as_options_have_them() {
        const COLUMNS: &[Column] =
            &[Column::labels("labels", "/l"), Column::text("id", "/id", "-")];
        let items = [
            json!({"l": {}, "id": "a"}),
            json!({"l": {"plan": "pro", "eu\nx": "1\n2"}, "id": "b "}),
            json!({"l": 7, "id": "c"}),
        ];
        assert_eq!(
            Table::new(COLUMNS).page(&items),
            "labels             id\n\
             -                  a\n\
             plan:pro,eu x:1 2  b\n\
             7                  c"
        );
    }
}
