"""The evaluator as an oracle."""

from __future__ import annotations

from conformance.cases import CaseMaker, Start, Word
from conformance.oracles.outcome import COMPLETED, Ending
from generator.ir.decode import Decoded
from generator.ir.evaluate import Completed, Faulted, Outcome, Trapped
from generator.ir.state import ACCESS_CODES, State


def ending(outcome: Outcome) -> Ending:
    """An evaluator's outcome in shared terms."""
    match outcome:
        case Completed():
            return COMPLETED
        case Trapped(trap=trap, code=code, arguments=arguments):
            return Ending("trap", trap, code, arguments)
        case Faulted(address=address, access=access):
            return Ending("fault", arguments=(address, ACCESS_CODES[access]))
    return Ending("illegal")


class Evaluated:
    """Runs cases on the evaluator of a `CaseMaker`, in its memory."""

    def __init__(self, maker: CaseMaker) -> None:
        self.maker = maker

    def run(self, word: Word, start: Start, pattern: bytes) -> tuple[Ending, State, bytes]:
        """How the instruction ended, the state after it, and the data area's contents. In `start`, `word` is
        its form's.
        """
        memory = self.maker.memory
        memory.data[:] = pattern
        state = start.state(memory)
        outcome = self.maker.evaluator.execute(state, self._decoded(word, state))
        return ending(outcome), state, bytes(memory.data)

    def _decoded(self, word: Word, state: State) -> Decoded:
        decoded = self.maker.decoded(word, state)
        assert decoded is not None
        return decoded

    def undefined(self, word: Word, start: Start) -> list[str]:
        """Registers without a defined value after the instruction."""
        if not word.decoded.form.undefined:
            return []
        state = start.state(self.maker.memory)
        return self.maker.evaluator.undefined(state, self._decoded(word, state))
