//! JSON Web Signatures of every algorithm by the command `openssl`: none of the product's code signs or verifies here.

use std::process::Command;

use crate::forge::base64url;
use crate::person::{Person, run};

/// A key by its file, or a secret.
#[derive(Clone, Debug)]
pub enum Key {
    /// The file of a private key in PEM form.
    File(String),
    /// What both sides know.
    Secret(String),
}

/// Signs `message`; the signature as a token has it.
///
/// # Panics
/// If openssl does not.
#[must_use]
pub fn sign(person: &Person, algorithm: &str, key: &Key, message: &str) -> String {
    let input = person.write("jws.message", message);
    let output = person.path("jws.signature");
    let mut command = Command::new("openssl");
    match key {
        Key::File(path) if algorithm == "EdDSA" => {
            command.args(["pkeyutl", "-sign", "-rawin", "-inkey", path, "-in", &input, "-out", &output]);
        }
        Key::File(path) => {
            command.args(["dgst", digest(algorithm), "-sign", path, "-out", &output, &input]);
        }
        Key::Secret(secret) => {
            let secret = format!("key:{secret}");
            command.args(["dgst", digest(algorithm), "-mac", "HMAC", "-macopt", &secret, "-binary"]);
            command.args(["-out", &output, &input]);
        }
    }
    run(&mut command);
    let signature = std::fs::read(&output).expect("openssl has signed");
    base64url(&coordinate_bytes(algorithm).map_or(signature.clone(), |bytes| joined(&signature, bytes)))
}

/// Whether `signature` is of `message`.
///
/// # Panics
/// If openssl cannot be run.
#[must_use]
pub fn is_signed(person: &Person, algorithm: &str, key: &Key, message: &str, signature: &str) -> bool {
    let Key::File(path) = key else { return sign(person, algorithm, key, message) == signature };
    let signature = from_base64url(signature);
    let signature = match coordinate_bytes(algorithm) {
        Some(bytes) if signature.len() != 2 * bytes => return false,
        Some(bytes) => split(&signature, bytes),
        None => signature,
    };
    let input = person.write("jws.message", message);
    let given = person.path("jws.given");
    std::fs::write(&given, signature).expect("write the signature");
    let public = person.path("jws.public");
    run(Command::new("openssl").args(["pkey", "-in", path, "-pubout", "-out", &public]));
    let mut command = Command::new("openssl");
    if algorithm == "EdDSA" {
        command.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", &public]);
        command.args(["-sigfile", &given, "-in", &input]);
    } else {
        command.args(["dgst", digest(algorithm), "-verify", &public, "-signature", &given, &input]);
    }
    command.output().expect("openssl runs").status.success()
}

fn digest(algorithm: &str) -> &'static str {
    match &algorithm[2..] {
        "384" => "-sha384",
        "512" => "-sha512",
        _ => "-sha256",
    }
}

/// RFC 7518 section 3.4: a signature on a curve is two numbers of this many bytes each, and no DER.
fn coordinate_bytes(algorithm: &str) -> Option<usize> {
    match algorithm {
        "ES256" => Some(32),
        "ES384" => Some(48),
        "ES512" => Some(66),
        _ => None,
    }
}

/// The two numbers of a DER sequence, each in `bytes` bytes.
fn joined(der: &[u8], bytes: usize) -> Vec<u8> {
    let mut rest = &der[if der[1] & 0x80 == 0 { 2 } else { 3 }..];
    let mut joined = Vec::new();
    for _ in 0..2 {
        let number = &rest[2..2 + usize::from(rest[1])];
        rest = &rest[2 + number.len()..];
        let number = &number[number.len().saturating_sub(bytes)..];
        joined.extend(std::iter::repeat_n(0, bytes - number.len()));
        joined.extend(number);
    }
    joined
}

/// The DER sequence of two numbers.
fn split(joined: &[u8], bytes: usize) -> Vec<u8> {
    let mut numbers = Vec::new();
    for number in joined.chunks(bytes) {
        let first = number.iter().position(|byte| *byte != 0).unwrap_or(bytes - 1);
        let mut number = number[first..].to_vec();
        if number[0] & 0x80 != 0 {
            number.insert(0, 0);
        }
        numbers.extend([2, u8::try_from(number.len()).expect("a short number")]);
        numbers.extend(number);
    }
    let length = u8::try_from(numbers.len()).expect("two short numbers");
    let head = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    [head, numbers].concat()
}

/// The bytes of base64 as RFC 4648 section 5 has it, without padding.
fn from_base64url(text: &str) -> Vec<u8> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => panic!("{text:?} is no base64url"),
    };
    let mut bytes = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let word = chunk.iter().fold(0_u32, |word, letter| word << 6 | u32::from(digit(*letter)));
        let word = word << (6 * (4 - chunk.len()));
        bytes.extend(&word.to_be_bytes()[1..chunk.len()]);
    }
    bytes
}
