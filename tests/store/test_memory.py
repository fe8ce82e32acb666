"""What the store in memory promises beyond the contract: it does not stop the loop it runs in."""

import asyncio
from collections import UserDict
from collections.abc import Iterator, ValuesView
from typing import cast

from tests.factories import make_token
from watchword.domain.decision import Change
from watchword.domain.instant import after
from watchword.domain.limits import DAY_SECONDS
from watchword.domain.token import OneTimeToken, TokenId
from watchword.store.memory import MemoryStore


class Counted(UserDict[TokenId, OneTimeToken]):
    """Counts how many of its values were looked at."""

    looked_at = 0

    def values(self) -> ValuesView[OneTimeToken]:
        return cast("ValuesView[OneTimeToken]", self._values())

    def _values(self) -> Iterator[OneTimeToken]:
        for value in super().values():
            self.looked_at += 1
            yield value


async def test_a_sweep_looks_no_further_than_it_removes_and_lets_others_run() -> None:
    store, counted = MemoryStore(), Counted()
    store._tokens = cast("dict[TokenId, OneTimeToken]", counted)  # noqa: SLF001 - nothing else shows the work.
    tokens = [make_token(id=number.to_bytes(2)) for number in range(1000)]
    for token in tokens:
        assert await store.commit(Change(token=token))
    left: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: left.append(len(counted)))
    assert await store.sweep(after(tokens[0].expires_at, DAY_SECONDS), limit=10) == 10
    assert left == [1000]
    assert (len(counted), counted.looked_at) == (990, 10)
