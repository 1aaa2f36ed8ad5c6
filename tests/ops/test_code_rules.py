"""What our own code may not contain, each rule with an example that it must find."""

import ast
import math
import re
from pathlib import Path

import pytest

from tests.support import code_rules as rules
from tests.support.committed import committed

ROOT = Path(__file__).parents[2]
PACKAGES = ("wire", "rows", "broker", "producer", "worker")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_our_code_keeps_the_rule(rule: rules.Rule) -> None:
    """In every module that is installed."""
    assert len(SOURCES) > 50
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in rule(ast.parse(path.read_text("utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("rule", "planted"),
    [
        (rules.no_code_in_data, "import pickle"),
        (rules.no_code_in_data, "from marshal import loads"),
        (rules.no_code_in_data, "import yaml.constructor"),
        (rules.no_code_in_data, "x = eval(text)"),
        (rules.scripts_are_constants, "client.eval('return 1', 0)"),
        (rules.scripts_are_constants, "run = client.register_script(f'return {x}')"),
        (rules.scripts_are_constants, "link.ask('SCRIPT', 'LOAD', 'return %s' % x)"),
        (rules.scripts_are_constants, "link.ask('EVAL', text, 0)"),
        (rules.scripts_are_constants, "s = Script('worker', f'{name}')"),
        (rules.scripts_are_constants, "text = \"return redis.call('GET', '\" + key"),
        (rules.no_shell, "subprocess.run(line, shell=True)"),
        (rules.no_shell, "subprocess.run(line, shell=wanted)"),
        (rules.no_shell, "os.system(line)"),
        (rules.clients_ask_once, "redis.Redis(host='h')"),
        (rules.clients_ask_once, "redis.Redis(host='h', socket_timeout=1)"),
        (rules.clients_ask_once, "redis.from_url(url, retry=None)"),
        (rules.clients_ask_once, "ConnectionPool.from_url(url)"),
        (rules.waits_end, "urllib.request.urlopen(url)"),
        (rules.waits_end, "requests.get(url)"),
        (rules.waits_end, "socket.create_connection(address)"),
        (rules.logs_are_masked, "log.info('connected', url=settings.broker_url)"),
        (rules.logs_are_masked, "self._log.warning('bad', said=f'{request.payload} is bad')"),
        (rules.logs_are_masked, "logging.info(payload)"),
        (rules.logs_are_masked, "log.info('x', headers=str(message.headers))"),
    ],
)
def test_a_planted_example_is_found(rule: rules.Rule, planted: str) -> None:
    """In the second line, where it stands."""
    assert list(rule(ast.parse(f"before = 1\n{planted}\n")))


@pytest.mark.parametrize(
    ("rule", "innocent"),
    [
        (rules.scripts_are_constants, "Script('broker.redis', 'common', name)"),
        (rules.scripts_are_constants, "link.ask('SCRIPT', 'LOAD', script.source)"),
        (rules.no_shell, "subprocess.run([program, name])"),
        (rules.clients_ask_once, "redis.Redis(retry=None, socket_timeout=1)"),
        (rules.clients_ask_once, "ConnectionPool.from_url(url, **options)"),
        (rules.waits_end, "pool.urlopen('POST', path, timeout=timeout)"),
        (rules.waits_end, "socket.create_connection(address, 3)"),
        (rules.logs_are_masked, "log.info('connected', url=mask(settings.broker_url))"),
        (rules.logs_are_masked, "log.info('sent', bytes=len(message.body))"),
    ],
)
def test_what_is_right_is_not_found(rule: rules.Rule, innocent: str) -> None:
    """A rule that cries wolf is switched off."""
    assert list(rule(ast.parse(innocent))) == []


def test_lua_is_in_files_that_take_no_code() -> None:
    """Nor does a script of ours make code of what it is given."""
    scripts = [path for package in PACKAGES for path in (ROOT / package).rglob("*.lua")]
    assert len(scripts) >= 10
    for path in scripts:
        text = re.sub(r"--[^\n]*", "", path.read_text("utf-8"))
        for word in ("loadstring", "load(", "dofile", "require", "setfenv", "getmetatable", "_G", "print("):
            assert word not in text, f"{path.name}: {word}"


_SECRETS = (
    re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\n"),
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    re.compile(r"\bxox[abpr]-[A-Za-z0-9-]{10,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{10,}"),
    re.compile(r"(?i)(?:secret|token|api_?key|passwo?r?d)['\"]?\s*[:=]\s*['\"]([A-Za-z0-9+/_=-]{20,})['\"]"),
)


def secrets_in(text: str) -> list[str]:
    """What looks like a key or a password that somebody uses."""
    found = []
    for pattern in _SECRETS:
        for match in pattern.finditer(text):
            value = match[1] if match.groups() else match[0]
            if not match.groups() or entropy(value) > 3.5:
                found.append(value)
    return found


def entropy(text: str) -> float:
    """Bits a character: words have about 3, what a generator made more than 4."""
    return -sum(p * math.log2(p) for p in (text.count(char) / len(text) for char in set(text)))


def test_no_secret_is_committed() -> None:
    """In no file that git knows."""
    for path in committed():
        if path.suffix not in (".png", ".lock") and path != Path(__file__):
            assert secrets_in(path.read_text("utf-8", "replace")) == [], path.name


@pytest.mark.parametrize(
    "planted",
    [
        "-----BEGIN " + "PRIVATE KEY-----\nMIIE",
        "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE",
        "key = AKIA" + "IOSFODNN7EXAMPLQ",
        "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345",
        'password = "' + "k8Zq3mX0vT7bW1nR5yLc" + '"',
        '{"api_key": "' + "k8Zq3mX0vT7bW1nR5yLc" + '"}',
    ],
)
def test_a_planted_secret_is_found(planted: str) -> None:
    """Else the test above would say nothing."""
    assert secrets_in(planted)
