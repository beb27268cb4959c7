//! What is asked: the method, the path, and whether it may be asked twice.

use std::fmt;

/// Whether a request may reach the API twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Doing it twice is doing it once: GET, PUT, PATCH and DELETE of this API.
    Idempotent,
    /// Every POST: a second one may ring a second phone or buy a second number.
    Once,
}

/// The methods that the API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates or starts something; must not be repeated blindly.
    Post,
    /// Sets a value; repeating it changes nothing.
    Put,
    /// Writes the fields that are sent; repeating it changes nothing.
    Patch,
    /// Removes; repeating it changes nothing.
    Delete,
}

impl Method {
    /// The method's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a request with this method may reach the API twice.
    #[must_use]
    pub const fn repeat(self) -> Repeat {
        match self {
            Self::Post => Repeat::Once,
            Self::Get | Self::Put | Self::Patch | Self::Delete => Repeat::Idempotent,
        }
    }
}

/// What was asked, without anyone's id: a method and the template of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestLine {
    /// The method.
    pub method: Method,
    /// The path, with `{id}` in place of an id.
    pub path: &'static str,
}

impl RequestLine {
    /// The one request that rings a telephone.
    pub const PLACE_CALL: Self = Self::new(Method::Post, "/v1/calls");
    /// Replaces the signing secret of a webhook endpoint.
    pub const ROTATE: Self = Self::new(Method::Post, "/v1/webhook_endpoints/{id}/rotate_secret");

    pub(super) const fn new(method: Method, path: &'static str) -> Self {
        Self { method, path }
    }
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.path)
    }
}
