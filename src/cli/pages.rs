//! Lists that the server gives a page at a time: each page is printed before the next one is asked for.

use hyper::Method;
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::client::{Answer, ApiRequest};
use super::common::Session;
use super::report::print;
use super::table::{Column, Table};
use crate::store::Wanted;

/// A list.
pub(super) struct List {
    /// The path, behind that of the pool if the session has one.
    pub(super) path: &'static str,
    /// The field of an answer that has the items.
    pub(super) field: &'static str,
    /// Parameters that choose among the items.
    pub(super) filters: Vec<(&'static str, String)>,
    /// How many items to print at most.
    pub(super) max: usize,
    /// What a table shows of an item.
    pub(super) columns: &'static [Column],
}

impl List {
    /// Prints the list: as a table, or each item as JSON in a line of its own. Ends quietly when nobody reads any
    /// more. O(page) of memory.
    ///
    /// # Errors
    ///
    /// The message to print, if a request fails; then the list was printed up to there.
    pub(super) async fn print(&self, session: &Session) -> Result<(), String> {
        let (mut left, mut cursor, mut table) = (self.max, None, Table::new(self.columns));
        let unreadable = || {
            session.error(
                "the answer is no list that goes on: check that --server is the address of a \
                 token-orchestrator, such as http://localhost:8080.",
            )
        };
        loop {
            let request = ApiRequest::new(Method::GET, self.path);
            let request = self
                .filters
                .iter()
                .fold(request, |request, (name, value)| request.parameter(name, Some(value)));
            let request = request.parameter("limit", Some(left.min(Wanted::LIMIT_MAX)));
            let answer = session.send(request.parameter("cursor", cursor.as_ref()), "").await?;
            let items = answer.body[self.field].as_array().ok_or_else(unreadable)?;
            let items = &items[..items.len().min(left)];
            left -= items.len();
            let text = if session.is_json() { lines(items) } else { table.page(items) };
            if !text.is_empty() && !print_apart(text).await? {
                return Ok(());
            }
            match next(&answer) {
                Next::End => return Ok(()),
                _ if left == 0 => return Ok(()),
                Next::At(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => return Err(unreadable()),
            }
        }
    }
}

/// Prints on a thread of its own. Where a pager stops reading for long, the server closes the connection meanwhile, and
/// the client must notice that before it sends its next request.
async fn print_apart(text: String) -> Result<bool, String> {
    spawn_blocking(move || print(&text)).await.expect("printing does not panic")
}

fn lines(items: &[Value]) -> String {
    items.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// Where a list goes on.
enum Next {
    End,
    At(String),
    /// The cursor cannot be sent as it is. Those of the server can.
    Unknown,
}

fn next(answer: &Answer) -> Next {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    match &answer.body["cursor"] {
        Value::Null => Next::End,
        Value::String(cursor) if cursor.bytes().all(is_plain) => Next::At(cursor.clone()),
        _ => Next::Unknown,
    }
}
