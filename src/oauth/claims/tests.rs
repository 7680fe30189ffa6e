//! Claims that must be refused, each beside the ones that are accepted.

use serde_json::{Map, Value, json};

use super::{Profile, ScopeClaim, TokenType, check_times};
use crate::oauth::fault::FaultKind;
use crate::oauth::identity::{Holder, Identity};
use crate::oauth::strict;

fn profile() -> Profile {
    Profile {
        issuer: "https://id.example".into(),
        token_type: TokenType::Jwt,
        scope_claim: ScopeClaim::Both,
        sign_in_clients: vec!["web-app".to_owned()],
        machines: false,
    }
}

fn base() -> Map<String, Value> {
    json!({ "iss": "https://id.example", "sub": "alice", "aud": "https://m.example/a", "exp": 2_000_000_000 })
        .as_object()
        .unwrap()
        .clone()
}

fn read(claims: Map<String, Value>) -> Result<Identity, FaultKind> {
    profile().read(None, "name".to_owned(), claims).map_err(|fault| fault.kind)
}

/// The base claims with one changed; `null` JSON text removes nothing, `None` removes.
fn changed(name: &str, value: Option<Value>) -> Result<Identity, FaultKind> {
    let mut claims = base();
    match value {
        Some(value) => claims.insert(name.to_owned(), value),
        None => claims.remove(name),
    };
    read(claims)
}

#[test]
fn a17_a_machine_is_told_from_a_person() {
    let holder = |profile: &Profile, changes: Value| {
        let claims = json!({ "iss": "https://id.example", "sub": "alice", "exp": 2_000_000_000 });
        let (Value::Object(mut claims), Value::Object(changes)) = (claims, changes) else { panic!("objects") };
        claims.insert("iss".into(), (*profile.issuer).into());
        claims.extend(changes);
        claims.retain(|_, value| !value.is_null());
        profile.read(None, String::new(), claims).unwrap().holder
    };
    for person in [
        json!({}),
        json!({ "client_id": "desk" }),
        json!({ "azp": "desk", "gty": "password" }),
        json!({ "cid": "0oa1", "uid": "00u1" }),
        json!({ "appid": "1-2", "idtyp": "user" }),
        json!({ "azp": "robot", "preferred_username": "service-account-robot" }),
        json!({ "sub": "desk@clients", "azp": "other" }),
    ] {
        assert_eq!(holder(&profile(), person.clone()), Holder::Person, "{person}");
    }
    for machine in [
        json!({ "sub": "robot", "client_id": "robot" }),
        json!({ "sub": "robot", "azp": "robot" }),
        json!({ "sub": "0oa1", "cid": "0oa1" }),
        json!({ "sub": "robot", "client_id": "other", "azp": "robot" }),
        json!({ "sub": "robot@clients", "azp": "robot", "gty": "client-credentials" }),
        json!({ "sub": "object-id", "appid": "1-2", "idtyp": "app" }),
        json!({ "sub": "uuid", "azp": "robot", "client_id": "robot", "preferred_username": "service-account-robot" }),
        json!({ "sub": null, "client_id": "robot" }),
    ] {
        assert_eq!(holder(&profile(), machine.clone()), Holder::Machine, "{machine}");
    }
    let services = Profile { machines: true, ..profile() };
    assert_eq!(holder(&services, json!({ "sub": "svc-build" })), Holder::Machine);
}

