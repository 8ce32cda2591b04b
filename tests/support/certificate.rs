//! A certificate authority and one certificate for `localhost` and `example.test`, made once a process.

use std::{path::PathBuf, sync::OnceLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Files in PEM.
#[derive(Debug)]
pub struct Files {
    /// What clients have to trust.
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Certificate and key in one file, as `HAProxy` wants them.
    pub both: PathBuf,
}

/// The name on the certificate that clients check.
pub const NAME: &str = "localhost";

pub fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(make)
}

fn make() -> Files {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "wsray tests");
    let authority_key = KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);

    let names = vec![NAME.to_owned(), "example.test".to_owned(), "127.0.0.1".to_owned()];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap().pem();

    let directory = super::temporary_directory("certificate");
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    Files {
        authority: write("authority.pem", &authority_pem),
        certificate: write("certificate.pem", &certificate),
        key: write("key.pem", &key.serialize_pem()),
        both: write("both.pem", &format!("{certificate}{}", key.serialize_pem())),
    }
}
