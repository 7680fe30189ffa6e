"""The official Python client: walks through the steps it is given and prints one JSON line for each.

    python client.py --url URL --token TOKEN --era legacy|modern|auto --steps '[{"do": "tools/list"}, ...]'
"""

import argparse
import asyncio
import json
import sys

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

MODES = {"legacy": "legacy", "modern": "2026-07-28", "auto": "auto"}


# What HTTP answered during the step: the SDK's errors do not tell.
http_seen = []


async def note(response):
    http_seen.append({
        "method": response.request.method,
        "status": response.status_code,
        "type": response.headers.get("content-type"),
        "challenge": response.headers.get("www-authenticate"),
    })


def say(line):
    print(json.dumps({**line, "http": http_seen}), flush=True)
    http_seen.clear()


def causes(error):
    """The leaves of nested exception groups: what really went wrong."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in causes(inner)]
    return [error]


def failed(step, error):
    leaf = causes(error)[0]
    say({
        "step": step,
        "ok": False,
        "error": {
            "name": type(leaf).__name__,
            "code": getattr(getattr(leaf, "error", None), "code", None),
            "message": str(leaf),
            "data": getattr(getattr(leaf, "error", None), "data", None),
        },
    })


async def run(client, step):
    method, arguments = step["do"], step.get("arguments") or {}
    match method:
        case "tools/list":
            return await client.list_tools()
        case "resources/list":
            return await client.list_resources()
        case "resources/templates/list":
            return await client.list_resource_templates()
        case "prompts/list":
            return await client.list_prompts()
        case "resources/read":
            return await client.read_resource(step["uri"])
        case "prompts/get":
            return await client.get_prompt(step["name"], arguments)
        case "ping":
            return await client.send_ping()
        case "tools/call":
            return await client.call_tool(step["name"], arguments)
    raise ValueError(f"no such step: {method}")


async def walk(url, headers, mode, steps):
    async with httpx2.AsyncClient(headers=headers, event_hooks={"response": [note]}, trust_env=False, timeout=20) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            about = client.server_info
            say({"step": "connect", "ok": True, "result": about.model_dump(mode="json") if about else None})
            for index, step in enumerate(steps):
                try:
                    result = await run(client, step)
                    say({"step": index, "ok": True, "result": result.model_dump(mode="json", by_alias=True, exclude_none=True)})
                except Exception as error:  # every failure is an answer here
                    failed(index, error)


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--url", required=True)
    words.add_argument("--token", default="")
    words.add_argument("--era", choices=MODES, default="modern")
    words.add_argument("--steps", default="[]")
    given = words.parse_args()
    headers = {"Authorization": f"Bearer {given.token}"} if given.token else {}
    try:
        asyncio.run(walk(given.url, headers, MODES[given.era], json.loads(given.steps)))
    except Exception as error:
        failed("connect", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
