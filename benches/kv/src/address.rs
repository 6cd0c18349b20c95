//! Addresses on the command line.

/// A name or number with a port; a name is looked up when it is needed, for it may not be known
/// yet.
pub(crate) fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err(format!("'{text}' is no address and port, as 127.0.0.1:7101 or [::1]:7101")),
    }
}
