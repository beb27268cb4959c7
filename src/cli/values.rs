//! Parsers for the values of arguments.

use std::net::SocketAddr;

use url::Url;

/// Host names are not resolved, so that the server listens on exactly the address that was typed.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080")
}

/// Parses a server name that every client accepts. It is short because some clients name tools NAME__tool.
pub(crate) fn parse_server_name(text: &str) -> Result<String, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=32).contains(&text.len()) && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 32 letters, digits, - or _")
    }
}

/// Refuses what looks like a token, so that none ends up in a client's file.
pub(super) fn parse_variable_name(text: &str) -> Result<String, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_secret = ["cbmcp_", "sk_"].iter().any(|prefix| text.starts_with(prefix));
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if begins_well && !is_secret && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err("expected the name of an environment variable, not the token itself")
    }
}

pub(super) fn parse_server_url(text: &str) -> Result<Url, &'static str> {
    const WRONG_SCHEME: &str = "the URL must begin with http:// or https://";
    let url: Url = text.parse().map_err(|_| WRONG_SCHEME)?;
    if !matches!(url.scheme(), "http" | "https") {
        Err(WRONG_SCHEME)
    } else if !url.username().is_empty() || url.password().is_some() {
        Err("remove the password from the URL: it would be stored in clear text")
    } else {
        Ok(url)
    }
}
