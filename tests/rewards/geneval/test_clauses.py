"""Specs are read completely or refused with the prompt's name."""

import pytest

from rewards.errors import UsageError
from rewards.geneval.clauses import Clause, Request, read_request
from rewards.geneval.prompts import official_prompts
from rewards.prompt import Prompt

DOG = {"class": "dog", "count": 1}


def test_every_official_prompt_is_read():
    requests = [read_request(prompt) for prompt in official_prompts()]
    assert sum(clause.relation is not None for request in requests for clause in request.include) == 100
    assert sum(clause.colour is not None for request in requests for clause in request.include) == 294
    assert sum(len(request.exclude) for request in requests) == 80


def test_a_record_becomes_its_clauses():
    spec = {
        "tag": "mine",
        "include": [{"class": "cat", "count": 2}, {**DOG, "color": "red", "position": ["above", 0]}],
        "exclude": [{"class": "cat", "count": 3}],
    }
    assert read_request(Prompt("pets", spec)) == Request(
        "mine", (Clause("cat", 2), Clause("dog", 1, "red", "above", 0)), (Clause("cat", 3),)
    )


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ({}, 'no "tag"'),
        ({"include": [DOG]}, 'no "tag"'),
        ({"tag": "t"}, "asks for nothing"),
        ({"tag": "t", "include": DOG}, '"include" is not a list'),
        ({"tag": "t", "include": ["dog"]}, "'dog' is not an object"),
        ({"tag": "t", "include": [{"class": "dgo", "count": 1}]}, 'Did you mean "dog"'),
        ({"tag": "t", "include": [{"class": "dog"}]}, "count of dog is None"),
        ({"tag": "t", "include": [{"class": "dog", "count": 0}]}, "count of dog is 0"),
        ({"tag": "t", "include": [{"class": "dog", "count": True}]}, "count of dog is True"),
        ({"tag": "t", "include": [{**DOG, "color": "rde"}]}, 'Did you mean "red"'),
        ({"tag": "t", "include": [{**DOG, "colour": "red"}]}, 'field "colour"'),
        ({"tag": "t", "include": [DOG, {**DOG, "position": ["beside", 0]}]}, "position of dog"),
        ({"tag": "t", "include": [DOG, {**DOG, "position": "above"}]}, "position of dog"),
        ({"tag": "t", "include": [DOG, {**DOG, "position": ["above", 1]}]}, "no earlier clause"),
        ({"tag": "t", "include": [{**DOG, "position": ["above", -1]}]}, "no earlier clause"),
        ({"tag": "t", "exclude": [{**DOG, "color": "red"}]}, "only class, count"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(spec, hint):
    with pytest.raises(UsageError) as caught:
        read_request(Prompt("two pets", spec))
    assert 'the prompt "two pets"' in str(caught.value)
    assert hint in str(caught.value)
    assert "dgpo suites show geneval" in str(caught.value)
    assert ".." not in str(caught.value)
