"""The tokens and requests per minute of an embedding endpoint, shared by every worker through Valkey.

A bucket that holds one minute's worth and fills continuously, as OpenAI's own does, in one Lua script: look, fill and
take are one step, on the broker's clock, whoever asks (ADR 0033).  The limits come from the settings, or from the
endpoint's ``x-ratelimit-*`` headers as soon as it sends some.  Without Valkey a worker keeps to half of what it knows:
slower, and never stuck.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from typing import Any

import redis
import structlog

log = structlog.get_logger()

LIVE_SHARE = 0.02
"""The part of a minute's tokens that a backfill leaves in the bucket: a live edit never waits for it to fill."""
WITHOUT_BROKER = 0.5
ASK_AGAIN_S = 10.0

_SCRIPT = """
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local tpm, rpm, tokens, requests, share, pause, seen = unpack(ARGV)
tpm, rpm, tokens, requests, share = tonumber(tpm), tonumber(rpm), tonumber(tokens), tonumber(requests), tonumber(share)
local b = redis.call('HMGET', KEYS[1], 'tokens', 'requests', 'at', 'until', 'tpm', 'rpm')
if tpm == 0 then tpm = tonumber(b[5]) or 0 end
if rpm == 0 then rpm = tonumber(b[6]) or 0 end
local at = tonumber(b[3]) or now
local have_tokens = math.min(tpm, (tonumber(b[1]) or tpm) + (now - at) * tpm / 60)
local have_requests = math.min(rpm, (tonumber(b[2]) or rpm) + (now - at) * rpm / 60)
local rest = tonumber(b[4]) or 0
if tonumber(pause) > 0 then rest = math.max(rest, now + pause) end
if tonumber(seen) >= 0 then have_tokens = math.min(have_tokens, tonumber(seen)) end
local wait = math.max(0, rest - now)
if requests > 0 then
  if tpm > 0 then
    local need = math.min(tokens, tpm * (1 - share)) + tpm * share
    if have_tokens < need then wait = math.max(wait, (need - have_tokens) * 60 / tpm) end
  end
  if rpm > 0 and have_requests < requests then
    wait = math.max(wait, (requests - have_requests) * 60 / rpm)
  end
end
if wait == 0 or requests == 0 then
  have_tokens = have_tokens - tokens
  have_requests = have_requests - requests
end
redis.call('HSET', KEYS[1], 'tokens', have_tokens, 'requests', have_requests, 'at', now, 'until', rest,
  'tpm', tpm, 'rpm', rpm)
redis.call('EXPIRE', KEYS[1], 3600)
return tostring(wait)
"""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an endpoint says of its limits in the headers of an answer; None where it is silent."""

    tpm: int | None = None
    rpm: int | None = None
    tokens_left: int | None = None


class Budget:
    """One endpoint's budget.  Threads may share it."""

    def __init__(
        self,
        broker_url: str,
        key_prefix: str,
        endpoint: str,
        *,
        tpm: int | None = None,
        rpm: int | None = None,
    ) -> None:
        name = hashlib.sha256(endpoint.encode()).hexdigest()[:16]
        self._key = f"{key_prefix}budget:{name}"
        self._set = (tpm, rpm)
        self._tpm, self._rpm = tpm or 0, rpm or 0
        self._binding = bool(tpm or rpm)
        client = redis.Redis.from_url(broker_url, socket_timeout=2, socket_connect_timeout=1, decode_responses=True)
        self._broker = client
        self._script = client.register_script(_SCRIPT)
        self._alone = _Alone()
        self._away_until = 0.0

    @property
    def most_tokens(self) -> int | None:
        """Most tokens that one request should have; None: no limit is known."""
        return max(1, self._tpm // 4) if self._tpm else None

    def take(self, tokens: int, *, live: bool) -> float:
        """Take a request of ``tokens``, or return the seconds until it is worth asking again (0: taken)."""
        if not self._binding:
            return 0.0
        return self._ask(tokens, 1, 0.0 if live else LIVE_SHARE)

    def settle(self, tokens: int) -> None:
        """Take ``tokens`` that were spent beyond what was asked for; a negative number gives them back."""
        if self._binding and tokens:
            self._ask(tokens, 0, 0.0)

    def pause(self, seconds: float) -> None:
        """Let no worker ask the endpoint for a while: it said so."""
        self._binding = True
        self._ask(0, 0, 0.0, pause=seconds)

    def learn(self, allowance: Allowance) -> None:
        """Believe what the endpoint says of its limits, where the settings are silent."""
        tpm, rpm = self._set[0] or allowance.tpm or self._tpm, self._set[1] or allowance.rpm or self._rpm
        news = (tpm, rpm) != (self._tpm, self._rpm)
        self._tpm, self._rpm = tpm, rpm
        if news:
            self._binding = True
            self._ask(0, 0, 0.0, seen=-1 if allowance.tokens_left is None else allowance.tokens_left)

    def close(self) -> None:
        """Give the connection back."""
        self._broker.close()

    def _ask(self, tokens: int, requests: int, share: float, *, pause: float = 0.0, seen: int = -1) -> float:
        now = time.monotonic()
        if now >= self._away_until:
            try:
                args: list[Any] = [self._tpm, self._rpm, tokens, requests, share, pause, seen]
                return float(self._script(keys=[self._key], args=args))
            except (redis.RedisError, OSError) as exc:
                self._away_until = now + ASK_AGAIN_S
                log.warning("budget.alone", error=type(exc).__name__, share=WITHOUT_BROKER)
        tpm, rpm = self._tpm * WITHOUT_BROKER, self._rpm * WITHOUT_BROKER
        return self._alone.ask(tpm, rpm, tokens, requests, pause, now)


class _Alone:
    """The bucket of one process, for as long as it cannot ask the broker; empty at first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = self._requests = 0.0
        self._at = 0.0
        self._rest = 0.0

    def ask(self, tpm: float, rpm: float, tokens: int, requests: int, pause: float, now: float) -> float:
        with self._lock:
            passed = min(60.0, now - self._at) if self._at else 1.0
            self._at = now
            self._tokens = min(tpm, self._tokens + passed * tpm / 60)
            self._requests = min(rpm, self._requests + passed * rpm / 60)
            self._rest = max(self._rest, now + pause if pause else 0.0)
            wait = max(0.0, self._rest - now)
            if requests:
                need = min(float(tokens), tpm)
                if tpm and self._tokens < need:
                    wait = max(wait, (need - self._tokens) * 60 / tpm)
                if rpm and self._requests < requests:
                    wait = max(wait, (requests - self._requests) * 60 / rpm)
            if not wait or not requests:
                self._tokens -= tokens
                self._requests -= requests
            return wait
