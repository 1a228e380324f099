//! What both paths of a request must know of its head.

/// The longest head of a request, in bytes.
pub(in crate::http) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How a connection of HTTP/2 begins (RFC 9113, section 3.4).
pub(in crate::http) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
