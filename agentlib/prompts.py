"""Every prompt, so that training and test read the same; the shape of an agent's turn (how its code
blocks are found and closed) and of the observation that follows.

The roles of the published prompts (rules and worked examples for teachers and untuned models,
neither for students) are kept; the wording is ours.
"""

import ast
import functools
import hashlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from agentlib.config import WORDINGS

THOUGHT, END_CODE, OBSERVATION = "Thought:", "<end_code>", "Observation:"
STOP = (END_CODE, OBSERVATION)  # reference code
NOTHING_PRINTED = "(nothing was printed)"
OBSERVATION_CHARACTERS = 2500
WARNING_CHARACTERS = 800  # of standard error

_TURNS = """\
You solve a question step by step by writing Python. In each step write a line "Thought:" with your plan, then \
"Code:" and a ```py block that ends with ```<end_code>. What the code prints comes back as "Observation:". \
Variables stay alive between steps.
You can call """
_SEARCH = "web_search(query: str) -> str, which returns passages of an encyclopedia, and "
_ANSWER = "final_answer(answer), which ends the task with your answer."

# Rules and examples that speak of a search are left out where there is none.
_RULES = (
    (
        'Every step has a "Thought:" line, then "Code:" and one ```py block that ends with'
        " ```<end_code>."
    ),
    (
        "Look up facts with web_search and print what it returns; never answer a factual question"
        " from memory."
    ),
    "One search asks about one thing. Read the observation before you search for the next.",
    "Compute with Python; never do arithmetic in your head. numpy and sympy can be imported.",
    (
        "If a search did not find it, search with other words; never run the same code twice."
        " web_search knows no mathematics."
    ),
    (
        "When you know the answer, call final_answer(answer) inside a ```py block: a name or a"
        " number, no sentence. An answer written outside of code is lost."
    ),
    "If the code failed, read the error and write it differently.",
)

# Facts and numbers here appear in no training or test question. The wording "plan" has the first
# three.
_EXAMPLES = (
    """
Question: How many square kilometres has the country in which the city of Tainan lies?

Thought: I need to know in which country Tainan lies.
Code:
```py
print(web_search("Tainan"))
```<end_code>

Observation:
[1] Tainan
Tainan lies in Taiwan. The city keeps the time zone Asia/Taipei. The population of Tainan is 1,856,642.
[2] Tainai
Tainai is a city in Japan. It has 31,000 inhabitants.

Thought: Tainan lies in Taiwan. Now I look up Taiwan to find its area.
Code:
```py
print(web_search("Taiwan"))
```<end_code>

Observation:
[1] Taiwan
Taiwan is part of the continent of Asia. Its currency is the Dollar (TWD). Its area is 35,980 square kilometres.

Thought: The area of Taiwan is 35,980 square kilometres, so that is the answer.
Code:
```py
final_answer(35980)
```<end_code>
""",
    """
Question: A number leaves remainder 2 when divided by 3, and 3 when divided by 5. What is the sum of all such \
numbers below 100?

Thought: I will go through all numbers below 100, keep those that fit both conditions, and add them up.
Code:
```py
numbers = [n for n in range(100) if n % 3 == 2 and n % 5 == 3]
print(numbers, sum(numbers))
```<end_code>

Observation:
[8, 23, 38, 53, 68, 83, 98] 371

Thought: The sum is 371.
Code:
```py
final_answer(371)
```<end_code>
""",
    """
Question: Which mountain is lower, Ben Nevis or Snowdon?

Thought: I look up the heights of both mountains.
Code:
```py
print(web_search("Ben Nevis height"))
print(web_search("Snowdon height"))
```<end_code>

Observation:
[1] Ben Nevis
Ben Nevis is a mountain in Scotland, 1,345 metres high.
[1] Snowdon
Snowdon is a mountain in Wales, 1,085 metres high.

Thought: I let Python compare 1,345 and 1,085.
Code:
```py
heights = {"Ben Nevis": 1345, "Snowdon": 1085}
final_answer(min(heights, key=heights.get))
```<end_code>
""",
    """
Question: In which city was the architect of the Sydney Opera House born?

Thought: First I have to find out who the architect of the Sydney Opera House was.
Code:
```py
print(web_search("architect of the Sydney Opera House"))
```<end_code>

Observation:
[1] Sydney Opera House
The Sydney Opera House is a centre for the performing arts on Sydney Harbour in Australia. It was opened in 1973. Jørn Utzon \
designed it, after he had won an international competition in 1957.

[2] Sydney Harbour Bridge
The Sydney Harbour Bridge is an arch bridge of steel near the Opera House. It was opened in 1932.

[3] Opera Australia
Opera Australia is an opera company whose season in Sydney takes place in the Sydney Opera House.

Thought: The architect was Jørn Utzon. These passages do not say where he was born, so I search for him.
Code:
```py
print(web_search("Jørn Utzon born"))
```<end_code>

Observation:
[1] Jørn Utzon
Jørn Utzon (1918-2008) was a Danish architect. He was born in Copenhagen, where his father built ships, and grew up in Aalborg.

[2] Utzon Center
The Utzon Center is a building for exhibitions in Aalborg, the last one that Jørn Utzon designed.

[3] Jan Utzon
Jan Utzon is a Danish architect and a son of Jørn Utzon.

Thought: The passage says that Jørn Utzon was born in Copenhagen. Aalborg is where he grew up.
Code:
```py
final_answer("Copenhagen")
```<end_code>
""",
)

