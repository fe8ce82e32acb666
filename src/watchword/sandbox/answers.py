"""Error documents as Starlette's handlers return them."""

from starlette.responses import Response

from watchword.problems import Problem


def refuse(problem: Problem) -> Response:
    """Make a response of an error document."""
    response = Response(problem.body, problem.status)
    response.raw_headers += problem.headers
    return response
