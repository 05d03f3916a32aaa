//! Files of all kinds, good and bad, old and new.

use std::path::Path;

use rcgen::{
    date_time_ymd, BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem }
}

impl Authority {
    /// Certificate and key.
    fn signs(&self, serial: u64) -> (rcgen::Certificate, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key.serialize_pem())
    }

    fn revokes(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2500, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn write(folder: &TempDir, name: &str, text: &str) -> std::path::PathBuf {
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    file
}

fn settings(folder: &TempDir) -> TlsSettings {
    TlsSettings {
        certificate_file: Some(folder.path().join("cert.pem")),
        key_file: Some(folder.path().join("key.pem")),
        ..TlsSettings::default()
    }
}

fn load(settings: &TlsSettings) -> anyhow::Result<Arc<ListenerTls>> {
    Ok(ListenerTls::load("client", settings, ClientCertificates::Optional)?.unwrap())
}

/// What two looks at files that do not change any more come to.
fn look(tls: &ListenerTls) -> anyhow::Result<bool> {
    let seen = Mutex::default();
    assert!(!tls.look(&seen)?, "one look is not enough");
    tls.look(&seen)
}

fn fault(settings: &TlsSettings) -> String {
    format!("{:#}", load(settings).err().expect("it is refused"))
}

#[test]
fn without_a_certificate_a_listener_is_in_the_clear() {
    let none = ListenerTls::load("client", &TlsSettings::default(), ClientCertificates::Optional).unwrap();
    assert!(none.is_none());
}

#[test]
fn what_cannot_be_used_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let ca = authority("ca");
    let (certificate, key) = ca.signs(1);
    assert!(fault(&settings(&folder)).contains("cert.pem"));
    write(&folder, "cert.pem", "no certificate");
    write(&folder, "key.pem", &key);
    assert!(fault(&settings(&folder)).contains("cert.pem: has no certificate"));
    write(&folder, "cert.pem", &certificate.pem());
    write(&folder, "key.pem", "no key");
    assert!(fault(&settings(&folder)).contains("key.pem: no private key"));
    write(&folder, "key.pem", &ca.signs(2).1);
    assert!(fault(&settings(&folder)).contains("do not belong together"));
    write(&folder, "key.pem", &key);
    load(&settings(&folder)).unwrap();
    let none = write(&folder, "ca.pem", "nothing");
    let with = TlsSettings { client_ca_file: Some(none), ..settings(&folder) };
    assert!(fault(&with).contains("ca.pem: has no certificate"));
}

#[test]
fn files_that_change_are_taken_when_they_fit_together() {
    let folder = tempfile::tempdir().unwrap();
    let ca = authority("ca");
    let (first, key) = ca.signs(1);
    write(&folder, "cert.pem", &first.pem());
    write(&folder, "key.pem", &key);
    let tls = load(&settings(&folder)).unwrap();
    let config = || Arc::as_ptr(&tls.current.load().config);
    let before = config();
    assert!(!look(&tls).unwrap());
    let (second, key) = ca.signs(2);
    write(&folder, "cert.pem", &second.pem());
    assert!(look(&tls).is_err(), "the key is still the old one");
    assert_eq!(config(), before);
    write(&folder, "key.pem", &key);
    assert!(look(&tls).unwrap());
    assert_ne!(config(), before);
    std::fs::remove_file(folder.path().join("key.pem")).unwrap();
    assert!(look(&tls).is_err());
}

#[test]
fn clients_are_accepted_until_their_authority_or_its_list_says_no() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, strangers) = (authority("ours"), authority("strangers"));
    let (own, key) = ours.signs(1);
    write(&folder, "cert.pem", &own.pem());
    write(&folder, "key.pem", &key);
    let plain = load(&settings(&folder)).unwrap();
    assert!(!plain.asks_for_certificates());
    let of = |authority: &Authority, serial| vec![authority.signs(serial).0.der().clone()];
    assert!(plain.accepts(&of(&ours, 2)).is_err());

    let ca = write(&folder, "ca.pem", &ours.pem);
    let crl = write(&folder, "crl.pem", &ours.revokes(7));
    let with =
        TlsSettings { client_ca_file: Some(ca.clone()), client_crl_file: Some(crl.clone()), ..settings(&folder) };
    let tls = load(&with).unwrap();
    assert!(tls.asks_for_certificates());
    assert_eq!(tls.accepts(&of(&ours, 2)), Ok(()));
    assert!(tls.accepts(&of(&strangers, 2)).unwrap_err().contains("UnknownIssuer"));
    assert!(tls.accepts(&of(&ours, 7)).unwrap_err().contains("Revoked"));
    assert!(tls.accepts(&[]).is_err());
    write(&folder, "crl.pem", &ours.revokes(2));
    assert!(look(&tls).unwrap());
    assert!(tls.accepts(&of(&ours, 2)).unwrap_err().contains("Revoked"));
    assert_eq!(tls.accepts(&of(&ours, 7)), Ok(()));
    write(&folder, "ca.pem", &strangers.pem);
    write(&folder, "crl.pem", &strangers.revokes(9));
    assert!(look(&tls).unwrap());
    assert!(tls.accepts(&of(&ours, 7)).is_err());
    assert_eq!(tls.accepts(&of(&strangers, 2)), Ok(()));

    write(&folder, "crl.pem", "no list");
    let fault = fault(&with);
    assert!(fault.contains("crl.pem has no certificate revocation list") && !fault.contains("/ca.pem"), "{fault}");
    assert!(Path::new(&crl).exists());
}
