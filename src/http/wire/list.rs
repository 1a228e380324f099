//! Long lists in the bodies of answers.

use crate::key::KeyId;
use crate::store::give_way;

/// How many items are written before other tasks may run: some 30 µs.
const LIST_BATCH: usize = 1024;

/// Writes a JSON object with one list, which must not be empty. Other tasks may run in between. O(n) for n
/// items.
pub(in crate::http) async fn list<T>(
    name: &str,
    items: &[T],
    write: impl Fn(&mut Vec<u8>, &T),
) -> Vec<u8> {
    let mut body = format!(r#"{{"{name}":["#).into_bytes();
    body.reserve(items.len() * (KeyId::TEXT_LEN + 3) + 2);
    for batch in items.chunks(LIST_BATCH) {
        for item in batch {
            write(&mut body, item);
            body.push(b',');
        }
        give_way().await;
    }
    body.pop(); // The last comma.
    body.extend_from_slice(b"]}");
    body
}