# Appended to a turn that follows a step without code, or one that failed.
NO_CODE = (
    'No code block was found. Write a line "Thought:", then "Code:" and a ```py block that ends'
    " with ```<end_code>. To give the answer, call final_answer(answer) in it."
)
RETRY = "Read the error and write the code differently."
LAST_TURN = (
    "You have no steps left. Write the final answer to the question now: only the name or the"
    " number, no explanation."
)

# Asked without examples: its first paragraph becomes the first thought of an agent's run (§3.1), so
# it should be the model's own.
COT = "Reason step by step, and put your final answer within \\boxed{}."

# The wording "plan", of the first experiments (LOG.md): the first paragraph is made to be a plan and no
# answer.
_PLAN = "First write one sentence that says what has to be found and how, then an empty line. "
COT_PLAN = {
    "math": (
        f"{_PLAN}Then solve the problem step by step. Write the final answer as \\boxed{{answer}}"
        " at the end."
    ),
    "factual": (
        f"{_PLAN}Then answer the question step by step from what you know. Write the final answer,"
        " a name or a number, as \\boxed{answer} at the end."
    ),
}
# Turns of their own, for teachers and untuned models.
COT_EXAMPLES = {
    "math": (
        (
            (
                "A number leaves remainder 2 when divided by 3, and 3 when divided by 5. What is"
                " the sum of all such numbers below 100?"
            ),
            """\
I have to find the first number that fits both conditions, step through the others, and add them up.

The numbers 3, 8, 13 leave remainder 3 when divided by 5, and 8 leaves remainder 2 when divided by 3. The next ones \
follow in steps of 3 * 5 = 15: 8, 23, 38, 53, 68, 83, 98.

Their sum is 7 * (8 + 98) / 2 = 371.

\\boxed{371}""",
        ),
    ),
    "factual": (
        (
            "How many square kilometres has the country in which the city of Tainan lies?",
            """\
I have to find the country in which Tainan lies, and then the area of that country.

Tainan is a city in Taiwan.

Taiwan has an area of 35,980 square kilometres.

\\boxed{35980}""",
        ),
        (
            "Which mountain is lower, Ben Nevis or Snowdon?",
            """\
I have to find the heights of Ben Nevis and of Snowdon, and compare them.

Ben Nevis is 1,345 metres high, Snowdon 1,085 metres. 1,085 is less than 1,345.

\\boxed{Snowdon}""",
        ),
    ),
}


def tool_lines(tools: Mapping[str, Callable[..., Any]]) -> str:
    """What an agent is told of tools beside the search: each one's signature and the first line of
    its docstring.
    """
    lines = []
    for name, tool in tools.items():
        bound = tool.keywords if isinstance(tool, functools.partial) else {}
        try:
            signature = inspect.signature(tool)
            free = [
                parameter
                for parameter in signature.parameters.values()
                if parameter.name not in bound
            ]
            parameters = re.sub(
                r"<[^<>]* at 0x[0-9a-f]+>", "...", str(signature.replace(parameters=free))
            )
        except ValueError:  # a builtin may not tell its parameters
            parameters = "(...)"
        # its own docstring is that of `partial`
        told = tool.func if isinstance(tool, functools.partial) else tool
        meaning = (inspect.getdoc(told) or "").partition("\n")[0].strip()
        lines.append(f"You can also call {name}{parameters}{f': {meaning}' if meaning else ''}")
    return "\n".join(lines)


