"""A results folder as an evaluation finds it: a new one, or one of the same run, which it goes on with or amends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.harness.drawing import with_drawn_size
from benchmarks.harness.notes import Notes
from benchmarks.harness.record import (
    RECORD_FILE,
    Record,
    amend_record,
    read_record,
    refuse_other_run,
    rescored_rewards,
    unrecorded_contents,
    write_record,
)
from benchmarks.harness.store import SCORES_FILE, ScoreStore, holds_scores, read_all_rows
from benchmarks.suite import Suite
from rewards.errors import UsageError
from rewards.kept_prompts import keep_prompts


def open_results(folder: Path, record: Record, suite: Suite, notes: Notes) -> tuple[ScoreStore, Record]:
    """The scores a folder already holds, if they are this run's, and the record to which this evaluation amounts."""
    if not (folder / RECORD_FILE).exists():
        if holds_scores(folder):
            raise UsageError(
                f"{folder} holds {SCORES_FILE} but no {RECORD_FILE}, so nobody can tell whose scores these are."
                " Choose another --output."
            )
        keep_prompts(folder, suite.prompts)
        write_record(folder, record)
        return ScoreStore(folder), record
    old = with_drawn_size(folder, read_record(folder), record)
    refuse_other_run(folder, _with_new_prompts(folder, old, record, suite), record)
    absent = unrecorded_contents(old, record)
    if absent:
        notes.add(
            f"{folder} does not record the contents of its {' and '.join(absent)}; they are taken to be those of now,"
            " and recorded."
        )
    store = ScoreStore(folder)
    _admit_new_prompts(store, old, record, notes)
    if store.torn:
        notes.add(f"{store.path} ended in a half-written row, left by a kill; it was dropped and is made again.")
    changed = rescored_rewards(old, record)
    if changed:
        # The old scores go before the record changes: a kill in between leaves fewer scores, never mixed ones.
        store.rewrite([row for row in store.rows.values() if row.reward not in changed])
        for sentence in changed.values():
            notes.add(sentence)
    amended = amend_record(old, record)
    _refuse_foreign_rows(store, amended, suite)
    keep_prompts(folder, suite.prompts)
    write_record(folder, amended)
    return store, amended


def _refuse_foreign_rows(store: ScoreStore, record: Record, suite: Suite) -> None:
    """UsageError for scores that no run of this record can have made: they could stand in no table at the end."""
    prompts = {prompt.id for prompt in suite.prompts}
    for row in store.rows.values():
        what = "prompt" if row.prompt_id not in prompts else "reward" if row.reward not in record["rewards"] else ""
        if what:
            raise UsageError(
                f"{store.path} holds a row of a {what} that this run does not have ({row.prompt_id or 'no id'}, "
                f"{row.reward or 'no reward'}). Delete such rows, or choose another --output."
            )


def _with_new_prompts(folder: Path, old: Record, new: Record, suite: Suite) -> Record:
    """The old record as one of the new suite, if that is the old one with more prompts.

    That is seen by the scores: none belongs to a prompt that is no longer there. A prompt's id is a hash of all of it.
    """
    known = {prompt.id for prompt in suite.prompts}
    same_name = old["suite"]["name"] == new["suite"]["name"]
    if same_name and all(row.prompt_id in known for row in read_all_rows(folder)):
        return {**old, "suite": new["suite"]}
    return old


def _admit_new_prompts(store: ScoreStore, old: Record, new: Record, notes: Notes) -> None:
    there, here = old["suite"], new["suite"]
    if there["sha256"] == here["sha256"]:
        return
    store.rewrite([replace(row, suite_sha=here["sha256"]) for row in store.rows.values()])
    notes.add(
        f"The suite {here['name']} has other prompts than before ({there['prompts']} then, {here['prompts']} now); the"
        " scores of those that it still has are kept."
    )
