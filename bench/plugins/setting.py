"""Settings and pipelines as people write them: `tic(k=64),l1(rate=0.5)+kse(G=4)`."""

from __future__ import annotations

import ast
import warnings
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from pydantic_core import CoreSchema, core_schema

from bench.plugins.method import WORDS, Method
from bench.plugins.registry import look_up, methods
from bench.system.errors import BenchError, MethodFault
from bench.system.text import did_you_mean, has_surrogate, shortened, shown

if TYPE_CHECKING:
    from torch import nn

    from bench.training.lab import Lab

EXAMPLE = "write it like 'tic(k=64),kse(G=4)'"
LONGEST = 100_000
"""Characters of settings, at most."""
DEEPEST = 20
"""Nested brackets, at most."""
MOST_BITS = 1024
"""Bits of an integer, at most."""


@dataclass(frozen=True)
class Pipeline:
    """Methods applied in turn that share one budget.

    The stages that train (`Method.trains`) have equal parts of the budget; what one of them leaves is shared by those
    after it. `given` holds, for each stage, the options that its text named; it is empty for a pipeline made in Python.
    """

    stages: tuple[Method, ...]
    given: tuple[frozenset[str], ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        return "+".join(stage.name for stage in self.stages)

    @property
    def control(self) -> bool:
        return all(stage.control for stage in self.stages)

    @property
    def options(self) -> list[dict[str, Any]]:
        """Name and every hyper-parameter of each stage."""
        return [{"method": stage.name, **stage.options} for stage in self.stages]

    @property
    def searched(self) -> int | None:
        """The stage whose strength `bench run --at` chooses: the first that declares one and whose text leaves it out.

        None if there is no such stage.
        """
        for index, stage in enumerate(self.stages):
            given = self.given[index] if self.given else frozenset()
            if stage.strength is not None and stage.strength.option not in given:
                return index
        return None

    def family(self, stage: int | None) -> str:
        """The setting without the strength of one stage: what settings of different strength have in common."""
        return "+".join(
            each.written(without=each.strength.option) if index == stage and each.strength else str(each)
            for index, each in enumerate(self.stages)
        )

    def with_strength(self, stage: int, value: float) -> Pipeline:
        """The same setting with another value of the strength of one stage."""
        strength = self.stages[stage].strength
        assert strength is not None
        changed = replace(self.stages[stage], **{strength.option: value})
        return Pipeline((*self.stages[:stage], changed, *self.stages[stage + 1 :]))

    @property
    def nested(self) -> list[Method]:
        """The stages, each followed by the stages of the settings that its options name, as in `scratch(of=...)`."""
        stages = []
        for stage in self.stages:
            stages.append(stage)
            for value in vars(stage).values():
                if isinstance(value, SettingText):
                    stages += value.pipeline.nested
        return stages

    def __str__(self) -> str:
        return "+".join(map(str, self.stages))

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        """Apply each stage in turn and return the compressed network, which may be `model` itself.

        Raises BenchError for a network without convolutions, and MethodFault if a stage raises an exception of another
        kind or does not return the network. Errors of a stage begin with its setting.
        """
        from bench.networks.layers import convolutions  # and with it torch, which parsing does without

        if not convolutions(model):
            raise BenchError(f"{self}: the network has no convolutions")
        for index, stage in enumerate(self.stages):
            sharers = sum(later.trains for later in self.stages[index:])
            with lab.share(1 / sharers if stage.trains else 0):
                model = _compressed(stage, model, lab)
        return model


def _compressed(stage: Method, model: nn.Module, lab: Lab) -> nn.Module:
    """What one stage returns. Whatever goes wrong in it carries its name."""
    kind = type(model)
    try:
        compressed = stage.compress(model, lab)
    except BenchError as error:
        if not str(error).startswith(stage.name):
            error.args = (f"{stage}: {error}",)
        raise
    except (OSError, MemoryError) as error:  # may be the machine's fault; callers check the type
        error.add_note(f"in {stage}")
        raise
    except (Exception, SystemExit) as error:
        raise MethodFault(f"{stage}: {type(error).__name__}: {error}") from error
    if compressed is not model and type(compressed) is not kind:
        raise MethodFault(
            f"{stage}: compress returned {_kind(compressed)}; expected the model, or a changed copy of it"
        )
    return compressed


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


class SettingText(str):
    """A setting as the value of another method's option, written as it is: `scratch(of=l1(rate=0.5))`.

    As the type of a field, it holds the text as the command line would print it; other text raises BenchError.
    """

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that the text stands for."""
        return parse(self)[0]

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._read)

    @classmethod
    def _read(cls, value: object) -> SettingText:
        text = "none" if value is None else value  # the word was read as None, but the method is meant
        if not isinstance(text, str):
            raise ValueError("should be a setting, as in of=l1(rate=0.5)")
        try:
            settings = parse(text, "should be a setting")
        except BenchError as error:
            raise ValueError(str(error)) from None
        if len(settings) > 1:
            raise ValueError(f"should be one setting, not {len(settings)}")
        return cls(settings[0])


def parse(text: str, source: str = "settings") -> list[Pipeline]:
    """Read settings separated by commas; a bare name takes its defaults.

    `source` tells messages where the text came from, such as an option or a line of a file. Raises BenchError, with
    one line that names what is wrong.
    """
    try:
        return [Pipeline(tuple(_stages(node, source)), tuple(_given(node))) for node in _settings(text, source)]
    except (RecursionError, MemoryError):
        raise BenchError(f"{source} {shown(text)}: too many parts; {EXAMPLE}") from None


def with_dense(settings: list[Pipeline]) -> list[Pipeline]:
    """Put the uncompressed control first, because it is always on the board, and drop repetitions."""
    return list({str(setting): setting for setting in [*parse("none"), *settings]}.values())


def _settings(text: str, source: str) -> list[ast.expr]:
    """The syntax tree of each setting. Nothing in it is evaluated."""
    _check_size(text, source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own, about a backslash or a number run into a word
            body = ast.parse(f"[{text}]", mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise BenchError(f"{source} {shown(text)}: cannot be read{_place(error, text)}; {EXAMPLE}") from None
    if not isinstance(body, ast.List):
        raise BenchError(f"{source} {shown(text)}: cannot be read; {EXAMPLE}")
    if not body.elts:
        raise BenchError(f"{source} {shown(text)}: names no method; {EXAMPLE}")
    for node in ast.walk(body):
        if isinstance(node, ast.Constant):
            _check_constant(node.value, source)
    return body.elts


def _check_size(text: str, source: str) -> None:
    """Refuse text on which Python's parser would spend minutes, or fail with a MemoryError."""
    if len(text) > LONGEST:
        raise BenchError(f"{source} {shown(text)}: {len(text):,} characters, at most {LONGEST:,} are read")
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth > DEEPEST:
            raise BenchError(f"{source} {shown(text)}: more than {DEEPEST} nested brackets; {EXAMPLE}")


def _check_constant(value: object, source: str) -> None:
    """Refuse values that cannot be printed or stored."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise BenchError(f"{source}: {shown(value)} is too large; integers have at most {MOST_BITS} bits")
    if isinstance(value, str) and has_surrogate(value):
        raise BenchError(f"{source}: {shown(value)} holds half of a character (a lone surrogate)")


def _place(error: Exception, text: str) -> str:
    """The text at which Python's parser gave up. Its offset counts the bracket that was put in front."""
    offset = getattr(error, "offset", None) or 0
    if offset < 2:
        return ""
    return f" at {shown(text[offset - 2 :][:12])}" if offset - 2 < len(text) else ", it is not complete"


def _stages(node: ast.expr, source: str) -> list[Method]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _stages(node.left, source) + _stages(node.right, source)
    if isinstance(node, ast.Name):
        return [_build(node.id, {}, source)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise BenchError(f"{source}: {_written(node)}: options have names, as in tic(k=64)")
        names = [str(keyword.arg) for keyword in node.keywords]
        if doubled := [name for name in names if names.count(name) > 1]:
            raise BenchError(f"{source}: {_written(node)}: option '{doubled[0]}' is given twice")
        options = {str(keyword.arg): _value(keyword.value, source) for keyword in node.keywords}
        return [_build(node.func.id, options, source)]
    raise BenchError(f"{source}: {_written(node)!r} is not a method; {EXAMPLE}")


def _given(node: ast.expr) -> list[frozenset[str]]:
    """The options that are written out, for each stage."""
    if isinstance(node, ast.BinOp):
        return _given(node.left) + _given(node.right)
    keywords = node.keywords if isinstance(node, ast.Call) else []
    return [frozenset(str(keyword.arg) for keyword in keywords)]


def _build(name: str, options: dict[str, Any], source: str) -> Method:
    kind = look_up(name, methods(), "method", source)
    known = [field.name for field in fields(kind)]
    for option in options:
        if option not in known:
            exist = did_you_mean(option, known) if known else f"; {name} has no options"
            raise BenchError(f"{source}: {name} has no option '{option}'{exist}")
    required = [field.name for field in fields(kind) if field.default is field.default_factory is MISSING]
    if missing := [option for option in required if option not in options]:
        raise BenchError(f"{source}: {name} needs a value for {missing[0]}, as in {name}({missing[0]}=...)")
    try:
        return kind(**options)
    except BenchError as error:
        raise BenchError(f"{source}: {error}") from None


def _value(node: ast.expr, source: str) -> Any:
    if isinstance(node, ast.Name):
        return WORDS.get(node.id.lower(), node.id)
    if _is_setting(node):
        return ast.unparse(node)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):  # such as a set of lists
        raise BenchError(f"{source}: {_written(node)!r} is not a value; quote text that is not one word") from None


def _written(node: ast.expr) -> str:
    return shortened(ast.unparse(node))


def _is_setting(node: ast.expr) -> bool:
    """Whether a value is a method with options, or several in turn. A bare name is text in any case."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return all(isinstance(part, ast.Name) or _is_setting(part) for part in (node.left, node.right))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
