//! Sets that must be refused, keys that must be left out, and tokens that must not find a key.

use serde_json::{Value, json};

use super::{KeySet, KeySetError};
use crate::oauth::fault::FaultKind;
use crate::oauth::jws::{Algorithm, Header};
use crate::oauth::key::KeyError;
use crate::oauth::testing::{ED, P256, P384, P521, RSA, RSA_OTHER, SECRET, b64};

fn read(keys: &[Value], algorithms: &[Algorithm]) -> Result<KeySet, KeySetError> {
    KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), algorithms)
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

/// Why the only key of a set is left out, if it is.
fn left_out(jwk: Value, algorithms: &[Algorithm]) -> Option<KeyError> {
    let set = read(&[jwk], algorithms).unwrap();
    assert_eq!(set.keys().len() + set.left_out().len(), 1);
    set.left_out().first().map(|left_out| left_out.error)
}

fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
    Header { algorithm, kid: kid.map(str::to_owned), token_type: None }
}

const ALL: &[Algorithm] = Algorithm::ALL;
const RS256: &[Algorithm] = &[Algorithm::Rs256];

#[test]
fn a02_a_key_has_exactly_one_algorithm() {
    let algorithm = |jwk: Value, configured: &[Algorithm]| {
        read(&[jwk], configured).unwrap().keys().first().map(|key| key.algorithm())
    };
    let rsa = || RSA.jwk(Some("a"));
    assert_eq!(algorithm(rsa(), RS256), Some(Algorithm::Rs256), "without `alg`: the configured one");
    assert_eq!(algorithm(rsa(), &[Algorithm::Es256, Algorithm::Ps256, Algorithm::Rs256]), Some(Algorithm::Ps256));
    assert_eq!(algorithm(with(rsa(), "alg", json!("RS512")), ALL), Some(Algorithm::Rs512));
    assert_eq!(algorithm(P256.jwk(None), ALL), Some(Algorithm::Es256));
    assert_eq!(algorithm(P384.jwk(None), ALL), Some(Algorithm::Es384));
    assert_eq!(algorithm(P521.jwk(None), ALL), Some(Algorithm::Es512));
    assert_eq!(algorithm(ED.jwk(None), ALL), Some(Algorithm::EdDsa));
    for (jwk, configured) in [
        (rsa(), &[Algorithm::Es256][..]),
        (rsa(), &[Algorithm::Hs256]),
        (with(rsa(), "alg", json!("RS512")), RS256),
        (with(rsa(), "alg", json!("ES256")), ALL),
        (with(rsa(), "alg", json!("HS256")), ALL),
        (with(rsa(), "alg", json!("rs256")), ALL),
        (with(rsa(), "alg", json!("none")), ALL),
        (with(P256.jwk(None), "alg", json!("ES384")), ALL),
        (P256.jwk(None), &[Algorithm::Es384]),
    ] {
        assert_eq!(left_out(jwk, configured), Some(KeyError::Algorithm));
    }
}

#[test]
fn a02_use_and_operations_must_agree() {
    let rsa = || RSA.jwk(Some("a"));
    for jwk in [rsa(), with(rsa(), "use", json!("sig")), with(rsa(), "key_ops", json!(["verify"]))] {
        assert_eq!(left_out(jwk, RS256), None);
    }
    for jwk in [
        with(rsa(), "use", json!("enc")),
        with(rsa(), "use", json!("SIG")),
        with(rsa(), "use", json!(null)),
        with(rsa(), "key_ops", json!(["encrypt"])),
        with(rsa(), "key_ops", json!([])),
        with(rsa(), "key_ops", json!("verify")),
    ] {
        assert_eq!(left_out(jwk, RS256), Some(KeyError::Use));
    }
}

