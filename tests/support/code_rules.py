"""Rules for our own code that no ready-made scanner knows, on its syntax tree.

Each returns the lines that break it. They look at names, not at types: what has another name than ours is not
seen, which is why each is shown a planted example, and why the scanner runs beside them.
"""

import ast
from collections.abc import Callable, Iterator

Rule = Callable[[ast.Module], Iterator[int]]

_UNSAFE = frozenset({"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib", "yaml"})
_RUNS = frozenset({"exec", "eval", "__import__"})
_RUNS_LUA = frozenset({"eval", "eval_ro", "evalsha", "register_script", "script_load", "function_load"})
_LUA_COMMANDS = frozenset({"EVAL", "EVAL_RO", "SCRIPT", "FUNCTION", "FCALL"})
_WAITS = frozenset({"urlopen", "create_connection", "request"})
_LOGS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
_SECRETS = frozenset({"url", "broker_url", "cache_url", "payload", "payloads", "body", "password", "headers"})


def name_of(node: ast.expr) -> str:
    """The last part of a dotted name; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _owner(node: ast.expr) -> str:
    return name_of(node.value) if isinstance(node, ast.Attribute) else ""


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _keywords(call: ast.Call) -> set[str | None]:
    return {keyword.arg for keyword in call.keywords}


def no_code_in_data(tree: ast.Module) -> Iterator[int]:
    """No module that makes objects of whatever it reads, and no exec or eval of Python."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _RUNS:
            yield node.lineno
        if any(name.partition(".")[0] in _UNSAFE for name in names):
            yield node.lineno  # type: ignore[attr-defined]


def _is_built(node: ast.expr) -> bool:
    """A text that is put together where it stands."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Mod | ast.Add)
    return isinstance(node, ast.Call) and name_of(node.func) in ("format", "join", "replace", "substitute")


def scripts_are_constants(tree: ast.Module) -> Iterator[int]:
    """No Lua is built: scripts are files, and what they work on comes as KEYS and ARGV.

    `Script` takes names of files, `eval` and its kin are not called at all, no command is EVAL, and SCRIPT
    LOAD has the text of a file.
    """
    for node in ast.walk(tree):
        if (isinstance(node, ast.Call) and _builds_a_script(node)) or _is_script_text(node):
            yield node.lineno  # type: ignore[attr-defined]


def _builds_a_script(call: ast.Call) -> bool:
    name = name_of(call.func)
    if isinstance(call.func, ast.Attribute) and name in _RUNS_LUA:
        return True
    return any(map(_is_built, call.args)) and (name == "Script" or _names_lua_command(call))


def _is_script_text(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return False
    return node.value in ("EVAL", "EVAL_RO", "FCALL") or "redis.call(" in node.value


def _names_lua_command(call: ast.Call) -> bool:
    return any(
        isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value.upper() in _LUA_COMMANDS
        for one in call.args
    )


def no_shell(tree: ast.Module) -> Iterator[int]:
    """No shell reads what we start."""
    for call in _calls(tree):
        shell = [keyword.value for keyword in call.keywords if keyword.arg == "shell"]
        is_asked = any(not (isinstance(value, ast.Constant) and value.value is False) for value in shell)
        if is_asked or (_owner(call.func) == "os" and name_of(call.func) in ("system", "popen")):
            yield call.lineno


def clients_ask_once(tree: ast.Module) -> Iterator[int]:
    """A client or pool of redis-py says how long it waits and that it does not try again by itself."""
    for call in _calls(tree):
        name, owner = name_of(call.func), _owner(call.func)
        makes = (name in ("Redis", "StrictRedis", "Sentinel") and owner in ("", "redis")) or (
            name == "from_url" and owner in ("redis", "Redis", "ConnectionPool")
        )
        given = _keywords(call)
        # What comes by ** is looked at where it is made.
        if makes and not given & {None, "connection_pool"} and not {"retry", "socket_timeout"} <= given:
            yield call.lineno


def waits_end(tree: ast.Module) -> Iterator[int]:
    """Nothing that waits for a network waits for ever."""
    for call in _calls(tree):
        name, owner = name_of(call.func), _owner(call.func)
        asks = name in _WAITS or (owner == "requests" and name in ("get", "post", "put", "head"))
        if name == "create_connection" and len(call.args) > 1:
            continue
        if asks and owner != "waitress" and not {"timeout", None} & _keywords(call):
            yield call.lineno


def logs_are_masked(tree: ast.Module) -> Iterator[int]:
    """No address and no payload goes into a log line as it is: an address goes through `mask`."""
    for call in _calls(tree):
        owner = _owner(call.func)
        if name_of(call.func) not in _LOGS or not (owner.endswith("log") or owner in ("logger", "logging")):
            continue
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        if any(_shows(value) for value in values):
            yield call.lineno


def _shows(value: ast.expr) -> bool:
    if isinstance(value, ast.Call) and name_of(value.func) in ("mask", "len"):
        return False
    if name_of(value) in _SECRETS and _owner(value) != "server":  # the address of our own page is to be seen
        return True
    return any(_shows(child) for child in ast.iter_child_nodes(value) if isinstance(child, ast.expr))


RULES: tuple[Rule, ...] = (
    no_code_in_data, scripts_are_constants, no_shell, clients_ask_once, waits_end, logs_are_masked,
)  # fmt: skip
