"""Answers in JSON: what is read all the same, and what is refused as no answer."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc
from typing import Any

import pytest

from orchestrator.core.errors import ForeignAnswer, MalformedResponse
from orchestrator.core.model import Source, Task, TaskState
from orchestrator.em.elements import MAX_DEPTH, MAX_HELD
from orchestrator.em.error_bodies import is_answer
from orchestrator.em.families import FAMILIES
from orchestrator.em.json_codec import JsonCodec
from orchestrator.em.json_reading import MAX_WHOLE
from orchestrator.em.json_values import MAX_MEMBERS
from orchestrator.em.masking import Masked, Masks, bodies_may_hide
from orchestrator.em.wire import Page
from tests.em.documents import MOUNT, POINT, SAMPLES, read

CODEC = JsonCodec()
REPLICA = FAMILIES[Source.REPLICA]


def task(text: str | bytes) -> Task:
    """Read a task."""
    return CODEC.task().whole(text if isinstance(text, bytes) else text.encode())


def tasks(text: str) -> Page[Task]:
    """Read a list of tasks, at once and in pieces."""
    page = CODEC.tasks().whole(text.encode())
    assert read(CODEC.tasks(), text.encode(), 3) == page
    return page


def ids(text: str) -> list[str]:
    """Return the ids of the tasks in a list."""
    return [each.id for each in tasks(text).rows]


# --- names, values, lists --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ['{"TaskId":"t","State":"Finished"}', '{"TASKID":"t","sTaTe":"Finished"}']
)
def test_names_count_without_case(text: str) -> None:
    """Trap 31: version 13 writes camelCase; how it writes UID or FSRoots is not known."""
    assert (task(text).id, task(text).state) == ("t", TaskState.FINISHED)


@pytest.mark.parametrize(
    "text",
    [
        '{"TaskId":"t","TaskId":"t"}',
        '{"TaskId":"t","taskId":"u"}',
        '{"TaskId":"t","Result":{"Success":true,"success":false}}',
        '{"TaskId":"t","other":1,"OTHER":2}',
        '{"TaskId":"t","other":[{"a":1,"A":2}]}',
    ],
)
def test_two_values_of_one_name_make_an_answer_unreadable(text: str) -> None:
    """Trap 66: Python would keep the last of them, silently; so in a list, at every level."""
    with pytest.raises(MalformedResponse, match="two values of one name"):
        task(text)
    for inner in (
        text,
        f'{{"Tasks":[{text}]}}',
        f'{{"Resources":{{"Tasks":{{"Tasks":[{text}]}}}}}}',
    ):
        with pytest.raises(MalformedResponse, match="two values of one name"):
            tasks(inner)


@pytest.mark.parametrize("text", ['{"Tasks":[],"tasks":[]}', '{"Resources":{},"resources":null}'])
def test_two_lists_of_one_name_make_an_answer_unreadable(text: str) -> None:
    """Above the rows as well, where no object is made of them."""
    with pytest.raises(MalformedResponse, match="two values of one name"):
        tasks(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    "text", ['{"TaskId":"t","Size":%s}', '{"Tasks":[{"TaskId":"t","x":[%s]}]}']
)
def test_what_is_no_number_is_unreadable(text: str, number: str) -> None:
    """Python reads these words, and JSON has none of them."""
    for reading in (CODEC.task(), CODEC.tasks()):
        with pytest.raises(MalformedResponse, match="which is no number"):
            reading.whole((text % number).encode())


@pytest.mark.parametrize(
    "number", ["9" * 5000, "1e999999", "-0", "1.5", "-7", '"1.0"', '""', "null"]
)
def test_a_number_that_is_none_of_ours_is_no_size(number: str) -> None:
    """However large: it is no error, no float and no zero."""
    entry = f'{{"FileEntries":[{{"Name":"a","Size":{number}}}]}}'
    (row,) = CODEC.entries().whole(f'{{"Files":{entry}}}'.encode()).rows
    assert row.size is None


@pytest.mark.parametrize(("word", "size"), [("174", 174), ('"174"', 174), ("0", 0)])
def test_a_number_in_quotes_is_a_number(word: str, size: int) -> None:
    """As a client of v12 had to take it. Source: reference 17.3."""
    entry = f'{{"FileEntries":[{{"Name":"a","Size":{word}}}]}}'
    (row,) = CODEC.entries().whole(f'{{"Files":{entry}}}'.encode()).rows
    assert row.size == size


@pytest.mark.parametrize(
    ("word", "success"),
    [
        *(("true", True), ("false", False), ('"true"', True), ('"False"', False), ('"TRUE"', True)),
        *(("null", None), ('"Warning"', None), ("2", None), ("{}", None), ("[]", None)),
    ],
)
def test_success_is_a_boolean_or_its_word(word: str, success: bool | None) -> None:
    """An unknown word is no failure, and no success either."""
    found = task(f'{{"TaskId":"t","State":"Finished","Result":{{"Success":{word}}}}}')
    assert (found.success, found.unclear) == (success, success is None)


def test_a_state_that_is_a_number_is_unknown_and_not_final() -> None:
    """Words are words here; a number would be another serialiser's. Source: reference 17.3."""
    found = task('{"TaskId":"t","State":2,"Result":{"Success":true}}')
    assert (found.state, found.odd_state, found.is_final) == (TaskState.UNKNOWN, "2", False)


