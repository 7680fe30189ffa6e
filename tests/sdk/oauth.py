"""The official Python client that knows nothing but the URL: it discovers, registers and asks for authorization by
itself, walks through its steps and prints one JSON line for each.

    python oauth.py --url URL --era legacy|modern|auto --steps '[{"do": "tools/list"}, ...]'
                    [--method none|client_secret_basic|client_secret_post]
                    [--document URL]
                    [--service CLIENT_ID --secret SECRET | --service CLIENT_ID --key FILE]

A client with a document names itself by its URL and does not register. A service is registered beforehand and acts for
itself.
Where a person would see a browser it prints {"browse": URL} and waits until a browser comes to its redirect URI.
"""

import argparse
import asyncio
import json
import pathlib
import sys
import urllib.parse

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

MODES = {"legacy": "legacy", "modern": "2026-07-28", "auto": "auto"}

# What the client asked and was answered during the step.
http_seen = []


def say(line):
    print(json.dumps(line), flush=True)


def report(line):
    say({**line, "http": http_seen})
    http_seen.clear()


async def note(response):
    request = response.request
    is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    form = urllib.parse.parse_qs(request.content.decode()) if is_form else {}
    http_seen.append({
        "method": request.method,
        "path": request.url.path,
        "status": response.status_code,
        "grant": form.get("grant_type", [None])[0],
        "challenge": response.headers.get("www-authenticate"),
    })


class Kept:
    """What a client keeps."""

    tokens = None
    client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


class Callback:
    """The redirect URI: a port of this computer, as RFC 8252 section 7.3 has it."""

    def __init__(self):
        self.arrived = asyncio.Queue()

    async def listen(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        target = head.split(b" ", 2)[1].decode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()
        await self.arrived.put(dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query)))

    async def answer(self):
        answer = await self.arrived.get()
        if "error" in answer:
            raise PermissionError(f"not authorized: {answer['error']}")
        return AuthorizationCodeResult(code=answer["code"], state=answer.get("state"), iss=answer.get("iss"))


async def browse(url):
    say({"browse": url})


def causes(error):
    """The leaves of nested exception groups: what really went wrong."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in causes(inner)]
    return [error]


def failed(step, error):
    leaf = causes(error)[0]
    report({"step": step, "ok": False, "error": {"name": type(leaf).__name__, "message": str(leaf)}})


async def run(client, auth, step):
    match step["do"]:
        case "tools/list":
            result = await client.list_tools()
        case "tools/call":
            result = await client.call_tool(step["name"], step.get("arguments") or {})
        case "expire":
            # An hour goes by.
            auth.context.token_expiry_time = 1
            return None
        case other:
            raise ValueError(f"no such step: {other}")
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


async def identity(given, kept):
    """Who the client is: what it keeps, and how it gets a token."""
    url, service = given.url, given.service
    if service and given.key:
        key = pathlib.Path(given.key).read_text()
        keys = SignedJWTParameters(issuer=service, subject=service, signing_key=key, signing_algorithm="ES256")
        return PrivateKeyJWTOAuthProvider(url, kept, service, keys.create_assertion_provider(), issuer=url)
    if service:
        return ClientCredentialsOAuthProvider(url, kept, service, given.secret, issuer=url)
    callback = Callback()
    await callback.listen()
    metadata = OAuthClientMetadata(
        client_name=f"Python {given.era}",
        redirect_uris=[callback.url],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method=given.method,
    )
    return OAuthClientProvider(
        url,
        metadata,
        kept,
        redirect_handler=browse,
        callback_handler=callback.answer,
        client_metadata_url=given.document,
    )


async def walk(given):
    url, era, steps, kept = given.url, given.era, json.loads(given.steps), Kept()
    auth = await identity(given, kept)
    hooks = {"response": [note]}
    try:
        async with httpx2.AsyncClient(auth=auth, event_hooks=hooks, trust_env=False, timeout=60) as http:
            wire = streamable_http_client(url, http_client=http)
            async with Client(wire, mode=MODES[era]) as client:
                about = client.server_info
                report({"step": 0, "ok": True, "result": about.model_dump(mode="json") if about else None})
                for number, step in enumerate(steps, 1):
                    try:
                        report({"step": number, "ok": True, "result": await run(client, auth, step)})
                    except Exception as error:  # every failure is an answer here
                        failed(number, error)
    except Exception as error:
        failed(0, error)
    plain = {"mode": "json", "exclude_none": True}
    say({
        "tokens": kept.tokens.model_dump(**plain) if kept.tokens else None,
        "client": kept.client.model_dump(**plain) if kept.client else None,
    })


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--url", required=True)
    words.add_argument("--era", choices=MODES, default="modern")
    words.add_argument("--steps", default="[]")
    words.add_argument("--method", default="none")
    words.add_argument("--document")
    words.add_argument("--service")
    words.add_argument("--secret")
    words.add_argument("--key")
    asyncio.run(walk(words.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
