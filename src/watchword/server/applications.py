"""The operations of applications: whose keys are whose, and a playground to try them in."""

from base64 import b64encode

from watchword import problems, wire
from watchword.domain.application import ApplicationId, ClientKey, KeyScope
from watchword.domain.decision import Reason
from watchword.engine.engine import Engine
from watchword.jose.client_keys import ClientKeyError, format_time, parse_client_key
from watchword.jose.keys import Algorithm, ServerKeys
from watchword.server import shapes
from watchword.server.endpoint import Answer, By, Call, Handler, Jose, Operation, QueryParameter

_VERSION_DIGITS = 9
_STEMS = ("/v1/auth/jose", "/{version:calendar}/auth/jose")


class ApplicationKeys:
    """The operations on JOSE keys, over one engine."""

    def __init__(self, engine: Engine, keys: ServerKeys) -> None:
        """Take our own keys; the applications' are the engine's to keep."""
        self._engine = engine
        self._keys = keys

    def operations(self) -> list[Operation]:
        """Return the table."""
        return [
            Operation(
                name="jose-response-key",
                summary="A public key of ours: to encrypt requests to, or to verify our answers with",
                method="GET",
                paths=tuple(f"{stem}/response/public-keys" for stem in _STEMS),
                handler=self._published,
                by=By.APPLICATION,
                query=(
                    QueryParameter("algorithm", "The algorithm of the key.", tuple(Algorithm)),
                    QueryParameter("scope", "What the key is for.", tuple(KeyScope)),
                    QueryParameter("version", "By default the newest.", pattern="^[0-9]{1,9}$"),
                ),
                answer=shapes.ResponseKey,
                errors=(400, 404),
            ),
            Operation(
                name="jose-request-key",
                summary="Upload a public key of the application's",
                method="POST",
                paths=tuple(f"{stem}/request/public-keys" for stem in _STEMS),
                handler=self._upload,
                by=By.APPLICATION,
                body=shapes.RequestKeyBody,
                answer=shapes.RequestKey,
                status=201,
                errors=(400, 408, 409, 413, 415),
            ),
            Operation(
                name="jose-request-key-delete",
                summary="Revoke a public key of the application's",
                method="DELETE",
                paths=tuple(f"{stem}/request/public-keys/{{keyId}}" for stem in _STEMS),
                handler=self._revoke,
                by=By.APPLICATION,
                answer=None,
                status=204,
                errors=(404,),
            ),
            *self._playground(),
        ]

    def _playground(self) -> list[Operation]:
        table = (
            ("jws", "POST", Jose.JWS, "Signed both ways"),
            ("jwe", "POST", Jose.JWE, "Encrypted both ways, the answer to the application's own key"),
            ("jwe", "GET", Jose.JWE, "Encrypted answer, to the application's own key"),
            ("jwe-direct-encryption", "POST", Jose.JWE_DIRECT, "Encrypted both ways under one content key"),
            ("jwsjwe", "POST", Jose.JWS_JWE, "Signed, then encrypted, both ways"),
        )
        return [
            Operation(
                name=f"jose-playground-{path}" + ("-get" if method == "GET" else ""),
                summary=f"Try JOSE out: {what[0].lower()}{what[1:]}",
                method=method,
                paths=tuple(f"{stem}/playground/{path}" for stem in _STEMS),
                handler=_play(method),
                by=By.APPLICATION,
                body=shapes.PlaygroundBody if method == "POST" else None,
                jose=jose,
                answer=shapes.PlaygroundAnswer,
                errors=(400, 408, 413, 415) if method == "POST" else (400, 415),
            )
            for path, method, jose, what in table
        ]

    async def _published(self, call: Call) -> Answer:
        query = call.request.query_params
        algorithm = next((each for each in Algorithm if each == query.get("algorithm")), None)
        scope = next((each for each in KeyScope if each == query.get("scope")), None)
        if algorithm is None:
            return problems.malformed(f"algorithm is one of {', '.join(Algorithm)}.", path="algorithm")
        if scope is None:
            return problems.malformed(f"scope is one of {', '.join(KeyScope)}.", path="scope")
        version = query.get("version")
        if version is not None and not (
            version.isascii() and version.isdigit() and len(version) <= _VERSION_DIGITS
        ):
            return problems.malformed("version is a whole number.", path="version")
        key = self._keys.published(algorithm, scope, None if version is None else int(version))
        if key is None:
            return problems.problem(404, wire.Code.JOSE_KEY_NOT_FOUND, "There is no such key.")
        return shapes.ResponseKey(
            key_id=key.id,
            version=key.version,
            key_material=shapes.KeyMaterial(algorithm, key.material),
            scope=scope,
        )

    async def _revoke(self, call: Call) -> Answer:
        key_id: str = call.request.path_params["keyId"]
        refusal = await self._engine.applications.revoke_key(ApplicationId(call.application or ""), key_id)
        if refusal is None:
            return None
        return problems.problem(404, wire.Code.JOSE_KEY_NOT_FOUND, "There is no such key.")

    async def _upload(self, call: Call) -> Answer:
        body = call.read(shapes.RequestKeyBody)
        try:
            key = parse_client_key(
                key_id=body.key_id,
                scope=body.scope,
                algorithm=body.public_key_material.algorithm,
                material=body.public_key_material.key_material,
                valid_from=body.valid_from,
                valid_till=body.valid_till,
            )
        except ClientKeyError as error:
            return problems.problem(400, wire.Code.JOSE_KEY_INVALID, f"{error}.", path=error.path)
        refusal = await self._engine.applications.upload_key(ApplicationId(call.application or ""), key)
        if refusal is None:
            return _shown(key)
        if refusal.reason is Reason.TOO_MANY:
            return problems.problem(
                400,
                wire.Code.JOSE_KEY_LIMIT,
                "As many keys are kept as are allowed; wait for one to run out.",
            )
        return problems.problem(409, wire.Code.JOSE_KEY_REPEATED, "Another key has this id already.")


def _play(method: str) -> Handler:
    async def play(call: Call) -> Answer:
        message = "" if call.body is None else call.read(shapes.PlaygroundBody).message
        return shapes.PlaygroundAnswer(f"jose-playground-response-{message}", method)

    return play


def _shown(key: ClientKey) -> shapes.RequestKey:
    return shapes.RequestKey(
        key_id=key.id,
        scope=key.scope,
        valid_from=format_time(key.valid_from),
        valid_till=format_time(key.valid_till),
        public_key_material=shapes.KeyMaterial(key.algorithm, b64encode(key.spki).decode()),
        client_id=None,
        deactivation_timestamp=None,
    )
