"""An LLM as the judge of factual answers, as in the paper (§4.1).

Owns its prompt and the verdicts kept. Knows nothing of cases or runs.
"""

import hashlib
import json
import re
import threading
from pathlib import Path
from typing import Any

import httpx
import tenacity

from agentlib import maths_text, score
from agentlib.score import Grade


class Judge:
    """An LLM's verdict on factual answers, through any OpenAI-compatible server, at temperature 0.

    Verdicts are kept in `cache_file`, one JSON line each, so a question is put once.
    """

    PROMPT = (
        "Decide whether a predicted answer to a question means the same as the reference answer. Extra detail is "
        "fine; a contradiction, a hedge, or several candidates is not.\n\nQuestion: {question}\nReference answer: "
        "{gold}\nPredicted answer: {prediction}\n\nReply with one word: CORRECT or INCORRECT."
    )

    def __init__(self, server_url: str, model: str, cache_file: Path, *, api_key: str = "", seconds: float = 60.0):
        self.url = server_url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        self.model, self.cache_file = model, Path(cache_file)
        self._client = httpx.Client(timeout=seconds, headers={"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._lock = threading.Lock()
        lines = self.cache_file.read_text(encoding="utf-8").split("\n") if self.cache_file.exists() else []
        self._known = {line["key"]: line for line in map(json.loads, lines[:-1])}  # what follows the last \n is torn

    def grade(self, question: str, prediction: Any, gold: str) -> Grade:
        """Raises ValueError for a reply that is no verdict, httpx.HTTPError when the server stays unreachable."""
        if prediction is None or not maths_text.plain(prediction).strip():
            return Grade(False, False, 0.0, "no answer")
        prompt = self.PROMPT.format(question=question, gold=gold, prediction=maths_text.plain(prediction))
        key = hashlib.sha256(f"{self.model}\n{prompt}".encode()).hexdigest()
        if key not in self._known:
            reply = self._ask(prompt)
            verdict = re.fullmatch(r"\W*(IN)?CORRECT\W*", reply.strip(), re.I)
            if verdict is None:
                raise ValueError(
                    f"the judge {self.model} replied {reply[:80]!r}, expected CORRECT or INCORRECT; use a larger judge"
                )
            line = {"key": key, "correct": verdict[1] is None, "question": question, "gold": gold, "reply": reply}
            with self._lock, open(self.cache_file, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                self._known[key] = line
        by_rules = score.grade(prediction, gold, "factual")
        return Grade(self._known[key]["correct"], by_rules.exact_match, by_rules.f1, f"judged by {self.model}")

    @tenacity.retry(
        retry=tenacity.retry_if_exception(
            lambda e: (
                isinstance(e, httpx.TransportError)
                or (isinstance(e, httpx.HTTPStatusError) and e.response.status_code in (429, 500, 502, 503, 504))
            )
        ),
        wait=tenacity.wait_exponential(multiplier=0.5, max=20),
        stop=tenacity.stop_after_attempt(5),
        reraise=True,
    )
    def _ask(self, prompt: str) -> str:
        body = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": 8,
            "messages": [{"role": "user", "content": prompt}],
        }
        return self._client.post(self.url, json=body).raise_for_status().json()["choices"][0]["message"]["content"]
