"""Faust gets the same security settings as every other client, or says that it cannot."""

import ssl

import pytest

from pipeline.faust_app import credentials
from pipeline.settings import UsageError


def test_plain_text_needs_none() -> None:
    assert credentials({}) is None
    assert credentials({"security.protocol": "plaintext"}) is None


def test_tls_checks_the_brokers_name() -> None:
    found = credentials({"security.protocol": "SSL"})
    assert isinstance(found.context, ssl.SSLContext)
    assert found.context.check_hostname
    assert found.context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl_with_and_without_tls(protocol: str) -> None:
    found = credentials(
        {
            "security.protocol": protocol,
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "correlate",
            "sasl.password": "not shown",
        }
    )
    assert (found.username, found.password) == ("correlate", "not shown")
    assert (found.ssl_context is not None) == (protocol == "SASL_SSL")
    assert "not shown" not in repr(found)


def test_what_faust_does_not_speak_is_refused() -> None:
    with pytest.raises(UsageError, match=r"security\.protocol"):
        credentials({"security.protocol": "TELEPATHY"})
    with pytest.raises(UsageError, match=r"sasl\.mechanism OAUTHBEARER"):
        credentials({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"})