def _is_plan(wording: str) -> bool:
    if wording not in WORDINGS:
        raise ValueError(f"wording is {wording!r}, expected one of {', '.join(WORDINGS)}")
    return wording == "plan"


def agent_system(style: str, tools: str = "", search: bool = True, wording: str = "plain") -> str:
    """The system turn of an agent: for a "teacher" (or an untuned model) with rules and worked
    examples, for a "student" without. `tools` are lines of `tool_lines`; `search` says whether
    there is a `web_search`. `wording` "plain" has four examples, "plan" three.
    """
    told = _TURNS + (_SEARCH if search else "") + _ANSWER + (f"\n{tools}" if tools else "")
    if style != "teacher":
        return told
    rules = [rule for rule in _RULES if search or "search" not in rule]
    numbered = "".join(f"{number}. {rule}\n" for number, rule in enumerate(rules, 1))
    examples = _EXAMPLES[:3] if _is_plan(wording) else _EXAMPLES
    examples = [example for example in examples if search or "web_search" not in example]
    shown = "Here are worked examples." if len(examples) > 1 else "Here is a worked example."
    return (
        f"{told}\n\nRules:\n{numbered}\n{shown}{''.join(examples)}\n"
        "Now solve the question that you are given in the same way, one step at a time."
    )


AGENT_STUDENT, AGENT_TEACHER = agent_system("student"), agent_system("teacher")


def question_turn(text: str) -> str:
    """The user turn that asks an agent."""
    return f"Question: {text}"


def cot_turns(
    text: str, domain: str, passages: str = "", examples: bool = False, wording: str = "plain"
) -> list[dict]:
    """The conversation that asks for a chain of thought, with passages in front for CoT + RAG.

    `wording` "plain" asks for nothing but steps. "plan" asks for a plan first, in words of each
    domain, and has worked examples where `examples` is true, for teachers and untuned models.
    """
    plan = _is_plan(wording)
    turns = [{"role": "system", "content": COT_PLAN[domain] if plan else COT}]
    for question, answer in COT_EXAMPLES[domain] if plan and examples else ():
        turns += [
            {"role": "user", "content": question_turn(question)},
            {"role": "assistant", "content": answer},
        ]
    user = f"{passages}\n\n{question_turn(text)}" if passages else question_turn(text)
    return [*turns, {"role": "user", "content": user}]


def observation_turn(
    stdout: str, value: str, failure: tuple[str, str] | None, stderr: str = ""
) -> str:
    """The user turn that shows what a step did: printed text, warnings, last value, error."""
    warned = shorten(stderr.strip(), WARNING_CHARACTERS)
    shown = shorten("\n".join(part for part in (stdout.rstrip(), warned, value) if part))
    if failure is None:
        return f"{OBSERVATION}\n{shown or NOTHING_PRINTED}"
    kind, message = failure
    if kind == "parse" and not message:
        return f"{OBSERVATION}\n{NO_CODE}"
    return f"{OBSERVATION}\n{shown}{chr(10) if shown else ''}Error: {shorten(message)}\n{RETRY}"


