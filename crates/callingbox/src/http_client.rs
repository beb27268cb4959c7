//! What every HTTP client of a program has in common: TLS, addresses of this machine, and reading a body up to a limit.
//! Public for programs that make other requests beside those of [`ApiClient`](crate::ApiClient).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;
use url::{Host, Url};

use crate::json_text;

/// Whether a URL names this machine. Its requests may use plain HTTP, and must not use a proxy.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// TLS by rustls and ring, which trusts the system's certificates. Without `certificates` nothing is loaded, and the
/// client can only use plain HTTP.
///
/// # Errors
/// The reason why the system's certificates cannot be used.
pub fn tls_config(certificates: bool) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut tls = if certificates {
        let path = std::env::var_os("SSL_CERT_FILE").filter(|_| !HAS_SYSTEM_STORE);
        let advice = certificate_advice(HAS_SYSTEM_STORE, path.is_some());
        let file = path.and_then(|path| std::fs::read(path).ok());
        let marked = read_marked_certificates(&file.unwrap_or_default());
        let verifier = Verifier::new_with_extra_roots(marked, provider).map_err(|error| {
            format!("the system's trusted certificates cannot be used ({error}); {advice}")
        })?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth()
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// Whether the system keeps the certificates that it trusts in a store of its own, and not in files.
const HAS_SYSTEM_STORE: bool = cfg!(any(windows, target_vendor = "apple"));

/// What to do if the system's certificates cannot be used.
fn certificate_advice(has_system_store: bool, is_file_set: bool) -> &'static str {
    match (has_system_store, is_file_set) {
        (true, _) => "check the certificates that this system trusts",
        (false, true) => "SSL_CERT_FILE must name a readable file of certificates in PEM form",
        (false, false) => "install ca-certificates, or set SSL_CERT_FILE to a PEM file",
    }
}

/// The certificates of a file that begins with a byte order mark, for which the system's reader misses the first one.
fn read_marked_certificates(file: &[u8]) -> Vec<CertificateDer<'static>> {
    let text = json_text::strip_bom(file);
    if text.len() == file.len() {
        return Vec::new();
    }
    CertificateDer::pem_slice_iter(text).filter_map(Result::ok).collect()
}

/// [`tls_config`] on a thread that may block.
///
/// # Errors
/// Those of [`tls_config`].
pub async fn load_tls_config(certificates: bool) -> Result<rustls::ClientConfig, String> {
    let loading = tokio::task::spawn_blocking(move || tls_config(certificates));
    loading.await.map_err(|error| error.to_string())?
}

/// Reads a body. `None` if it is larger than `limit` bytes. A body that arrives in one chunk is not copied.
///
/// # Errors
/// The connection failed before the end of the body.
pub async fn read_body(
    response: &mut reqwest::Response,
    limit: usize,
) -> Result<Option<Bytes>, reqwest::Error> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Ok(None);
    }
    let first = response.chunk().await?.unwrap_or_default();
    let mut length = first.len();
    let mut joined: Option<BytesMut> = None;
    while length <= limit
        && let Some(chunk) = response.chunk().await?
    {
        length += chunk.len();
        joined.get_or_insert_with(|| BytesMut::from(&*first)).extend_from_slice(&chunk);
    }
    Ok((length <= limit).then(|| joined.map_or(first, BytesMut::freeze)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_on_certificates_is_that_of_the_system() {
        assert!(!certificate_advice(true, true).contains("SSL_CERT_FILE"));
        assert!(certificate_advice(false, true).starts_with("SSL_CERT_FILE must name"));
        assert!(certificate_advice(false, false).starts_with("install ca-certificates"));
    }

    #[test]
    fn a_certificate_after_a_byte_order_mark_is_read() {
        let file = "\u{feff}-----BEGIN CERTIFICATE-----\r\nAAEC\r\n-----END CERTIFICATE-----\r\n";
        let read = read_marked_certificates(file.as_bytes());
        assert_eq!(read.iter().map(|der| &**der).collect::<Vec<_>>(), [&[0, 1, 2][..]]);
        assert!(read_marked_certificates(json_text::strip_bom(file.as_bytes())).is_empty());
    }
}
