from dataclasses import replace
from datetime import timedelta

import pytest

from infra.errors import OperationError
from ops.previews.records import Records
from tests.kubernetes_api import KubernetesApi

from .conftest import NAMESPACE, NOW, record_of, settings_of


def test_what_is_saved_is_found_with_its_age_and_its_version(records: Records) -> None:
    saved = records.save(record_of(settings_of()))
    found = records.find(settings_of().stack)
    assert found == saved
    assert found
    assert found.settings == settings_of()
    assert (found.created_at, found.version, found.removing) == (NOW, "1", False)
    assert records.find("preview-other-123456") is None


def test_records_are_listed_from_the_oldest_to_the_newest(records: Records, api: KubernetesApi) -> None:
    for branch, hours in (("c", 0), ("a", 1), ("b", -1)):
        api.created_at = NOW + timedelta(hours=hours)
        records.save(record_of(settings_of(branch=branch)))
    assert [record.settings.branch for record in records.all()] == ["b", "c", "a"]


def test_records_of_another_base_are_in_another_namespace(records: Records) -> None:
    records.save(record_of(settings_of()))
    assert replace(records, namespace="other-platform").all() == []


def test_of_two_concurrent_creations_one_fails_with_a_message(records: Records) -> None:
    records.save(record_of(settings_of()))
    with pytest.raises(OperationError, match=r"^another command changed the same preview environment"):
        records.save(record_of(settings_of()))


def test_a_removal_does_not_begin_if_the_lifetime_was_extended_meanwhile(records: Records) -> None:
    read = records.save(record_of(settings_of()))
    longer = settings_of(expires_at=NOW + timedelta(hours=1))
    records.save(replace(read, text=record_of(longer).text))
    with pytest.raises(OperationError, match=r"^another command changed"):
        records.begin_removal(read)
    [kept] = records.all()
    assert (kept.settings, kept.removing) == (longer, False)


def test_a_record_that_changed_meanwhile_is_not_deleted(records: Records) -> None:
    read = records.save(record_of(settings_of()))
    removing = records.begin_removal(read)
    with pytest.raises(OperationError, match=r"^another command changed"):
        records.delete(read)
    assert records.all() == [removing]
    assert removing.removing
    assert removing.created_at == NOW
    records.delete(removing)
    assert records.all() == []


def test_a_refusal_of_the_cluster_is_one_sentence(records: Records, api: KubernetesApi) -> None:
    api.refuses = "POST"
    with pytest.raises(OperationError, match=r"^the cluster kind-test refused the request \(403 Forbidden\)"):
        records.save(record_of(settings_of()))
    assert records.namespace == NAMESPACE
