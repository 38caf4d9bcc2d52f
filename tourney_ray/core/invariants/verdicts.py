"""Invariants 3, 5 and 9: one verdict each, that follows from the metrics, and no round that goes on before its time.

The rules of ranking and of the boss round are written here once more, as plainly as possible: see `scoring` and
`verdict` for the ones that decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tourney_ray.core import events as e
from tourney_ray.core.comparing import compared
from tourney_ray.core.invariants.books import OpenEnded
from tourney_ray.core.invariants.register import Register
from tourney_ray.core.invariants.standings import Values, broken_ending
from tourney_ray.core.metrics import METRICS
from tourney_ray.core.models import Evaluated, RoundType, TaskType
from tourney_ray.core.rules import Rules


@dataclass
class _Match:
    round_id: str
    round_type: RoundType
    entrants: tuple[str, ...]
    tasks: dict[int, str] = field(default_factory=dict[int, str])
    decided: e.MatchDecided | None = None


@dataclass
class _Book:
    """One tournament, as its facts told it."""

    register: Register
    standing: tuple[str, ...] = ()
    """Who plays on, best placed first."""
    matches: dict[str, _Match] = field(default_factory=dict[str, _Match])
    """Of all rounds."""
    rounds: list[e.RoundDrawn] = field(default_factory=list[e.RoundDrawn])
    finished: set[str] = field(default_factory=set[str])
    """Rounds that are completed."""
    tasks: dict[str, e.TaskPrepared] = field(default_factory=dict[str, e.TaskPrepared])
    results: dict[str, dict[str, Evaluated]] = field(default_factory=dict[str, dict[str, Evaluated]])
    """Latest metric by task and hotkey."""
    decided: dict[str, e.TaskDecided] = field(default_factory=dict[str, e.TaskDecided])


@dataclass
class Verdicts(OpenEnded):
    """What was measured and what was decided of it, by tournament."""

    _books: dict[str, _Book] = field(default_factory=dict[str, _Book])

    def see(self, fact: e.Fact) -> Iterator[tuple[int, str]]:  # noqa: C901, PLR0912 - a line per fact
        """Whether a decision may be made now, and is the one that the metrics give."""
        match fact:
            case e.TournamentCreated():
                self._books[fact.tournament_id] = _Book(Register(fact))
            case e.EntrantAccepted():
                self._books[fact.tournament_id].register.accept(fact)
            case e.TournamentActivated():
                book = self._books[fact.tournament_id]
                book.register.close(fact)
                book.standing = book.register.order
            case e.RoundDrawn():
                yield from _drawn(self._books[fact.tournament_id], fact)
            case e.TaskPrepared():
                book = self._books[fact.tournament_id]
                book.tasks[fact.task_id] = fact
                book.matches[fact.match_id].tasks[fact.slot] = fact.task_id
            case e.CheckpointEvaluated():
                results = self._books[fact.tournament_id].results
                results.setdefault(fact.task_id, {})[fact.hotkey] = fact.result
            case e.EvaluationRepeated():
                results = self._books[fact.tournament_id].results.pop(fact.task_id, {})
                if any(map(_sound, results.values())):
                    yield 5, f"task {fact.task_id[:8]} is evaluated again though somebody's metric was valid"
            case e.TaskRepeated():
                self._books[fact.tournament_id].results.pop(fact.task_id, None)
            case e.TrainingReopened():
                self._books[fact.tournament_id].results.get(fact.task_id, {}).pop(fact.hotkey, None)
            case e.TaskDecided():
                yield from _task(self._books[fact.tournament_id], fact)
            case e.MatchDecided():
                yield from _match(self._books[fact.tournament_id], fact)
            case e.RoundCompleted():
                yield from _round(self._books[fact.tournament_id], fact)
            case e.TournamentCompleted():
                yield from _end(self._books[fact.tournament_id], fact)
            case _:
                pass


# --- rounds


def _drawn(book: _Book, fact: e.RoundDrawn) -> Iterator[tuple[int, str]]:
    if any(drawn.round_id not in book.finished for drawn in book.rounds):
        yield 9, f"{fact.round_id} was drawn before the round before was completed"
    book.rounds.append(fact)
    for drawn in fact.matches:
        book.matches[drawn.match_id] = _Match(fact.round_id, fact.round_type, drawn.entrants)


def _round(book: _Book, fact: e.RoundCompleted) -> Iterator[tuple[int, str]]:
    if fact.round_id in book.finished:
        yield 9, f"{fact.round_id} was completed twice"
    book.finished.add(fact.round_id)
    matches = [m for m in book.matches.values() if m.round_id == fact.round_id]
    open_tasks = [i for m in matches for i in m.tasks.values() if i not in book.decided]
    if open_tasks or not all(m.tasks and m.decided for m in matches):
        yield 9, f"{fact.round_id} was completed while a task or a match of it was not decided"
    byes = next(drawn.byes for drawn in book.rounds if drawn.round_id == fact.round_id)
    through = {h for m in matches if m.decided for h in m.decided.advancing} | set(byes)
    if set(fact.advancing) != through:
        yield 5, f"{fact.round_id} lets others advance than its matches do"
    elif list(fact.advancing) != _placed(book, matches, through):
        yield 5, f"those who advance from {fact.round_id} are not in the order of their places"
    book.standing = fact.advancing


def _placed(book: _Book, matches: Sequence[_Match], through: set[str]) -> list[str]:
    """Best placed first: after groups by place in the group, else as they stood; a champion that joined comes first."""
    if matches[0].round_type is RoundType.GROUP:
        places = {h: m.decided.advancing.index(h) for m in matches if m.decided for h in m.decided.advancing}
        return sorted(through, key=lambda h: (places[h], book.register.rank(h)))
    return [*(through - set(book.standing)), *(h for h in book.standing if h in through)]


# --- tasks


def _task(book: _Book, fact: e.TaskDecided) -> Iterator[tuple[int, str]]:
    task = book.tasks[fact.task_id]
    place = book.matches[task.match_id]
    where = f"task {fact.task_id[:8]}"
    if fact.task_id in book.decided:
        yield 3, f"{where} was decided twice"
    book.decided[fact.task_id] = fact
    if sorted(r.hotkey for r in fact.ranking) != sorted(place.entrants):
        yield 3, f"{where} ranks others than its match's entrants"
        return
    results = book.results.get(fact.task_id, {})
    yield from ((5, f"{where}: {what}") for what in _ranking(book.register, task.task_type, fact.ranking, results))
    winner = _winner(book, place, task.task_type, fact.ranking)
    if book.register.created.rules.noise_is_a_tie and place.round_type is not RoundType.GROUP:
        winner = _tie_broken(book, place, task, winner)
    if fact.winner != winner:
        yield 5, f"{where} was won by {fact.winner}, its metrics say {winner}"


def _ranking(
    register: Register, task_type: TaskType, ranking: Sequence[e.Ranked], results: Mapping[str, Evaluated]
) -> Iterator[str]:
    valid = [r for r in ranking if r.valid]
    due = _valid(register, results)
    if {r.hotkey for r in valid} != due:
        yield f"it counts {sorted(r.hotkey for r in valid)}, valid are {sorted(due)}"
        return
    values = {h: results[h].value for h in due}
    if any(r.value != values[r.hotkey] for r in valid):
        yield "it ranks by other values than those that were measured"
    order = sorted(due, key=lambda h: (-values[h] if task_type is TaskType.GRPO else values[h], register.rank(h)))
    if [r.hotkey for r in valid] != order:
        yield "its ranking is not in the order of the metric, or of registration where that is equal"
    if [r.score for r in ranking] != _scores(len(valid), len(ranking), register.created.rules):
        yield "its scores are not those of the places"


def _valid(register: Register, results: Mapping[str, Evaluated]) -> set[str]:
    """Whose metric counts: of equal weights those that were registered first."""
    sound = sorted((h for h, result in results.items() if _sound(result)), key=register.rank)
    first = {results[h].digest: h for h in reversed(sound)}
    return {h for h in sound if not results[h].digest or first[results[h].digest] == h}


def _sound(result: Evaluated) -> bool:
    return not result.refused and result.fine_tuned and math.isfinite(result.value)


def _scores(valid: int, entrants: int, rules: Rules) -> list[int]:
    if not valid:
        return [rules.score_other] * entrants
    share = max(1, int(valid * rules.penalised_share)) if valid > rules.penalised_above else 0
    last = min(share, valid - 1)  # the best one is never among the last
    middle = [rules.score_other] * (valid - 1 - last)
    return [rules.score_best, *middle] + [rules.score_worst] * (last + entrants - valid)


def _winner(book: _Book, place: _Match, task_type: TaskType, ranking: Sequence[e.Ranked]) -> str | None:
    if place.round_type is not RoundType.BOSS:
        return ranking[0].hotkey if ranking[0].valid else None
    champion, challenger = place.entrants
    values = {r.hotkey: r.value for r in ranking if r.valid}
    b, c = values.get(champion), values.get(challenger)
    if c is None:
        return champion
    if b is None:
        return challenger
    wins = book.register.created.champion_wins
    rules = book.register.created.rules
    first, decay, least = rules.boss_margin_first, rules.boss_margin_decay, rules.boss_margin_least
    margin = max(least, first * decay ** (wins - 1))
    if rules.boss_equality == "challenger" and b > 0 and c > 0:  # as the published implementation compares
        bound = b * (1 + margin) if task_type is TaskType.GRPO else b * (1 - margin)
        return champion if (bound > c if task_type is TaskType.GRPO else bound < c) else challenger
    ahead = (b - margin * abs(b)) - c if task_type is not TaskType.GRPO else c - (b + margin * abs(b))
    return challenger if ahead > 0 else champion


def _tie_broken(book: _Book, place: _Match, task: e.TaskPrepared, winner: str | None) -> str | None:
    """Who has a task of two by the rule that noise is a tie: the champion, else whoever was registered earlier."""
    sound = _valid(book.register, book.results.get(task.task_id, {}))
    earlier = min(place.entrants, key=book.register.rank)
    if winner in (None, earlier) or sound != set(place.entrants):
        return winner
    results = book.results[task.task_id]
    seed = f"{book.register.seed}|{task.task_id}|{winner}|{earlier}"
    ours, theirs = results[winner].per_row, results[earlier].per_row
    comparison = compared(METRICS[task.task_type], task.task_type, ours, theirs, seed)
    return earlier if comparison and comparison.within_noise else winner


# --- matches and the end


def _match(book: _Book, fact: e.MatchDecided) -> Iterator[tuple[int, str]]:
    place = book.matches[fact.match_id]
    if place.decided:
        yield 3, f"{fact.match_id} was decided twice"
    place.decided = fact
    if sorted(v.hotkey for v in fact.verdicts) != sorted(place.entrants):
        yield 3, f"{fact.match_id} has not one verdict for each of its entrants"
    if {v.hotkey for v in fact.verdicts if v.advances} != set(fact.advancing):
        yield 3, f"{fact.match_id} lets others advance than its verdicts say"
    if any(task_id not in book.decided for task_id in place.tasks.values()):
        yield 9, f"{fact.match_id} was decided before its tasks"
        return
    due = _advancing(place, [book.decided[i] for i in place.tasks.values()], book.register.created.rules)
    if list(fact.advancing) != due:
        yield 5, f"{fact.match_id} lets {list(fact.advancing)} advance, its metrics say {due}"


def _advancing(place: _Match, decided: Sequence[e.TaskDecided], rules: Rules) -> list[str]:
    if place.round_type is RoundType.BOSS:
        champion, challenger = place.entrants
        won = sum(task.winner == challenger for task in decided)
        return [challenger if 2 * won > len(decided) else champion]
    valid = [r.hotkey for r in decided[0].ranking if r.valid]
    if rules.noise_is_a_tie and place.round_type is RoundType.KNOCKOUT and valid:
        return [decided[0].winner or ""]
    return valid[: rules.group_advance if place.round_type is RoundType.GROUP else 1]


def _end(book: _Book, fact: e.TournamentCompleted) -> Iterator[tuple[int, str]]:
    if any(drawn.round_id not in book.finished for drawn in book.rounds):
        yield 9, f"{fact.tournament_id} was completed before its last round"
    last = next((m for m in book.matches.values() if m.round_type is RoundType.BOSS and m.decided), None)
    if last and last.decided and fact.winner != last.decided.advancing[0]:
        yield 5, f"{fact.winner} won, the boss round says {last.decided.advancing[0]}"
    boss = [_values(book, task_id, last) for task_id in last.tasks.values()] if last else []
    champion, rules = book.register.champion, book.register.created.rules
    yield from ((5, what) for what in broken_ending(fact, champion, _won(book), boss, rules))


def _values(book: _Book, task_id: str, boss: _Match) -> Values:
    champion, challenger = boss.entrants
    values = {r.hotkey: r.value for r in book.decided[task_id].ranking if r.valid}
    return book.tasks[task_id].task_type, values.get(champion), values.get(challenger)


def _won(book: _Book) -> dict[str, float]:
    """Points of all tasks, by who won them."""
    created = book.register.created
    weight = created.rules.type_weight[created.tournament_type]
    numbers = {drawn.round_id: drawn.number for drawn in book.rounds}
    rounds: dict[str, int] = {}
    for task_id, decided in book.decided.items():
        if decided.winner is not None:
            number = numbers[book.matches[book.tasks[task_id].match_id].round_id]
            rounds[decided.winner] = rounds.get(decided.winner, 0) + number
    return {hotkey: total * weight for hotkey, total in rounds.items()}
