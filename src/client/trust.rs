//! Whom to trust for TLS: the given authority alone, or the platform's.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// A TLS configuration that trusts exactly the authorities of one PEM file.
pub(crate) fn only(path: &Path) -> Result<ClientConfig, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|e| unreadable(&e))?;
        roots.add(certificate).map_err(|e| unreadable(&e))?;
    }
    if roots.is_empty() {
        return Err(format!("`{}` holds no certificate: is it a PEM file?", path.display()));
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
