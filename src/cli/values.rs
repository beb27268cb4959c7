//! Parsers for the values of arguments.

use std::ffi::OsStr;
use std::net::SocketAddr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use url::Url;

use crate::install::ClientApp;

/// The client that a user names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientName {
    /// One whose configuration can be written.
    Known(ClientApp),
    /// Any other one, for which an entry can be printed.
    Other(String),
}

/// Accepts any client, and offers the known ones to help texts and completions.
#[derive(Clone)]
pub(super) struct ClientNameParser;

impl TypedValueParser for ClientNameParser {
    type Value = ClientName;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<ClientName, clap::Error> {
        let name = value.to_string_lossy();
        if let Some(client) = ClientApp::ALL.into_iter().find(|client| client.id() == name) {
            return Ok(ClientName::Known(client));
        }
        let is_name = |letter: char| letter.is_alphanumeric() || " -_.".contains(letter);
        if !name.is_empty() && name.chars().all(is_name) {
            return Ok(ClientName::Other(name.into_owned()));
        }
        let mut error = clap::Error::new(ErrorKind::InvalidValue).with_cmd(command);
        let ids = ClientApp::ALL.iter().map(|client| client.id().to_owned()).collect();
        let argument = argument.map(ToString::to_string).unwrap_or_default();
        error.insert(ContextKind::InvalidArg, ContextValue::String(argument));
        error.insert(ContextKind::InvalidValue, ContextValue::String(name.into_owned()));
        error.insert(ContextKind::ValidValue, ContextValue::Strings(ids));
        Err(error)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue>>> {
        let value = |client: ClientApp| PossibleValue::new(client.id()).help(client.to_string());
        Some(Box::new(ClientApp::ALL.into_iter().map(value)))
    }
}

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
