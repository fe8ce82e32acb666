"""
Who may name whom: where several sources tell who calls, what they say must not run together.

An application is known by its client id, and every issuer gives ids as it likes. So each application is
one source's, and no other's word counts for it.
"""

from collections.abc import Iterator, Mapping

from watchword.auth.gateway import ISSUER as GATEWAY
from watchword.auth.settings import STATIC
from watchword.serving.settings import Deployment

_TABLES = {"issuers", "introspection", "gateway", "tokens"}


def applications_by_source(deployment: Deployment) -> Mapping[str, frozenset[str]]:
    """
    Return the client ids that each source may name, by its issuer; a gateway's by ``gateway``.

    The settings have no faults: an application without an issuer is there only where there is no choice.
    """
    sources = _sources(deployment)
    return {
        source: frozenset(
            each.id
            for each in deployment.applications
            if each.issuer == source or (each.issuer is None and len(sources) == 1)
        )
        for source in sources
    }


def faults(deployment: Deployment) -> Iterator[str]:
    """Name where two sources, or an application and a source, could be taken for one another."""
    if not _TABLES & deployment.broken:
        yield from _of_applications(deployment)
    yield from _of_audiences(deployment)
    yield from _of_one_issuer(deployment)


def _sources(deployment: Deployment) -> list[str]:
    """Return the names of all who could name applications, each once: one issuer may be asked in two ways."""
    names = [each.issuer for each in deployment.issuers]
    if deployment.introspection is not None:
        names.append(deployment.introspection.source)
    if deployment.gateway is not None:
        names.append(GATEWAY)
    return list(dict.fromkeys(names))


def _of_applications(deployment: Deployment) -> Iterator[str]:
    sources = _sources(deployment)
    choice = ", ".join(f'"{each}"' for each in [*sources, STATIC])
    static = {each.application for each in deployment.tokens}
    for number, application in enumerate(deployment.applications, start=1):
        if application.issuer is None and len(sources) > 1:
            yield (
                f"applications[{number}].issuer: must say whose client {application.id} is, or any issuer's"
                f" client of that id passes for it; write one of {choice}"
            )
        elif application.issuer is None and sources and application.id in static:
            yield (
                f"applications[{number}].issuer: must say whose client {application.id} is, as [[tokens]]"
                f" names it and {sources[0]} may have a client of that id too; write one of {choice}"
            )
        elif application.issuer not in {None, STATIC, *sources}:
            yield f"applications[{number}].issuer: is nobody who is configured; write one of {choice}"


def _of_audiences(deployment: Deployment) -> Iterator[str]:
    audiences = {
        f"issuers[{number}].audience": each.audience
        for number, each in enumerate(deployment.issuers, start=1)
    }
    if deployment.introspection is not None and deployment.introspection.audience is not None:
        audiences["introspection.audience"] = deployment.introspection.audience
    clients = {each.id for each in deployment.applications}
    for where, audience in audiences.items():
        if audience in clients:
            yield (
                f"{where}: {audience} is one of [[applications]], and so the audience of its ID tokens; write"
                " the name that this API has at the issuer"
            )


def _of_one_issuer(deployment: Deployment) -> Iterator[str]:
    introspection = deployment.introspection
    if introspection is None:
        return
    for number, each in enumerate(deployment.issuers, start=1):
        if each.issuer == introspection.source and each.user_claim != introspection.user_claim:
            yield (
                f"introspection.user_claim: is {introspection.user_claim}, and issuers[{number}].user_claim"
                f" is {each.user_claim}, while both have the users of {each.issuer}: two people could be one;"
                " write the same in both"
            )
