"""What all clients of servers share: whether one answers, which requests to retry, fields that some
servers refuse, and an answer quoted in one line.
"""

import contextlib
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import tenacity

log = logging.getLogger(__name__)
BUSY = (429, 500, 502, 503, 504)  # HTTP status codes of a server that starts, or is overloaded


def answers(url: str, key: str = "", seconds: float = 5.0) -> bool:
    """Whether a server answers at an address (with this key, if it wants one), and not with an
    error.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL):
        return (
            httpx.get(url, timeout=seconds, headers=headers, follow_redirects=True).status_code
            < 400
        )
    return False


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help: the network, a server that starts or is overloaded, half an
    answer.
    """
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in BUSY
    return isinstance(error, httpx.TransportError | httpx.DecodingError)


def retrying(attempts: int, when: Callable[[BaseException], bool] = may_pass) -> tenacity.Retrying:
    """Calls a function up to `attempts` times, waiting longer each time (over a minute in all for
    6); the last error is raised.
    """
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(when),
        wait=tenacity.wait_exponential_jitter(initial=1.0, max=20.0, jitter=1.0),
        stop=tenacity.stop_after_attempt(attempts),
        reraise=True,
    )


def post(
    client: httpx.Client, url: str, body: dict[str, Any], optional: Sequence[str], refused: set[str]
) -> httpx.Response:
    """A server's answer to a request; where it refuses some of the `optional` fields by name, its
    answer without them.

    `refused` gains those names, so that later requests leave them out at once.
    """
    body = {name: value for name, value in body.items() if name not in refused}
    reply = client.post(url, json=body)
    named = {name for name in optional if name in body and re.search(rf"\b{name}\b", reply.text)}
    if reply.status_code not in (400, 422) or not named:
        return reply
    again = client.post(
        url, json={name: value for name, value in body.items() if name not in named}
    )
    if again.status_code >= 400:
        return reply
    log.warning("%s refuses %s, which further requests leave out", url, ", ".join(sorted(named)))
    refused |= named
    return again


def said(reply: httpx.Response) -> str:
    """The beginning of an answer in one line; of a web page, as proxies send one, its words, and of
    an error in JSON its sentence."""
    text = _error_message(reply) or reply.text
    if text.lstrip()[:1] == "<":
        text = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", text, flags=re.S | re.I)
        text = f"a web page, {' '.join(text.split())!r:.160}"
    return " ".join(text.split())[:300]


def _error_message(reply: httpx.Response) -> str:
    """The sentence of an error in JSON, as FastAPI ("detail"), OpenAI ("error": {"message"}) and
    older servers ("message") send it; "" where there is none."""
    if reply.status_code < 400:
        return ""
    try:
        found = reply.json()
    except ValueError:
        return ""
    for name in ("error", "detail", "message"):
        if isinstance(found, dict) and name in found:
            found = found[name]
    return found if isinstance(found, str) else ""
