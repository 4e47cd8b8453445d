"""What may be asked: checked once at the edge, and refused in words that say which field is wrong."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from workers.contract.faults import told
from workers.query.filters import LONGEST_FIELD, BadFilter, Condition, read_filter
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

    field: str = Field("modified", min_length=1, max_length=LONGEST_FIELD)
    half_life_days: float = Field(365.0, gt=0, le=36_500)
    weight: float = Field(0.5, gt=0, le=1)


class SearchRequest(BaseModel):
    """A search."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    query: str = Field(min_length=1, max_length=LONGEST_QUERY)
    limit: int = Field(10, ge=1, le=100)
    mode: Mode = "hybrid"
    filters: dict[str, Any] | None = None
    explain: bool = False
    facets: list[Annotated[str, Field(min_length=1, max_length=LONGEST_FIELD)]] = Field(
        default_factory=list, max_length=MOST_FACETS
    )
    per_document: int | None = Field(None, ge=1, le=100)
    collapse: bool | None = None  # None: as the length of the list asks for
    join: bool | None = None  # the same
    neighbours: int = Field(0, ge=0, le=5)
    diversity: float = Field(0.0, ge=0, le=1)
    recency: Recency | None = None
    rerank: bool = True

    _wanted: Condition = PrivateAttr()
    wants_vectors: ClassVar[bool] = False
    keeps_together: ClassVar[bool] = True

    @field_validator("query")
    @classmethod
    def query_is_text(cls, query: str) -> str:
        return query.encode("utf-8", "replace").decode()

    @model_validator(mode="after")
    def filters_make_sense(self) -> Self:
        try:
            self._wanted = read_filter(self.filters)
        except BadFilter as exc:
            raise ValueError(f"filters: {exc}") from None
        return self

    @property
    def collapses(self) -> bool:
        """Whether what says the same is shown once."""
        return self.limit <= MOST_FOR_EYES if self.collapse is None else self.collapse

    @property
    def joins(self) -> bool:
        """Whether chunks that stand side by side are shown as one hit."""
        return self.limit <= MOST_FOR_EYES if self.join is None else self.join

    @property
    def wanted(self) -> Condition:
        """The filters as our own model."""
        return self._wanted


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
    """A question; without ``query``, the last thing that the user said."""

    wants_vectors: ClassVar[bool] = True  # how near the hits are tells whether they answer
    keeps_together: ClassVar[bool] = False  # what tells whether they answer was weighed on the index's own order

    limit: int = Field(8, ge=1, le=100)
    collapse: bool | None = True  # the same passage twice is no second reason
    messages: list[Message] = Field(default_factory=list, max_length=200)

    @model_validator(mode="before")
    @classmethod
    def the_last_message_may_be_the_question(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and not raw.get("query") and isinstance(raw.get("messages"), list):
            said = [m.get("content") for m in raw["messages"] if isinstance(m, dict) and m.get("role") == "user"]
            if said:
                return raw | {"query": said[-1]}
        return raw

    @property
    def joins(self) -> bool:
        """Never: each chunk is cited by itself."""
        return False

    @property
    def history(self) -> list[Message]:
        """What was said before the question."""
        talk = [message for message in self.messages if message.role != "system"]
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