@pytest.mark.parametrize(
    "text",
    [
        '{"Tasks":[]}',
        '{"Tasks":null}',
        '{"tasks":{}}',
        '{"Tasks":{"Tasks":null}}',
        '{"Resources":null,"PagingInfo":null}',
        '{"Resources":{}}',
        '{"Resources":{"Tasks":null}}',
        '{"Resources":{"Tasks":{}}}',
        '{"Resources":{"Tasks":{"Tasks":null,"Links":null}}}',
        '{"Resources":{"Tasks":{"Tasks":[]}}}',
        '{"Resources":{"Tasks":[]}}',
        '{"Refs":null,"Entities":null,"Resources":null,"Links":null,"PagingInfo":{"PageNum":1}}',
    ],
)
def test_an_empty_list_has_many_forms(text: str) -> None:
    """Null, missing and empty are one thing, but only where the rest has the list's shape."""
    assert tasks(text) == Page(rows=[], has_next=False, set_aside=[])


@pytest.mark.parametrize(
    "text",
    [
        '{"Tasks":[{"TaskId":"t-1"}]}',
        '{"Tasks":{"TaskId":"t-1"}}',
        '{"Tasks":{"Tasks":[{"TaskId":"t-1"}]}}',
        '{"Tasks":{"Task":[{"TaskId":"t-1"}]}}',
        '{"Resources":{"Tasks":{"Tasks":[{"TaskId":"t-1"}]}}}',
        '{"Resources":{"Tasks":{"Tasks":{"TaskId":"t-1"}}}}',
        '{"Resources":{"Tasks":{"TaskId":"t-1","Links":[]}}}',
        '{"Resources":{"Tasks":[{"TaskId":"t-1"}]}}',
        '{"Resources":{"Odd":{"Odds":[{"TaskId":"t-1","Type":"Task"}]}}}',
        '{"Resources":{"Odd":{"TaskId":"t-1","Type":"Task"}}}',
        '{"resources":{"tasks":{"tasks":[{"taskId":"t-1","type":"Task"}]}}}',
        '\ufeff \r\n{ "Tasks" : [ { "TaskId" : "t-1" } , null ] } \n',
    ],
)
def test_a_list_is_found_however_it_is_wrapped(text: str) -> None:
    """Trap 65, and an object where a list belongs."""
    assert ids(text) == ["t-1"]


def test_rows_of_another_kind_are_none_of_those_asked_for() -> None:
    """A restore session has the members of a restore point, and is none: its Type says so."""
    sessions = (SAMPLES / "query.restoresession.entities.json").read_bytes()
    other = b'{"Entities":{"VmRestorePoints":{"VmRestorePoints":[{"Type":"VmRestorePoint"}]}}}'
    for body in (sessions, other):
        page = CODEC.points(REPLICA).whole(body)
        assert (page.rows, page.set_aside) == ([], [])


def test_a_bad_row_is_set_aside_and_named() -> None:
    """Trap 60: the rest of the page is used, also where the row is no object at all."""
    page = tasks('{"Tasks":[{"TaskId":"t-1"},{"TaskId":"a b"},"text",7,[],{"TaskId":"t-2"}]}')
    assert [each.id for each in page.rows] == ["t-1", "t-2"]
    assert len(page.set_aside) == 4
    assert "'a b'" in page.set_aside[0]


@pytest.mark.parametrize("written", [r"\u0001", "\x01", r"\ud800", r"\uffff", r"\udfff\ud800"])
def test_what_cannot_be_kept_is_replaced_as_in_xml(written: str) -> None:
    """Half surrogates and control characters reach no file and no terminal."""
    message = task(f'{{"TaskId":"t","Result":{{"Message":"a{written}b"}}}}').message
    assert message is not None
    assert re.fullmatch("a\ufffd+b", message)


def test_escapes_and_pairs_of_surrogates_are_characters() -> None:
    """Any escape of JSON, as .NET's newer serialiser writes it."""
    text = '{"TaskId":"t","Result":{"Message":"\\ud83d\\ude00 \\u002B\\u0026 \\/ \\u00fc ü"}}'
    assert task(text).message == "😀 +& / ü ü"