#[test]
fn a20_weak_and_malformed_keys_are_left_out() {
    assert_eq!(left_out(RSA.jwk(None), RS256), None);
    let short = with(RSA.jwk(None), "n", json!(b64([0xff; 128])));
    assert_eq!(left_out(short, RS256), Some(KeyError::RsaLength));
    let padded = with(RSA.jwk(None), "n", json!(b64([&[0; 200][..], &[0xff; 128]].concat())));
    assert_eq!(left_out(padded, RS256), Some(KeyError::RsaLength), "leading zeros do not count");
    for e in [[1], [2]] {
        assert_eq!(left_out(with(RSA.jwk(None), "e", json!(b64(e))), RS256), Some(KeyError::RsaExponent));
    }
    for jwk in [
        with(RSA.jwk(None), "n", json!(null)),
        with(RSA.jwk(None), "n", json!("not base64!")),
        with(RSA.jwk(None), "e", json!(65537)),
        with(RSA.jwk(None), "kid", json!(7)),
        with(RSA.jwk(None), "kid", json!("k".repeat(257))),
        with(RSA.jwk(None), "kty", json!(1)),
        with(RSA.jwk(None), "alg", json!(1)),
    ] {
        assert_eq!(left_out(jwk, RS256), Some(KeyError::Malformed));
    }
    for jwk in [
        with(RSA.jwk(None), "kty", json!("rsa")),
        with(P256.jwk(None), "crv", json!("secp256k1")),
        with(P256.jwk(None), "crv", json!(null)),
        with(ED.jwk(None), "crv", json!("Ed448")),
        with(ED.jwk(None), "crv", json!("X25519")),
    ] {
        assert_eq!(left_out(jwk, ALL), Some(KeyError::Type));
    }
}

#[test]
fn a05_points_must_be_on_their_curve() {
    assert_eq!(left_out(P256.jwk(None), ALL), None);
    for jwk in [
        with(P256.jwk(None), "x", json!(b64([0; 32]))),
        with(P256.jwk(None), "y", json!(b64([1; 32]))),
        with(P256.jwk(None), "x", json!(b64([0xff; 32]))),
        with(P256.jwk(None), "x", json!(b64([1; 31]))),
        with(P256.jwk(None), "y", json!(b64([1; 33]))),
        with(P384.jwk(None), "crv", json!("P-256")),
        with(with(P256.jwk(None), "x", json!(b64([0; 32]))), "y", json!(b64([0; 32]))),
        with(ED.jwk(None), "x", json!(b64([1; 31]))),
    ] {
        assert_eq!(left_out(jwk, ALL), Some(KeyError::Point));
    }
}

#[test]
fn a21_duplicate_names_make_keys_unusable() {
    let set = read(&[RSA.jwk(Some("a")), RSA_OTHER.jwk(Some("a")), P256.jwk(Some("b"))], ALL).unwrap();
    assert_eq!(set.keys().len(), 1, "the key with its own name stays");
    assert_eq!(set.left_out().iter().filter(|left_out| left_out.error == KeyError::Duplicate).count(), 2);
    assert!(set.select(&header(Algorithm::Es256, Some("b"))).is_ok());
    assert_eq!(set.select(&header(Algorithm::Hs256, Some("a"))).unwrap_err().kind, FaultKind::Key);
    let beside_encryption =
        read(&[RSA.jwk(Some("a")), with(RSA_OTHER.jwk(Some("a")), "use", json!("enc"))], RS256).unwrap();
    assert_eq!(beside_encryption.keys().len(), 1, "a key for encryption cannot be confused with one for signatures");
}

#[test]
fn a21_secrets_among_public_keys_refuse_the_set() {
    assert!(read(&[RSA.jwk(None)], ALL).is_ok());
    for keys in [
        vec![RSA.jwk(Some("a")), SECRET.jwk(Some("b"))],
        vec![SECRET.jwk(None)],
        vec![with(RSA.jwk(None), "k", json!("AAAA"))],
    ] {
        assert_eq!(read(&keys, ALL).unwrap_err(), KeySetError::SharedSecret);
    }
}

#[test]
fn a_private_key_is_left_out() {
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth"] {
        assert_eq!(left_out(with(RSA.jwk(None), member, json!("AQAB")), RS256), Some(KeyError::Private), "{member}");
    }
}

