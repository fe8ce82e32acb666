"""
What is used of valkey-glide.

Its own types say that a command may answer anything, in so many words that nothing can be done with it;
here that is said once, and who asks knows what comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from glide import (
    AdvancedGlideClientConfiguration,
    AdvancedGlideClusterClientConfiguration,
    AllPrimaries,
    BackoffStrategy,
    Batch,
    ClusterBatch,
    ClusterBatchOptions,
    GlideClient,
    GlideClientConfiguration,
    GlideClusterClient,
    GlideClusterClientConfiguration,
    Logger,
    LogLevel,
    NodeAddress,
    ServerCredentials,
    SlotKeyRoute,
    SlotType,
    TlsAdvancedConfiguration,
)

IN_FLIGHT_MAX: Final = 8192
"""How many commands may wait for an answer; more are refused."""

ANSWERED_WITHIN: Final = 0.9
"""Of the time that anything may take, the share that one command has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    Where to connect to, and as whom.

    Attributes:
        servers: Names and ports.
        certificates: What to trust instead of the system's certificates.
        timeout: After how many milliseconds a command is given up.
    """

    servers: Sequence[tuple[str, int]]
    tls: bool
    user: str | None
    password: str | None
    certificates: bytes | None
    timeout: int

    async def connect(self, *, clustered: bool, reads: bool = False) -> "Client":
        """
        Make a client of all servers, or of all of a cluster that these are some of.

        It connects with the first command: connecting at once would hold the event loop up.

        Args:
            reads: It only reads, of a replica too; not for a cluster.
        """
        # What goes wrong is told by exceptions; the library would write it to the standard error as well.
        Logger.init(LogLevel.OFF)
        tls = TlsAdvancedConfiguration(root_pem_cacerts=self.certificates)
        # What both kinds are told. The pause before a connection is tried again grows from 50 to 400 ms.
        common: dict[str, Any] = {
            "addresses": [NodeAddress(*server) for server in self.servers],
            "use_tls": self.tls,
            "credentials": ServerCredentials(self.password, self.user) if self.password else None,
            # Told before whoever asked has gone, so that it is heard which server does not answer.
            "request_timeout": round(self.timeout * ANSWERED_WITHIN),
            "reconnect_strategy": BackoffStrategy(3, 50, 2, 20),
            "client_name": "watchword",
            "inflight_requests_limit": IN_FLIGHT_MAX,
            "lazy_connect": True,
        }
        if clustered:
            more = AdvancedGlideClusterClientConfiguration(connection_timeout=self.timeout, tls_config=tls)
            return Client(
                await GlideClusterClient.create(
                    GlideClusterClientConfiguration(advanced_config=more, **common)
                ),
                clustered=True,
            )
        advanced = AdvancedGlideClientConfiguration(connection_timeout=self.timeout, tls_config=tls)
        return Client(
            await GlideClient.create(
                GlideClientConfiguration(advanced_config=advanced, read_only=reads, **common)
            ),
            clustered=False,
            others=len(self.servers) > 1,
        )


class Client:
    """A client of one server, or of a cluster. Everything raises ``GlideError``; nothing is sent twice."""

    def __init__(self, glide: Any, *, clustered: bool, others: bool = False) -> None:  # noqa: ANN401 - see above.
        """
        Use *glide*.

        Args:
            others: Besides the primary it speaks to, servers were named that may take over; it does not look.
        """
        self._glide = glide
        self.clustered = clustered
        self.others = others

    async def call(self, function: str, keys: Sequence[bytes], argument: bytes) -> Any:  # noqa: ANN401
        """Call a function at the primary of its keys."""
        return await self._glide.fcall(function, list(keys), [argument])

    async def load(self, code: str) -> None:
        """Load functions into every primary."""
        await self._glide.function_load(code)

    async def send(self, commands: Sequence[Sequence[bytes]], *, to: bytes | None = None) -> list[Any]:
        """Send several commands at once: to the primary of the key *to*, or each to its own key's."""
        batch: Any = ClusterBatch(is_atomic=False) if self.clustered else Batch(is_atomic=False)
        for command in commands:
            batch.custom_command(list(command))
        options: dict[str, Any] = {}
        if self.clustered and to is not None:
            options["options"] = ClusterBatchOptions(route=SlotKeyRoute(SlotType.PRIMARY, to.decode()))
        answers: list[Any] = await self._glide.exec(batch, raise_on_error=True, **options)
        return answers

    async def everywhere(self, *command: str) -> Mapping[str, Any]:
        """Ask every primary, each by its address."""
        if not self.clustered:
            return {"the server": await self._glide.custom_command(list(command))}
        answers: Mapping[bytes, Any] = await self._glide.custom_command(list(command), AllPrimaries())
        return {address.decode(): answer for address, answer in answers.items()}

    async def close(self) -> None:
        """Let go of the connections; whoever waits for an answer gets an error."""
        await self._glide.close()
