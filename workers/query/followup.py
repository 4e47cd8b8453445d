"""Makes a follow-up question stand alone, so that it can be searched for: by a model if there is one, else by rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import structlog

from workers.adapters.bm25 import document_vector, query_vector
from workers.errors import ChatMisconfigured, ChatUnavailable
from workers.query.listening import Writer
from workers.query.prompt import rewriting
from workers.query.requests import LONGEST_QUERY, Message

log = structlog.get_logger()

PATIENCE_S = 10.0
LONGEST_REWRITTEN = 500
FEW_WORDS = 1
"""A question with no more words than this that search could use leans on what was said before."""

NAMES = 4

# Words that stand for something said before.  "that", "die" and the like mostly do not, and are left out.
_STANDING_FOR = (
    "it its they them their theirs he him his she her hers this these those"
    " er ihn ihm sie ihr ihnen dessen deren dort dies dieser dieses diese davon darin damit dazu daran"
    " elle ils elles leur eux cela ça ceci celui celle"
    " él ella ellos ellas eso esto ello aquello allí"
)
_LEANS = frozenset(_STANDING_FOR.split())
_OPENS = re.compile(
    r"^(?:and|but|so|also|what about|how about|und|aber|was ist mit|et|mais|y|pero|那|那么|它|他|她)\b", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]+")
_NAME = re.compile(r"\b[^\W\d_a-z][\w'’-]+(?:\s+[^\W\d_a-z][\w'’-]+)*")
_PERSONS = "he him his she her hers they them their er ihn ihm sie ihr il elle lui él ella"
_PERSON = frozenset(_PERSONS.split())
_CITED = re.compile(r"\s*\[\d+\]")


def standalone(
    question: str, history: Sequence[Message], *, writer: Writer | None, budget: int, cancelled: Callable[[], bool]
) -> str:
    """Return ``question`` so that it can be understood without ``history``; as it is when it can be already.

    Raises:
        Cancelled: nobody waits any more.
    """
    if not any(message.role == "user" for message in history):
        return question
    if writer is not None:
        try:
            written = "".join(
                writer.write(rewriting(question, history, budget=budget), cancelled=cancelled, patience_s=PATIENCE_S)
            )
        except (ChatUnavailable, ChatMisconfigured) as exc:
            log.info("followup.by_rule", error=type(exc).__name__)
        else:
            if usable := _one_line(written):
                return usable
    return by_rule(question, history)


def by_rule(question: str, history: Sequence[Message]) -> str:
    """Put the last question that stood alone before one that leans on it, and the names of the last answer.

    It knows nothing of grammar; it only gives search the words that the question stands on.
    """
    if not leans(question):
        return question
    earlier: list[str] = []
    for message in reversed(history):
        if message.role == "user":
            earlier.append(message.content.strip())
            if not leans(message.content):
                break
    names = _names(history) if _PERSON & set(_lower(question)) else []
    return " ".join([*reversed(earlier), *names, question])[-LONGEST_QUERY:]


def leans(question: str) -> bool:
    """Tell whether a question seems to need what was said before it."""
    if _OPENS.match(question.strip()) or _LEANS & set(_lower(question)):
        return True
    return len(query_vector(question).indices) <= FEW_WORDS


def changes_the_subject(question: str, whole: str, together: str, alone: str) -> bool:
    """Tell whether a question that opens like a follow-up ("And what about the boiler code?") names what it is about.

    ``whole`` has the earlier questions before it, ``together`` is the best passage for that, ``alone`` the best for the
    question itself: which has all of its words, while no passage speaks of both.  One word may be in any text, and "it"
    is something said before.
    """
    own = set(query_vector(question).indices)
    if len(own) <= FEW_WORDS or _LEANS & set(_lower(question)):
        return False
    said, earlier = set(document_vector(together).indices), set(query_vector(whole).indices) - own
    return own <= set(document_vector(alone).indices) and (own.isdisjoint(said) or earlier.isdisjoint(said))


def _names(history: Sequence[Message]) -> list[str]:
    """Return the names that the last answer begins with: a "she" is most likely one of them."""
    said = next((message.content for message in reversed(history) if message.role == "assistant"), "")
    return list(dict.fromkeys(_NAME.findall(_CITED.sub("", said)[:300])))[:NAMES]


def _lower(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _one_line(written: str) -> str:
    lines = [line.strip().strip("\"'“”") for line in written.splitlines() if line.strip()]
    return lines[0] if len(lines) == 1 and len(lines[0]) <= LONGEST_REWRITTEN else ""