#[test]
fn a10_a_set_is_read_strictly() {
    for document in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kty":"RSA","kty":"EC"}]}"#,
        "<html>",
    ] {
        assert_eq!(KeySet::from_jwks(document.as_bytes(), RS256).unwrap_err(), KeySetError::NotAKeySet, "{document}");
    }
    assert!(KeySet::from_jwks(br#"{"keys":[],"other":1}"#, RS256).unwrap().keys().is_empty());
    assert_eq!(read(&vec![json!({}); 257], RS256).unwrap_err(), KeySetError::TooMany);
}

#[test]
fn a13_a_token_with_a_name_finds_that_key_only() {
    let set = read(&[RSA.jwk(Some("a")), RSA_OTHER.jwk(Some("b")), P256.jwk(Some("c"))], ALL).unwrap();
    assert_eq!(set.select(&header(Algorithm::Hs256.max(Algorithm::Rs256), Some("a"))).unwrap().kid(), Some("a"));
    for (kid, algorithm, fault) in [
        ("d", Algorithm::Rs256, FaultKind::Key),
        ("A", Algorithm::Rs256, FaultKind::Key),
        ("", Algorithm::Rs256, FaultKind::Key),
        ("c", Algorithm::Rs256, FaultKind::Algorithm),
        ("a", Algorithm::Ps256, FaultKind::Algorithm),
    ] {
        assert_eq!(set.select(&header(algorithm, Some(kid))).unwrap_err().kind, fault, "{kid} {algorithm:?}");
    }
}

#[test]
fn a13_a_token_without_a_name_needs_a_single_fitting_key() {
    let set = read(&[RSA.jwk(Some("a")), RSA_OTHER.jwk(Some("b")), P256.jwk(Some("c"))], ALL).unwrap();
    assert_eq!(set.select(&header(Algorithm::Es256, None)).unwrap().kid(), Some("c"));
    assert_eq!(set.select(&header(Algorithm::Rs256, None)).unwrap_err().kind, FaultKind::Key, "two would fit");
    assert_eq!(set.select(&header(Algorithm::Es384, None)).unwrap_err().kind, FaultKind::Key, "none fits");
    let unnamed = read(&[RSA.jwk(None)], RS256).unwrap();
    assert!(
        unnamed.select(&header(Algorithm::Rs256, Some("any"))).is_ok(),
        "a set without names has nothing to compare"
    );
    let two_unnamed = read(&[RSA.jwk(None), RSA_OTHER.jwk(None)], RS256).unwrap();
    assert_eq!(two_unnamed.keys().len(), 2);
    assert!(two_unnamed.select(&header(Algorithm::Rs256, Some("any"))).is_err());
}

#[test]
fn pem_of_every_kind_is_read() {
    for (key, algorithm) in [
        (&RSA, Algorithm::Rs256),
        (&P256, Algorithm::Es256),
        (&P384, Algorithm::Es384),
        (&P521, Algorithm::Es512),
        (&ED, Algorithm::EdDsa),
    ] {
        let set = KeySet::from_document(key.spki_pem().as_bytes(), &[algorithm]).unwrap();
        let jwks = read(&[key.jwk(None)], &[algorithm]).unwrap();
        assert_eq!(set.fingerprint(), jwks.fingerprint(), "{algorithm:?}: PEM and JWK give the same key");
        assert_eq!(set.keys().len(), 1);
    }
    let certificate = rcgen::generate_simple_self_signed(["id.example".to_owned()]).unwrap();
    let set = KeySet::from_document(certificate.cert.pem().as_bytes(), &[Algorithm::Es256]).unwrap();
    assert_eq!(set.keys().len(), 1);
    let private = certificate.signing_key.serialize_pem();
    assert_eq!(KeySet::from_document(private.as_bytes(), ALL).unwrap_err(), KeySetError::NotPem, "a private key");
    for text in ["", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n"] {
        assert_eq!(KeySet::from_document(text.as_bytes(), ALL).unwrap_err(), KeySetError::NotPem, "{text:?}");
    }
}

#[test]
fn a19_the_fingerprint_names_the_keys() {
    let (a, b) = (RSA.jwk(Some("a")), P256.jwk(Some("b")));
    let print = |keys: &[Value]| read(keys, ALL).unwrap().fingerprint();
    assert_eq!(print(&[a.clone(), b.clone()]), print(&[b.clone(), a.clone()]), "the order does not matter");
    assert_ne!(print(&[a.clone(), b.clone()]), print(std::slice::from_ref(&a)));
    assert_ne!(print(std::slice::from_ref(&a)), print(&[RSA.jwk(Some("c"))]), "the name counts");
    assert_ne!(print(std::slice::from_ref(&a)), print(&[RSA_OTHER.jwk(Some("a"))]), "the material counts");
    assert_ne!(
        read(std::slice::from_ref(&a), RS256).unwrap().fingerprint(),
        read(&[a], &[Algorithm::Ps256]).unwrap().fingerprint()
    );
}
