//! Every way to bend a signed token, each beside a token that is accepted.

use serde_json::json;

use super::{Algorithm, Unverified, decode_segment, show_unverified, sign_with_secret, twin, unverified_issuer};
use crate::oauth::fault::FaultKind;
use crate::oauth::jwk::KeySet;
use crate::oauth::key::Key;
use crate::oauth::testing::{P256, RSA, RSA_OTHER, SECRET, TestKey, b64};

const CLAIMS: &str = r#"{"iss":"https://id.example","sub":"alice"}"#;

fn key(of: &TestKey, algorithm: Algorithm) -> std::sync::Arc<Key> {
    if let TestKey::Secret(secret) = of {
        return std::sync::Arc::new(Key::secret(algorithm, secret).unwrap());
    }
    let document = json!({ "keys": [of.jwk(None)] }).to_string();
    let set = KeySet::from_jwks(document.as_bytes(), &[algorithm]).unwrap();
    std::sync::Arc::clone(set.keys().first().unwrap())
}

fn judge(token: &str, key: &Key) -> Result<(), FaultKind> {
    Unverified::parse(token).and_then(|token| token.verify(key)).map(drop).map_err(|fault| fault.kind)
}

fn header(algorithm: Algorithm) -> String {
    format!(r#"{{"alg":"{}","typ":"JWT"}}"#, algorithm.as_str())
}

#[test]
fn every_algorithm_verifies_its_own_and_nothing_else() {
    for algorithm in Algorithm::ALL {
        let test_key = TestKey::of(*algorithm);
        let token = test_key.token(*algorithm, &header(*algorithm), CLAIMS);
        assert_eq!(judge(&token, &key(test_key, *algorithm)), Ok(()), "{algorithm:?}");
        let mut changed = token.clone().into_bytes();
        let middle = token.find('.').unwrap() + 5;
        changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(judge(&changed, &key(test_key, *algorithm)).is_err(), "{algorithm:?}: a changed claim");
        for other in Algorithm::ALL.iter().filter(|other| *other != algorithm) {
            let token = test_key.token(*algorithm, &header(*other), CLAIMS);
            let refused = judge(&token, &key(test_key, *algorithm));
            assert_eq!(refused, Err(FaultKind::Algorithm), "{algorithm:?} named {other:?}");
        }
    }
}

#[test]
fn a05_h10_a_token_signed_on_a_curve_has_a_twin_and_no_other_has() {
    for algorithm in Algorithm::ALL {
        let test_key = TestKey::of(*algorithm);
        let token = test_key.token(*algorithm, &header(*algorithm), CLAIMS);
        let other = twin(&token);
        if !algorithm.as_str().starts_with("ES") {
            assert_eq!(other, None, "{algorithm:?}");
            continue;
        }
        let other = other.unwrap();
        assert_ne!(other, token, "{algorithm:?}");
        assert_eq!(judge(&other, &key(test_key, *algorithm)), Ok(()), "{algorithm:?}");
        assert_eq!(twin(&other), Some(token), "{algorithm:?}: each is the other's");
    }
    let cut = format!("{}.{}.{}", b64(header(Algorithm::Es256)), b64(CLAIMS), b64([1; 63]));
    assert_eq!((twin(&cut), twin("a.b"), twin("")), (None, None, None));
}

#[test]
fn a01_the_name_of_the_algorithm_is_exact() {
    let rs256 = key(&RSA, Algorithm::Rs256);
    assert_eq!(judge(&RSA.token(Algorithm::Rs256, r#"{"alg":"RS256"}"#, CLAIMS), &rs256), Ok(()));
    for name in ["rs256", "Rs256", "RS256 ", " RS256", "RS256\\u0000", "RS1", "RSA", "", "ES256K", "HS1"] {
        let token = RSA.token(Algorithm::Rs256, &format!(r#"{{"alg":"{name}"}}"#), CLAIMS);
        assert_eq!(judge(&token, &rs256), Err(FaultKind::Algorithm), "{name:?}");
    }
    for alg in ["null", "1", "[\"RS256\"]", "{}", "true"] {
        let token = RSA.token(Algorithm::Rs256, &format!(r#"{{"alg":{alg}}}"#), CLAIMS);
        assert_eq!(judge(&token, &rs256), Err(FaultKind::Malformed), "{alg}");
    }
    assert_eq!(judge(&RSA.token(Algorithm::Rs256, "{}", CLAIMS), &rs256), Err(FaultKind::Malformed), "no alg");
}

#[test]
fn a02_a_key_is_used_with_its_one_algorithm() {
    let token = RSA.token(Algorithm::Ps256, &header(Algorithm::Ps256), CLAIMS);
    assert_eq!(judge(&token, &key(&RSA, Algorithm::Ps256)), Ok(()));
    assert_eq!(judge(&token, &key(&RSA, Algorithm::Rs256)), Err(FaultKind::Algorithm), "the header does not choose");
}

#[test]
fn a03_none_is_refused_in_every_casing_with_and_without_a_signature() {
    let rs256 = key(&RSA, Algorithm::Rs256);
    let good = RSA.token(Algorithm::Rs256, &header(Algorithm::Rs256), CLAIMS);
    assert_eq!(judge(&good, &rs256), Ok(()));
    let signature = good.rsplit('.').next().unwrap();
    for name in ["none", "None", "NONE", "nOnE", "noné", "none ", "null"] {
        let input = format!("{}.{}", b64(format!(r#"{{"alg":"{name}"}}"#)), b64(CLAIMS));
        for token in [format!("{input}."), input.clone(), format!("{input}.{signature}"), format!("{input}.AA")] {
            assert!(judge(&token, &rs256).is_err(), "{name}: {token}");
        }
    }
    let input = good.rsplit_once('.').unwrap().0;
    for token in [format!("{input}."), input.to_owned(), format!("{input}.AA")] {
        assert!(judge(&token, &rs256).is_err(), "a good header without its signature: {token}");
    }
}

#[test]
fn a04_a_public_key_is_no_hmac_secret() {
    let set = |algorithms: &[Algorithm]| {
        KeySet::from_jwks(json!({ "keys": [RSA.jwk(None)] }).to_string().as_bytes(), algorithms)
    };
    let rs256 = set(&[Algorithm::Rs256]).unwrap();
    let rs256 = rs256.keys().first().unwrap();
    let good = RSA.token(Algorithm::Rs256, &header(Algorithm::Rs256), CLAIMS);
    assert_eq!(judge(&good, rs256), Ok(()));
    let (pem, jwk) = (RSA.spki_pem(), RSA.jwk(None).to_string());
    for secret in [
        pem.clone().into_bytes(),
        pem.trim().to_owned().into_bytes(),
        format!(" {pem}").into_bytes(),
        format!("{pem}\n").into_bytes(),
        RSA.spki_der(),
        jwk.clone().into_bytes(),
        RSA.jwk(None)["n"].as_str().unwrap().to_owned().into_bytes(),
        decode_segment(RSA.jwk(None)["n"].as_str().unwrap()).unwrap(),
    ] {
        let forged = TestKey::Secret(secret).token(Algorithm::Hs256, &header(Algorithm::Hs256), CLAIMS);
        assert_eq!(judge(&forged, rs256), Err(FaultKind::Algorithm));
    }
    let confused = set(&[Algorithm::Hs256]).unwrap();
    assert!(confused.keys().is_empty(), "an RSA key fits no HMAC, whatever the configuration says");
}

#[test]
fn a05_ecdsa_signatures_are_raw_and_in_range() {
    let es256 = key(&P256, Algorithm::Es256);
    let input = format!("{}.{}", b64(header(Algorithm::Es256)), b64(CLAIMS));
    let good = P256.sign_bytes(Algorithm::Es256, input.as_bytes());
    assert_eq!(judge(&format!("{input}.{}", b64(&good)), &es256), Ok(()));
    let (r, s) = good.split_at(32);
    let zero = [0_u8; 32];
    let order = decode_segment("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE").unwrap();
    let der_integer = |number: &[u8]| {
        let pad = usize::from(number[0] >= 0x80);
        [&[2, u8::try_from(32 + pad).unwrap()][..], &[0][..pad], number].concat()
    };
    let der_body = [der_integer(r), der_integer(s)].concat();
    let der = [&[0x30, u8::try_from(der_body.len()).unwrap()][..], &der_body].concat();
    for (name, signature) in [
        ("both zero", vec![0; 64]),
        ("r zero", [&zero, s].concat()),
        ("s zero", [r, &zero].concat()),
        ("r = n", [&order, s].concat()),
        ("s = n", [r, &order].concat()),
        ("both n", [&order[..], &order].concat()),
        ("all ones", vec![0xff; 64]),
        ("short", good[..63].to_vec()),
        ("long", [&good[..], &[0]].concat()),
        ("doubled", [&good[..], &good].concat()),
        ("swapped", [s, r].concat()),
        ("der", der),
        ("one byte", vec![0]),
    ] {
        assert_eq!(judge(&format!("{input}.{}", b64(signature)), &es256), Err(FaultKind::Signature), "{name}");
    }
}

#[test]
fn a06_keys_in_the_header_are_never_used() {
    let rs256 = key(&RSA, Algorithm::Rs256);
    let with = |signer: &TestKey| {
        let header = json!({
            "alg": "RS256",
            "jwk": RSA_OTHER.jwk(None),
            "jku": "http://127.0.0.1:1/jwks",
            "x5u": "http://127.0.0.1:1/cert",
            "x5c": [b64(RSA_OTHER.spki_der())],
        });
        signer.token(Algorithm::Rs256, &header.to_string(), CLAIMS)
    };
    assert_eq!(judge(&with(&RSA), &rs256), Ok(()), "such members are ignored");
    assert_eq!(judge(&with(&RSA_OTHER), &rs256), Err(FaultKind::Signature));
}

#[test]
fn a07_critical_and_unencoded_headers_are_refused() {
    let hs256 = key(&SECRET, Algorithm::Hs256);
    let token = |extra: &str| SECRET.token(Algorithm::Hs256, &format!(r#"{{"alg":"HS256"{extra}}}"#), CLAIMS);
    assert_eq!(judge(&token(r#","x-unknown":1"#), &hs256), Ok(()));
    for extra in [
        r#","crit":["exp"],"exp":1"#,
        r#","crit":[]"#,
        r#","crit":null"#,
        r#","crit":"b64""#,
        r#","crit":["alg"]"#,
        r#","crit":["b64","b64"],"b64":true"#,
        r#","crit":["b64"],"b64":false"#,
        r#","b64":false"#,
        r#","b64":true"#,
        r#","cr\u0069t":["x"],"x":1"#,
        r#","zip":"DEF""#,
        r#","enc":"A128GCM""#,
    ] {
        assert_eq!(judge(&token(extra), &hs256), Err(FaultKind::Malformed), "{extra}");
    }
}

#[test]
fn a08_only_three_clean_segments_are_a_token() {
    let hs256 = key(&SECRET, Algorithm::Hs256);
    let good = SECRET.token(Algorithm::Hs256, &header(Algorithm::Hs256), CLAIMS);
    assert_eq!(judge(&good, &hs256), Ok(()));
    let [h, p, s] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three segments") };
    for token in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        format!(".{p}.{s}"),
        format!("{h}..{s}"),
        format!("{h}.{p}."),
        format!("{h}.{p}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{s}.{s}"),
        format!("{good}.{s}"),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\n"),
        format!("{h}. {p}.{s}"),
        format!("{h}=.{p}.{s}"),
        format!("{h}.{p}.{s}="),
        format!("{h}.{p}.{s}=="),
        format!("{h}.{p}.+{s}"),
        format!("{h}.{p}.{s}%3D"),
        format!("{{\"protected\":\"{h}\",\"payload\":\"{p}\",\"signature\":\"{s}\"}}"),
        format!("{{\"payload\":\"{p}\",\"signatures\":[]}}"),
        format!("{h}\u{0}.{p}.{s}"),
        format!("{h}.{p}.{s}\u{e9}"),
    ] {
        assert_eq!(judge(&token, &hs256), Err(FaultKind::Malformed), "{token:?}");
    }
}

#[test]
fn a08_one_signature_has_one_spelling() {
    let hs256 = key(&SECRET, Algorithm::Hs256);
    let good = SECRET.token(Algorithm::Hs256, &header(Algorithm::Hs256), CLAIMS);
    // 32 bytes are 43 characters: the last one carries two bits that decode to nothing.
    let (rest, last) = good.split_at(good.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let accepted: Vec<char> = alphabet.chars().filter(|last| judge(&format!("{rest}{last}"), &hs256).is_ok()).collect();
    assert_eq!(accepted, last.chars().collect::<Vec<_>>());
}

#[test]
fn a09_a_flood_of_dots_costs_nothing() {
    let flood = ".".repeat(1 << 20);
    let started = std::time::Instant::now();
    for _ in 0..100 {
        assert!(Unverified::parse(&flood).is_err());
        assert!(unverified_issuer(&flood).is_none());
    }
    assert!(started.elapsed() < std::time::Duration::from_millis(200), "200 looks at a megabyte of dots");
}

#[test]
fn a10_duplicate_members_are_refused_in_header_and_claims() {
    let hs256 = key(&SECRET, Algorithm::Hs256);
    let judge_texts = |header: &str, claims: &str| judge(&SECRET.token(Algorithm::Hs256, header, claims), &hs256);
    assert_eq!(judge_texts(r#"{"alg":"HS256"}"#, CLAIMS), Ok(()));
    for header in [
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
        r#"{"alg":"HS256","\u0061lg":"none"}"#,
    ] {
        assert_eq!(judge_texts(header, CLAIMS), Err(FaultKind::Malformed), "{header}");
    }
    for claims in [r#"{"sub":"alice","sub":"bob"}"#, r#"{"act":{"sub":"a","sub":"b"}}"#, "[]", "\"x\"", "{}{}", ""] {
        assert_eq!(judge_texts(r#"{"alg":"HS256"}"#, claims), Err(FaultKind::Malformed), "{claims}");
    }
}

#[test]
fn a25_a_kid_is_a_bounded_opaque_string() {
    let kid = |kid: serde_json::Value| {
        let header = json!({ "alg": "HS256", "kid": kid }).to_string();
        let token = SECRET.token(Algorithm::Hs256, &header, CLAIMS);
        Unverified::parse(&token).map(|token| token.header.kid.unwrap()).map_err(|fault| fault.kind)
    };
    for opaque in ["a", "../../etc/passwd", "' OR 1=1 --", "a\r\nb", &"k".repeat(256)] {
        assert_eq!(kid(json!(opaque)).as_deref(), Ok(opaque));
    }
    for refused in [json!("k".repeat(257)), json!(1), json!(null), json!(["a"]), json!({})] {
        assert_eq!(kid(refused), Err(FaultKind::Malformed));
    }
}

#[test]
fn a15_the_type_is_read_as_a_media_type() {
    let typ = |typ: &str| {
        let token = SECRET.token(Algorithm::Hs256, &json!({ "alg": "HS256", "typ": typ }).to_string(), CLAIMS);
        Unverified::parse(&token).unwrap().header.token_type.unwrap()
    };
    assert_eq!(typ("JWT"), "jwt");
    assert_eq!(typ("application/AT+JWT"), "at+jwt");
    assert_eq!(typ("application/x/y"), "application/x/y");
    let token = SECRET.token(Algorithm::Hs256, r#"{"alg":"HS256","typ":1}"#, CLAIMS);
    assert_eq!(Unverified::parse(&token).unwrap_err().kind, FaultKind::Malformed);
}

#[test]
fn unverified_claims_serve_only_to_choose_and_to_show() {
    let token = SECRET.token(Algorithm::Hs256, &header(Algorithm::Hs256), CLAIMS);
    assert_eq!(unverified_issuer(&token).as_deref(), Some("https://id.example"));
    assert_eq!(show_unverified(&token).unwrap().claims["sub"], "alice");
    for claims in [r#"{"iss":1}"#, r#"{"iss":"a","iss":"b"}"#, "{}"] {
        assert_eq!(unverified_issuer(&SECRET.token(Algorithm::Hs256, "{}", claims)), None, "{claims}");
    }
    assert_eq!(unverified_issuer("an-opaque-key"), None);
}

#[test]
fn a_minted_token_verifies() {
    let TestKey::Secret(secret) = &*SECRET else { panic!("a secret") };
    let claims = json!({ "iss": "https://id.example" }).as_object().unwrap().clone();
    let token = sign_with_secret(Algorithm::Hs256, secret, &claims).unwrap();
    assert_eq!(Unverified::parse(&token).unwrap().verify(&key(&SECRET, Algorithm::Hs256)).unwrap(), claims);
    assert!(sign_with_secret(Algorithm::Rs256, secret, &claims).is_err());
}