#[test]
fn an_identity_holds_what_the_token_says() {
    let mut claims = base();
    claims.extend(
        json!({ "client_id": "claude", "azp": "other", "scope": "b a", "nbf": 5, "iat": 7, "jti": "x", "extra": {"a": 1} })
            .as_object()
            .unwrap()
            .clone(),
    );
    let identity = profile().read(Some("at+jwt"), "name".to_owned(), claims).unwrap();
    assert_eq!(identity.issuer.as_ref(), "https://id.example");
    assert_eq!(identity.subject.as_deref(), Some("alice"));
    assert_eq!(identity.client.as_deref(), Some("claude"), "client_id before azp");
    assert_eq!(identity.scopes.iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(identity.audiences, ["https://m.example/a"]);
    assert_eq!((identity.expires, identity.not_before), (2_000_000_000, Some(5)));
    assert_eq!(identity.token_type.as_deref(), Some("at+jwt"));
    assert_eq!(identity.claims["extra"]["a"], 1);
    assert_eq!(changed("azp", Some(json!("vscode"))).unwrap().client.as_deref(), Some("vscode"));
}

#[test]
fn a11_registered_claims_have_their_types() {
    for (name, value) in [
        ("exp", json!(0)),
        ("exp", json!(253_402_300_799_i64)),
        ("exp", json!(1_700_000_000.5)),
        ("nbf", json!(1e9)),
        ("iat", json!(1)),
        ("jti", json!("x")),
        ("aud", json!(["a", "b"])),
        ("aud", json!([])),
    ] {
        assert!(changed(name, Some(value.clone())).is_ok(), "{name}: {value}");
    }
    let strange = [json!(null), json!(true), json!({}), json!([1]), json!([null])];
    for name in ["exp", "nbf", "iat", "auth_time"] {
        for value in strange.iter().cloned().chain([
            json!("9999999999"),
            json!("x"),
            json!(""),
            json!([2_000_000_000]),
            json!(-1),
            json!(-0.5e-300 - 1.0),
            json!(253_402_300_800_i64),
            json!(9_999_999_999_999_i64),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1e300),
        ]) {
            assert_eq!(changed(name, Some(value.clone())).unwrap_err(), FaultKind::Claim, "{name}: {value}");
        }
    }
    for name in ["sub", "jti", "client_id", "azp", "iss"] {
        for value in strange.iter().cloned().chain([json!(1), json!(""), json!(["alice"])]) {
            assert_eq!(changed(name, Some(value.clone())).unwrap_err(), FaultKind::Claim, "{name}: {value}");
        }
    }
    for value in strange.iter().cloned().chain([json!(1), json!(["a", 1]), json!([["a"]]), json!({ "0": "a" })]) {
        assert_eq!(changed("aud", Some(value.clone())).unwrap_err(), FaultKind::Claim, "aud: {value}");
    }
    assert!(strict::object(br#"{"exp":1e400}"#).is_err(), "such a number is no JSON number here at all");
}

#[test]
fn a12_exp_is_required() {
    assert!(read(base()).is_ok());
    assert_eq!(changed("exp", None).unwrap_err(), FaultKind::Claim);
}

#[test]
fn a12_times_are_checked_with_leeway_and_without_overflow() {
    let identity = |claims: Value| {
        let mut all = base();
        all.extend(claims.as_object().unwrap().clone());
        read(all).unwrap()
    };
    let kind =
        |identity: &Identity, now: i64, leeway: i64| check_times(identity, now, leeway).map_err(|fault| fault.kind);
    let it = identity(json!({ "exp": 1000, "nbf": 500, "iat": 400 }));
    assert_eq!(kind(&it, 500, 0), Ok(()));
    assert_eq!(kind(&it, 999, 0), Ok(()));
    assert_eq!(kind(&it, 1000, 0), Err(FaultKind::Expired));
    assert_eq!(kind(&it, 1059, 60), Ok(()));
    assert_eq!(kind(&it, 1060, 60), Err(FaultKind::Expired));
    assert_eq!(kind(&it, 499, 0), Err(FaultKind::NotYetValid));
    assert_eq!(kind(&it, 440, 60), Ok(()));
    assert_eq!(kind(&it, 439, 60), Err(FaultKind::NotYetValid));
    let issued_late = identity(json!({ "exp": 1000, "iat": 700 }));
    assert_eq!(kind(&issued_late, 640, 60), Ok(()));
    assert_eq!(kind(&issued_late, 639, 60), Err(FaultKind::NotYetValid), "iat in the future beyond the leeway");
    for (now, leeway) in [(i64::MAX, i64::MAX), (i64::MIN, i64::MAX), (i64::MAX, 0), (i64::MIN, i64::MIN)] {
        let _ = check_times(&it, now, leeway);
    }
    assert_eq!(kind(&it, i64::MAX, 60), Err(FaultKind::Expired));
    assert_eq!(kind(&it, i64::MIN, 60), Err(FaultKind::NotYetValid));
    let fractions = identity(json!({ "exp": 1000.9, "nbf": 500.1 }));
    assert_eq!((fractions.expires, fractions.not_before), (1000, Some(501)), "rounded against the bearer");
}

#[test]
fn a13_the_issuer_is_compared_byte_for_byte() {
    assert!(read(base()).is_ok());
    for issuer in [
        "https://id.example/",
        "https://ID.example",
        "https://id.example:443",
        "https://id.example.evil",
        "http://id.example",
        " https://id.example",
    ] {
        assert_eq!(changed("iss", Some(json!(issuer))).unwrap_err(), FaultKind::Issuer, "{issuer}");
    }
    assert_eq!(changed("iss", None).unwrap_err(), FaultKind::Issuer);
}

#[test]
fn a14_audiences_are_kept_exactly() {
    assert_eq!(changed("aud", None).unwrap().audiences, Vec::<String>::new());
    assert_eq!(changed("aud", Some(json!(["a ", "A"]))).unwrap().audiences, ["a ", "A"]);
}

#[test]
fn a15_other_kinds_of_token_are_refused() {
    for (name, value) in [
        ("at_hash", json!("x")),
        ("c_hash", json!("x")),
        ("s_hash", json!("x")),
        ("at_hash", json!(null)),
        ("events", json!({ "http://schemas.openid.net/event/backchannel-logout": {} })),
        ("events", json!({})),
        ("htm", json!("POST")),
        ("htu", json!("https://m.example/a")),
        ("typ", json!("ID")),
        ("typ", json!("Logout")),
        ("typ", json!("Refresh")),
        ("typ", json!("Offline")),
        ("aud", json!("web-app")),
        ("aud", json!(["https://m.example/a", "web-app"])),
    ] {
        assert_eq!(changed(name, Some(value.clone())).unwrap_err(), FaultKind::TokenType, "{name}: {value}");
    }
    for (name, value) in
        [("typ", json!("Bearer")), ("nonce", json!("n")), ("aud", json!("web-app-api")), ("sid", json!("s"))]
    {
        assert!(changed(name, Some(value.clone())).is_ok(), "{name}: {value}");
    }
}

#[test]
fn a15_the_header_type_is_the_providers() {
    let read_as = |token_type: TokenType, typ: Option<&str>| {
        let profile = Profile { token_type, ..profile() };
        profile.read(typ, String::new(), base()).map(drop).map_err(|fault| fault.kind)
    };
    for typ in [None, Some("jwt"), Some("at+jwt")] {
        assert_eq!(read_as(TokenType::Jwt, typ), Ok(()), "{typ:?}");
    }
    assert_eq!(read_as(TokenType::AccessToken, Some("at+jwt")), Ok(()));
    for typ in [None, Some("jwt")] {
        assert_eq!(read_as(TokenType::AccessToken, typ), Err(FaultKind::TokenType), "{typ:?}");
    }
    for typ in [
        "id_token+jwt",
        "logout+jwt",
        "dpop+jwt",
        "oauth-id-jag+jwt",
        "secevent+jwt",
        "entity-statement+jwt",
        "jose",
        "",
        "rt+jwt",
        "token-introspection+jwt",
    ] {
        for token_type in [TokenType::Jwt, TokenType::AccessToken] {
            assert_eq!(read_as(token_type, Some(typ)), Err(FaultKind::TokenType), "{typ}");
        }
    }
}

#[test]
fn a16_scopes_are_exact_names() {
    let scopes = |scope_claim: ScopeClaim, claims: Value| {
        let mut all = base();
        all.extend(claims.as_object().unwrap().clone());
        let profile = Profile { scope_claim, ..profile() };
        profile
            .read(None, String::new(), all)
            .map(|identity| identity.scopes.iter().map(str::to_owned).collect::<Vec<_>>().join("|"))
            .map_err(|fault| fault.kind)
    };
    use ScopeClaim::{Both, Scope, Scp};
    for (claim, claims, expected) in [
        (Both, json!({}), ""),
        (Both, json!({ "scope": "" }), ""),
        (Both, json!({ "scope": "read write" }), "read|write"),
        (Both, json!({ "scope": "Read read readonly" }), "Read|read|readonly"),
        (Both, json!({ "scope": ["read", "write"] }), "read|write"),
        (Both, json!({ "scp": "read", "scope": "write" }), "read|write"),
        (Both, json!({ "scp": ["read"] }), "read"),
        (Scope, json!({ "scp": ["read"], "scope": "write" }), "write"),
        (Scp, json!({ "scp": ["read"], "scope": "write" }), "read"),
        (Scope, json!({ "scope": "https://a/b:c.d" }), "https://a/b:c.d"),
    ] {
        assert_eq!(scopes(claim, claims.clone()).as_deref(), Ok(expected), "{claims}");
    }
    for claims in [
        json!({ "scope": null }),
        json!({ "scope": 1 }),
        json!({ "scope": {} }),
        json!({ "scope": ["read", 1] }),
        json!({ "scope": ["read write"] }),
        json!({ "scope": [""] }),
        json!({ "scope": "read\twrite" }),
        json!({ "scope": "read\nwrite" }),
        json!({ "scope": "re\"ad" }),
        json!({ "scp": ["a b"] }),
    ] {
        assert_eq!(scopes(Both, claims.clone()), Err(FaultKind::Claim), "{claims}");
    }
}

#[test]
fn a18_an_email_is_verified_and_has_one_at() {
    let email = |claims: Value| {
        let mut all = base();
        all.extend(claims.as_object().unwrap().clone());
        read(all).unwrap().claims.get("email").and_then(Value::as_str).map(str::to_owned)
    };
    assert_eq!(email(json!({ "email": "a@corp.test", "email_verified": true })).as_deref(), Some("a@corp.test"));
    for claims in [
        json!({ "email": "a@corp.test" }),
        json!({ "email": "a@corp.test", "email_verified": false }),
        json!({ "email": "a@corp.test", "email_verified": "true" }),
        json!({ "email": "a@corp.test", "email_verified": 1 }),
        json!({ "email": "admin@evil.test@corp.test", "email_verified": true }),
        json!({ "email": "\"a@evil.test\"@corp.test", "email_verified": true }),
        json!({ "email": "corp.test", "email_verified": true }),
        json!({ "email": "@corp.test", "email_verified": true }),
        json!({ "email": "a@", "email_verified": true }),
        json!({ "email": "a@corp.test\n", "email_verified": true }),
        json!({ "email": ["a@corp.test"], "email_verified": true }),
    ] {
        assert_eq!(email(claims.clone()), None, "{claims}");
    }
}

#[test]
fn a26_a_bound_token_is_no_bearer_token() {
    assert!(read(base()).is_ok());
    for cnf in [json!({ "jkt": "x" }), json!({ "x5t#S256": "x" }), json!({}), json!(null), json!("x")] {
        assert_eq!(changed("cnf", Some(cnf.clone())).unwrap_err(), FaultKind::Binding, "{cnf}");
    }
}
