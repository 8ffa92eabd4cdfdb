"""Settings and pipelines as people write them: `tic(k=64),l1(rate=0.5)+kse(G=4)`."""

from __future__ import annotations

import ast
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic_core import CoreSchema, core_schema

from bench.plugins.method import WORDS, Method
from bench.plugins.registry import look_up, methods
from bench.plugins.sweeps import singles
from bench.plugins.syntax import EXAMPLE, trees, written
from bench.system.errors import BenchError, MethodFault
from bench.system.text import did_you_mean, shown

if TYPE_CHECKING:
    from torch import nn

    from bench.training.lab import Lab


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
    """Read settings separated by commas; a bare name takes its defaults, and a sweep becomes its single settings.

    `source` tells messages where the text came from, such as an option or a line of a file. Raises BenchError, with
    one line that names what is wrong.
    """
    try:
        return [pipeline for node in trees(text, source) for pipeline in _pipelines(node, source)]
    except (RecursionError, MemoryError):
        raise BenchError(f"{source} {shown(text)}: too many parts; {EXAMPLE}") from None


def with_dense(settings: list[Pipeline]) -> list[Pipeline]:
    """Put the uncompressed control first, because it is always on the board, and drop repetitions."""
    return list({str(setting): setting for setting in [*parse("none"), *settings]}.values())


def _pipelines(node: ast.expr, source: str) -> list[Pipeline]:
    """The settings of one sweep, each once; a setting without lists and ranges is one."""
    if isinstance(node, ast.List):
        found = [pipeline for element in node.elts for pipeline in _pipelines(element, source)]
    else:
        found = [
            Pipeline(tuple(stage for part in parts for stage in part.stages), sum((part.given for part in parts), ()))
            for parts in product(*(_choices(stage, source) for stage in _in_turn(node)))
        ]
    return list({str(pipeline): pipeline for pipeline in found}.values()) if len(found) > 1 else found


def _in_turn(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _in_turn(node.left) + _in_turn(node.right)
    return [node]


def _choices(node: ast.expr, source: str) -> list[Pipeline]:
    """What may stand in one place of a pipeline: a method with each combination of its values, or each of a list."""
    if isinstance(node, ast.List):
        return _pipelines(node, source)
    return [
        Pipeline((_stage(single, source),), (frozenset(str(each.arg) for each in getattr(single, "keywords", ())),))
        for single in singles(node)
    ]


def _stage(node: ast.expr, source: str) -> Method:
    if isinstance(node, ast.Name):
        return _build(node.id, {}, source)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise BenchError(f"{source}: {written(node)}: options have names, as in tic(k=64)")
        names = [str(keyword.arg) for keyword in node.keywords]
        if doubled := [name for name in names if names.count(name) > 1]:
            raise BenchError(f"{source}: {written(node)}: option '{doubled[0]}' is given twice")
        options = {str(keyword.arg): _value(keyword.value, source) for keyword in node.keywords}
        return _build(node.func.id, options, source)
    raise BenchError(f"{source}: {written(node)!r} is not a method; {EXAMPLE}")


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
        is_difference = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)
        hint = "; a range has two dots, as in 16..64" if is_difference else ""
        raise BenchError(f"{source}: {written(node)!r} is not a value; quote text that is not one word{hint}") from None


def _is_setting(node: ast.expr) -> bool:
    """Whether a value is a method with options, or several in turn. A bare name is text in any case."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return all(isinstance(part, ast.Name) or _is_setting(part) for part in (node.left, node.right))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
