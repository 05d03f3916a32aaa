//! What a certificate says, read from ones made here.

use rcgen::{date_time_ymd, CertificateParams, DnType, KeyPair, SanType, SerialNumber};

use super::*;

fn certificate(alternatives: Vec<SanType>, common_name: Option<&str>) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Devices");
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.subject_alt_names = alternatives;
    params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xff]));
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2030, 2, 3);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

fn user(name: CertificateName, der: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(der).unwrap();
    Names::of(&parsed).user(name, &parsed)
}

#[test]
fn the_user_is_the_part_that_is_asked_for() {
    let alternatives = vec![
        SanType::DnsName("first.example".try_into().unwrap()),
        SanType::DnsName("second.example".try_into().unwrap()),
        SanType::Rfc822Name("ann@example.com".try_into().unwrap()),
        SanType::URI("spiffe://example.com/sensor/7".try_into().unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
    ];
    let der = certificate(alternatives, Some("sensor-7"));
    assert_eq!(user(CertificateName::CommonName, &der).as_deref(), Some("sensor-7"));
    assert_eq!(user(CertificateName::DnsName, &der).as_deref(), Some("first.example"));
    assert_eq!(user(CertificateName::Email, &der).as_deref(), Some("ann@example.com"));
    assert_eq!(user(CertificateName::Uri, &der).as_deref(), Some("spiffe://example.com/sensor/7"));
    assert_eq!(user(CertificateName::Subject, &der).as_deref(), Some("CN=sensor-7,O=Devices"));

    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    let claims = Value::Object(claims(&der, &parsed, Names::of(&parsed)));
    assert_eq!(claims["commonName"], "sensor-7");
    assert_eq!(claims["subject"], "CN=sensor-7,O=Devices");
    assert_eq!(claims["issuer"], claims["subject"]);
    assert_eq!(claims["serialNumber"], "0aff");
    assert_eq!(
        (&claims["notBefore"], &claims["notAfter"]),
        (&json!("2024-01-01T00:00:00.000Z"), &json!("2030-02-03T00:00:00.000Z"))
    );
    assert_eq!(claims["dnsNames"], json!(["first.example", "second.example"]));
    assert_eq!((&claims["emails"], &claims["ips"]), (&json!(["ann@example.com"]), &json!(["192.0.2.7"])));
    assert_eq!(claims["uris"], json!(["spiffe://example.com/sensor/7"]));
    assert_eq!(claims["fingerprint"].as_str().unwrap().len(), "sha256:".len() + 64);
}

#[test]
fn who_has_no_such_name_is_nobody() {
    let der = certificate(Vec::new(), None);
    for name in [CertificateName::CommonName, CertificateName::DnsName, CertificateName::Email, CertificateName::Uri] {
        assert_eq!(user(name, &der), None, "{name:?}");
    }
    assert_eq!(user(CertificateName::Subject, &der).as_deref(), Some("O=Devices"));
    let split = certificate(Vec::new(), Some("a\r\nx-admin: 1"));
    assert_eq!(user(CertificateName::CommonName, &split), None);
}

#[test]
fn no_name_can_pass_for_another() {
    let der = certificate(Vec::new(), Some("bob,O=Acme"));
    assert_eq!(user(CertificateName::Subject, &der).as_deref(), Some("CN=bob\\,O\\=Acme,O=Devices"));
    assert_eq!(escaped(" #a;b\\ "), "\\ #a\\;b\\\\\\ ");
    assert_eq!(escaped("#"), "\\#");
    assert_eq!(escaped(""), "");
}
