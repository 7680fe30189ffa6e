"""Verifies an assertion of the gateway as a server would: with the keys that the gateway publishes, by PyJWT.

Prints the header and the claims as one JSON line; whatever PyJWT does not accept ends with its complaint.
"""

import argparse
import json

import jwt

parser = argparse.ArgumentParser()
for name in ("jwks", "issuer", "audience", "token"):
    parser.add_argument(f"--{name}", required=True)
said = parser.parse_args()

key = jwt.PyJWKClient(said.jwks).get_signing_key_from_jwt(said.token)
claims = jwt.decode(
    said.token,
    key,
    algorithms=["ES256", "EdDSA"],
    issuer=said.issuer,
    audience=said.audience,
    options={"require": ["iss", "aud", "exp", "iat", "jti"]},
)
print(json.dumps({"header": jwt.get_unverified_header(said.token), "claims": claims}))