def test_the_links_of_one_that_are_an_object_are_links_as_well() -> None:
    """Also in the third form that one client guards against. Source: reference 1.5."""
    link = f'{{"rel":"Related","type":"VmReplicaPointMount","href":"{MOUNT}","name":"{POINT}@1"}}'
    for links in (
        f"[{link}]",
        f'[null,"",{link}]',
        link,
        f'{{"link":[{link}]}}',
        f'{{"Link":{link}}}',
    ):
        found = task(f'{{"TaskId":"t","links":{links}}}').mount
        assert found is not None
        assert (found.href, found.number) == (MOUNT, "1")


def test_a_link_with_nulls_is_read() -> None:
    """Absent and null are one thing in a link, too."""
    assert (
        task('{"TaskId":"t","Links":[{"Rel":null,"Href":null,"Type":null,"Name":null}]}').id == "t"
    )


def test_one_file_or_directory_is_read_bare_or_within() -> None:
    """No sample shows which; both are about one thing."""
    entry = '{"Path":"E:/a","Name":"a","Type":"FileEntry","Size":1}'
    for text in (entry, f'{{"FileEntry":{entry},"DirectoryEntry":null}}'):
        page = CODEC.entries().whole(text.encode())
        assert page.is_itself
        assert [(row.name, row.is_directory, row.size) for row in page.rows] == [("a", False, 1)]


def test_a_directory_with_nothing_in_it_is_an_empty_listing() -> None:
    """Where a serialiser leaves out both lists, the address tells what the answer is."""
    text = f'{{"Href":"https://em{MOUNT}/C:?action=listAll","PagingInfo":{{"PageNum":1}}}}'
    page = CODEC.entries().whole(text.encode())
    assert (page.rows, page.is_itself) == ([], False)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words", "kind"),
    [
        ("", "is empty", MalformedResponse),
        (" \n", "is empty", MalformedResponse),
        ("[]", "not JSON", MalformedResponse),
        ('"TaskId"', "not JSON", MalformedResponse),
        ('{"TaskId":"t"', "not JSON", MalformedResponse),
        ('{"TaskId":"t"}}', "goes on after its end", MalformedResponse),
        ('{"TaskId":"t",}', "not JSON", MalformedResponse),
        ("{'TaskId':'t'}", "not JSON", MalformedResponse),
        ('{"Tasks":[{}{}]}', "not JSON", MalformedResponse),
        ('{"Tasks":[{},]}', "not JSON", MalformedResponse),
        ("<!DOCTYPE html><html></html>", "a web page", ForeignAnswer),
        ("<html/>", "a web page", ForeignAnswer),
        ("<x/>", "XML of something else", ForeignAnswer),
        (
            '<Task xmlns="http://www.veeam.com/ent/v1.0"/>',
            "though JSON was asked",
            MalformedResponse,
        ),
        ("{}", "JSON of something else", ForeignAnswer),
        ('{"errorCode":"NotFound","data":[]}', "JSON of something else", ForeignAnswer),
        ('{"UserName":"a","SessionId":"b"}', "is a LogonSession, not", MalformedResponse),
        ('{"Message":"no","StatusCode":500}', "is a Error, not", MalformedResponse),
    ],
)
def test_what_is_no_answer_is_refused(text: str, words: str, kind: type[Exception]) -> None:
    """With words that say what it is instead; in one piece or in many."""
    for reading in (CODEC.task, CODEC.tasks):
        for size in (1, 5, 1 << 20):
            with pytest.raises(MalformedResponse, match=words) as refusal:
                read(reading(), text.encode(), size)
            assert type(refusal.value) is kind


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_no_depth_ends_the_program(opening: str) -> None:
    """Python's reader raises RecursionError; some levels fewer are refused as they are in XML."""
    for count in (MAX_DEPTH + 1, 500, 100_000):
        closing = "".join({"[": "]", "{": "}"}.get(c, "") for c in reversed(opening))
        deep = opening * count + "0" + closing * count
        for text in (f'{{"TaskId":"t","x":{deep}}}', f'{{"Tasks":[{{"x":{deep}}}]}}'):
            for reading in (CODEC.task(), CODEC.tasks()):
                with pytest.raises(MalformedResponse, match=r"levels|holds more"):
                    reading.whole(text.encode())


def test_brackets_in_texts_are_no_levels() -> None:
    """Names of files may hold them, and quotes and backslashes."""
    name = '[{"\\' * 50
    text = json.dumps({"TaskId": "t", "Result": {"Message": name}})
    assert task(text).message == name
    assert tasks(f'{{"Tasks":[{text}]}}').rows[0].message == name


def test_an_object_of_too_many_names_is_refused() -> None:
    """A real one has twenty."""
    members = ",".join(f'"a{n}":0' for n in range(MAX_MEMBERS + 1))
    for text in (f'{{"TaskId":"t",{members}}}', f'{{"Tasks":[{{{members}}}]}}'):
        for reading in (CODEC.task(), CODEC.tasks()):
            with pytest.raises(MalformedResponse, match="more names"):
                reading.whole(text.encode())


