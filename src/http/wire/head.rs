//! Limits of the head of a request, for both paths of a request.

/// The longest head of a request, in bytes.
pub(in crate::http) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The bytes that a connection of HTTP/2 begins with (RFC 9113, section 3.4).
pub(in crate::http) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
