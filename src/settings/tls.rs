//! Whom this node, or a command, trusts when it calls others over TLS: the system's certificate authorities, and those of
//! a file. One configuration for all callers, so that they share sessions.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The files with which a caller proves who it is.
#[derive(Clone, Copy, Debug)]
pub struct CallerFiles<'a> {
    pub certificate: &'a Path,
    pub key: &'a Path,
}

/// The client side of TLS. HTTP/1.1 only: no protocol is negotiated.
pub fn client_tls(ca_file: Option<&Path>, caller: Option<CallerFiles<'_>>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for err in &system.errors {
        tracing::warn!("the system's certificate authorities: {err}");
    }
    // A system store may hold ancient certificates that no library reads any more.
    let (taken, _ignored) = roots.add_parsable_certificates(system.certs);
    if taken == 0 && ca_file.is_none() {
        tracing::warn!(
            "no certificate authority is known: https will fail (install ca-certificates, or name a file of them)"
        );
    }
    if let Some(file) = ca_file {
        let shown = file.display();
        let mut found = 0;
        for certificate in CertificateDer::pem_file_iter(file).with_context(|| format!("{shown}"))? {
            roots.add(certificate.with_context(|| format!("{shown}"))?).with_context(|| format!("{shown}"))?;
            found += 1;
        }
        anyhow::ensure!(found > 0, "{shown} has no certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_root_certificates(roots);
    Ok(Arc::new(match caller {
        None => builder.with_no_client_auth(),
        Some(CallerFiles { certificate, key }) => {
            let (shown, shown_key) = (certificate.display(), key.display());
            let chain = CertificateDer::pem_file_iter(certificate).with_context(|| format!("{shown}"))?;
            let chain: Vec<_> = chain.collect::<Result<_, _>>().with_context(|| format!("{shown}"))?;
            let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("{shown_key}"))?;
            builder
                .with_client_auth_cert(chain, key)
                .with_context(|| format!("{shown} and {shown_key} do not belong together"))?
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_cannot_be_read_is_an_error_that_names_the_file() {
        client_tls(None, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let err = format!("{:#}", client_tls(Some(&file), None).unwrap_err());
        assert!(err.contains("ca.pem"), "{err}");
        std::fs::write(&file, "no certificate").unwrap();
        let err = format!("{:#}", client_tls(Some(&file), None).unwrap_err());
        assert!(err.contains("has no certificate"), "{err}");
        let caller = CallerFiles { certificate: &folder.path().join("own.pem"), key: &file };
        let err = format!("{:#}", client_tls(None, Some(caller)).unwrap_err());
        assert!(err.contains("own.pem"), "{err}");
    }
}
