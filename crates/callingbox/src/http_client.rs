//! What all requests that this program makes have in common: which addresses are this machine itself, and
//! reading an answer no further than it may be long. Knows nothing of who is asked for what.

use bytes::{Bytes, BytesMut};
use url::{Host, Url};

/// Whether an address is this machine itself: it may be asked over plain http, and by no proxy.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Reads the body up to `limit` bytes; nothing when it is larger. One that comes in one piece is not
/// copied.
pub async fn body_up_to(
    response: &mut reqwest::Response,
    limit: usize,
) -> Result<Option<Bytes>, reqwest::Error> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Ok(None);
    }
    let first = response.chunk().await?.unwrap_or_default();
    let mut length = first.len();
    let mut whole: Option<BytesMut> = None;
    while length <= limit
        && let Some(piece) = response.chunk().await?
    {
        length += piece.len();
        whole.get_or_insert_with(|| BytesMut::from(&*first)).extend_from_slice(&piece);
    }
    Ok((length <= limit).then(|| whole.map_or(first, BytesMut::freeze)))
}
