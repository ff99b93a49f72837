"""The shipped specs: the checks find nothing; solver, slow decoder and sampler agree on every form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from generator.checks import errors, run_checks
from generator.checks.corners import Sample, Sampler, encode
from generator.load import read_sources
from generator.model.target import Target

SPECS = Path(__file__).resolve().parents[3] / "isa"
Shipped = Callable[[str, str], Target]


def test_checks_find_nothing(target_name: tuple[str, str], shipped: Shipped) -> None:
    family, name = target_name
    sources = {source.name: source.text for source in read_sources(SPECS, family)}
    found = errors(run_checks(shipped(family, name), sources))
    assert not found, "\n".join(diagnostic.render() for diagnostic in found)


def test_every_form_is_sampled_decoded_and_encoded(target_name: tuple[str, str], shipped: Shipped) -> None:
    """The solver's witness and random samples decode to their form; their fields encode to it again."""
    target = shipped(*target_name)
    sampler = Sampler(target)
    rng = Random(1)
    without = []
    for form in target.forms:
        found = sampler.witness(form)
        if found is None:
            without.append(form)
            continue
        for sample in (found[0], *sampler.samples(form, 1, rng)):
            decoded = sampler.decode(sample)
            assert decoded is not None and decoded.form is form, (form.name, sample)
            body = encode(decoded, target)
            start = decoded.length - len(body)
            again = sampler.decode(Sample(sample.data[:start] + body, sample.registers, sample.contexts))
            assert again is not None and again.form is form
            fields = {k: v for k, v in decoded.fields.items() if k != "opcode_bits"}
            assert fields.items() <= again.fields.items(), (form.name, sample)
    # Forms of axis values that a target's contexts exclude, as 64-bit string instructions with 16-bit
    # addresses.
    reachable = {form.span for form in target.forms} - {form.span for form in without}
    assert len(reachable) > 0.9 * len({form.span for form in target.forms})


def test_nothing_is_ambiguous(target_name: tuple[str, str], shipped: Shipped) -> None:
    """Random bytes are one instruction or none, as the overlap check promised."""
    target = shipped(*target_name)
    sampler = Sampler(target)
    rng = Random(2)
    found = [sampler.witness(form) for form in rng.sample(target.forms, 40)]
    places = {str(f[0].registers) + str(f[0].contexts): f[0] for f in found if f is not None}
    for place in places.values():
        for _ in range(200):
            # Half of them begin as an instruction does.
            begin = rng.choice(list(places.values())).data if rng.random() < 0.5 else b""
            sampler.outcome(Sample(begin[:2] + rng.randbytes(16), place.registers, place.contexts))
