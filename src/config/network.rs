//! The environment variables of the network. HTTP clients ignore a proxy or a file of certificates that they cannot use,
//! and connect without it.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::EnvReader;
use crate::system::Os;

/// A variable that is set, but cannot be used. Its value is not shown, because a proxy's URL may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum NetworkVariableError {
    #[error(
        "{0} is not the URL of a proxy, so requests bypass the proxy: write a URL such as http://proxy.example:3128, or \
         unset {0}"
    )]
    Proxy(&'static str),
    #[error(
        "{0} names a SOCKS proxy, which this program cannot use: name an HTTP proxy, or unset {0}"
    )]
    SocksProxy(&'static str),
    #[error("{variable} names {}, which cannot be read ({reason}): correct the path, or unset {variable}", path.display())]
    UnreadableCertificates { variable: &'static str, path: PathBuf, reason: std::io::Error },
    #[error(
        "SSL_CERT_FILE names {}, which holds no certificate in PEM form (-----BEGIN CERTIFICATE-----), so no secure \
         connection is possible; a DER file is converted by: openssl x509 -inform der -in {} -out certificates.pem",
        path.display(),
        path.display()
    )]
    NotPem { path: PathBuf },
}

/// Finds the variables that are set, but cannot be used.
#[must_use]
pub fn check_network_variables(os: Os, read_env: EnvReader) -> Vec<NetworkVariableError> {
    let value = |name: &'static str| Some((name, read_env(name).ok().flatten()?));
    // For each kind, the HTTP client takes the first name that is set.
    let proxies = [["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];
    let proxies = proxies.into_iter().filter_map(|names| names.into_iter().find_map(value));
    let mut problems: Vec<NetworkVariableError> =
        proxies.filter_map(|(name, url)| check_proxy(name, &url).err()).collect();
    // Windows and macOS have certificate stores of their own.
    if os == Os::Linux {
        let file = value("SSL_CERT_FILE");
        problems.extend(file.and_then(|(_, path)| check_certificates(Path::new(&path)).err()));
        let folders = value("SSL_CERT_DIR");
        problems.extend(folders.and_then(|(_, folders)| check_certificate_folders(&folders).err()));
    }
    problems
}

fn check_proxy(name: &'static str, url: &str) -> Result<(), NetworkVariableError> {
    let uri: http::Uri = url.parse().map_err(|_| NetworkVariableError::Proxy(name))?;
    match uri.scheme_str() {
        None | Some("http" | "https") if uri.authority().is_some() => Ok(()),
        Some("socks4" | "socks4a" | "socks5" | "socks5h") => {
            Err(NetworkVariableError::SocksProxy(name))
        }
        _ => Err(NetworkVariableError::Proxy(name)),
    }
}

fn check_certificates(path: &Path) -> Result<(), NetworkVariableError> {
    let bytes = std::fs::read(path).map_err(|reason| {
        let variable = "SSL_CERT_FILE";
        NetworkVariableError::UnreadableCertificates { variable, path: path.to_owned(), reason }
    })?;
    // The HTTP client skips a byte order mark, too.
    let pem = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match CertificateDer::pem_slice_iter(pem).any(|certificate| certificate.is_ok()) {
        true => Ok(()),
        false => Err(NetworkVariableError::NotPem { path: path.to_owned() }),
    }
}

/// Checks that one of the folders can be read.
fn check_certificate_folders(folders: &str) -> Result<(), NetworkVariableError> {
    let mut first_problem = None;
    for path in std::env::split_paths(folders) {
        match std::fs::read_dir(&path) {
            Ok(_) => return Ok(()),
            Err(reason) => first_problem = first_problem.or(Some((path, reason))),
        }
    }
    let variable = "SSL_CERT_DIR";
    first_problem.map_or(Ok(()), |(path, reason)| {
        Err(NetworkVariableError::UnreadableCertificates { variable, path, reason })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(name: &str, value: &str) -> Option<String> {
        problem_on(Os::Linux, name, value)
    }

    fn problem_on(os: Os, name: &str, value: &str) -> Option<String> {
        let read_env = |wanted: &str| Ok((wanted == name).then(|| value.to_owned()));
        let problems = check_network_variables(os, &read_env);
        assert!(problems.len() <= 1, "{problems:?}");
        problems.first().map(ToString::to_string)
    }

    #[test]
    fn a_proxy_that_would_be_ignored_is_named_without_its_password() {
        for usable in [
            "http://proxy.example:3128",
            "https://me:5ecret@proxy.example",
            "proxy.example:3128",
            "10.0.0.1:8080",
        ] {
            assert_eq!(problem("HTTPS_PROXY", usable), None, "{usable}");
        }
        for (name, value, says) in [
            ("HTTPS_PROXY", "http://me:5ecret word@proxy.example", "HTTPS_PROXY is not the URL"),
            ("https_proxy", "http//proxy.example:3128", "https_proxy is not the URL"),
            ("ALL_PROXY", "ftp://5ecret@proxy.example", "ALL_PROXY is not the URL"),
            ("all_proxy", "socks5h://5ecret@proxy.example", "all_proxy names a SOCKS proxy"),
            ("HTTPS_PROXY", "/proxy", "HTTPS_PROXY is not the URL"),
        ] {
            let text = problem(name, value).unwrap();
            assert!(text.starts_with(says) && !text.contains("5ecret"), "{text}");
        }
    }

    #[test]
    fn a_certificate_file_must_be_readable_and_pem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        let text = path.to_str().unwrap();
        assert!(problem("SSL_CERT_FILE", text).unwrap().contains("cannot be read ("));
        for os in [Os::MacOs, Os::Windows] {
            assert_eq!(problem_on(os, "SSL_CERT_FILE", text), None, "{os:?}");
        }
        std::fs::write(&path, b"\x30\x82\x01\x0a\x02\x82").unwrap();
        assert!(problem("SSL_CERT_FILE", text).unwrap().contains("openssl x509 -inform der"));
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, pem).unwrap();
        assert_eq!(problem("SSL_CERT_FILE", text), None);
        let missing = folder.path().join("missing");
        let missing = missing.to_str().unwrap();
        let problem_of_folders = problem("SSL_CERT_DIR", missing).unwrap();
        assert!(problem_of_folders.starts_with("SSL_CERT_DIR names "), "{problem_of_folders}");
        let one_exists = format!("{missing}:{}", folder.path().display());
        assert_eq!(problem("SSL_CERT_DIR", &one_exists), None);
        // An editor on Windows may have written a byte order mark.
        std::fs::write(&path, format!("\u{feff}{pem}")).unwrap();
        assert_eq!(problem("SSL_CERT_FILE", text), None);
    }
}
