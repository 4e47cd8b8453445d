"""What may be asked: checked once at the edge, and refused in words that say which field is wrong."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from workers.contract.faults import told
from workers.query.facets import fault_of, field_of
from workers.query.filters import LONGEST_FIELD, Condition, field_name, read_filter
from workers.query.values import Mode

MOST_FOR_EYES = 10
"""Up to so many hits are read by a person, whom copies of one text would crowd out; a longer list is worked through."""

LONGEST_QUERY = 4_000
LONGEST_PASSAGE = 20_000
MOST_SEARCHES = 32
MOST_FACETS = 16


class BadRequest(ValueError):
    """The request makes no sense; the text says why and never repeats what was sent."""


class Recency(BaseModel):
    """Newer documents first, as far as ``weight`` says: a hit's score falls towards (1 - weight) of itself with age."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str = Field("modified", min_length=1, max_length=LONGEST_FIELD, description="A date of the metadata.")
    half_life_days: float = Field(365.0, gt=0, le=36_500, description="Age at which half of the bonus is gone.")
    weight: float = Field(0.5, gt=0, le=1, description="Share of the score that age can take away.")


class SearchRequest(BaseModel):
    """What a search takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    query: str = Field(min_length=1, max_length=LONGEST_QUERY, examples=["boiler code"])
    limit: int = Field(10, ge=1, le=100)
    mode: Mode = "hybrid"
    filters: dict[str, Any] | None = Field(
        None,
        description="What a hit must be: equality, any-of, ranges, prefix, exists, and, or, not.",
        examples=[{"filetype": "text/markdown", "date": {"gte": "2015"}}],
    )
    explain: bool = Field(False, description="Say for each hit why it is there.")
    facets: list[Annotated[str, Field(min_length=1, max_length=LONGEST_FIELD)]] | None = Field(
        None,
        max_length=MOST_FACETS,
        description="Fields to count over all documents with a word of the query; `date:year` counts years.",
    )
    per_document: int | None = Field(
        None, ge=1, le=100, description="Chunks of a document that come before those of others."
    )
    collapse: bool | None = Field(
        None, description="Show what says the same once; by default in lists of up to ten hits."
    )
    join: bool | None = Field(
        None, description="Show chunks that stand side by side as one hit; by default in lists of up to ten hits."
    )
    neighbours: int = Field(0, ge=0, le=5, description="Chunks before and after each hit to return.")
    diversity: float = Field(0.0, ge=0, le=1, description="How much hits should differ (MMR); 0: not at all.")
    recency: Recency | None = None
    rerank: bool = Field(True, description="Let the reranker order the best, where there is one.")

    judge: bool = Field(False, description="Say whether anything that is found is about the query (`weak`).")

    keeps_together: ClassVar[bool] = True

    @field_validator("query")
    @classmethod
    def query_is_text(cls, query: str) -> str:
        return query.encode("utf-8", "replace").decode()

    @field_validator("filters")
    @classmethod
    def filters_make_sense(cls, filters: dict[str, Any] | None) -> dict[str, Any] | None:
        read_filter(filters)
        return filters

    @field_validator("facets")
    @classmethod
    def facets_make_sense(cls, facets: list[str] | None) -> list[str] | None:
        for facet in facets or ():
            if fault := fault_of(facet):
                raise ValueError(fault)
            field_name(field_of(facet))
        return facets

    @property
    def wants_vectors(self) -> bool:
        """Whether the hits' own vectors are needed: how near they are tells whether they answer."""
        return self.judge

    @cached_property
    def wanted(self) -> Condition:
        """The filters as our own model."""
        return read_filter(self.filters)

    @property
    def collapses(self) -> bool:
        """Whether what says the same is shown once."""
        return self.limit <= MOST_FOR_EYES if self.collapse is None else self.collapse

    @property
    def joins(self) -> bool:
        """Whether chunks that stand side by side are shown as one hit."""
        return self.limit <= MOST_FOR_EYES if self.join is None else self.join


class BatchRequest(BaseModel):
    """Several searches at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    searches: list[SearchRequest] = Field(min_length=1, max_length=MOST_SEARCHES)


class ExplainRequest(SearchRequest):
    """Why a document is, or is not, among the hits of a search."""

    doc_id: str = Field(pattern=r"^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$")


class QuestionRequest(BaseModel):
    """A passage that somebody wants a question for."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    text: str = Field(min_length=1, max_length=LONGEST_PASSAGE)
    title: str | None = Field(None, max_length=1_000)
    heading: str | None = Field(None, max_length=1_000)


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["user", "assistant", "system"]
    content: str = Field(max_length=32_000)


class AnswerRequest(SearchRequest):
    """What a question takes: the question, a conversation that ends with it, or both."""

    keeps_together: ClassVar[bool] = False  # what tells whether they answer was weighed on the index's own order

    query: str = Field("", min_length=1, max_length=LONGEST_QUERY, description="Unset: the last that the user said.")
    limit: int = Field(8, ge=1, le=100)
    collapse: bool | None = Field(True, description="Use what says the same once.")  # a copy is no second reason
    messages: list[Message] | None = Field(None, max_length=200)

    @model_validator(mode="before")
    @classmethod
    def the_last_message_may_be_the_question(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("query") is not None:
            return raw
        talk = raw["messages"] if isinstance(raw.get("messages"), list) else []
        said = [m["content"] for m in talk if isinstance(m, dict) and m.get("role") == "user" and m.get("content")]
        if not said:
            raise ValueError("query: is missing, and messages has nothing that the user asks")
        return raw | {"query": said[-1]}

    @property
    def wants_vectors(self) -> bool:
        """Always."""
        return True

    @property
    def joins(self) -> bool:
        """Never: each chunk is cited by itself."""
        return False

    @property
    def history(self) -> list[Message]:
        """What was said before the question."""
        talk = [message for message in self.messages or () if message.role != "system"]
        if talk and talk[-1].role == "user" and talk[-1].content.strip() == self.query:
            talk.pop()
        return talk


_Asked = TypeVar("_Asked", bound=BaseModel)


def read(model: type[_Asked], raw: object) -> _Asked:
    """Return the request in ``raw`` (a JSON object).

    Raises:
        BadRequest: it is not one.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        raise BadRequest("; ".join(_told(error) for error in exc.errors()[:5])) from None


def _told(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"][:3])
    return f"{where}: {told(error)}" if where else told(error)
