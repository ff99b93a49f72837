"""Change options of an existing image.

LUKS: -o state=active,new-secret=ID adds a passphrase, -o state=inactive,keyslot=N (or old-secret=ID)
removes one; IDs are those of --object secret,id=ID,file=FILE.
"""

from __future__ import annotations

import argparse

from isagen.image import options, show
from runtime.block.errors import ImageOption


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    options.add_options(parser)
    options.add_progress(parser)
    options.add_quiet(parser)
    parser.add_argument("-t", "--cache", metavar="MODE", help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("file", nargs="?")
    options.add_access(parser, share=False)


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.image import Image
    from runtime.block.registry import find_format

    if options.asks_for_help(arguments.options):
        name = arguments.format or "qcow2"
        show.print_options(name, find_format(name).driver.options())
        return 0
    if not arguments.file:
        raise ImageOption("the image is missing")
    values: dict[str, object] = dict(options.key_values(arguments.options))
    if not values:
        raise ImageOption("no option to change is given", remedy="-o NAME=VALUE")
    secrets = options.secrets_of(arguments)
    for name, value in values.items():
        if name.endswith("-secret"):
            if str(value) not in secrets:
                raise ImageOption(f"no secret has the id {value!r}", remedy="--object secret,id=ID,file=FILE")
            values[name] = secrets[str(value)]()
    named = {
        str(value)
        for name, value in options.key_values(arguments.options).items()
        if name.endswith("-secret")
    }
    opening = [secrets[name] for name in secrets if name not in named]
    passphrase = opening[0] if opening else None
    if arguments.passphrase_file:
        passphrase = options.passphrase(arguments, arguments.passphrase_file)
    with Image.open(
        arguments.file,
        arguments.format,
        writable=True,
        allow=arguments.allow or None,
        passphrase=passphrase,
    ) as image:
        image.amend(**values)
    return 0
