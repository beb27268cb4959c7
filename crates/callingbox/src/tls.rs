//! TLS of the requests that this program makes: `rustls` and `ring`, with the system's certificates.
//! Knows nothing of who is asked for what.

use std::sync::Arc;

/// TLS for a client. Without `certificates` it can reach only plain http, which is right for this machine
/// itself: then nothing need be loaded.
///
/// # Errors
/// The system's certificates cannot be used; in words.
pub fn client(certificates: bool) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut tls = if certificates {
        let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(|error| {
            format!(
                "the system's trusted certificates cannot be used ({error}); install \
                 ca-certificates, or set SSL_CERT_FILE"
            )
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

/// The same, loaded where nobody waits for it but who asked.
///
/// # Errors
/// Those of [`client`].
pub async fn load(certificates: bool) -> Result<rustls::ClientConfig, String> {
    let loading = tokio::task::spawn_blocking(move || client(certificates));
    loading.await.map_err(|error| error.to_string())?
}
