"""Talk to a running machine that was started with --qmp ADDRESS.

With a COMMAND it is executed and its answer printed; else commands are read line by line. A command is one of
QMP's (isagen monitor ADDRESS query-status; arguments as NAME=VALUE, or a JSON object), or one of those for
people (isagen monitor ADDRESS info registers).

The exit status is 1 where the machine says that a command failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from runtime.errors import IsagenError

if TYPE_CHECKING:
    from isagen.qmp_client import QmpClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="unix:PATH, tcp:HOST:PORT, a path, or a port")
    parser.add_argument(
        "words", metavar="COMMAND", nargs=argparse.REMAINDER, help="a command (default: read commands)"
    )
    parser.add_argument("--json", action="store_true", help="print answers (and events) as JSON, one a line")
    parser.add_argument("--events", action="store_true", help="print events until the machine ends")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="wait so long (60)")


def run(arguments: argparse.Namespace) -> int:
    from isagen.qmp_client import QmpClient

    flags = {"--json", "--events"} & set(arguments.words)  # they may stand behind the address, too
    words = [word for word in arguments.words if word not in flags]
    as_json = arguments.json or "--json" in flags
    with QmpClient(arguments.address, arguments.timeout) as client:
        if words:
            return 0 if execute(client, words, as_json) else 1
        if arguments.events or "--events" in flags:
            for event in client.listen():
                show_event(event, as_json)
            return 0
        return interact(client, as_json)


def execute(client: QmpClient, words: list[str], as_json: bool) -> bool:
    """Send a command and show its answer; whether it was done."""
    from isagen.qmp_client import CommandFailed

    try:
        if words[0].lstrip().startswith("{"):
            request = read_object(" ".join(words))
            found = client.execute(str(request.get("execute")), request.get("arguments"))
        elif words[0] in client.commands:
            found = client.execute(words[0], arguments_of(words[1:]))
        else:
            found = client.execute("human-monitor-command", {"command-line": " ".join(words)})
    except CommandFailed as error:
        if as_json:
            print(json.dumps({"error": {"class": error.kind, "desc": str(error)}}))
        else:
            sys.stderr.write(f"isagen: {error}\n")
        return False
    if as_json:
        print(json.dumps(found))
    elif isinstance(found, str):
        sys.stdout.write(found.replace("\r\n", "\n"))
    elif found != {}:
        print(json.dumps(found, indent=2))
    return True


def read_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise IsagenError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise IsagenError("no JSON object")
    return found


def arguments_of(words: list[str]) -> dict[str, Any]:
    """``NAME=VALUE ...`` or a JSON object. Values that are JSON (numbers, true, lists) are taken as such."""
    if len(words) >= 1 and words[0].startswith("{"):
        return read_object(" ".join(words))
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise IsagenError(f"{word!r} is no argument", remedy="write NAME=VALUE")
        try:
            found[name] = int(text, 0)
        except ValueError:
            try:
                found[name] = json.loads(text)
            except ValueError:
                found[name] = text
    return found


def show_event(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(event), flush=True)
    else:
        data = event.get("data")
        print(f"[{event.get('event')}{' ' + json.dumps(data) if data else ''}]", flush=True)


def interact(client: QmpClient, as_json: bool) -> int:
    """Commands line by line; on a terminal with a prompt and a history."""
    import shlex

    prompt = ""
    if sys.stdin.isatty():
        import readline  # noqa: F401 - makes input() edit lines

        prompt = "(isagen) "
    status = 0
    while True:
        try:
            line = input(prompt)
        except EOFError:
            if prompt:
                print()
            return status
        for event in client.events():
            show_event(event, as_json)
        try:
            words = [line] if line.lstrip().startswith("{") else shlex.split(line)
            if words and words[0] in ("exit", "bye"):
                return status
            if words and not execute(client, words, as_json):
                status = 1
        except ValueError as error:
            sys.stderr.write(f"isagen: {error}\n")
            status = 1
        except IsagenError as error:
            if not client.is_open:
                raise
            sys.stderr.write(f"isagen: {error}\n")
            status = 1
        if not client.is_open:
            return status
