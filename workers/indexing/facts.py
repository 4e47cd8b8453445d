"""What the ledger remembers of a whole deployment: facts, turns, and the figures that the metrics page shows."""

from __future__ import annotations

from sqlalchemy import Engine, insert, select, update

from workers.contract import schema
from workers.contract.schema import counters, meta

RECIPE_FACT = "recipe"
COLLECTION_FACT = "collection"


class Facts:
    """Facts and figures of one ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = schema.reading(engine)

    def count(self, **amounts: float) -> None:
        """Add to counters that the metrics page shows; names use __ for dots: ``stage__parse__seconds=0.2``."""
        with self._engine.begin() as connection:
            for name, amount in amounts.items():
                key = name.replace("__", ".")
                changed = connection.execute(
                    update(counters).where(counters.c.name == key).values(value=counters.c.value + amount)
                )
                if changed.rowcount == 0:
                    connection.execute(insert(counters).values(name=key, value=amount))

    def take_turn(self, name: str, for_s: float) -> bool:
        """Tell whether this process may do ``name`` now, which only one of a deployment should do at a time."""
        key = f"turn:{name}"[:64]
        with self._engine.begin() as connection:
            now = float(connection.scalar(select(schema.now(connection))) or 0.0)
            until = connection.scalar(select(meta.c.value).where(meta.c.key == key))
            if until is None:
                connection.execute(insert(meta).values(key=key, value=str(now + for_s)))
                return True
            if float(until) > now:
                return False
            taken = connection.execute(
                update(meta).where(meta.c.key == key, meta.c.value == until).values(value=str(now + for_s))
            )
            return taken.rowcount == 1

    def fact(self, key: str) -> str | None:
        """Return a deployment-wide fact, such as the vector space of a collection."""
        with self._reading.connect() as connection:
            return connection.scalar(select(meta.c.value).where(meta.c.key == key))

    def remember_fact(self, key: str, value: str, *, replace: bool = False) -> None:
        """Keep a deployment-wide fact; the first one wins unless ``replace``."""
        with self._engine.begin() as connection:
            if connection.scalar(select(meta.c.value).where(meta.c.key == key)) is None:
                connection.execute(insert(meta).values(key=key, value=value))
            elif replace:
                connection.execute(update(meta).where(meta.c.key == key).values(value=value))