def shorten(text: str, limit: int = OBSERVATION_CHARACTERS) -> str:
    """The start and the end of a text that is too long to show a model."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - limit} characters left out …\n{text[-half:]}"


def version(agent: bool, wording: str = "plain") -> str:
    """Names an agent's words, or those of a chain of thought: part of a run's configuration, so
    that changed prompts never share its folder.
    """
    if agent:
        teacher = agent_system("teacher", wording=wording)
        words = [teacher, NO_CODE, RETRY, LAST_TURN, *STOP, str(OBSERVATION_CHARACTERS)]
    elif _is_plan(wording):
        shown = (text for domain in COT_EXAMPLES.values() for example in domain for text in example)
        words = [*COT_PLAN.values(), *shown]
    else:
        words = [COT]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:10]


# --- an agent's turn, as models write it ---------------------------------------------------------------------------

# A block opens with a fence and a name of Python, or with the tag of newer smolagents, and the line
# must end there: a turn may also quote the prompt ("a ```py block that ends with ```"). A block
# without a name is text: the prompt asks for ```py.
_OPENING = re.compile(
    r"(?P<fence>`{3,}|~{3,})[ \t]*(?:i?python|py)[\d.]*[ \t]*(?:\r?\n|\Z)|<code>[ \t]*\r?\n",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"^[ \t]*(?P<line>`{3,}|~{3,}|</code>)|(?P<tail>`{3,}|~{3,}|</code>)(?=["
    rf" \t]*(?:{END_CODE})?[ \t]*\r?$)|(?={END_CODE})",
    re.IGNORECASE | re.MULTILINE,
)
_NAMED = re.compile(r"(?:`{3,}|~{3,})[ \t]*\w[^\s`]*[ \t]*\r?\n")
_ACTION = re.compile(r"^[ \t]*Code:|Code:\s*(?=```|~~~|<code>)|```|~~~|<code>\s*\n", re.MULTILINE)

# places where a block may end, for each block: a model that cannot stop writes hundreds of fences
_TRIED = 16


class Block(NamedTuple):
    """A block of Python in a turn: `end` is where the text goes on, `missing` the closing fence of
    one that has none.
    """

    code: str
    end: int
    missing: str


def blocks(text: str) -> list[Block]:
    """The Python blocks of a turn, in order, empty ones too; one that is open at the end of the
    turn counts.

    A block ends at the first fence at which its code parses, so that a fence within a string does
    not end it: fences that begin a line are tried first, then those that end one, then the end of
    the turn. Code that parses at none of them ends at the first.
    """
    text, found, place = text.rstrip(), [], 0
    while opening := _OPENING.search(text, place):
        begin = opening.end()
        closing = _CLOSING.search(text, begin)
        end, place = (closing.start(), closing.end()) if closing else (len(text), len(text))
        if closing and text[place:].strip() not in ("", END_CODE):
            for other in itertools.islice(_closings(text, begin), _TRIED):
                at = other.start() if other else len(text)
                if _parses(_plain(text[begin:at])):
                    end, place = at, at if other is None or _opens(other) else other.end()
                    break
        missing = "" if place > end else opening["fence"] or "</code>"
        found.append(Block(_plain(text[begin:end]), place, missing))
    return found


def _closings(text: str, begin: int) -> Iterator[re.Match | None]:
    """Where a block may end, in the order they are tried; None is the end of the turn."""
    yield from (closing for closing in _CLOSING.finditer(text, begin) if closing["line"])
    yield from (closing for closing in _CLOSING.finditer(text, begin) if not closing["line"])
    yield None


def _opens(closing: re.Match) -> bool:
    """Whether the fence that ends a block is the opening of the next one."""
    return bool(closing["line"] and _NAMED.match(closing.string, closing.start("line")))


def _plain(code: str) -> str:
    """A block's code with plain line ends, without blank lines around it or an indentation that all
    its lines share.
    """
    code = code.rstrip(" \t").replace("\r\n", "\n").strip("\n")
    lines = code.split("\n")
    margin = min((len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] for line in lines) if code.strip() else ""


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def close_turn(text: str) -> str:
    """A turn as it stands in the conversation: an open block is closed, and the stop string that
    was cut off is put back.
    """
    text = text.rstrip()
    last = blocks(text)[-1:]
    end = last[0].end if last else 0
    tail = text[end:].strip("`~ \t\r\n")  # a fence written twice is one too many
    if last and any(stop.startswith(tail) for stop in STOP):
        text = (
            text[:end].rstrip(" \t").rstrip("\r\n") + f"\n{last[0].missing}"
            if last[0].missing
            else text[:end]
        )
    elif text.count("```", end) % 2:
        text += "\n```"
    return text + END_CODE if text.endswith(("```", "~~~", "</code>")) else text


def split_turn(text: str) -> tuple[str, str]:
    """A turn's thought, and the rest from its "Code:" or its first fence on; small models forget
    the one or the other.
    """
    action = _ACTION.search(text)
    return (text[: action.start()], text[action.start() :]) if action else (text, "")
