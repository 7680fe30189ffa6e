"""The official Python client: walks through the steps it is given and prints one JSON line for each.

    python client.py --url URL --token TOKEN --era legacy|modern|auto --steps '[{"do": "tools/list"}, ...]'
    python client.py --visits '[{"url": ..., "token": ...}, ...]' --era ... --steps ...
"""

import argparse
import asyncio
import json
import sys

import anyio
import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost

MODES = {"legacy": "legacy", "modern": "2026-07-28", "auto": "auto"}


# What HTTP answered during the step: the SDK's errors do not tell.
http_seen = []
# What the server asked during the step.
asked = []
# Resources of whose change the session was told, and the event that says so.
updates = []
updated = anyio.Event()
# The number of the server that is visited.
visit = 0


async def note(response):
    http_seen.append({
        "method": response.request.method,
        "status": response.status_code,
        "type": response.headers.get("content-type"),
        "challenge": response.headers.get("www-authenticate"),
        "resumed": "last-event-id" in response.request.headers,
    })


def say(line):
    print(json.dumps({"visit": visit, **line, "asked": asked, "http": http_seen}), flush=True)
    http_seen.clear()
    asked.clear()


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


async def sampled(_, params):
    asked.append({"method": "sampling/createMessage", "text": params.messages[0].content.text})
    content = types.TextContent(type="text", text="something")
    return types.CreateMessageResult(role="assistant", content=content, model="parrot", stop_reason="endTurn")


async def elicited(_, params):
    asked.append({"method": "elicitation/create", "text": params.message})
    return types.ElicitResult(action="accept", content={"name": "Ada"})


async def told(message):
    global updated
    if isinstance(message, types.ResourceUpdatedNotification):
        updates.append(message.params.uri)
        updated.set()
        updated = anyio.Event()


async def call(client, name, arguments):
    """Calls a tool and adds the progress that was reported on the way."""
    progress = []

    async def reported(done, _total, _message):
        progress.append(done)

    result = await client.call_tool(name, arguments, progress_callback=reported)
    return {**plain(result), "progress": progress}


async def cancel(client, name, arguments):
    """Calls a tool that hangs, gives it up once it does, and waits until the server has noticed."""
    outcome = "given up"
    async with anyio.create_task_group() as both:
        hanging = anyio.CancelScope()

        async def hang():
            nonlocal outcome
            with hanging:
                try:
                    await client.call_tool(name, arguments)
                    outcome = "answered"
                except Exception as error:
                    outcome = f"{type(error).__name__}: {error}"
                both.cancel_scope.cancel()

        both.start_soon(hang)
        await client.call_tool("begun", arguments)
        hanging.cancel()
    if outcome != "given up":
        raise RuntimeError(f"it did not hang: {outcome}")
    noticed = await client.call_tool("cancelled", arguments)
    return {"outcome": outcome, "noticed": noticed.content[0].text}


async def subscribe(client, mode, uri, touch):
    """Subscribes to a resource, has others and then this one changed, and tells of which it heard."""
    global updated
    updates.clear()
    updated = anyio.Event()
    changes = [*touch, {"uri": uri}]
    if mode == "legacy":
        await client.subscribe_resource(uri)
        for change in changes:
            await client.call_tool("touch", change)
        with anyio.fail_after(60):
            while uri not in updates:
                await updated.wait()
        await client.unsubscribe_resource(uri)
        return {"updates": list(updates)}
    heard = []
    async with client.listen(resource_subscriptions=[uri]) as subscription:
        for change in changes:
            await client.call_tool("touch", change)
        with anyio.fail_after(60):
            async for event in subscription:
                heard.append(event.uri)
                if event.uri == uri:
                    break
    return {"updates": heard}


async def listen(client, uri):
    """Listens for changes of a resource until the stream is ended, and tells how."""
    async with client.listen(resource_subscriptions=[uri]) as subscription:
        await client.call_tool("touch", {"uri": uri})
        with anyio.fail_after(60):
            try:
                async for _ in subscription:
                    pass
            except SubscriptionLost:
                return {"closed": "remote"}
    return {"closed": "graceful"}


def reference(ref):
    if ref["type"] == "ref/prompt":
        return types.PromptReference(type="ref/prompt", name=ref["name"])
    return types.ResourceTemplateReference(type="ref/resource", uri=ref["uri"])


def plain(result):
    if isinstance(result, dict):
        return result
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


async def run(client, mode, step):
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
        case "completion/complete":
            return await client.complete(reference(step["ref"]), step["argument"])
        case "ping":
            return await client.send_ping()
        case "tools/call":
            return await call(client, step["name"], arguments)
        case "cancel":
            return await cancel(client, step["name"], arguments)
        case "listen":
            return await listen(client, step["uri"])
        case "subscribe":
            return await subscribe(client, mode, step["uri"], step.get("touch") or [])
    raise ValueError(f"no such step: {method}")


async def walk(url, headers, mode, steps):
    async with httpx2.AsyncClient(headers=headers, event_hooks={"response": [note]}, trust_env=False, timeout=60) as http:
        wire = streamable_http_client(url, http_client=http)
        answers = {"sampling_callback": sampled, "elicitation_callback": elicited, "message_handler": told}
        async with Client(wire, mode=mode, **answers) as client:
            about = client.server_info
            say({"step": "connect", "ok": True, "result": about.model_dump(mode="json") if about else None})
            for index, step in enumerate(steps):
                try:
                    result = await run(client, mode, step)
                    say({"step": index, "ok": True, "result": plain(result)})
                except Exception as error:  # every failure is an answer here
                    failed(index, error)


def main():
    global visit
    words = argparse.ArgumentParser()
    words.add_argument("--url")
    words.add_argument("--token", default="")
    words.add_argument("--visits")
    words.add_argument("--era", choices=MODES, default="modern")
    words.add_argument("--steps", default="[]")
    given = words.parse_args()
    visits = json.loads(given.visits) if given.visits else [{"url": given.url, "token": given.token}]
    for visit, where in enumerate(visits):
        headers = {"Authorization": f"Bearer {where['token']}"} if where["token"] else {}
        try:
            asyncio.run(walk(where["url"], headers, MODES[given.era], json.loads(given.steps)))
        except Exception as error:
            failed("connect", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
