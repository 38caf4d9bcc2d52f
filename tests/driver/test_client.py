"""What people read when Ray lets them not in."""

from __future__ import annotations

import pytest
from ray.exceptions import AuthenticationError

from tourney_ray.driver import client
from tourney_ray.errors import UserError


def _wrong_token() -> Exception:
    """As Ray tells of it: a cluster that cannot be reached, because of a failure that is about the token."""
    try:
        try:
            raise RuntimeError("Failed to connect to GCS. AuthenticationError: RPC error: InvalidAuthToken")
        except RuntimeError as cause:
            raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379") from cause
    except ConnectionError as error:
        return error


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (_wrong_token(), "the Ray cluster at auto does not know this token"),
        (AuthenticationError("no token"), "the Ray cluster at auto does not know this token"),
        (ConnectionError("nobody there"), "no Ray cluster at auto: nobody there"),
    ],
    ids=["wrong", "none", "gone"],
)
def test_why_there_is_no_connection_is_said_in_a_line(
    raised: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise raised

    monkeypatch.setattr(client.ray, "init", fail)
    with pytest.raises(UserError) as refused:
        client.connect("auto")
    assert refused.value.message == said
