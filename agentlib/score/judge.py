"""An LLM as the judge of factual answers, as in the paper (§4.1)."""

import hashlib
import json
import logging
import re
import threading
from pathlib import Path
from typing import Any

import httpx

from agentlib import config, records
from agentlib.score import grading, maths_text
from agentlib.score.grading import Grade
from agentlib.web import post, retrying, said

log = logging.getLogger(__name__)
# the environment variable of the judge's key, so that it is in no record
KEY = "AGENTLIB_JUDGE_KEY"
OPTIONAL = ("temperature", "max_tokens")  # which some models of some servers refuse by name


class Judge:
    """Grades factual answers through any OpenAI-compatible server, at temperature 0.

    Verdicts are kept in `cache_file`, one JSON line each; the same request is sent only once.
    """

    PROMPT = (
        "Decide whether a predicted answer to a question means the same as the reference answer."
        " Extra detail is fine; a contradiction, a hedge, or several candidates is"
        " not.\n\nQuestion: {question}\nReference answer: {gold}\nPredicted answer:"
        " {prediction}\n\nReply with one word: CORRECT or INCORRECT."
    )

    def __init__(
        self,
        server_url: str,
        model: str,
        cache_file: Path,
        *,
        api_key: str = "",
        seconds: float = 60.0,
    ):
        self.url = config.server_root(server_url) + "/v1/chat/completions"
        self.model, self.cache_file = model, Path(cache_file)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(timeout=seconds, headers=headers, follow_redirects=True)
        self._lock, self._refused, self._retry = threading.Lock(), set[str](), retrying(5)
        # not after a verdict that was paid for
        self.cache_file.parent.mkdir(parents=True, exist_ok=True)
        # a verdict appended to a torn line would be lost with it
        records.repair_last_line(self.cache_file)
        self._known = (
            {line["key"]: line for line in records.read(self.cache_file)}
            if self.cache_file.exists()
            else {}
        )

    def grade(self, question: str, prediction: Any, gold: str) -> Grade:
        """Whether the judge takes the prediction for right; exact match and F1 are `score`'s.

        Raises ValueError for a reply that is no verdict, and httpx.HTTPError when the server
        refuses the request or stays unreachable.
        """
        if maths_text.is_blank(prediction):
            return Grade(False, False, 0.0, "no answer")
        answer = maths_text.to_text(prediction)
        prompt = self.PROMPT.format(question=question, gold=gold, prediction=answer)
        prompt = records.replace_surrogates(prompt)
        key = hashlib.sha256(f"{self.model}\n{prompt}".encode()).hexdigest()
        if key not in self._known:
            reply = self._retry(self._ask, prompt)
            verdict = re.fullmatch(r"\W*(IN)?CORRECT\W*", reply.strip(), re.I)
            if verdict is None:
                raise ValueError(
                    f"the judge {self.model} replied {reply[:80]!r}, expected CORRECT or INCORRECT;"
                    " use a larger judge"
                )
            line = {
                "key": key,
                "correct": verdict[1] is None,
                "question": question,
                "gold": gold,
                "reply": reply,
            }
            with self._lock, open(self.cache_file, "a", encoding="utf-8") as stream:
                stream.write(
                    json.dumps(records.replace_surrogates(line), ensure_ascii=False) + "\n"
                )
                self._known[key] = line
        by_rules = grading.grade(prediction, gold, "factual")
        return Grade(
            self._known[key]["correct"],
            by_rules.exact_match,
            by_rules.f1,
            f"judged by {self.model}",
        )

    def _ask(self, prompt: str) -> str:
        body = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": 8,
            "messages": [{"role": "user", "content": prompt}],
        }
        reply = post(self._client, self.url, body, OPTIONAL, self._refused)
        try:
            return reply.raise_for_status().json()["choices"][0]["message"]["content"] or ""
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(
                f"the judge at {self.url} sent no chat completion but {said(reply)!r:.200}; check"
                " judge_server"
            ) from None
