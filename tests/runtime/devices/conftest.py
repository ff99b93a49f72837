from __future__ import annotations

import pytest

from runtime.memory.space import AddressSpace
from tests.runtime.devices.driver import RAM, SIZE


@pytest.fixture
def memory():
    space = AddressSpace()
    space.map(RAM, SIZE)
    return space