@pytest.mark.parametrize("piece", ['{"a":0},', "[],", '"ab",'])
def test_many_small_values_cost_no_more_than_an_answer_may(piece: str) -> None:
    """They are counted before they are made: Python takes 30 bytes and more for each of theirs."""
    many = piece * (MAX_WHOLE // len(piece) - 100)
    assert reading_costs(CODEC.task(), f'{{"TaskId":"t","x":[{many}0]}}') < 3 * MAX_HELD
    assert reading_costs(CODEC.tasks(), f'{{"Tasks":[{{"x":[{many}0]}}]}}') < 3 * MAX_HELD


def reading_costs(reading: Any, text: str) -> int:
    """Return the peak of memory that a reading takes beside the text, which it must refuse."""
    body = text.encode()
    tracemalloc.start()
    try:
        with pytest.raises(MalformedResponse, match=r"holds more|longer text"):
            read(reading, body, 1 << 16)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("row", ["{},", "null,"])
def test_rows_of_which_nothing_is_kept_end_as_well(row: str) -> None:
    """Those of another kind, and those that are none: no real list has half a million."""
    text = '{"Resources":{"Odd":{"Odds":[' + row * (MAX_HELD // 64 + 1)
    with pytest.raises(MalformedResponse, match="holds more"):
        read(CODEC.tasks(), text.encode())


def test_a_long_list_costs_the_memory_of_its_values() -> None:
    """10,000 tasks are read piece by piece, and none of them twice."""
    row = json.dumps({"TaskId": "t-%d", "State": "Running", "Links": [{"Rel": "Delete"}] * 2})
    body = ('{"Tasks":[' + ",".join(row % n for n in range(10_000)) + "]}").encode()
    found: list[Any] = []
    tracemalloc.start()
    reading = CODEC.row_reading("Task", lambda root: root.tag, lambda node: len(found) * 0 + 1)
    assert read(reading, body, 1 << 16) == "Tasks"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 1024 * 1024
    assert len(CODEC.tasks().whole(body).rows) == 10_000


def test_a_value_that_comes_byte_by_byte_is_not_read_at_every_byte() -> None:
    """Its cost must not grow with the square: it is looked at when twice as much has come."""
    text = json.dumps({"Tasks": [{"TaskId": "t", "Result": {"Message": "x" * 200_000}}]}).encode()
    calls = 0

    def counted(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_name == "raw_decode"

    reading = CODEC.tasks()
    sys.setprofile(counted)
    try:
        for at in range(0, len(text), 100):
            reading.feed(text[at : at + 100])
        page = reading.close()
    finally:
        sys.setprofile(None)
    assert len(page.rows) == 1
    assert calls < 40


# --- masks and answers without a reading ---------------------------------------------------------


@pytest.mark.parametrize("secret", ["12345678", "4711"])
def test_a_number_that_is_masked_leaves_the_answer_readable(secret: str) -> None:
    """A password of digits may be the size of a file: in JSON a mask is no value."""
    entry = f'{{"FileEntries":[{{"Name":"{secret}","Size":{secret}}},{{"Name":"b","Size":3}}]}}'
    body = f'{{"Files":{entry}}}'.encode()
    page = Masked(CODEC.entries(), Masks([secret])).whole(body)
    assert [(row.name, row.size) for row in page.rows] == [("***", None), ("b", 3)]
    rows = f'{{"Tasks":[{{"TaskId":"t-1","x":{secret}}}, {{"TaskId":"t-2"}}]}}'
    found = Masked(CODEC.tasks(), Masks([secret])).whole(rows.encode())
    assert [each.id for each in found.rows] == ["t-1", "t-2"]


@pytest.mark.parametrize("word", ["true", "False", "null", "TaskId", "fsRoots", "FileEntries"])
def test_what_json_is_made_of_is_not_masked_in_answers(word: str) -> None:
    """A password that is such a word would make every answer unreadable; errors are masked."""
    assert not bodies_may_hide(word)


@pytest.mark.parametrize(
    ("body", "is_ours"),
    [
        (b'{"TaskId":"task-1"}', True),
        (b"\xef\xbb\xbf " + b'{"taskId":"task-1"}', True),
        (b'{"message":"no","statusCode":404}', False),
        (b'{"ok":true}', False),
        (b'{"TaskId":1,"taskid":2}', False),
        (b"{" * 100_000, False),
        (b'{"a":' * 100_000, False),
    ],
)
def test_an_answer_in_json_that_nobody_reads_is_the_services_own_or_not(
    body: bytes, is_ours: bool
) -> None:
    """An unmount is believed only where the service itself answers."""
    assert is_answer(body) is is_ours
