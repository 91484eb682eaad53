//! Keys of every algorithm, in every form that people have them in.

use super::*;

#[test]
fn every_algorithm_signs_what_its_public_half_verifies_and_no_other_does() {
    let message = b"header.payload";
    let keys: Vec<SigningKey> =
        Algorithm::ALL.into_iter().map(|algorithm| SigningKey::generate_for(algorithm).unwrap()).collect();
    for key in &keys {
        let signature = key.sign(message).unwrap();
        for other in &keys {
            let own = other.algorithm() == key.algorithm();
            let verifying = other.verifying().unwrap();
            assert_eq!(verifying.verify(message, &signature), own, "{key:?} {other:?}");
            assert!(!verifying.verify(b"another", &signature), "{key:?} {other:?}");
        }
    }
}

#[test]
fn a_key_pair_survives_its_pem_text() {
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.family() != Family::Hmac) {
        let key = SigningKey::generate_for(algorithm).unwrap();
        let read = SigningKey::parse(algorithm, key.private_pem().as_bytes()).unwrap();
        assert_eq!(read.public_pem(), key.public_pem());
        let public = VerifyingKey::parse(algorithm, key.public_pem().as_bytes()).unwrap();
        assert!(public.is(&key.verifying().unwrap()));
        let any = SigningKey::parse_any(key.private_pem().as_bytes()).unwrap();
        assert_eq!(any.algorithm().family(), algorithm.family());
        assert_eq!(
            VerifyingKey::parse(algorithm, key.private_pem().as_bytes()).unwrap_err(),
            KeyError::Private
        );
    }
}

#[test]
fn a_public_key_is_read_by_its_content_whatever_its_label_says() {
    let key = SigningKey::generate().unwrap();
    let spki = pem::parse(key.public_pem()).unwrap().into_contents();
    let pkcs1 = PublicKey::from_der(&spki).unwrap().as_ref().to_vec();
    let expected = VerifyingKey::parse_pem(key.public_pem().as_bytes()).unwrap();
    for label in ["PUBLIC KEY", "RSA PUBLIC KEY"] {
        for der in [&spki, &pkcs1] {
            let text = pem::encode(&pem::Pem::new(label, der.clone()));
            assert!(VerifyingKey::parse_pem(text.as_bytes()).unwrap().is(&expected), "{label}");
        }
    }
}

#[test]
fn keys_made_by_openssl_are_read() {
    for (algorithm, text) in [(Algorithm::ES256, SEC1_P256), (Algorithm::EdDSA, PKCS8_ED25519)] {
        let key = SigningKey::parse(algorithm, text.as_bytes()).unwrap();
        assert!(key.verifying().unwrap().verify(b"m", &key.sign(b"m").unwrap()));
        assert_eq!(SigningKey::parse_any(text.as_bytes()).unwrap().algorithm(), algorithm);
    }
}

#[test]
fn what_is_no_public_key_is_refused() {
    assert_eq!(VerifyingKey::parse_pem(b"").unwrap_err(), KeyError::NotPem);
    assert_eq!(VerifyingKey::parse_pem(b"ssh-rsa AAAA").unwrap_err(), KeyError::NotPem);
    let error = VerifyingKey::parse_pem(RSA_1024.as_bytes()).unwrap_err();
    assert!(matches!(error, KeyError::Length | KeyError::NotPublic(_)), "{error}");
    let curve = SigningKey::generate_for(Algorithm::ES256).unwrap().public_pem();
    for algorithm in [Algorithm::RS256, Algorithm::ES384, Algorithm::ES512, Algorithm::EdDSA] {
        let error = VerifyingKey::parse(algorithm, curve.as_bytes()).unwrap_err();
        assert_eq!(error, KeyError::NotPublic(algorithm.name()));
    }
}

#[test]
fn a_secret_is_long_and_no_public_key() {
    let public = SigningKey::generate().unwrap().public_pem();
    assert_eq!(
        VerifyingKey::parse(Algorithm::HS256, public.as_bytes()).unwrap_err(),
        KeyError::SecretIsKey,
        "a public key is no secret"
    );
    for (algorithm, least) in [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)] {
        assert!(VerifyingKey::parse(algorithm, &vec![b'x'; least]).is_ok());
        assert!(VerifyingKey::parse(algorithm, &vec![b'x'; least - 1]).is_err());
    }
}

#[test]
fn an_ed25519_key_is_its_seed_with_or_without_its_public_half() {
    let bare = SigningKey::of_seed(&[7; 32]).unwrap();
    let public = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let both = [&[7; 32], public.public_key().as_ref()].concat();
    assert_eq!(SigningKey::of_seed(&both).unwrap().public_pem(), bare.public_pem());
    assert!(SigningKey::of_seed(&[7; 64]).is_err());
    assert!(SigningKey::of_seed(&[7; 31]).is_err());
}

/// `openssl genrsa 1024 | openssl rsa -pubout`.
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDTFGRQ+B22/mH9iUOodLq2FOXZ
0k+sZm9SvWqxcElXJaSRxw0JTKHikBHwSOqvINXJZ/kam3aYJTq64MFWZko5VGqa
Mq6JDFDTK3nI/lWaGPyNSMbcUx25erqLq+lwsGpqBZB7Zj/STQZxRuoVnvj/+2e6
nRWe9HAMiW/bjVXPsQIDAQAB
-----END PUBLIC KEY-----
";

/// `openssl ecparam -name prime256v1 -genkey`.
const SEC1_P256: &str = "-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIDpft3+fxU2+Okt+II54TvtJNxOGfGpCUTbyAaOfbWu6oAoGCCqGSM49
AwEHoUQDQgAEYFUljk8kbMVO+YnsX1VRb/f+tADaap2TCUML5q2t2DB+Qxx+7Llr
eh1ZRf+GIpGAsm3zZSDViF55ICPMORhLGA==
-----END EC PRIVATE KEY-----
";

/// `openssl genpkey -algorithm ed25519`.
const PKCS8_ED25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIKrAfsJYQFu8eUYa56m+VbloK8s/zA+Kx1eryGqjjdzM
-----END PRIVATE KEY-----
";
